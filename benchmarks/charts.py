"""From numbers to places on a chart, in percent of its width and height. Templates draw; nothing is drawn here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.findings import OURS, SELF_TRAINING, TRANSLATION_ALONE, Answer, Group, Line, PairFindings
from benchmarks.rows import Result, Snapshot
from benchmarks.statistics import Difference

CURVES_AT_MOST = 6
CURVES_FIRST = (OURS, SELF_TRAINING, *TRANSLATION_ALONE, "classic", "oracle", "source")
ROUND_ACCURACIES = (0, 20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
FINER_ACCURACIES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.2, 99.5, 99.8, 99.9)
LEAST_TICK_GAP = 9.0
MATRIX_CLASSES_AT_MOST = 30


@dataclass(frozen=True)
class Tick:
    """A named place on an axis; ``at`` in percent of its length."""

    at: float
    text: str


@dataclass(frozen=True)
class PointsAxis:
    """Differences in points, evenly spaced, zero included."""

    low: float
    high: float
    step: float

    @classmethod
    def of(cls, differences: Iterable[Difference]) -> PointsAxis:
        """Gives an axis that holds the means and their intervals."""
        ends = [0.0]
        for one in differences:
            ends += [value for value in (one.mean, one.low, one.high) if math.isfinite(value)]
        step = _round_step((max(ends) - min(ends)) / 4 or 1.0)
        return cls(step * math.floor(min(ends) / step - 0.15), step * math.ceil(max(ends) / step + 0.15), step)

    def place(self, value: float) -> float:
        """Gives a place in percent, clipped to the axis."""
        return _clipped(100.0 * (value - self.low) / (self.high - self.low))

    def ticks(self) -> list[Tick]:
        """Gives the named places, at most nine."""
        count = round((self.high - self.low) / self.step)
        values = [self.low + place * self.step for place in range(count + 1)]
        return [Tick(self.place(value), "0" if abs(value) < 1e-9 else f"{value:+.4g}") for value in values]


@dataclass(frozen=True)
class AccuracyAxis:
    """Accuracies in percent, spaced by the logarithm of the error: from 90 to 95 is as far as from 98 to 99."""

    low: float
    high: float

    @classmethod
    def of(cls, accuracies: Iterable[float]) -> AccuracyAxis:
        """Gives an axis that holds the accuracies, with some air."""
        known = [value for value in accuracies if math.isfinite(value)] or [50.0]
        low = 100.0 - min(100.0, 1.15 * (100.0 - max(0.0, min(known))) + 0.05)
        high = 100.0 - max(0.05, 0.75 * (100.0 - max(known)))
        return cls(low, max(high, 100.0 - 0.7 * (100.0 - low)))

    def place(self, value: float) -> float:
        """Gives a place in percent, clipped to the axis."""
        if value >= self.high:
            return 100.0
        return _clipped(100.0 * math.log((100.0 - self.low) / (100.0 - value)) / self._length)

    def ticks(self) -> list[Tick]:
        """Gives the named places that have room beside one another, the highest first in line."""
        ticks = self._ticks_of(ROUND_ACCURACIES)
        return ticks if len(ticks) >= 4 else self._ticks_of(FINER_ACCURACIES)

    def _ticks_of(self, values: Sequence[float]) -> list[Tick]:
        ticks: list[Tick] = []
        for value in reversed(values):
            at = self.place(value)
            if self.low <= value <= self.high and (not ticks or ticks[-1].at - at >= LEAST_TICK_GAP):
                ticks.append(Tick(at, f"{value:g}"))
        return ticks[::-1]

    @property
    def _length(self) -> float:
        return math.log((100.0 - self.low) / (100.0 - self.high))


@dataclass(frozen=True)
class Curve:
    """Accuracy of one condition in the course of training.

    Args:
        dash: which of the dash patterns, so that conditions of one group can be told apart.
        seeds: one polyline per seed, "x,y x,y ..." in percent, y from the top.
        end: y of the last point, mean over seeds.
    """

    condition: str
    group: Group
    dash: int
    seeds: tuple[str, ...]
    end: float


@dataclass(frozen=True)
class Curves:
    """Learning curves of one pair; ``left_out`` conditions had no room."""

    curves: tuple[Curve, ...]
    steps: tuple[Tick, ...]
    axis: AccuracyAxis
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a confusion matrix: place and side in percent of the whole, share of its row in percent."""

    x: float
    y: float
    side: float
    share: float
    count: int
    right: bool
    true_class: str
    seen_class: str

    @property
    def strength(self) -> float:
        """How dark the cell is, 0..1; square root, so that few errors can be seen."""
        return math.sqrt(self.share / 100.0)

    @property
    def text(self) -> str:
        """The share as it fits into a cell; empty below a half percent off the diagonal."""
        if self.right:
            return "100" if self.share >= 99.95 else f"{self.share:.1f}"
        return f"{self.share:.1f}" if self.share >= 0.5 else ""


