"""The random stream of a transform: follows torch's global one, or is private and reproducible.

Floor 6: imports random, settings and torch.
"""

from __future__ import annotations

from operator import index
from typing import TypedDict

import torch
from torch.utils.data import get_worker_info

from munitaug.random import torch_generator
from munitaug.settings import is_whole_number


class StreamState(TypedDict):
    """What a pickle or a deep copy of a stream carries.

    The position travels as bytes: a tensor made while pickling for a spawned worker is gone before the worker
    reads it.
    """

    seed: int | None
    worker_seed: int | None
    position: bytes | None


class RandomStream:
    """Gives the generator to draw from now, in whatever process the transform has come to.

    Without a seed it is torch's global generator, which torch seeds anew for every DataLoader worker and epoch.
    With a seed it is a private one that neither reads nor moves the global generators. In a DataLoader worker
    the private one is derived from the seed and the worker's seed, so that workers and epochs differ from one
    another, and repeat when the ``generator`` of the DataLoader (or torch's global one) is seeded. A pickle or
    a deep copy goes on where the original stands.

    Args:
        seed: any integer, or None.

    Raises:
        TypeError: seed is neither an integer nor None.
    """

    def __init__(self, seed: int | None) -> None:
        if seed is not None and not is_whole_number(seed):
            raise TypeError(f"seed must be an integer or None, got {seed!r}")
        self.seed = None if seed is None else index(seed)
        self._worker_seed: int | None = None
        self._generator: torch.Generator | None = None

    def generator(self) -> torch.Generator:
        """Gives the CPU generator of this process; drawing from it moves the stream on."""
        if self.seed is None:
            return torch.default_generator
        worker = get_worker_info()
        worker_seed = None if worker is None else worker.seed
        if self._generator is None or worker_seed != self._worker_seed:
            place = () if worker_seed is None else ("worker", worker_seed)
            self._generator = torch_generator("transform", self.seed, *place)
            self._worker_seed = worker_seed
        return self._generator

    def __getstate__(self) -> StreamState:
        position = None if self._generator is None else self._generator.get_state().numpy().tobytes()
        return {"seed": self.seed, "worker_seed": self._worker_seed, "position": position}

    def __setstate__(self, state: StreamState) -> None:
        self.seed, self._worker_seed = state["seed"], state["worker_seed"]
        self._generator = None
        if state["position"] is not None:
            self._generator = torch.Generator()
            self._generator.set_state(torch.frombuffer(bytearray(state["position"]), dtype=torch.uint8))
