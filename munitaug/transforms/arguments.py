"""Checks of the arguments that every front end takes.

Floor 6: imports settings and types; of training the choice of a device, when one is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from operator import index

import torch

from munitaug.settings import is_number, is_whole_number
from munitaug.types import split_direction

Strength = float | Sequence[float]


def check_probability(p: float) -> float:
    """Gives p as a float.

    Raises:
        TypeError: p is no number.
        ValueError: p is outside [0, 1].
    """
    if not is_number(p):
        raise TypeError(f"p must be a number in [0, 1], got {p!r}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be in [0, 1], got {p}")
    return float(p)


def check_variants(num_variants: int, name: str = "num_variants") -> int:
    """Gives num_variants as an int; ``name`` is what the argument is called.

    Raises:
        ValueError: it is not an integer of at least 1.
    """
    if not is_whole_number(num_variants) or index(num_variants) < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {num_variants!r}")
    return index(num_variants)


def check_keep_original(keep_original: bool) -> bool:
    """Gives keep_original; a number would be added to the count of variants.

    Raises:
        TypeError: it is no boolean.
    """
    if not isinstance(keep_original, bool):
        raise TypeError(f"keep_original must be True or False, got {keep_original!r}; K is another argument")
    return keep_original


def check_device(device: str | torch.device) -> torch.device:
    """Gives the device; "auto" is a GPU where there is one.

    Raises:
        ValueError: unknown name, or a GPU that is not there.
    """
    # Here and not above: the training loop comes along, and most transforms run on the CPU.
    if str(device) == "cpu":
        return torch.device("cpu")
    from munitaug.training import resolve_device

    return resolve_device(str(device))


def check_strength(strength: Strength) -> tuple[float, float]:
    """Gives the lowest and the highest strength; equal for a single number.

    Raises:
        TypeError: neither a number nor two numbers.
        ValueError: outside [0, 1], or the lowest above the highest.
    """
    ends = (strength, strength) if isinstance(strength, Real) else strength
    if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2 or not all(map(is_number, ends)):
        raise TypeError(f"strength must be a number in [0, 1], or (lowest, highest), got {strength!r}")
    low, high = float(ends[0]), float(ends[1])
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(f"strength must be in [0, 1], and (lowest, highest) in this order, got {strength!r}")
    return low, high


def plain_strength(ends: tuple[float, float]) -> float | list[float]:
    """Gives the strength as a JSON type: one number where both ends are equal."""
    return ends[0] if ends[0] == ends[1] else list(ends)


def check_direction(direction: str | Mapping[str, float]) -> str | dict[str, float]:
    """Gives the direction, or the mix of directions with weights that sum to 1.

    Raises:
        TypeError: neither a name nor a mapping of names to numbers.
        ValueError: an unknown direction, an empty mix, or a weight that is not positive.
    """
    if isinstance(direction, str):
        split_direction(direction)
        return direction
    if not isinstance(direction, Mapping) or not all(map(is_number, direction.values())):
        raise TypeError(
            f'direction must be "a2b", "b2a", or a mix such as {{"a2b": 0.7, "b2a": 0.3}}, got {direction!r}'
        )
    for name, weight in direction.items():
        split_direction(name)
        if not (isfinite(weight) and weight > 0.0):
            raise ValueError(f"weights of a mix of directions must be positive, got {weight} for {name}")
    total = float(sum(direction.values()))
    if total == 0.0:
        raise ValueError('the mix of directions is empty; give for example {"a2b": 0.7, "b2a": 0.3}')
    return {name: float(weight) / total for name, weight in direction.items()}
