"""The same work on both domains at once, on a CPU with two cores: two lanes, each a thread of its own.

With two threads in one operation after the other, each waits for the other, and for what only one of them can do:
starting the operation, allocating, autograd. What is made of one domain's images mostly needs nothing that is made of
the other's at the same time, so each is made in a lane of its own, and so are its gradients.

Floor 1: imports torch only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made", Tensor, tuple[Tensor, ...], dict[str, Tensor])
"""What work may give."""
Key = TypeVar("Key")


class _Open(NamedTuple):
    """The lanes, and the process that has them: one that is forked has their names and none of their threads."""

    lanes: ThreadPoolExecutor
    process: int


LANES = 2
_open_lanes: ContextVar[_Open | None] = ContextVar("open_lanes", default=None)

Opening = Callable[[], AbstractContextManager[None]]
"""Gives a block in which lanes are open."""


@contextmanager
def two_lanes() -> Iterator[Opening]:
    """Gives what opens lanes for a block, in which :func:`in_lanes` works at once, if torch has two threads.

    In that block the calling thread works alone, too: helpers of a thread that has them go on asking for work for some
    milliseconds after it, on the core that a lane wants. Whether lanes of several threads each pay was not tried.
    """
    threads = torch.get_num_threads()
    if threads != LANES:
        yield nullcontext
        return
    all_there = threading.Barrier(LANES)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets its number to that of the process
        torch.set_num_threads(1)
        all_there.wait()

    @contextmanager
    def opened() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        token = _open_lanes.set(_Open(lanes, os.getpid()))
        try:
            yield
        finally:
            _open_lanes.reset(token)
            torch.set_num_threads(before)

    with ThreadPoolExecutor(LANES, "munitaug-lane") as lanes:
        try:
            for start in [lanes.submit(begin) for _ in range(LANES)]:
                start.result()
        except BaseException:  # the second has no thread to run in, or Ctrl-C: the first would wait for ever
            all_there.abort()
            raise
        torch.set_num_threads(threads)  # what a lane sets is the process's, too, for threads to come
        yield opened


def in_lanes(work: Callable[..., Made], inputs: Mapping[Key, Sequence[Tensor]]) -> dict[Key, Made]:
    """Gives ``work(key, *tensors)`` for each key; at once where lanes are open (:func:`two_lanes`), else in turn.

    At once, numbers are those of work in turn up to rounding, and the same each time. Gradients of weights come by
    ``backward`` alone, once, while lanes are open; gradients of gradients not at all, but within work.

    Args:
        work: gives a tensor, a tuple or a dictionary of them. It uses no weight for two keys, draws nothing from
            torch's global generator and waits for no other process. Whatever has a gradient, but for weights, is among
            its tensors, not found elsewhere. A module that is asked for both keys keeps nothing between its layers.
        inputs: by key, tensors on the CPU.

    Raises:
        Exception: what work raised, for the first key of several.
    """
    there = None if torch.compiler.is_compiling() else _open_lanes.get()
    if there is None or there.process != os.getpid():
        return {key: work(key, *tensors) for key, tensors in inputs.items()}
    lanes = there.lanes
    if not torch.is_grad_enabled():
        calls = [partial(work, key, *tensors) for key, tensors in inputs.items()]
        return dict(zip(inputs, _at_once(lanes, calls), strict=True))
    layouts: list[_Layout] = []
    flat = [tensor for tensors in inputs.values() for tensor in tensors]
    outputs = iter(_AtOnce.apply(_always_wanted(), lanes, work, inputs, layouts, *flat))
    return {key: layout.filled(outputs) for key, layout in zip(inputs, layouts, strict=True)}


class _Layout:
    """How the tensors that work gave stood together."""

    def __init__(self, made: Any) -> None:
        self._kind = type(made)
        self._names = list(made) if isinstance(made, dict) else []
        if isinstance(made, Tensor):
            self.tensors = [made]
        else:
            self.tensors = list(made.values() if isinstance(made, dict) else made)

    def filled(self, tensors: Iterator[Tensor]) -> Any:
        """Gives the next tensors, standing together like that."""
        own = [next(tensors) for _ in self.tensors]
        if self._kind is dict:
            return dict(zip(self._names, own, strict=True))
        return tuple(own) if self._kind is tuple else own[0]


def _always_wanted() -> Tensor:
    """Gives a tensor that wants a gradient: work may have no other input that does, though its weights do."""
    return torch.empty(0, device="cpu", requires_grad=True)


def _at_once(lanes: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Gives what the calls give, with this thread's modes; waits for all of them, whatever becomes of one."""
    gradients = torch.is_grad_enabled()
    lowered, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def run(call: Callable[[], Any]) -> Any:
        # lanes share the cache of lowered weights, and whoever leaves autocast first empties it
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype, lowered, cache_enabled=False):
            return call()

    futures = [lanes.submit(run, call) for call in calls]
    wait(futures)
    made: list[Any] = []
    try:
        made.extend(futures.pop(0).result() for _ in calls)
    finally:
        futures.clear()  # an error would be held by its future, and that by this frame, which the error holds
    return made


class _AtOnce(torch.autograd.Function):
    """Cuts the graph: within each key's work gradients are made by a backward pass of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        _: Tensor,
        lanes: ThreadPoolExecutor,
        work: Callable[..., Any],
        inputs: Mapping[Any, Sequence[Tensor]],
        layouts: list[_Layout],
        *flat: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.lanes = lanes
        rest = iter(flat)
        ctx.leaves = [[_leaf(next(rest)) for _ in tensors] for tensors in inputs.values()]
        with torch.enable_grad():
            made = _at_once(lanes, [partial(work, key, *own) for key, own in zip(inputs, ctx.leaves, strict=True)])
        layouts.extend(map(_Layout, made))
        ctx.made = [layout.tensors for layout in layouts]
        outputs = [(tensor.detach(), tensor.requires_grad) for tensors in ctx.made for tensor in tensors]
        ctx.mark_non_differentiable(*(output for output, wanted in outputs if not wanted))
        return tuple(output for output, _ in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.made is None:
            raise RuntimeError("gradients of what was made in lanes were asked for twice; make it anew")
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph=True does not reach into what was made in lanes; take such a gradient within the work, "
                "or train with domains_at_once=False"
            )
        made, leaves, ctx.made, ctx.leaves = ctx.made, ctx.leaves, None, None
        rest = iter(gradients)
        calls = [partial(_send_back, [(tensor, next(rest)) for tensor in tensors]) for tensors in made]
        del made
        _at_once(ctx.lanes, calls)
        return None, None, None, None, None, *(leaf.grad for own in leaves for leaf in own)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _send_back(made: Sequence[tuple[Tensor, Tensor | None]]) -> None:
    wanted = [(tensor, gradient) for tensor, gradient in made if gradient is not None and tensor.requires_grad]
    if wanted:
        torch.autograd.backward([tensor for tensor, _ in wanted], [gradient for _, gradient in wanted])
