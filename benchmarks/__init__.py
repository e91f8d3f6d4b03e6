"""Measurements of munitaug, each a script that uses its public names only."""
