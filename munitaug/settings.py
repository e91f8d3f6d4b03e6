"""Settings that somebody gave: whether they are numbers, Python's own or NumPy's, and how two documents of them differ.

Floor 1: imports the standard library only.
"""

from __future__ import annotations

from numbers import Real
from typing import SupportsIndex, TypeGuard


def is_number(value: object) -> bool:
    """Says whether a value is a real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole_number(value: object) -> TypeGuard[SupportsIndex]:
    """Says whether a value is of a kind of whole numbers, as 2 and ``np.int64(2)`` are; 2.0 and True are not."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def differences(present: object, wanted: object, then: str = "was", now: str = "now", prefix: str = "") -> list[str]:
    """Gives a line for each setting that differs between two JSON documents: ``name was 1, now 2``."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        names = sorted(present.keys() | wanted.keys())
        pairs = ((name, present.get(name), wanted.get(name)) for name in names)
        return [line for name, old, new in pairs for line in differences(old, new, then, now, f"{prefix}{name}.")]
    return [] if present == wanted else [f"{prefix.rstrip('.')} {then} {present!r}, {now} {wanted!r}"]
