"""The words that every floor shares: a training pair, the names of directions, the errors people meet.

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Direction = Literal["a2b", "b2a"]
DomainKey = Literal["a", "b"]
Content = Tensor | tuple[Tensor, ...]

UNLABELLED = -1
MIN_SIDE = 16


class CheckpointError(ValueError):
    """A checkpoint that cannot be trusted or read: damaged, foreign, or of another format version."""


class DomainError(ValueError):
    """Images that cannot be read as a domain: unknown name, empty folder, broken or unsuitable file."""


class DivergenceError(RuntimeError):
    """Training met a non-finite loss; the message names the step, the term and the last good state."""


class Interrupted(RuntimeError):
    """A long run was stopped by Ctrl-C or SIGTERM after it had saved; the message says how to continue."""


class LabelMissingError(ValueError):
    """Something that needs labels was given an unlabelled domain."""


@dataclass(frozen=True)
class Pair:
    """One unpaired training batch: images of both domains, in no correspondence with one another.

    Args:
        a: N x C x H x W in [-1, 1], images of domain a.
        b: N x C x H x W in [-1, 1], images of domain b.
        label_a: N int64 classes of ``a``, or ``None``; ``-1`` marks an unlabelled image.
        seed: decides every random draw of the losses (styles, pools); a function of (run seed, step).
    """

    a: Tensor
    b: Tensor
    label_a: Tensor | None = None
    seed: int = 0


BOTH_DIRECTIONS: tuple[tuple[DomainKey, DomainKey], ...] = (("a", "b"), ("b", "a"))


def split_direction(direction: str) -> tuple[DomainKey, DomainKey]:
    """Gives the (source, target) domain keys of a direction.

    Raises:
        ValueError: direction is neither "a2b" nor "b2a".
    """
    if direction == "a2b":
        return "a", "b"
    if direction == "b2a":
        return "b", "a"
    raise ValueError(f'direction must be "a2b" or "b2a", got {direction!r}')
