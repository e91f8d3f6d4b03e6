"""Settings that somebody gave: what they may be, and how two documents of them differ.

Floor 1: imports the standard library only.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, SupportsIndex, TypeGuard, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Limits:
    """The numbers that a setting takes.

    Args:
        least: that it may be.
        most: that it may be.
        above: it must be more than this.
        below: it must be less than this.
        odd: it must be an odd number.
        because: reason for the message of what is refused, "so that ..."; "" gives none.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    odd: bool = False
    because: str = ""

    def allow(self, value: float) -> bool:
        """Says whether a number lies within; NaN never does, nor infinity."""
        within = self.least <= value <= self.most and self.above < value < self.below
        return within and math.isfinite(value) and (not self.odd or value % 2 == 1)

    def __str__(self) -> str:
        words = ["odd"] if self.odd else []
        if math.isfinite(self.least) and math.isfinite(self.most):
            words.append(f"{self.least} to {self.most}")
        elif math.isfinite(self.least):
            words.append(f"at least {self.least}")
        elif math.isfinite(self.most):
            words.append(f"at most {self.most}")
        words += [f"above {self.above}"] if math.isfinite(self.above) else []
        words += [f"below {self.below}"] if math.isfinite(self.below) else []
        reason = f", {self.because}" if self.because else ""
        return " and ".join(words) + reason


CHANNELS = Limits(1, 4)
"""Of images."""
NOT_NEGATIVE = Limits(0)
POSITIVE = Limits(above=0)
ODD = Limits(1, odd=True)


def check_settings(settings: Any, **limits: Limits) -> None:
    """Refuses what a data class of settings cannot take, by the types of its fields.

    A field of type ``Literal`` must be one of its values, one of type ``bool`` a truth value. Where ``limits`` says
    nothing else, a field of type ``int`` must be a whole number of at least 1, and one of type ``float`` a number of at
    least 0; NumPy's numbers become Python's, which JSON takes. Fields of other types are left alone.

    Args:
        settings: a data class instance, from its ``__post_init__``.
        limits: field -> the numbers that it takes.

    Raises:
        ValueError: a value of another kind or outside its limits; the message names the field.
    """
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(map(str, get_args(kind)))}, got {value!r}")
        if kind is bool and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")
        if kind is int:
            _check_number(name, value, "a whole number", is_whole_number(value), limits.get(name, Limits(1)))
            object.__setattr__(settings, name, operator.index(value))
        if kind is float:
            _check_number(name, value, "a number", is_number(value), limits.get(name, NOT_NEGATIVE))
            object.__setattr__(settings, name, value if isinstance(value, int) else float(value))


def _check_number(name: str, value: Any, kind: str, is_kind: bool, limits: Limits) -> None:
    if not is_kind:
        raise ValueError(f"{name} must be {kind}, got {value!r}")
    if not limits.allow(value):
        raise ValueError(f"{name} must be {limits}, got {value}")


def is_number(value: object) -> bool:
    """Says whether a value is a real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole_number(value: object) -> TypeGuard[SupportsIndex]:
    """Says whether a value is of a kind of whole numbers, as 2 and ``np.int64(2)`` are; 2.0 and True are not."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def whole_number(name: str, number: object) -> int:
    """Gives a number that somebody asked for as Python's own kind, whether it is that or NumPy's.

    Args:
        name: for the message.
        number: as it was given.

    Raises:
        TypeError: it is not whole, or a truth value.
    """
    if not is_whole_number(number):
        raise TypeError(f"{name} must be a whole number, got {number!r}")
    return operator.index(number)


def check_kinds(**given: tuple[object, type]) -> None:
    """Refuses settings that are of another class than they must be.

    Args:
        given: name -> the value and its class.

    Raises:
        TypeError: one is; the message names it.
    """
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")


def differences(present: object, wanted: object, then: str = "was", now: str = "now", prefix: str = "") -> list[str]:
    """Gives a line for each setting that differs between two JSON documents: ``name was 1, now 2``."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        names = sorted(present.keys() | wanted.keys())
        pairs = ((name, present.get(name), wanted.get(name)) for name in names)
        return [line for name, old, new in pairs for line in differences(old, new, then, now, f"{prefix}{name}.")]
    return [] if present == wanted else [f"{prefix.rstrip('.')} {then} {present!r}, {now} {wanted!r}"]
