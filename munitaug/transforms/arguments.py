"""Checks of the arguments that every front end takes.

Floor 6: imports nothing of the package.
"""

from __future__ import annotations


def check_probability(p: float) -> float:
    """Gives p as a float.

    Raises:
        ValueError: p is outside [0, 1].
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be in [0, 1], got {p}")
    return float(p)


def check_variants(num_variants: int) -> int:
    """Gives num_variants.

    Raises:
        ValueError: it is not an integer of at least 1.
    """
    if isinstance(num_variants, bool) or not isinstance(num_variants, int) or num_variants < 1:
        raise ValueError(f"num_variants must be an integer of at least 1, got {num_variants!r}")
    return num_variants
