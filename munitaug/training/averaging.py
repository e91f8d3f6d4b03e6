"""Averaged weights (exponential moving average) of the networks that are used after training.

Yazici et al., "The unusual effectiveness of averaging in GAN training", ICLR 2019.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from munitaug.method import Method


class AveragedWeights:
    """A running average of every parameter that the method's translators use, and of their batch norms' statistics.

    Statistics of the weights of the moment would not fit averaged weights. The decay grows as (1 + n) / (10 + n) up to
    ``decay``, so that short runs do not remember the initial weights.

    Args:
        method: its translators' parameters are averaged; 0 < decay < 1.
        decay: weight of the past at each step.
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.decay = decay
        self._live: dict[str, Tensor] = translator_parameters(method) | _running_statistics(method)
        self.average = {name: live.detach().clone() for name, live in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the present weights after step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, lives = list(self.average.values()), list(self._live.values())
        torch._foreach_lerp_(averages, [live.detach() for live in lives], 1.0 - decay)

    @torch.no_grad()
    def restore(self, averages: dict[str, Tensor]) -> None:
        """Continues from saved averages.

        Raises:
            KeyError: they are of other parameters.
        """
        if averages.keys() != self.average.keys():
            raise KeyError(f"{len(averages)} averaged weights were saved, {len(self.average)} are needed")
        for name, average in self.average.items():
            average.copy_(averages[name])

    def apply(self) -> None:
        """Puts the averaged weights into the method for good."""
        self._copy(self.average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the averaged weights into the method while the block runs."""
        kept = {name: live.detach().clone() for name, live in self._live.items()}
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, live in self._live.items():
            live.copy_(values[name])


def translator_parameters(method: Method) -> dict[str, Tensor]:
    """Gives the parameters, by their name in the method, that its translators use."""
    used = {
        id(parameter)
        for source, target in method.core.directions
        for parameter in method.core.translator(source, target).parameters()
    }
    return {name: parameter for name, parameter in method.core.named_parameters() if id(parameter) in used}


def _running_statistics(method: Method) -> dict[str, Tensor]:
    """Gives running means and variances, by their name in the method, that its translators use."""
    used = {
        id(buffer)
        for source, target in method.core.directions
        for buffer in method.core.translator(source, target).buffers()
    }
    kinds = ("running_mean", "running_var")
    return {name: buffer for name, buffer in method.core.named_buffers() if id(buffer) in used and name.endswith(kinds)}
