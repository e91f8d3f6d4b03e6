"""Accuracy against the number of unlabelled target images, drawn from the rows of benchmarks/digits.py.

    python -m benchmarks.few --results benchmarks/results/few benchmarks/results --out docs/images/few-target-images.png

Rows of ``--target-images N`` give the points at N, rows of all target images those at "all"; a panel for each pair
that has both, or fewer alone. Lines join means over seeds; bars are Student's 95% intervals. The axis is the logarithm
of the error, as in the report.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.findings import pair_title
from benchmarks.rows import Result, Setting, by_setting, main_settings, read_results
from benchmarks.statistics import Summary, summarise

ALL = 0
"""Stands for the number of target images where there are all."""
CONDITIONS = {
    "classic": ("classic augmentation", "#7f7f7f"),
    "munit-semantic": ("translation alone", "#1f77b4"),
    "self-training": ("self-training alone", "#ff7f0e"),
    "self-training-restarts": ("the same with as many updates as ours", "#e7ba52"),
    "adapt": ("both: ours", "#2ca02c"),
    "oracle": ("labels of these images", "#000000"),
}
TICKS = (50, 70, 80, 90, 95, 97, 98, 99, 99.5)
WIDTH_IN, HEIGHT_IN, DOTS_PER_INCH = 9.6, 4.6, 130
Curves = dict[str, dict[str, dict[int, Summary]]]


def main() -> None:
    """Reads the rows, draws the picture, prints the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="folders of rows")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    options = parser.parse_args()
    try:
        read = [read_results(folder)[0] for folder in options.results]
    except FileNotFoundError as error:
        raise SystemExit(f"few: {error}") from error
    found = curves([result for results in read for result in main_settings(results)[0]])
    if not found:
        raise SystemExit("few: no row has target_images; run python -m benchmarks.digits --target-images 100 first")
    for pair, conditions in found.items():
        for condition, points in conditions.items():
            means = ", ".join(f"{count or 'all'}: {points[count].mean:.2f}" for count in in_order(points))
            print(f"{pair:20} {condition:24} {means}")
    draw(found, options.out)
    print(f"picture: {options.out}")


def curves(results: Sequence[Result]) -> Curves:
    """Gives pair -> condition -> number of target images -> summary, of pairs that were run with few."""
    found: Curves = {}
    for setting, conditions in by_setting(results).items():
        if setting.protocol in ("", "full"):
            for condition in CONDITIONS:
                if runs := conditions.get(condition):
                    summary = summarise(condition, {seed: run.accuracy for seed, run in runs.items()})
                    found.setdefault(setting.pair, {}).setdefault(condition, {})[setting.target_images] = summary
    return {pair: lines for pair, lines in found.items() if any(set(points) - {ALL} for points in lines.values())}


def in_order(counts: Mapping[int, Any]) -> list[int]:
    """Gives numbers of target images, fewest first, all of them last."""
    return sorted(counts, key=lambda count: math.inf if count == ALL else count)


def draw(found: Curves, path: Path) -> None:
    """Draws a panel for each pair.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('the picture needs matplotlib: pip install "munitaug[benchmarks]"') from error
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (pair, lines) in zip(panels, found.items(), strict=True):
        _draw_panel(axes, lines)
        axes.set_title(pair_title(Setting(pair)))
    panels[0].set_ylabel("accuracy on the target's test images, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_panel(axes: Any, lines: Mapping[str, Mapping[int, Summary]]) -> None:
    counts = in_order({count: None for points in lines.values() for count in points})
    for number, (condition, points) in enumerate(lines.items()):
        shown = in_order(points)
        places = [counts.index(count) + 0.03 * (number - len(lines) / 2) for count in shown]
        errors = [100.0 - points[count].mean for count in shown]
        reach = [0.0 if math.isnan(points[count].half_width) else points[count].half_width for count in shown]
        below = [min(half, 0.9 * error) for half, error in zip(reach, errors, strict=True)]  # no error is negative
        title, colour = CONDITIONS[condition]
        style = "--" if condition == "oracle" else "-"
        axes.errorbar(
            places, errors, yerr=[below, reach], label=title, color=colour, linestyle=style, marker="o", capsize=3
        )
    axes.set_yscale("log")
    axes.invert_yaxis()
    worst, best = axes.get_ylim()
    ticks = [tick for tick in TICKS if best <= 100.0 - tick <= worst]
    axes.set_yticks([100.0 - tick for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xticks(range(len(counts)), [f"{count}" if count != ALL else "all" for count in counts])
    axes.set_xlabel("unlabelled target images")
    axes.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
