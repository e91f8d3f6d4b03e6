"""How long ``munitaug adapt`` takes until a classifier that is good enough lies on disk, and until its end.

    python -m benchmarks.speed_adapt --data-root DATA --precision bfloat16
    python -m benchmarks.speed_adapt --data-root DATA --precision bfloat16 --device cuda --limit 60

The clock starts before the data sets are opened and takes in the translator's training. Each classifier that the
recipe keeps on its way is scored on the target's labelled test images after the run; the first with at least
--accuracy percent gives the time. The process that runs has loaded torch already.

A row "adapt-to-95" (or another accuracy) with ``seconds``, ``seconds_whole``, the accuracies and ``ratio``, which is
the limit over the seconds (above 1 is within it), is appended to --out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row
from munitaug.adaptation import Scorer


class Kept(NamedTuple):
    """A classifier that lay on disk some seconds after the start."""

    seconds: float
    accuracy: float


def main(arguments: list[str] | None = None) -> None:
    """Runs the recipe once, prints when which accuracy was reached and appends the row.

    Raises:
        SystemExit: no classifier reached the accuracy.
    """
    options = _options(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    facts = circumstances("benchmarks.speed_adapt", options.device, arguments)
    with tempfile.TemporaryDirectory() as folder:
        kept = run(options, Path(folder) / "run")
    for seconds, accuracy in kept:
        print(f"  {seconds:>8.1f} s  {accuracy:.2f}%")
    reached = [each.seconds for each in kept if each.accuracy >= options.accuracy]
    if not reached:
        raise SystemExit(f"no classifier reached {options.accuracy:g}%")
    row = {
        "name": f"adapt-to-{options.accuracy:g}",
        "ratio": round(options.limit / reached[0], 3),
        "seconds": round(reached[0], 1),
        "seconds_whole": round(kept[-1].seconds, 1),
        "accuracies": [each.accuracy for each in kept],
        "source": options.source,
        "target": options.target,
        "size_px": options.size,
        "precision": options.precision,
        "seed": options.seed,
        "limit_seconds": options.limit,
    }
    append_row(options.out, row | facts)
    print(f"{options.accuracy:g}% after {reached[0]:.0f} s, limit {options.limit:g} s; appended to {options.out}")


def run(options: argparse.Namespace, folder: Path) -> list[Kept]:
    """Gives the classifiers that a run kept, as they came; the last is its result."""
    data = munitaug.DataOptions(channels=1, size=options.size, data_root=options.data_root)
    began = time.time()
    munitaug.adapt(
        f"{options.source}:train",
        f"{options.target}:train",
        folder,
        training=munitaug.TrainConfig(
            max_steps=options.steps, seed=options.seed, device=options.device, precision=options.precision
        ),
        fit=munitaug.FitSettings(precision=options.precision),
        data=data,
    )
    files = [*(folder / "classifiers").iterdir(), folder / "classifier.safetensors"]
    files.sort(key=lambda file: file.stat().st_mtime)
    scorer = Scorer(data.open(f"{options.target}:test"))
    return [
        Kept(file.stat().st_mtime - began, round(scorer.accuracy_percent(munitaug.load_classifier(file)), 3))
        for file in files
    ]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="mnist", help="name of a digit data set")
    parser.add_argument("--target", default="usps", help="name of a digit data set")
    parser.add_argument("--data-root", required=True, help="folder of the digit data sets")
    parser.add_argument("--size", type=int, default=28, help="side of the images, px; they are grey")
    parser.add_argument("--steps", type=int, default=1000, help="of the translator's training")
    parser.add_argument("--accuracy", type=float, default=95.0, help="percent")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds in which the accuracy is wanted")
    parser.add_argument("--precision", default="float32", help="float32 or bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-adapt.jsonl"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
