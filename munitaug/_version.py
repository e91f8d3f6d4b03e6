"""The version, in one place; the build reads it from here.

Floor 1: imports nothing.
"""

__version__ = "0.1.0.dev0"
