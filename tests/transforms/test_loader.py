"""Batches prepared beside the training step: the same as one after another, in a thread or on a stream."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from munitaug.transforms import AugmentingLoader, MUNITBatchTransform, VariantDataset
from munitaug.transforms import loader as loader_module
from munitaug.transforms.batch import BatchDraw
from munitaug.transforms.loader import _NoLane, _open_lane, _StreamLane, _ThreadLane
from munitaug.types import Content
from tests.transforms.toys import BrightnessTranslator, ShiftTranslator, frozen

CPU = torch.device("cpu")


def transform(translator: BrightnessTranslator | None = None, **options: Any) -> MUNITBatchTransform:
    return MUNITBatchTransform(frozen(translator or BrightnessTranslator()), **{"num_variants": 2, **options})


def batches(count: int = 5, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    return [
        (torch.rand(size, 3, 16, 16, generator=generator), torch.arange(size) + size * number)
        for number in range(count)
    ]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for (images, labels), (wanted_images, wanted_labels) in zip(found, expected, strict=True):
        assert torch.equal(images, wanted_images)
        assert torch.equal(labels, wanted_labels)


@pytest.mark.parametrize("prefetch_batches", [0, 1, 2, 9])
def test_batches_are_those_of_one_after_another(prefetch_batches: int) -> None:
    munit = transform(seed=3)
    expected = [munit(batch) for batch in batches()]
    loader = AugmentingLoader(batches(), transform(seed=3), prefetch_batches=prefetch_batches)
    assert_equal(list(loader), expected)


@pytest.mark.parametrize("prefetch_batches", [0, 1, 2])
def test_second_epoch_goes_on_with_the_stream(prefetch_batches: int) -> None:
    munit = transform(seed=3)
    expected = [munit(batch) for batch in batches() * 2]
    loader = AugmentingLoader(batches(), transform(seed=3), prefetch_batches=prefetch_batches)
    assert_equal([*loader, *loader], expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_global_seed_decides_everything_without_a_seed(workers: int) -> None:
    data = TensorDataset(torch.rand(12, 3, 16, 16), torch.arange(12))

    def plain() -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_size=3,
            shuffle=True,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    munit = transform()
    torch.manual_seed(8)
    expected = [munit(batch) for batch in plain()]
    torch.manual_seed(8)
    assert_equal(list(AugmentingLoader(plain(), transform())), expected)


def test_no_batches_give_no_batches() -> None:
    assert list(AugmentingLoader([], transform())) == []


class Watched(ShiftTranslator):
    """Tells that it began a batch, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        self.began = threading.Semaphore(0)

    def encode_content(self, x: Tensor) -> Content:
        self.threads.append(threading.current_thread().name)
        self.began.release()
        return super().encode_content(x)


def test_next_batch_is_translated_while_one_is_used() -> None:
    translator = Watched()
    for number, _ in enumerate(AugmentingLoader(batches(4), transform(translator))):
        # As many have begun as are in hand or were, and one more, although nobody has asked for it.
        for _ in range(2 if number == 0 else 1):
            assert number == 3 or translator.began.acquire(timeout=20)
    assert {name.split("_")[0] for name in translator.threads} == {"munitaug-loader"}
    assert len(translator.threads) == 4


