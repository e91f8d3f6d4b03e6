"""Means and intervals, worked by hand and by scipy."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from munitaug.adaptation import Row, render_table, summarise
from munitaug.adaptation.statistics import T_95


def rows_of(condition: str, *accuracies: float) -> list[Row]:
    return [Row(condition=condition, seed=seed, accuracy=value) for seed, value in enumerate(accuracies)]


def test_interval_of_three_seeds_is_as_worked_by_hand() -> None:
    (summary,) = summarise(rows_of("source", 90.0, 92.0, 94.0))
    assert summary.mean == 92.0
    assert summary.half_width == pytest.approx(4.303 * 2.0 / math.sqrt(3.0))
    assert (summary.lowest, summary.seeds) == (90.0, 3)


def test_interval_is_that_of_scipy() -> None:
    values = [71.2, 69.9, 75.5, 70.1, 73.3]
    (summary,) = summarise(rows_of("source", *values))
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert summary.mean - summary.half_width == pytest.approx(float(low), abs=1e-3)
    assert summary.mean + summary.half_width == pytest.approx(float(high), abs=1e-3)


def test_quantiles_are_those_of_student() -> None:
    assert len(T_95) == 30
    for index, quantile in enumerate(T_95):
        assert quantile == pytest.approx(float(stats.t.ppf(0.975, index + 1)), abs=5.1e-4)


def test_intervals_of_many_seeds_are_not_too_narrow() -> None:
    values = [float(seed % 2) for seed in range(40)]
    (summary,) = summarise(rows_of("source", *values))
    exact = float(stats.t.ppf(0.975, 39) * stats.sem(values))
    assert exact <= summary.half_width <= 1.02 * exact


def test_one_seed_has_no_interval() -> None:
    (summary,) = summarise(rows_of("source", 90.0))
    assert math.isnan(summary.half_width)
    assert (summary.mean, summary.lowest, summary.seeds) == (90.0, 90.0, 1)


def test_conditions_stay_apart_and_in_order() -> None:
    rows = [*rows_of("source", 50.0, 52.0), *rows_of("adapt", 98.0), *rows_of("source", 54.0)]
    assert [(entry.condition, entry.mean) for entry in summarise(rows)] == [("source", 52.0), ("adapt", 98.0)]


def test_table_reads_as_expected() -> None:
    table = render_table(summarise([*rows_of("source", 90.0, 92.0, 94.0), *rows_of("adapt", 98.25)]))
    assert table.splitlines() == [
        "condition      accuracy %    95% interval  lowest  seeds",
        "source               92.0          +- 5.0    90.0      3",
        "adapt                98.2               -    98.2      1",
    ]


def test_no_rows_give_an_empty_table() -> None:
    assert summarise([]) == []
    assert len(render_table([]).splitlines()) == 1
