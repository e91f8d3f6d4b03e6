"""The tests; the folders mirror munitaug/ file for file."""
