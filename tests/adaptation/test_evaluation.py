"""Cells of a table: order, resuming, side by side, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from munitaug.adaptation import (
    CONDITIONS,
    Bench,
    Condition,
    Row,
    Scorer,
    evaluate_conditions,
    evaluation,
    load_rows,
    make_oracle_task,
    make_task,
    save_rows,
)
from munitaug.adaptation.evaluation import list_seeds
from munitaug.methods import Munit
from tests.runs import TINY_FIT, TINY_GREY, toy_domain


class CountingScorer(Scorer):
    def __init__(self) -> None:
        super().__init__(toy_domain("test", 30, seed=2))
        self.calls = 0

    def accuracy_percent(self, classifier: nn.Module) -> float:
        self.calls += 1
        return super().accuracy_percent(classifier)


@pytest.fixture(scope="module")
def bench() -> Bench:
    source, target = toy_domain("source", 15), toy_domain("target", 15, seed=1)
    translator = Munit(TINY_GREY, seed=1).eval().translator("a", "b")
    return Bench(make_task(source, target), make_oracle_task(target), translator, TINY_FIT)


def run(bench: Bench, scorer: Scorer | None = None, **changes: object) -> list[Row]:
    arguments: dict[str, object] = {"seeds": 2, "processes": 1, "progress": False}
    return evaluate_conditions(bench, scorer or CountingScorer(), **(arguments | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rows(bench: Bench) -> list[Row]:
    return run(bench)


def test_rows_come_in_table_order(rows: list[Row]) -> None:
    assert [(row["condition"], row["seed"]) for row in rows] == [(name, seed) for name in CONDITIONS for seed in (0, 1)]
    assert all(0.0 <= row["accuracy"] <= 100.0 for row in rows)


def test_finished_cells_are_not_run_again(bench: Bench, rows: list[Row]) -> None:
    scorer = CountingScorer()
    finished = [row | {"accuracy": -1.0} for row in rows if (row["condition"], row["seed"]) != ("adapt", 1)]
    again = run(bench, scorer, finished=finished)
    assert scorer.calls == 1
    assert [row["accuracy"] for row in again].count(-1.0) == len(rows) - 1
    assert next(row for row in again if row["accuracy"] >= 0.0) == rows[-1]


def test_rows_of_other_conditions_are_kept(bench: Bench, rows: list[Row]) -> None:
    again = run(bench, finished=rows[:3], conditions=["classic"])
    assert again == rows[:4]


def test_nothing_is_run_when_all_is_there(bench: Bench, rows: list[Row]) -> None:
    scorer = CountingScorer()
    assert run(bench, scorer, finished=rows) == rows
    assert scorer.calls == 0


def test_rows_so_far_are_handed_out_after_each_chain(bench: Bench, rows: list[Row]) -> None:
    seen: list[list[Row]] = []
    run(bench, conditions=["source", "classic", "self-training"], seeds=1, on_rows=seen.append)
    assert [len(part) for part in seen] == [2, 3]
    assert seen[-1] == [row for row in rows if row["condition"] in ("source", "classic", "self-training")][::2]


def test_processes_side_by_side_give_the_same_rows(
    bench: Bench, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # one thread each, as here
    assert run(bench, Scorer(toy_domain("test", 30, seed=2)), processes=2) == rows


@pytest.mark.parametrize("condition", ["munit", "adapt"])
def test_missing_translator_is_refused(bench: Bench, condition: Condition) -> None:
    with pytest.raises(ValueError, match=re.escape(f"condition '{condition}' needs a trained translator")):
        run(dataclasses.replace(bench, translator=None), conditions=[condition])


def test_missing_labels_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="condition 'oracle' needs labels of the target's training images"):
        run(dataclasses.replace(bench, oracle_task=None), conditions=["oracle"])


def test_unknown_condition_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"condition must be one of source, .*, adapt, got 'magic'"):
        run(bench, conditions=["magic"])


def test_no_seed_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="seeds must be 1 to 10000, got 0"):
        run(bench, seeds=0)


def test_rows_survive_the_file(rows: list[Row], tmp_path: Path) -> None:
    save_rows(tmp_path / "rows.json", rows)
    assert load_rows(tmp_path / "rows.json") == rows


ROW = '{"condition": "source", "seed": 1, "accuracy": 50.0}'


@pytest.mark.parametrize(
    "text",
    [
        *("{", "{}", "{}x", '[{"condition": "source"}]', "[1]", '[{"condition":"a","seed":"x"}]'),
        f"[{ROW}, {ROW}]",
        *(f"[{ROW}]".replace("50.0", accuracy) for accuracy in ("NaN", "-1", "100.5", "Infinity")),
        *(f"[{ROW}]".replace("1,", f"{seed},") for seed in ("1.7", "true", '"1"')),
        f"[{ROW}]".replace('"source"', "7"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"is not a list of results .*choose another --out"):
        load_rows(path)


def test_unknown_conditions_of_a_file_sort_last() -> None:
    rows = [Row(condition=name, seed=0, accuracy=1.0) for name in ("other", "oracle", "source")]
    assert [row["condition"] for row in evaluation.sort_rows(rows)] == ["source", "oracle", "other"]


def test_seeds_may_be_named(bench: Bench, rows: list[Row]) -> None:
    only = run(bench, seeds=[1], conditions=["classic"])
    assert only == [row for row in rows if (row["condition"], row["seed"]) == ("classic", 1)]


@pytest.mark.parametrize("seeds", [[], [-1], [2, 2]])
def test_seeds_that_cannot_be_are_refused(bench: Bench, seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seeds must be different numbers"):
        run(bench, seeds=seeds)


def test_numpys_integers_are_seeds_too() -> None:
    assert list_seeds(np.int64(2)) == [0, 1]  # type: ignore[arg-type]
    assert [type(seed) for seed in list_seeds([np.int64(3), 5])] == [int, int]  # type: ignore[list-item]
    with pytest.raises(TypeError, match="each of seeds must be a whole number"):
        list_seeds([1.0])  # type: ignore[list-item]


@pytest.mark.parametrize("processes", [0, -3])
def test_a_number_of_processes_that_is_none_is_refused(bench: Bench, processes: int) -> None:
    with pytest.raises(ValueError, match=f"processes must be at least 1, or None for one per core, got {processes}"):
        run(bench, Scorer(toy_domain("test", 30, seed=2)), processes=processes)
