"""Batches translated while the training step runs: in a thread on the CPU, on a stream of its own on CUDA.

Floor 6: imports batch and what it imports.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import torch
from torch import Tensor

from munitaug.settings import is_whole_number
from munitaug.transforms.batch import MUNITBatchTransform
from munitaug.transforms.samples import batch_to_device, map_tensors

Work = Callable[[], Any]


class AugmentingLoader:
    """A loader whose batches have gone through a batch transform, prepared while the training step runs.

    Wraps a DataLoader, or whatever gives batches. Loading stays where it was, in the loader's workers; the generator
    runs here, in the main process:

    - on the CPU in one thread beside the training step, which needs a core of its own to gain anything;
    - on CUDA on a stream of its own: tensors are pinned (give the DataLoader ``pin_memory=True`` to have that done
      by its own thread), copied without waiting and translated while the GPU works on the step before.

    Batches, and their order, are those of the transform applied to one batch after another. All draws are made in
    the thread that iterates, so with ``seed=None`` they fall between its own draws at the same places in every run.

    Args:
        loader: gives batches that the transform takes.
        transform: translates them; batches come out on its device.
        prefetch_batches: translated ahead of the one in use; 0 prepares each batch when it is asked for, without
            thread or stream.

    Raises:
        TypeError: transform is no MUNITBatchTransform.
        ValueError: prefetch_batches below 0.
    """

    def __init__(self, loader: Iterable[Any], transform: MUNITBatchTransform, *, prefetch_batches: int = 1) -> None:
        if not isinstance(transform, MUNITBatchTransform):
            raise TypeError(f"transform must be a MUNITBatchTransform, got {type(transform).__name__}")
        if not is_whole_number(prefetch_batches) or prefetch_batches < 0:
            raise ValueError(f"prefetch_batches must be an integer of at least 0, got {prefetch_batches!r}")
        self.loader = loader
        self.transform = transform
        self.prefetch_batches = prefetch_batches

    @property
    def dataset(self) -> Any:
        """The data set of the wrapped loader."""
        return getattr(self.loader, "dataset", None)

    def __len__(self) -> int:
        if not isinstance(self.loader, Sized):
            raise TypeError(f"the wrapped {type(self.loader).__name__} has no length")
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Tells the epoch to those of the wrapped loader, its samplers and its data set that have a ``set_epoch``."""
        holders = [self.loader, *(getattr(self.loader, name, None) for name in ("sampler", "batch_sampler", "dataset"))]
        for holder in holders:
            told = getattr(holder, "set_epoch", None)
            if callable(told):
                told(epoch)

    def __iter__(self) -> Iterator[Any]:
        """Gives the translated batches; what is under way is finished and dropped when the loop ends early."""
        lane = _open_lane(self.transform.device, self.prefetch_batches)
        waiting: deque[Work] = deque()
        try:
            for batch in self.loader:
                waiting.append(lane.start(self._work(batch, lane)))
                if len(waiting) > self.prefetch_batches:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            lane.close()

    def _work(self, batch: Any, lane: _Lane) -> Work:
        drawn = self.transform.draw(batch)
        return lambda: self.transform.translate(lane.bring(batch), drawn)


class _Lane(ABC):
    """Where work runs beside the training step; first come, first served."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def bring(self, batch: Any) -> Any:
        """Gives the batch on the lane's device; called within work."""

    @abstractmethod
    def start(self, work: Work) -> Work:
        """Starts work; gives a function that waits for it and gives its result."""

    @abstractmethod
    def close(self) -> None:
        """Drops what has not begun, and waits for the rest."""


@final
class _NoLane(_Lane):
    """Does the work when its result is asked for."""

    def bring(self, batch: Any) -> Any:
        return batch_to_device(batch, self.device)

    def start(self, work: Work) -> Work:
        return work

    def close(self) -> None:
        pass


@final
class _ThreadLane(_Lane):
    """One thread: torch's operations let go of Python's lock, so it runs beside the training step."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="munitaug-loader")
        self._python_ends = sys.is_finalizing  # the module's own names may be gone by then

    def bring(self, batch: Any) -> Any:
        return batch_to_device(batch, self.device)

    def start(self, work: Work) -> Work:
        return self.pool.submit(work).result

    def close(self) -> None:
        if not self._python_ends():  # then the thread has ended already, and with it what shutdown needs
            self.pool.shutdown(wait=True, cancel_futures=True)


@final
class _StreamLane(_Lane):
    """One CUDA stream beside the one of the training step, which each waits for where it reads what the other wrote.

    The order of waits is that of timm's PrefetchLoader (timm/data/loader.py): the side stream begins after what the
    training stream was given until then, and the training stream reads a batch after the side stream has made it.
    The allocator does not know who reads a tensor on another stream than the one it was made on: ``record_stream``
    tells it, so that the memory is not given away too early.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.stream = torch.cuda.Stream(device)

    def bring(self, batch: Any) -> Any:
        return batch_to_device(batch, self.device, self._ready_to_copy)

    def start(self, work: Work) -> Work:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            batch = work()
        made = self.stream.record_event()
        return lambda: self._hand_over(batch, made)

    def close(self) -> None:
        pass

    def _ready_to_copy(self, tensor: Tensor) -> Tensor:
        if tensor.is_cuda:
            tensor.record_stream(self.stream)
            return tensor
        return tensor if tensor.is_pinned() else tensor.pin_memory()

    def _hand_over(self, batch: Any, made: torch.cuda.Event) -> Any:
        training = torch.cuda.current_stream(self.device)
        training.wait_event(made)

        def tell(tensor: Tensor) -> Tensor:
            tensor.record_stream(training)
            return tensor

        return map_tensors(batch, tell)


def _open_lane(device: torch.device, prefetch_batches: int) -> _Lane:
    if prefetch_batches == 0:
        return _NoLane(device)
    return _StreamLane(device) if device.type == "cuda" else _ThreadLane(device)
