"""A whole training step, recorded once on a GPU and replayed (CUDA graph).

Small images keep a GPU waiting for its next kernel: a step of MUNIT starts some thousand of them from Python, each of
which takes a few microseconds. A recorded step is started as one. What it reads must lie where it lay: images, labels
and random draws are copied into the same tensors before each step.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from munitaug.random import on_device, torch_generator
from munitaug.types import DrawFunction, Pair

Body = Callable[[Pair], Tensor]
"""One step without a look at a number: forward, backward, update. Gives the loss terms, T float32."""
Record = Callable[[Callable[[], None], torch.cuda.Stream | None], Callable[[], None]]
"""(function, stream of a GPU) -> what does again what the function asked of the GPU."""

WARM_UP_STEPS = 3
"""Steps done before recording, in which torch makes the optimisers' state and picks its kernels."""


class HeldDraws:
    """The random draws of a step in tensors that stay where they are."""

    def __init__(self) -> None:
        self._held: dict[tuple[int | str, ...], tuple[DrawFunction, torch.device | None, Tensor]] = {}

    def __call__(
        self, pair: Pair, draw: DrawFunction, purpose: tuple[int | str, ...], by: torch.device | None = None
    ) -> Tensor:
        """Gives what was drawn for a purpose; the first time it is drawn with the pair's seed."""
        if purpose not in self._held:
            first = on_device(draw(torch_generator(pair.seed, *purpose, device=by)), pair.a.device)
            self._held[purpose] = draw, by, first
        return self._held[purpose][-1]

    def renew(self, seed: int) -> None:
        """Draws everything again, with the seed of another pair."""
        for purpose, (draw, by, held) in self._held.items():
            held.copy_(draw(torch_generator(seed, *purpose, device=by)), non_blocking=True)


class RecordedStep:
    """Runs a step: the first ones as they are, then recorded once, then replayed.

    Args:
        body: one step; reads the pair and weights, and changes weights, in place.
        move: gives a pair on the device that the step runs on.
        record: by default a CUDA graph.
    """

    def __init__(
        self,
        body: Body,
        move: Callable[[Pair], Pair],
        record: Record | None = None,
    ) -> None:
        self._body = body
        self._move = move
        self._record = record_on_gpu if record is None else record
        self._draws = HeldDraws()
        self._pair: Pair | None = None
        self._stream: torch.cuda.Stream | None = None
        self._terms: Tensor | None = None
        self._replay: Callable[[], None] | None = None
        self._done = 0

    def __call__(self, pair: Pair) -> Tensor:
        """Runs the step on a pair, which may lie on the CPU; gives the loss terms, T float32.

        Raises:
            ValueError: the pair has other labels or sizes than the first.
        """
        held = self._held(pair)
        self._done += 1
        if self._done <= WARM_UP_STEPS:
            with self._beside():
                return self._body(held)
        if self._replay is None:
            self._replay = self._record(lambda: self._keep(self._body(held)), self._stream)
        self._replay()
        assert self._terms is not None
        return self._terms

    def _held(self, pair: Pair) -> Pair:
        """Gives the one pair that all steps read, with this pair's images, labels and draws."""
        if self._pair is None:
            moved = self._move(pair)
            label = None if moved.label_a is None else moved.label_a.clone()
            self._pair = replace(moved, a=moved.a.clone(), b=moved.b.clone(), label_a=label, held=self._draws)
            if moved.a.device.type == "cuda":
                self._stream = torch.cuda.Stream(moved.a.device)
            return self._pair
        held = self._pair
        if pair.a.shape != held.a.shape or pair.b.shape != held.b.shape:
            raise ValueError(f"a recorded step takes images {tuple(held.a.shape)}, got {tuple(pair.a.shape)}")
        held.a.copy_(pair.a, non_blocking=True)
        held.b.copy_(pair.b, non_blocking=True)
        if (held.label_a is None) != (pair.label_a is None):
            raise ValueError("a recorded step takes labels with every batch or with none; leave cuda_graph out")
        if held.label_a is not None and pair.label_a is not None:
            held.label_a.copy_(pair.label_a, non_blocking=True)
        self._draws.renew(pair.seed)
        return held

    def _keep(self, terms: Tensor) -> None:
        self._terms = terms

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Runs on the stream that records later, where there is one: what torch keeps from step to step knows it."""
        if self._stream is None:
            yield
            return
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True.*")  # said of steps that are not recorded yet
            yield
        current.wait_stream(self._stream)


def record_on_gpu(step: Callable[[], None], stream: torch.cuda.Stream | None) -> Callable[[], None]:
    """Records a step on a stream as a CUDA graph; gives its replay."""
    assert stream is not None
    graph = torch.cuda.CUDAGraph()
    recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")  # another thread pins memory
    with _no_collection(), torch.cuda.device(stream.device), recording:
        step()
    return graph.replay


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collects garbage beforehand, and none within: an old graph that goes while one is recorded ends the recording."""
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