def accuracy_axis(pair: PairFindings) -> AccuracyAxis:
    """Gives the axis that holds all runs of a pair and the best published figures."""
    runs = [result.accuracy for line in pair.lines for result in line.results.values()]
    published = [entry.value for entry in (pair.best(True), pair.best(False)) if entry is not None]
    return AccuracyAxis.of([*runs, *published])


def points_axis(answers: Sequence[Answer]) -> PointsAxis:
    """Gives the axis that holds all answers to a question."""
    return PointsAxis.of(answer.difference for answer in answers)


def learning_curves(pair: PairFindings) -> Curves | None:
    """Gives the learning curves of a pair, of six conditions at most; None when no run kept two snapshots.

    Where steps start again with a new stage, stages are laid end to end.
    """
    with_curves = [line for line in pair.lines if any(len(run.snapshots) > 1 for run in line.results.values())]
    if not with_curves:
        return None
    order = {name: place for place, name in enumerate(CURVES_FIRST)}
    ranked = sorted(with_curves, key=lambda line: order.get(line.condition, len(order)))
    shown = ranked[:CURVES_AT_MOST]
    points = {line.condition: [_points(run) for run in line.results.values() if run.snapshots] for line in shown}
    every = [point for seeds in points.values() for seed in seeds for point in seed]
    axis = AccuracyAxis.of(accuracy for _, accuracy in every)
    last_step = max(max(step for step, _ in every), 1)
    dashes: dict[str, int] = {}
    curves = []
    for line in shown:
        dash = dashes[line.group.key] = dashes.get(line.group.key, -1) + 1
        curves.append(_curve(line, points[line.condition], axis, last_step, dash))
    left_out = tuple(line.condition for line in ranked[CURVES_AT_MOST:])
    return Curves(tuple(curves), tuple(_step_ticks(last_step)), axis, left_out)


def matrix_cells(counts: NDArray[np.int64], class_names: Sequence[str]) -> list[MatrixCell]:
    """Gives the cells of a confusion matrix, row by row; none when there are too many classes to be read.

    Args:
        counts: K x K, rows are true classes.
        class_names: K names.
    """
    classes = len(counts)
    if classes > MATRIX_CLASSES_AT_MOST:
        return []
    side = 100.0 / classes
    shares = 100.0 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        MatrixCell(
            side * column,
            side * row,
            side,
            share=float(shares[row, column]),
            count=int(counts[row, column]),
            right=row == column,
            true_class=class_names[row],
            seen_class=class_names[column],
        )
        for row in range(classes)
        for column in range(classes)
    ]


def _points(run: Result) -> list[tuple[int, float]]:
    """Gives (step, accuracy); where steps start again, each stage is laid behind the one before it."""
    steps_start_again = any(later.step < earlier.step for earlier, later in pairwise(run.snapshots))
    points: list[tuple[int, float]] = []
    offset = 0
    before: Snapshot | None = None
    for snapshot in run.snapshots:
        new_stage = before is not None and snapshot.stage != before.stage
        if before is not None and (snapshot.step < before.step or (new_stage and steps_start_again)):
            offset += before.step
        before = snapshot
        points.append((offset + snapshot.step, snapshot.accuracy))
    return points


def _curve(
    line: Line, seeds: Sequence[Sequence[tuple[int, float]]], axis: AccuracyAxis, last_step: int, dash: int
) -> Curve:
    polylines = tuple(
        " ".join(f"{100.0 * step / last_step:.2f},{100.0 - axis.place(accuracy):.2f}" for step, accuracy in points)
        for points in seeds
    )
    ends = [100.0 - axis.place(points[-1][1]) for points in seeds]
    return Curve(line.condition, line.group, dash, polylines, sum(ends) / len(ends))


def _step_ticks(last_step: int) -> list[Tick]:
    step = max(1.0, _round_step(last_step / 4))
    count = int(last_step / step)
    return [Tick(100.0 * place * step / last_step, f"{round(place * step):,}") for place in range(count + 1)]


def _round_step(rough: float) -> float:
    """Gives 1, 2 or 5 times a power of ten, the next one above ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def _clipped(percent: float) -> float:
    return round(min(100.0, max(0.0, percent)), 3)
