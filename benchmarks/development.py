"""May a setting of ours be changed? Asked of the development pair, which stands outside the tables.

    python -m benchmarks.development --data-root DATA --precision bfloat16 --seeds 40 41 42 43 \
        --change refine_steps=1200 --change refine_steps=2400

Rendered colour digits to USPS, 32 px RGB: of USPS's *training* images 5000, drawn by the seed, are trained on without
labels, the other 2291 are what is scored. Each change is one or more settings of ``FitSettings``, joined by commas; the
settings as they are always run beside them, on the same images, translator and (where only the refinement changes)
starts. The rule is to be written down before the first run, and the seeds to be fresh: docs/digits.md.

Rows go to --out, one JSON line per finished cell: change, seed, accuracy in percent, ``nll`` (mean negative
log-likelihood of the held-out labels in nats, which tells more where a dozen images are wrong), which images were
right, and how it came about. Cells that stand there are not run again. Nothing here touches USPS's test images.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.circumstances import circumstances
from benchmarks.conditions import CONDITIONS
from benchmarks.digits import Job, Places, Plan, TestSet, cell_of
from benchmarks.pairs import PairData, open_pair
from benchmarks.side_by_side import side_by_side
from benchmarks.storing import append_row, read_rows
from munitaug.adaptation import FitSettings
from munitaug.data import ArrayDomain
from munitaug.random import random_permutation

PAIR = "synthetic-rgb:usps"
CONDITION = "adapt"
UNLABELLED_IMAGES = 5000
AS_IT_IS = ""
LATE = ("refine_steps", "restyle_weight", "translation_weight")
"""Settings that the refinement alone looks at: whoever differs in nothing else shares translator and starts."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One seed under each of several changes, one after the other.

    Args:
        seed: draws the images, and decides translator and classifiers.
        changes: as they were given; the empty one is the settings as they are.
        settings: that are changed.
        translator_steps: updates of the translator.
        places: where things are.
    """

    seed: int
    changes: tuple[str, ...]
    settings: FitSettings
    translator_steps: int
    places: Places


def changed(settings: FitSettings, change: str) -> FitSettings:
    """Gives settings after a change such as "refine_steps=1200,threshold=0.8".

    Raises:
        ValueError: no such setting, or a value that it cannot have.
    """
    kinds = {field.name: type(getattr(settings, field.name)) for field in fields(settings)}
    values: Row = {}
    for part in change.split(",") if change else ():
        name, equals, text = part.partition("=")
        if not equals or name not in kinds:
            raise ValueError(f"a change must be SETTING=VALUE, SETTING of {', '.join(kinds)}, got {part!r}")
        try:
            values[name] = kinds[name](text)
        except ValueError:
            raise ValueError(f"{name} must be of type {kinds[name].__name__}, got {text!r}") from None
    return replace(settings, **values)


def development_data(seed: int, places: Places) -> PairData:
    """Gives the development pair: the target is 5000 of USPS's training images, its test images the others.

    Args:
        seed: draws them.
        places: of the data and of rendered images.
    """
    data = open_pair(PAIR, data_root=places.data_root, cache=places.runs / "rendered")
    order = random_permutation(len(data.target), seed, "development")
    labels = data.target.require_labels()
    parts = [
        ArrayDomain(f"{data.target.name}, {what}", data.target.images(index), labels[index], data.target.class_names)
        for what, index in (("without labels", order[:UNLABELLED_IMAGES]), ("held out", order[UNLABELLED_IMAGES:]))
    ]
    return replace(data, target=parts[0], target_test=parts[1])


def run_trial(trial: Trial) -> Iterator[Row]:
    """Gives a row for each change."""
    data = development_data(trial.seed, trial.places)
    test = TestSet(data.target_test, trial.places.device)
    usual = {name: getattr(FitSettings, name) for name in LATE}
    for change in trial.changes:
        settings = changed(trial.settings, change)
        plan = Plan(replace(settings, **usual), trial.translator_steps)
        cell = cell_of(Job(PAIR, trial.seed, (), plan, trial.places), data)
        torch.manual_seed(trial.seed)
        classifier = CONDITIONS[CONDITION](replace(cell, settings=settings))
        row: Row = {"pair": PAIR, "condition": CONDITION, "seed": trial.seed, "change": change}
        row |= test.score(classifier) | {"nll": round(test.likelihood(classifier), 5)}
        row |= {"plan": decided_by(trial)}
        yield row | circumstances("benchmarks.development", trial.places.device)


def decided_by(trial: Trial) -> Row:
    """Gives what decides the rows of a trial, besides seed and change."""
    facts: Row = json.loads(json.dumps({"settings": asdict(trial.settings)}))
    return facts | {"translator_steps": trial.translator_steps}


def render(rows: Sequence[Row]) -> str:
    """Gives the Markdown table: accuracies and likelihoods of the seeds that every change has, and their means."""
    changes = list(dict.fromkeys(row["change"] for row in rows))
    found = {(row["change"], row["seed"]): row for row in rows}
    seeds = [seed for seed in sorted({row["seed"] for row in rows}) if all((each, seed) in found for each in changes)]
    if not seeds:
        return "no seed has every change yet"
    named = ", ".join(str(seed) for seed in seeds)
    lines = [
        f"| change | accuracy, % (seeds {named}) | mean | negative log-likelihood | mean |",
        "|---|---|---|---|---|",
    ]
    for change in changes:
        accuracies = [found[change, seed]["accuracy"] for seed in seeds]
        likelihoods = [found[change, seed]["nll"] for seed in seeds]
        shown = [", ".join(f"{value:.2f}" for value in accuracies), f"{fmean(accuracies):.2f}"]
        shown += [", ".join(f"{value:.4f}" for value in likelihoods), f"{fmean(likelihoods):.4f}"]
        lines.append(f"| {change or 'as it is'} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the cells that are missing, prints the table."""
    options = _options()
    settings = FitSettings(precision=options.precision)
    changes = [AS_IT_IS, *options.change]
    for change in changes:
        try:
            changed(settings, change)
        except ValueError as error:
            raise SystemExit(f"--change: {error}") from None
    places = Places(options.data_root, runs=options.runs, device=options.device)
    trials = [Trial(seed, tuple(changes), settings, options.translator_steps, places) for seed in options.seeds]
    wanted = decided_by(trials[0])
    there = {(row["change"], row["seed"]) for row in read_rows(options.out) if row["plan"] == wanted}
    open_ones = [
        replace(trial, changes=tuple(change for change in changes if (change, trial.seed) not in there))
        for trial in trials
    ]
    missing = [trial for trial in open_ones if trial.changes]
    for _ in side_by_side(partial(_run_into, out=options.out), missing, options.processes, options.device, "seed"):
        pass  # rows are stored as they come
    rows = [row for row in read_rows(options.out) if row["plan"] == wanted and row["change"] in changes]
    print(render([row for change in changes for row in rows if row["change"] == change]))


def _run_into(trial: Trial, out: Path) -> None:
    for row in run_trial(trial):
        append_row(out, row)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--change", action="append", default=[], help="SETTING=VALUE[,...] of FitSettings; repeatable")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="fresh ones, for an honest trial")
    parser.add_argument("--translator-steps", type=int, default=Plan.translator_steps)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default=FitSettings.precision)
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="seeds run side by side on a CPU")
    parser.add_argument("--runs", type=Path, default=Places.runs, help="folder of translators and classifiers")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/development.jsonl"), help="file of the rows"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
