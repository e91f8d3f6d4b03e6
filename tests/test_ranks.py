"""What ranks tell one another, against sums and lists made by hand; and a process that is alone."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore

from munitaug import ranks
from tests.ranks import on_ranks, results

pytestmark = pytest.mark.timeout(600)  # seconds where cores are free; processes wait for one another where not


def test_a_process_that_is_alone_gets_back_what_it_gave() -> None:
    own = torch.randn(3, 2)
    assert (ranks.count(), ranks.rank()) == (1, 0)
    assert ranks.gather(own) is own
    assert torch.equal(ranks.own_rows(own), own)
    assert ranks.texts_of_ranks("word") == ["word"]
    assert ranks.unlike_first(7) == []
    assert (ranks.any_rank(True), ranks.any_rank(False)) == (True, False)
    ranks.wait()
    kept = own.clone()
    ranks.average([own])
    ranks.copy_from_first([own])
    assert torch.equal(own, kept)
    assert ranks.device_of_rank(torch.device("cuda:3")) == torch.device("cuda:3")


def test_one_process_of_a_launcher_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with ranks.together(torch.device("cpu")):
        assert not dist.is_initialized()


def test_restarts_are_told_by_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert not ranks.restarted()
    assert not ranks.launched()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("RANK", "0")
    assert not ranks.restarted()
    assert ranks.launched()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert ranks.restarted()


def test_an_incomplete_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(
            ValueError, match="WORLD_SIZE is 2, but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set; use tor"
        ),
        ranks.together(torch.device("cpu")),
    ):
        pass


def test_devices_without_a_way_to_talk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.setenv(name, "2")
    with (
        pytest.raises(ValueError, match="several ranks train on cpu or cuda, got device mps"),
        ranks.together(torch.device("mps")),
    ):
        pass


@pytest.mark.parametrize(("present", "local", "expected"), [(4, 2, 2), (1, 2, 0)])
def test_each_rank_gets_its_own_gpu(monkeypatch: pytest.MonkeyPatch, present: int, local: int, expected: int) -> None:
    """A batch system may let each task see but one."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(ranks, "count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    assert ranks.device_of_rank(torch.device("cuda")) == torch.device("cuda", expected)
    assert chosen == [torch.device("cuda", expected)]
    assert ranks.device_of_rank(torch.device("cpu")) == torch.device("cpu")


def test_ranks_that_the_program_has_joined_itself_stay_on_the_gpu_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert ranks.device_of_rank(torch.device("cuda")) == torch.device("cuda:3")


@pytest.mark.parametrize(
    ("backends", "device", "reached"),
    [
        ("cuda:nccl", "cuda", False),
        ("cuda:nccl", "cpu", False),
        ("cpu:gloo", "cuda", False),
        ("cpu:gloo,cuda:nccl", "cuda", True),
        ("cpu:gloo,cuda:gloo", "cpu", True),
    ],
)
def test_ranks_that_the_program_has_joined_itself_reach_the_cpu_and_the_device(
    monkeypatch: pytest.MonkeyPatch, backends: str, device: str, reached: bool
) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 2)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend_config", lambda: backends)
    refused = pytest.raises(ValueError, match=r'init_process_group\("cpu:gloo,cuda:nccl"\)')
    with nullcontext() if reached else refused, ranks.together(torch.device(device)):
        pass


def test_ranks_without_a_gpu_of_their_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 4)
    monkeypatch.setattr(ranks, "rank", lambda: 7)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ValueError, match="rank 7 has no GPU: there are 2 here; use --nproc-per-node 2"):
        ranks.device_of_rank(torch.device("cuda"))
    with pytest.raises(ValueError, match="4 ranks cannot share cuda:1; take device cuda"):
        ranks.device_of_rank(torch.device("cuda:1"))


def test_ranks_that_do_not_wait_for_one_another_share_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert ranks.device_of_rank(torch.device("cuda"), apart=True) == torch.device("cuda")
    for local, expected in enumerate((0, 1, 0, 1)):
        monkeypatch.setenv("LOCAL_RANK", str(local))
        assert ranks.device_of_rank(torch.device("cuda"), apart=True) == torch.device("cuda", expected)
        assert ranks.device_of_rank(torch.device("cuda:1"), apart=True) == torch.device("cuda:1")
        assert ranks.device_of_rank(torch.device("cpu"), apart=True) == torch.device("cpu")


def test_a_launcher_says_who_is_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert ranks.launched_as() == (0, None, 1)
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert ranks.launched_as() == (5, 1, 8)
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ValueError, match="LOCAL_RANK in the environment must be a number, got 'first'"):
        ranks.launched_as()


def meet(store: HashStore, world: int) -> list[str]:
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(lambda own: ranks._word_of_the_living(store, own, world), range(world)))


def test_ranks_of_a_restart_agree_whatever_the_dead_have_left_in_the_store() -> None:
    store = HashStore()
    first, second = meet(store, 3), meet(store, 3)
    assert len(set(first)) == 1
    assert len(set(second)) == 1
    assert first[0] != second[0]


def test_a_rank_that_comes_late_is_not_taken_for_its_dead_predecessor() -> None:
    store = HashStore()
    meet(store, 2)
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(ranks._word_of_the_living, store, 0, 2)
        time.sleep(0.2)
        assert not early.done()
        late = pool.submit(ranks._word_of_the_living, store, 1, 2)
        assert early.result() == late.result()


