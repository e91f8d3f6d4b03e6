"""Random numbers of a transform: where they come from, that they go on, and that they never repeat in workers."""

from __future__ import annotations

import copy
import os
import pickle
import random
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from munitaug.transforms import MUNITTransform, streams
from munitaug.transforms.streams import RandomStream
from tests.transforms.toys import BrightnessTranslator, EqualImages, frozen

IMAGE = torch.zeros(3, 16, 16)


def transform(seed: int | None) -> MUNITTransform:
    return MUNITTransform(frozen(BrightnessTranslator()), seed=seed)


def brightness(munit: MUNITTransform, calls: int) -> list[float]:
    return [float(munit(IMAGE).mean()) for _ in range(calls)]


def test_no_seed_follows_the_global_generator() -> None:
    munit = transform(None)
    torch.manual_seed(5)
    first = brightness(munit, 3)
    torch.manual_seed(5)
    assert brightness(munit, 3) == first
    assert brightness(munit, 3) != first


def test_seed_repeats_whatever_the_global_generator_does() -> None:
    torch.manual_seed(1)
    first = brightness(transform(7), 4)
    torch.manual_seed(2)
    assert brightness(transform(7), 4) == first
    assert len(set(first)) == 4
    assert brightness(transform(8), 4) != first


def test_any_integer_is_a_seed() -> None:
    assert brightness(transform(np.int64(7)), 2) == brightness(transform(7), 2)  # type: ignore[arg-type]
    assert len(set(brightness(transform(-1), 2) + brightness(transform(2**70), 2))) == 4


def test_seed_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()  # noqa: NPY002
    brightness(transform(7), 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state(legacy=True)) == str(before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_pickle_goes_on_where_the_original_stands() -> None:
    munit = transform(7)
    brightness(munit, 3)
    loaded = pickle.loads(pickle.dumps(munit))
    assert brightness(loaded, 3) == brightness(munit, 3)


def test_deep_copy_goes_on_by_itself() -> None:
    munit = transform(7)
    brightness(munit, 3)
    twin = copy.deepcopy(munit)
    later = brightness(twin, 3)
    assert brightness(munit, 3) == later
    assert later != brightness(transform(7), 3)


def test_pickle_of_an_unused_stream_starts_at_the_beginning() -> None:
    assert brightness(pickle.loads(pickle.dumps(transform(7))), 2) == brightness(transform(7), 2)


def test_state_travels_as_bytes() -> None:
    stream = RandomStream(7)
    torch.rand(3, generator=stream.generator())
    state = stream.__getstate__()
    assert isinstance(state["position"], bytes)
    assert not any(isinstance(part, Tensor) for part in state.values())


def epochs(
    munit: MUNITTransform,
    start_method: str | None,
    persistent: bool,
    loader_seed: int | None,
) -> list[float]:
    """Gives the brightness of two epochs of 6 images."""
    generator = None if loader_seed is None else torch.Generator().manual_seed(loader_seed)
    loader = DataLoader(
        EqualImages(munit),
        batch_size=3,
        num_workers=0 if start_method is None else 2,
        multiprocessing_context=start_method,
        persistent_workers=persistent,
        generator=generator,
    )
    return [float(value) for _ in range(2) for batch in loader for value in batch.flatten()]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("seed", [None, 7])
def test_forked_workers_and_epochs_never_repeat(seed: int | None, persistent: bool) -> None:
    drawn = epochs(transform(seed), "fork", persistent, None)
    assert len(set(drawn)) == len(drawn) == 12


@pytest.mark.parametrize("seed", [None, 7])
def test_seeded_loader_repeats_its_epochs_in_workers(seed: int | None) -> None:
    first = epochs(transform(seed), "fork", False, 3)
    assert epochs(transform(seed), "fork", False, 3) == first
    assert epochs(transform(seed), "fork", False, 4) != first


def test_seeded_transforms_differ_in_the_same_workers() -> None:
    assert not set(epochs(transform(7), "fork", False, 3)) & set(epochs(transform(8), "fork", False, 3))


def test_main_process_goes_on_over_epochs() -> None:
    drawn = epochs(transform(7), None, False, None)
    assert drawn == pytest.approx(brightness(transform(7), 12))


def test_workers_leave_the_stream_of_the_main_process_alone() -> None:
    munit = transform(7)
    epochs(munit, "fork", False, None)
    assert brightness(munit, 2) == brightness(transform(7), 2)


FORK_AFTER_THREADS = """
import multiprocessing, sys
import torch
import munitaug.transforms
torch.set_num_threads(4)
(torch.rand(600, 600) @ torch.rand(600, 600)).sum()
torch.nn.functional.conv2d(torch.rand(8, 16, 64, 64), torch.rand(16, 16, 3, 3)).sum()
torch.rand(4_000_000).add_(1).exp_()

def work(_):
    torch.nn.functional.conv2d(torch.rand(8, 16, 64, 64), torch.rand(16, 16, 3, 3)).sum()
    torch.rand(4_000_000).add_(1).exp_()
    return torch.get_num_threads()

pool = multiprocessing.get_context("fork").Pool(2)
threads = pool.map(work, range(2))
pool.close()  # leaving a "with" would terminate the workers, and coverage's answer to SIGTERM can miss one of them
pool.join()
sys.exit(threads != [1, 1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_after_threads_do_not_hang() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", FORK_AFTER_THREADS], env=environment, timeout=60, check=False)
    assert done.returncode == 0


def test_consecutive_calls_differ() -> None:
    drawn = brightness(transform(0), 10)
    assert all(first != second for first, second in pairwise(drawn))


def test_workers_of_a_stream_that_was_used_before_never_repeat_either() -> None:
    munit = transform(7)
    used = brightness(munit, 2)
    drawn = epochs(munit, "fork", False, None)
    assert len({*used, *drawn}) == 14


def test_a_copy_made_in_a_worker_goes_on_where_the_original_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "get_worker_info", lambda: SimpleNamespace(seed=3))
    stream = RandomStream(7)
    torch.rand(3, generator=stream.generator())
    twin = copy.deepcopy(stream)
    assert torch.equal(torch.rand(3, generator=twin.generator()), torch.rand(3, generator=stream.generator()))
