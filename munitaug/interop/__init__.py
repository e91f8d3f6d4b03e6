"""Other projects' checkpoints.

Floor 5: imports floors 1-4.
"""

from munitaug.interop.formats import FORMATS, check_format, read_foreign

__all__ = ["FORMATS", "check_format", "read_foreign"]
