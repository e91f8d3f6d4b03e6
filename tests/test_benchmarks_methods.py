"""The comparison of methods: its table, its intervals, and which cells are still to be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch

from benchmarks.methods import (
    Job,
    _key,
    _key_of_row,
    _mean_and_interval,
    _of_all_steps,
    _two_of_each,
    render,
    run_folder,
)
from benchmarks.storing import read_rows


def job(method: str = "munit", **changes: Any) -> Job:
    values: dict[str, Any] = {
        "pair": "mnist:usps",
        "seed": 1,
        "steps": 600,
        "fit_steps": 400,
        "semantic_weight": 0.0,
        "data_root": None,
        "runs": Path("runs"),
        "device": "cpu",
    }
    return Job(method=method, **(values | changes))


def row(method: str, seed: int, **figures: float) -> dict[str, Any]:
    return {"pair": "mnist:usps", "method": method, "seed": seed, **figures}


def test_the_table_has_a_line_per_method_and_dashes_where_nothing_was_measured() -> None:
    rows = [row("classic", 0, downstream=90.0), row("munit", 0, kept=50.0, kid=12.34, downstream=80.0, parameters=1234)]
    lines = render(rows, ["classic", "munit", "cut"]).splitlines()
    assert lines[2] == "| classic | 1 | - | - | - | 90.0 | - | - |"
    assert lines[3] == "| munit | 1 | 50.0 | 12.3 | - | 80.0 | - | 1,234 |"
    assert lines[4] == "| cut | 0 | - | - | - | - | - | - |"


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [80.0, 81.5], [3.0, 1.0, 2.0, 2.5, 7.0]])
def test_the_interval_is_students(values: list[float]) -> None:
    mean, half = (float(part) for part in _mean_and_interval(values, ".6f").split(" ± "))
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=scipy.stats.sem(values)
    )
    assert (mean - half, mean + half) == pytest.approx((low, high), abs=5e-3)


def test_the_time_of_a_run_is_that_of_the_steps_it_saw() -> None:
    assert _of_all_steps(0.0, [5.0, 6.0, 7.0, 8.0], 4) == 4.0  # the first, which starts threads, counts as the others
    assert _of_all_steps(0.0, [5.0, 6.0], 4) == 4.0  # resumed after two steps
    assert _of_all_steps(1.0, [3.0], 4) == 8.0
    assert _of_all_steps(1.0, [], 4) is None  # it was finished, and stopped before its time was written


def test_one_value_or_equal_ones_have_no_interval() -> None:
    assert _mean_and_interval([5.0], ".1f") == _mean_and_interval([5.0, 5.0], ".1f") == "5.0"
    assert _mean_and_interval([], ".1f") == "-"


def test_a_finished_cell_is_known_again_and_the_baseline_does_not_depend_on_steps() -> None:
    stored = {"pair": "mnist:usps", "seed": 1, "fit_steps": 400, "semantic_weight": 0.0}
    assert _key(job()) == _key_of_row({**stored, "method": "munit", "steps": 600})
    assert _key(job()) != _key_of_row({**stored, "method": "munit", "steps": 300})
    assert (
        _key(job("classic"))
        == _key(job("classic", steps=300))
        == _key_of_row({**stored, "method": "classic", "steps": 0})
    )


def test_runs_of_other_settings_have_folders_of_their_own() -> None:
    folders = {run_folder(each) for each in (job(), job(seed=2), job(steps=300), job("cut"), job(semantic_weight=1.0))}
    assert len(folders) == 5


def test_the_sheet_shows_two_of_each_class() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 2])
    assert _two_of_each(labels) == [1, 4, 0, 2, 6]


def test_stored_rows_are_read_and_can_be_tabled() -> None:
    stored = sorted((Path(__file__).resolve().parent.parent / "benchmarks" / "results").glob("methods-*.jsonl"))
    assert stored
    for path in stored:
        rows = read_rows(path)
        assert rows == [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = list(dict.fromkeys(entry["method"] for entry in rows))
        assert render(rows, names).count("\n") == len(names) + 1
        for entry in rows:
            assert {"seed", "steps", "downstream", "device", "commit", "date", "command"} <= entry.keys()
