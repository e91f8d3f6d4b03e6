"""Network building blocks; know only torch."""
