"""Cells of a benchmark in processes of their own, side by side on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch
from tqdm import tqdm

from munitaug.stopping import leave_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")


def side_by_side(
    run: Callable[[Job], Result], jobs: Sequence[Job], processes: int, device: str, what: str = "cell"
) -> Iterator[Result]:
    """Gives what the jobs give, as they finish, with a progress bar.

    On a CPU each has one thread, however many processes there are, because bits depend on the number of threads.

    Args:
        run: a function of a module, for another process to find.
        jobs: picklable.
        processes: at the most; one after the other in this process where there is one job, or another device.
        device: of the jobs.
        what: they are called in the progress bar.
    """
    with tqdm(total=len(jobs), desc=f"{what}s", unit=what) as bar:
        if processes <= 1 or len(jobs) <= 1 or device != "cpu":
            if jobs and device == "cpu":
                torch.set_num_threads(1)
            for job in jobs:
                yield run(job)
                bar.update()
            return
        # spawn: a fork after torch has used several threads can hang for ever
        with ProcessPoolExecutor(processes, get_context("spawn"), start_worker) as pool:
            for done in as_completed([pool.submit(run, job) for job in jobs]):
                yield done.result()
                bar.update()


def start_worker() -> None:
    """Begins a process that runs cells on a CPU: one thread, and an end when the benchmark is killed."""
    leave_with_parent()
    torch.set_num_threads(1)
