"""From rows of accuracies to a table with means and 95% intervals.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class Row(TypedDict):
    """One cell of a table: accuracy in percent of one condition under one seed."""

    condition: str
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Summary:
    """A condition over its seeds: mean and half width of the 95% interval, in percent; count of seeds."""

    condition: str
    mean: float
    half_width: float
    lowest: float
    seeds: int


# Two-sided 95% quantiles of Student's t for 1 to 30 degrees of freedom.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Gives one summary per condition, in order of first appearance.

    The interval is Student's: mean +- t * sd / sqrt(n) with sd over seeds (n - 1). One seed gives no
    interval (half width NaN).

    Args:
        rows: accuracies in percent, one per condition and seed.
    """
    by_condition: dict[str, list[float]] = {}
    for row in rows:
        by_condition.setdefault(row["condition"], []).append(row["accuracy"])
    return [_summary(condition, values) for condition, values in by_condition.items()]


def render_table(summaries: Sequence[Summary]) -> str:
    """Gives a table in words: condition, mean, interval, lowest seed.

    Args:
        summaries: one line each, see :func:`summarise`.
    """
    lines = [f"{'condition':<14} {'accuracy %':>10}  {'95% interval':>14}  {'lowest':>6}  seeds"]
    for entry in summaries:
        interval = "-" if math.isnan(entry.half_width) else f"+- {entry.half_width:.1f}"
        lines.append(
            f"{entry.condition:<14} {entry.mean:>10.1f}  {interval:>14}  {entry.lowest:>6.1f}  {entry.seeds:>5}"
        )
    return "\n".join(lines)


def _summary(condition: str, values: list[float]) -> Summary:
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Summary(condition, mean, math.nan, mean, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = T_95[min(count - 2, len(T_95) - 1)]  # beyond the table its last value, which is a little too wide
    return Summary(condition, mean, quantile * deviation / math.sqrt(count), min(values), count)
