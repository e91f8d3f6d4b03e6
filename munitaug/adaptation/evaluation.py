"""Conditions x seeds -> rows of accuracy, in parallel, resumable cell by cell.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from munitaug.adaptation.conditions import CHAINS, CONDITIONS, Bench, Condition, run_chain
from munitaug.adaptation.statistics import Row
from munitaug.adaptation.task import Scorer
from munitaug.files import write_text
from munitaug.settings import whole_number
from munitaug.stopping import leave_group, leave_with_parent

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class _Job:
    """A chain under one seed, and which of its conditions are wanted."""

    chain: tuple[Condition, ...]
    wanted: tuple[Condition, ...]
    seed: int


def evaluate_conditions(
    bench: Bench,
    scorer: Scorer,
    *,
    conditions: Sequence[Condition] = CONDITIONS,
    seeds: int | Sequence[int] = 3,
    finished: Sequence[Row] = (),
    processes: int | None = None,
    progress: bool = True,
    on_rows: Callable[[list[Row]], None] | None = None,
) -> list[Row]:
    """Gives the rows of every condition and seed, in table order.

    Args:
        bench: data, translator, settings.
        scorer: the labelled target test set; used for nothing but the final accuracy.
        conditions: which to run.
        seeds: a number of seeds, for 0 .. seeds - 1, or the seeds themselves.
        finished: rows of an earlier run; they are kept, and their cells are not run again.
        processes: that run chains side by side, each with its share of the cores; None is one per core, or a
            single one where the images lie on a GPU.
        progress: show progress bars.
        on_rows: called with all rows so far after each finished chain.

    Raises:
        ValueError: unknown condition, no seed, or something that a condition needs is missing.
    """
    check_conditions(bench, conditions, seeds)
    count = check_processes(processes) or _processes_for(bench)
    rows = list(finished)
    jobs = _jobs(conditions, list_seeds(seeds), {(row["condition"], row["seed"]) for row in rows})
    bar = tqdm(total=len(jobs), desc="evaluate", unit="chain", disable=not progress)
    with bar:
        for new_rows in _results(bench, scorer, jobs, count):
            rows = sort_rows([*rows, *new_rows])
            bar.update()
            if on_rows is not None:
                on_rows(rows)
    return sort_rows(rows)


def check_processes(processes: int | None) -> int | None:
    """Gives a number of processes as it was asked for.

    Raises:
        TypeError: it is not whole.
        ValueError: it is below 1.
    """
    if processes is None:
        return None
    if (count := whole_number("processes", processes)) < 1:
        raise ValueError(f"processes must be at least 1, or None for one per core, got {count}")
    return count


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """Gives the rows in the order of CONDITIONS, then by seed."""
    order = {condition: index for index, condition in enumerate(CONDITIONS)}
    return sorted(rows, key=lambda row: (order.get(row["condition"], len(order)), row["seed"]))  # type: ignore[call-overload]


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows as a JSON list, atomically.

    Args:
        path: of the file; one that exists is replaced.
        rows: condition, seed and accuracy in percent each.

    Raises:
        OSError: the file cannot be written; what was there is still there.
    """
    write_text(path, json.dumps(list(rows), indent=1) + "\n")


def load_rows(path: Path) -> list[Row]:
    """Gives the rows that :func:`save_rows` wrote.

    Raises:
        ValueError: the file is no such list.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise TypeError("it holds no list")
        rows = [_checked_row(row) for row in found]
        cells = [(row["condition"], row["seed"]) for row in rows]
        if len(set(cells)) < len(cells):
            raise ValueError("a condition stands there twice with one seed")
        return rows
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a list of results ({error}); move it away or choose another --out") from error


def _checked_row(row: dict[str, Any]) -> Row:
    condition, seed, accuracy = row["condition"], whole_number("seed", row["seed"]), float(row["accuracy"])
    if not isinstance(condition, str):
        raise TypeError(f"a condition must be a name, got {condition!r}")
    if not 0.0 <= accuracy <= 100.0:
        raise ValueError(f"accuracy must be in percent, got {accuracy}")
    return Row(condition=condition, seed=seed, accuracy=accuracy)


def list_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Gives the seeds of "so many" or of a list.

    Raises:
        TypeError: one is no whole number.
        ValueError: there is none, or too many, or one is negative or given twice.
    """
    if hasattr(seeds, "tolist"):  # NumPy's
        seeds = seeds.tolist()
    if not isinstance(seeds, Sequence):
        count = whole_number("seeds", seeds)
        if not 1 <= count <= MOST_SEEDS:
            raise ValueError(f"seeds must be 1 to {MOST_SEEDS}, got {count}")
        return list(range(count))
    several = [whole_number("each of seeds", seed) for seed in seeds]
    if not several or min(several) < 0 or len(set(several)) != len(several):
        raise ValueError(f"seeds must be different numbers of at least 0, got {several}")
    return several


def check_conditions(bench: Bench, conditions: Sequence[Condition], seeds: int | Sequence[int]) -> None:
    """Checks that every condition can be run.

    Args:
        bench: what conditions are given.
        conditions: names of CONDITIONS.
        seeds: how many, 0 to seeds - 1, or which.

    Raises:
        ValueError: unknown condition, no seed, or something that a condition needs is missing.
    """
    list_seeds(seeds)
    for condition in conditions:
        if condition not in CONDITIONS:
            raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
        missing = bench.missing_for(condition)
        if missing:
            raise ValueError(f"condition {condition!r} needs {missing}")


def _jobs(conditions: Sequence[Condition], seeds: Sequence[int], finished: set[tuple[str, int]]) -> list[_Job]:
    jobs = []
    for chain in CHAINS:
        for seed in seeds:
            wanted = tuple(c for c in chain if c in conditions and (c, seed) not in finished)
            if wanted:
                jobs.append(_Job(chain[: chain.index(wanted[-1]) + 1], wanted, seed))
    return jobs


def _processes_for(bench: Bench) -> int:
    return (os.cpu_count() or 1) if bench.task.device.type == "cpu" else 1


def _results(bench: Bench, scorer: Scorer, jobs: Sequence[_Job], processes: int) -> Iterable[list[Row]]:
    processes = min(processes, len(jobs))
    if processes <= 1:
        for job in jobs:
            yield _run_job(bench, scorer, job)
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    # spawn: a fork after torch has used several threads can hang for ever
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (bench, scorer, threads))
    others = set(multiprocessing.active_children())
    futures: list[Future[list[Row]]] = [pool.submit(_run_in_worker, job) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BaseException:  # do not wait for minutes until the chains at work are through
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_job(bench: Bench, scorer: Scorer, job: _Job) -> list[Row]:
    rows = []
    for condition, classifier in run_chain(bench, job.chain, job.seed):
        if condition in job.wanted:
            accuracy = round(scorer.accuracy_percent(classifier), 3)
            rows.append(Row(condition=condition, seed=job.seed, accuracy=accuracy))
    return rows


_WORKER: dict[str, tuple[Bench, Scorer]] = {}


def _start_worker(bench: Bench, scorer: Scorer, threads: int) -> None:
    leave_group()
    leave_with_parent()
    torch.set_num_threads(threads)
    _WORKER["bench"] = (bench, scorer)


def _run_in_worker(job: _Job) -> list[Row]:
    return _run_job(*_WORKER["bench"], job)