class CountsReads:
    """Batches that count how many of them were read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(8):
            self.read += 1
            yield batch


@pytest.mark.parametrize("prefetch_batches", [0, 1, 3])
def test_reading_stays_as_far_ahead_as_asked(prefetch_batches: int) -> None:
    source = CountsReads()
    iterator = iter(AugmentingLoader(source, transform(), prefetch_batches=prefetch_batches))
    for used in range(1, 4):
        next(iterator)
        assert source.read == used + prefetch_batches
    iterator.close()  # type: ignore[attr-defined]


def test_nothing_is_translated_without_a_thread_before_it_is_asked_for() -> None:
    translator = Watched()
    iterator = iter(AugmentingLoader(batches(), transform(translator), prefetch_batches=0))
    next(iterator)
    assert translator.threads == [threading.current_thread().name]


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("munitaug-loader")]


def test_early_end_leaves_no_thread_behind() -> None:
    loader = AugmentingLoader(batches(), transform(), prefetch_batches=2)
    for _ in loader:
        break
    iterator = iter(loader)
    next(iterator)
    assert threads_left()
    del iterator
    assert threads_left() == []
    assert len(list(loader)) == 5


def test_error_of_a_batch_comes_where_the_batch_would() -> None:
    wrong = [*batches(2), (torch.zeros(3, 3, 8, 8), torch.arange(3)), *batches(2)]
    iterator = iter(AugmentingLoader(wrong, transform()))
    assert [next(iterator)[1].tolist() for _ in range(2)] == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    with pytest.raises(ValueError, match="sides of at least 16 px"):
        next(iterator)
    assert threads_left() == []


def test_error_of_the_loader_comes_through() -> None:
    def failing() -> Iterator[Any]:
        yield batches(1)[0]
        raise OSError("disk is gone")

    class Failing:
        def __iter__(self) -> Iterator[Any]:
            return failing()

    with pytest.raises(OSError, match="disk is gone"):
        list(AugmentingLoader(Failing(), transform()))
    assert threads_left() == []


LEAVE_IN_THE_MIDDLE = """
import torch
from munitaug.transforms import AugmentingLoader, MUNITBatchTransform
from tests.transforms.toys import BrightnessTranslator, frozen
munit = MUNITBatchTransform(frozen(BrightnessTranslator()))
iterator = iter(AugmentingLoader([torch.zeros(2, 3, 16, 16)] * 9, munit, prefetch_batches=2))
next(iterator)
print("leaving", flush=True)
"""


def test_leaving_python_in_the_middle_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVE_IN_THE_MIDDLE],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "leaving\n"
    assert done.stderr == ""


# --- what it wraps


def test_length_and_data_set_are_those_of_the_loader() -> None:
    data = TensorDataset(torch.zeros(7, 3, 16, 16), torch.arange(7))
    loader = AugmentingLoader(DataLoader(data, batch_size=2), transform())
    assert len(loader) == len(list(loader)) == 4
    assert loader.dataset is data
    assert AugmentingLoader(batches(), transform()).dataset is None


def test_length_of_something_without_one_is_refused() -> None:
    with pytest.raises(TypeError, match="the wrapped CountsReads has no length"):
        len(AugmentingLoader(CountsReads(), transform()))


def test_epoch_reaches_sampler_and_data_set() -> None:
    data = VariantDataset(TensorDataset(torch.zeros(4, 3, 16, 16)), frozen(BrightnessTranslator()))
    sampler: DistributedSampler[Any] = DistributedSampler(data, num_replicas=1, rank=0)
    AugmentingLoader(DataLoader(data, sampler=sampler), transform()).set_epoch(6)
    assert (sampler.epoch, data.epoch) == (6, 6)
    AugmentingLoader(batches(), transform()).set_epoch(6)


@pytest.mark.parametrize("prefetch_batches", [-1, 1.5, True])
def test_bad_prefetch_is_refused(prefetch_batches: Any) -> None:
    with pytest.raises(ValueError, match="prefetch_batches must be an integer of at least 0"):
        AugmentingLoader(batches(), transform(), prefetch_batches=prefetch_batches)


def test_other_transforms_are_refused() -> None:
    with pytest.raises(TypeError, match="must be a MUNITBatchTransform, got Identity"):
        AugmentingLoader(batches(), torch.nn.Identity())  # type: ignore[arg-type]


# --- CUDA, with streams that only write down what they are told


class FakeStreams:
    """Stands in for ``torch.cuda``: a log of who waits for whom and which stream reads which tensor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.made = 0
        self.current = FakeStream("training", self)
        for name in ("Stream", "stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        pinned: set[int] = set()
        monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: tensor.data_ptr() in pinned)

        def pin_memory(tensor: Tensor) -> Tensor:
            self.log.append(f"pin {tensor.dtype}")
            twin = tensor.clone()
            pinned.add(twin.data_ptr())
            return twin

        def record_stream(tensor: Tensor, stream: FakeStream) -> None:
            self.log.append(f"{stream.name} reads {tensor.dtype}")

        monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
        monkeypatch.setattr(Tensor, "record_stream", record_stream)

    def Stream(self, device: torch.device) -> FakeStream:
        return FakeStream("side", self)

    def current_stream(self, device: torch.device) -> FakeStream:
        return self.current

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        self.log.append(f"on {stream.name}")
        yield
        self.current = before
        self.log.append(f"on {before.name}")


