"""Cells side by side: all of them, in processes of their own or here, with one thread each on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from benchmarks.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def told(number: int) -> tuple[int, int, int]:
    return number, torch.get_num_threads(), os.getpid()


def broken(number: int) -> int:
    if number == 1:
        raise RuntimeError(f"cell {number} is broken")
    return number


@pytest.mark.parametrize(("jobs", "processes"), [([4], 2), ([4, 5, 6], 1)])
def test_one_job_or_one_process_runs_here_with_one_thread(jobs: list[int], processes: int) -> None:
    assert list(side_by_side(told, jobs, processes, "cpu")) == [(job, 1, os.getpid()) for job in jobs]


def test_several_run_in_processes_of_their_own_with_one_thread() -> None:
    results = list(side_by_side(told, [4, 5, 6], 2, "cpu"))
    assert {(number, threads) for number, threads, _ in results} == {(4, 1), (5, 1), (6, 1)}
    assert os.getpid() not in {process for _, _, process in results}
    assert torch.get_num_threads() == 2


def test_another_device_takes_jobs_in_turn_and_keeps_its_threads() -> None:
    assert list(side_by_side(told, [4, 5], 2, "cuda")) == [(job, 2, os.getpid()) for job in (4, 5)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_broken_cell_is_not_passed_over(processes: int) -> None:
    with pytest.raises(RuntimeError, match="cell 1 is broken"):
        list(side_by_side(broken, [0, 1], processes, "cpu"))


def test_nothing_to_do_is_nothing() -> None:
    assert list(side_by_side(told, [], 2, "cpu")) == []
    assert torch.get_num_threads() == 2