def test_ranks_that_never_come_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    meet(store, 2)
    monkeypatch.setattr(ranks, "TIMEOUT", timedelta(seconds=0.2))
    with pytest.raises(ConnectionError, match=r"rank 0 of 2 waited 0:00:00\.200000 for the others to start"):
        ranks._word_of_the_living(store, 0, 2)


def talk(folder: Path) -> dict[str, object]:
    del folder
    own = ranks.rank()
    wide = torch.arange(12.0).view(1, 3, 2, 2).contiguous(memory_format=torch.channels_last) * own
    copied = [torch.full((2,), float(own)), torch.zeros(0), wide]
    ranks.copy_from_first(copied)
    return {
        "place": (ranks.rank(), ranks.count()),
        "texts": ranks.texts_of_ranks("größer"[: 3 + own]),
        "unlike": ranks.unlike_first(5 + (own == 1)),
        "any": (ranks.any_rank(own == 2), ranks.any_rank(False)),
        "rows": ranks.gather(torch.full((2, 1), own)).flatten().tolist(),
        "own": ranks.own_rows(torch.arange(6)).tolist(),
        "copied": [float(tensor.abs().sum()) for tensor in copied],
    }


def test_three_ranks_hear_one_another(tmp_path: Path) -> None:
    for own, heard in enumerate(results(3, talk, tmp_path)):
        assert heard == {
            "place": (own, 3),
            "texts": ["grö", "größ", "größe"],
            "unlike": [1],
            "any": (True, False),
            "rows": [0, 0, 1, 1, 2, 2],
            "own": [2 * own, 2 * own + 1],
            "copied": [0.0, 0.0, 0.0],
        }


def averages(folder: Path, bucket_bytes: int) -> list[Tensor]:
    del folder
    ranks.BUCKET_BYTES = bucket_bytes
    generator = torch.Generator().manual_seed(ranks.rank())
    tensors = [torch.randn(shape, generator=generator) for shape in ((5,), (2, 3, 4, 4), (), (100,), (1, 1))]
    tensors[1] = tensors[1].contiguous(memory_format=torch.channels_last)
    ranks.average(tensors)
    assert tensors[1].is_contiguous(memory_format=torch.channels_last)
    return tensors


@pytest.mark.parametrize("bucket_bytes", [1, 404, 1 << 20])
def test_averages_are_those_of_a_loop_whatever_the_buckets(tmp_path: Path, bucket_bytes: int) -> None:
    found = results(3, partial(averages, bucket_bytes=bucket_bytes), tmp_path)
    generators = [torch.Generator().manual_seed(own) for own in range(3)]
    for number, shape in enumerate([(5,), (2, 3, 4, 4), (), (100,), (1, 1)]):
        expected = sum(torch.randn(shape, generator=generator) for generator in generators) / 3
        for of_rank in found:
            torch.testing.assert_close(of_rank[number], expected)


def gradient_of_a_whole_term(folder: Path) -> list[Tensor]:
    """Every rank computes the variance of all rows; its weight acts on its own alone."""
    del folder
    weight = torch.tensor(2.0, requires_grad=True)
    rows = weight * torch.tensor([[1.0], [4.0]]) * (1 + ranks.rank())
    term = ranks.gather(rows).var(correction=0)
    term.backward()
    assert weight.grad is not None
    ranks.average([weight.grad])
    return [term.detach(), weight.grad]


def test_a_term_of_the_whole_batch_has_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """Rows w (1, 4, 2, 8): the variance is w^2 (85/4 - (15/4)^2) = 7.1875 w^2, its slope 14.375 w."""
    for term, gradient in results(2, gradient_of_a_whole_term, tmp_path):
        assert float(term) == pytest.approx(7.1875 * 4)
        assert float(gradient) == pytest.approx(14.375 * 2)


def fail_on_one(folder: Path) -> None:
    del folder
    if ranks.rank() == 0:
        raise OSError("disk full")
    ranks.wait()


def test_a_rank_that_fails_leaves_no_other_waiting(tmp_path: Path) -> None:
    first, second = on_ranks(2, fail_on_one, tmp_path)
    assert str(first) == "disk full"
    assert isinstance(second, ConnectionError)
    gone = "stopped, because another has gone or does not answer; see that one's message"
    too_soon = "could not join the others; see their messages"  # if the first had failed before all were connected
    assert re.match(f"rank 1 of 2 ({gone}|{too_soon}), then resume", str(second)), second


def test_what_keeps_ranks_from_meeting_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*args: object, **settings: object) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with [pair.cc:561] Connection reset\nmore")

    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "rendezvous", torn)
    wanted = r"rank 1 of 2 could not join the others; see their messages, then resume \(Gloo connectFullMesh failed"
    with pytest.raises(ConnectionError, match=wanted), ranks.together(torch.device("cpu")):
        raise AssertionError("met")


@pytest.mark.parametrize("own", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError])
def test_a_ranks_own_failure_is_not_called_anothers(own: Any) -> None:
    error = own if isinstance(own, Exception) else own.__new__(own)
    with pytest.raises(type(error)), ranks._others_needed():
        raise error
    with pytest.raises(ConnectionError, match="another has gone"), ranks._others_needed():
        raise RuntimeError("Connection closed by peer")