class FakeStream:
    def __init__(self, name: str, streams: FakeStreams) -> None:
        self.name = name
        self.streams = streams

    def wait_stream(self, other: FakeStream) -> None:
        self.streams.log.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> str:
        self.streams.made += 1
        self.streams.log.append(f"{self.name} made batch {self.streams.made}")
        return f"batch {self.streams.made}"

    def wait_event(self, event: str) -> None:
        self.streams.log.append(f"{self.name} waits for {event}")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> FakeStreams:
    return FakeStreams(monkeypatch)


PREPARE = ["side waits for training", "on side", "pin torch.float32", "pin torch.int64", "on training"]
READ = ["training reads torch.float32", "training reads torch.int64"]


def test_each_stream_waits_for_what_it_reads(streams: FakeStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 2 is begun before batch 1 is handed over, and the training stream waits for batch 1 alone."""
    monkeypatch.setattr(loader_module, "_open_lane", lambda device, prefetch: _StreamLane(device))
    found = []
    for batch in AugmentingLoader(batches(3), transform(seed=3)):
        found.append(batch)
        streams.log.append(f"step {len(found)}")
    assert streams.log == [
        *PREPARE, "side made batch 1",
        *PREPARE, "side made batch 2",
        "training waits for batch 1", *READ, "step 1",
        *PREPARE, "side made batch 3",
        "training waits for batch 2", *READ, "step 2",
        "training waits for batch 3", *READ, "step 3",
    ]  # fmt: skip
    munit = transform(seed=3)
    assert_equal(found, [munit(batch) for batch in batches(3)])


def test_pinned_tensors_are_not_pinned_again(streams: FakeStreams) -> None:
    lane = _StreamLane(CPU)
    batch = lane.bring({"image": torch.zeros(2), "name": "x"})
    streams.log.clear()
    assert lane.bring(batch)["name"] == "x"
    assert streams.log == []


def test_tensors_that_are_on_the_gpu_are_held_for_the_side_stream(
    streams: FakeStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "is_cuda", True)
    tensor = torch.zeros(2)
    assert _StreamLane(CPU).bring([tensor])[0] is tensor
    assert streams.log == ["side reads torch.float32"]


def test_device_and_prefetch_choose_the_lane(streams: FakeStreams) -> None:
    assert isinstance(_open_lane(torch.device("cuda"), 1), _StreamLane)
    assert isinstance(_open_lane(torch.device("cuda"), 0), _NoLane)
    assert isinstance(_open_lane(CPU, 0), _NoLane)
    lane = _open_lane(CPU, 2)
    assert isinstance(lane, _ThreadLane)
    lane.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_batches_of_one_after_another() -> None:
    munit = transform(seed=3, device="cuda")
    expected = [munit([part.cuda() for part in batch]) for batch in batches()]
    assert_equal(list(AugmentingLoader(batches(), transform(seed=3, device="cuda"))), expected)


@pytest.mark.parametrize("prefetch_batches", [0, 1, 2])
def test_all_draws_are_made_in_the_thread_that_iterates(prefetch_batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    munit = MUNITBatchTransform(frozen(BrightnessTranslator()), num_variants=2)
    threads: list[threading.Thread] = []
    draw = munit.draw

    def noting(batch: object) -> BatchDraw:
        threads.append(threading.current_thread())
        return draw(batch)

    monkeypatch.setattr(munit, "draw", noting)
    batches = [(torch.rand(3, 3, 16, 16), torch.arange(3)) for _ in range(4)]
    assert len(list(AugmentingLoader(batches, munit, prefetch_batches=prefetch_batches))) == 4
    assert threads == [threading.current_thread()] * 4
