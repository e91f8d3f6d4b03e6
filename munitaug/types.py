"""The words that every floor shares: a training pair, the names of directions, the errors people meet.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

DomainKey = str
"""What a method calls a domain: "a" and "b", or a name where it has more than two."""
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


DrawFunction = Callable[[torch.Generator], Tensor]


class Held(Protocol):
    """Keeps random draws in tensors that stay where they are."""

    def __call__(
        self, pair: Pair, draw: DrawFunction, purpose: tuple[int | str, ...], by: torch.device | None = None
    ) -> Tensor:
        """Gives what was drawn for a purpose, on the images' device; ``by`` the generator of which, None the CPU's."""
        ...


@dataclass(frozen=True)
class Pair:
    """One unpaired training batch, or a part of it: images of both domains, in no correspondence with one another.

    Where several processes train together, or gradients are accumulated, a loss gets an equal part of the batch. What
    it draws it draws for the whole batch and takes its own :meth:`rows`, so that the parts add up to the batch.

    Args:
        a: N x C x H x W in [-1, 1], images of domain a.
        b: N x C x H x W in [-1, 1], images of domain b.
        label_a: N int64 classes of ``a``, or ``None``; ``-1`` marks an unlabelled image.
        seed: decides every random draw of the losses (styles, pools); a function of (run seed, step).
        domains: which domains these are, for a method of more than two.
        part: which part of the batch this is, from 0.
        parts: equal parts that the batch was cut into; 1 for a whole one.
        shared: what ``Method.shared`` made of it, for the losses of all phases; empty where each makes its own.
        held: keeps the draws of a recorded step in place (munitaug.training.recorded); None draws anew.
    """

    a: Tensor
    b: Tensor
    label_a: Tensor | None = None
    seed: int = 0
    domains: tuple[DomainKey, DomainKey] = ("a", "b")
    part: int = 0
    parts: int = 1
    shared: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    held: Held | None = field(default=None, repr=False, compare=False)

    @property
    def batch_size(self) -> int:
        """Gives the images of each domain in the whole batch."""
        return len(self.a) * self.parts

    def rows(self, drawn: Tensor) -> Tensor:
        """Gives this part's N rows of what was drawn for the whole batch: batch_size x ..."""
        return drawn[len(self.a) * self.part :][: len(self.a)]


BOTH_DIRECTIONS: tuple[tuple[DomainKey, DomainKey], ...] = (("a", "b"), ("b", "a"))


def split_direction(direction: str) -> tuple[DomainKey, DomainKey]:
    """Gives the (source, target) domain keys of a direction.

    Args:
        direction: "a2b", "b2a", or two names of a method of more domains, as "mnist:usps".

    Raises:
        ValueError: direction is none of these.
    """
    if direction == "a2b":
        return "a", "b"
    if direction == "b2a":
        return "b", "a"
    names = direction.split(":") if isinstance(direction, str) else []
    if len(names) == 2 and all(names) and names[0] != names[1]:
        return names[0], names[1]
    raise ValueError(
        f'direction must be "a2b" or "b2a", got {direction!r}; a model of several domains takes "mnist:usps"'
    )


def direction_name(source: DomainKey, target: DomainKey) -> str:
    """Gives the direction that :func:`split_direction` takes apart into these keys."""
    return f"{source}2{target}" if {source, target} == {"a", "b"} else f"{source}:{target}"
