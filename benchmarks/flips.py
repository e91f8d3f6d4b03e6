"""Do translated images keep their class, and are they inverted? Seen by a classifier of labelled target images.

    python -m benchmarks.flips --pair synthetic-rgb:mnist --seeds 3 --precision bfloat16 --data-root DATA --runs RUNS

The translators are those of "munit-semantic" and "adapt" in benchmarks/digits.py; with the same --runs, precision and
numbers of steps they are read and not trained again. The judge is the classifier of "oracle": labels of the target's
training images, which nothing but this measurement sees. Of 2000 held-out images each, in percent:

- untranslated: source images that the judge reads as they are;
- kept: translations, one style each, in which it sees the source's label;
- inverted: those in which it sees the label only when light and dark are exchanged, so kept + inverted is the share
  that would be kept if polarity did not matter;
- target: target test images that it reads;
- restyled: the same images in another style of the target;
- restyled-inverted: as above.

``flips`` has the most frequent confusions of translations, ``restyled-flips`` those of restyled images: true class,
seen class, percent of the true class. A sheet (source, translations, target, restyled) is drawn for the first seed. One
JSON line per finished cell is appended to --out; cells that stand there are not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.utils import save_image
from tqdm import tqdm

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.conditions.plain import oracle
from benchmarks.conditions.self_training import SEMANTIC_WEIGHT
from benchmarks.digits import Job, Places, Plan, decided_by, make_cell
from benchmarks.pairs import PAIRS
from benchmarks.storing import append_row, read_rows
from munitaug.adaptation import FitSettings, predict
from munitaug.random import torch_generator

METHOD = "munit"
IMAGES = 2000
AT_ONCE = 250
WORST = 5
SHEET_COLUMNS = 20
SHEET_SCALE = 2
COLUMNS = ("untranslated", "kept", "inverted", "target", "restyled", "restyled-inverted")
Row = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What the judge sees in images whose classes are known; N each."""

    labels: Tensor
    upright: Tensor
    inverted: Tensor

    @property
    def kept_percent(self) -> float:
        """Gives the share in which the label is seen."""
        return _percent(self.upright == self.labels)

    @property
    def inverted_percent(self) -> float:
        """Gives the share in which the label is seen when light and dark are exchanged, and only then."""
        return _percent((self.inverted == self.labels) & (self.upright != self.labels))

    def flips(self) -> list[tuple[int, int, float]]:
        """Gives the most frequent confusions: true class, seen class, percent of the true class."""
        pairs = [
            (true, seen, _percent(self.upright[self.labels == true] == seen))
            for true in self.labels.unique().tolist()
            for seen in self.upright.unique().tolist()
            if seen != true
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:WORST]


def look(judge: nn.Module, images: Tensor, labels: Tensor) -> Seen:
    """Gives what the judge sees in images N x C x H x W in [-1, 1], as they are and inverted."""
    return Seen(labels, predict(judge, images), predict(judge, -images))


def in_styles(translator: munitaug.Translator, images: Tensor, seed: int) -> Tensor:
    """Gives one translation of each image under a style drawn from the prior."""
    styles = torch.randn(len(images), 1, translator.style_dim, generator=torch_generator(seed, "flips"))
    with torch.no_grad():
        made = [
            translator.translate(part, codes).squeeze(1)
            for part, codes in zip(images.split(AT_ONCE), styles.to(images.device).split(AT_ONCE), strict=True)
        ]
    return torch.cat(made)


def measure(job: Job, sheet: Path | None) -> Row:
    """Gives a cell's numbers, and draws its sheet if there is a path."""
    cell, data = make_cell(job)
    if data.source_test is None:
        raise SystemExit(f"{job.pair} has no held-out source images")
    translator = cell.translator_of(METHOD, SEMANTIC_WEIGHT)
    restyler = cell.restyler_of(METHOD, SEMANTIC_WEIGHT)
    assert restyler is not None
    judge = oracle(cell)
    device = job.places.device
    source, source_labels = _some(data.source_test, device)
    target, target_labels = _some(data.target_test, device)
    translated, restyled = in_styles(translator, source, job.seed), in_styles(restyler, target, job.seed)
    moved, shown = look(judge, translated, source_labels), look(judge, restyled, target_labels)
    if sheet is not None:
        again = [in_styles(network, x, job.seed + 1) for network, x in ((translator, source), (restyler, target))]
        draw_sheet([source, translated, again[0], target, restyled, again[1]], sheet)
    return {
        "untranslated": _percent(predict(judge, source) == source_labels),
        "kept": moved.kept_percent,
        "inverted": moved.inverted_percent,
        "target": _percent(predict(judge, target) == target_labels),
        "restyled": shown.kept_percent,
        "restyled-inverted": shown.inverted_percent,
        "flips": moved.flips(),
        "restyled-flips": shown.flips(),
        "images": [len(source), len(target)],
    }


def draw_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Draws the first images of each row, N x C x H x W in [-1, 1], as a PNG."""
    tiles = torch.cat([row[:SHEET_COLUMNS].cpu() for row in rows]).add(1.0).div(2.0).clamp(0.0, 1.0)
    larger = tiles.repeat_interleave(SHEET_SCALE, dim=2).repeat_interleave(SHEET_SCALE, dim=3)
    save_image(larger, path, nrow=SHEET_COLUMNS, padding=2, pad_value=1.0)


def main() -> None:
    """Runs the cells that are missing, prints the table, draws the sheets."""
    options = _options()
    unknown = [pair for pair in options.pair if pair not in PAIRS]
    if unknown:
        raise SystemExit(f"unknown pairs {', '.join(unknown)}; choose from {', '.join(PAIRS)}")
    plan = Plan(
        FitSettings(steps=options.steps, self_steps=options.self_steps, precision=options.precision),
        options.translator_steps,
    )
    places = Places(options.data_root, runs=options.runs, device=options.device)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(out)
    decided = decided_by(plan)
    known = [(row["pair"], row["seed"], row.get("plan")) for row in rows]
    wanted = [(pair, seed) for pair in options.pair for seed in range(options.seeds)]
    missing = [(pair, seed) for pair, seed in wanted if (pair, seed, decided) not in known]
    for pair, seed in tqdm(missing, desc="cells", unit="cell"):
        sheet = out.with_name(f"digits-{pair.replace(':', '-')}-translations.png") if seed == 0 else None
        row: Row = {"pair": pair, "seed": seed, "plan": decided}
        row |= measure(Job(pair, seed, (), plan, places), sheet) | circumstances("benchmarks.flips", options.device)
        rows.append(row)
        append_row(out, row)
    print(render(rows))


def render(rows: Sequence[Row]) -> str:
    """Gives the Markdown table of all rows: mean over seeds, lowest and highest in brackets where they differ."""
    lines = [f"| pair | seeds | {' | '.join(COLUMNS)} |", "|" + "---|" * (2 + len(COLUMNS))]
    for pair in dict.fromkeys(row["pair"] for row in rows):
        of_pair = [row for row in rows if row["pair"] == pair]
        cells = [_spread([row[column] for row in of_pair]) for column in COLUMNS]
        lines.append(f"| {pair} | {len(of_pair)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def _some(domain: munitaug.ImageDomain, device: str) -> tuple[Tensor, Tensor]:
    count = min(IMAGES, len(domain))
    images = domain.images(range(count)).float().div(127.5).sub(1.0).to(device)
    return images, domain.require_labels()[:count]


def _percent(right: Tensor) -> float:
    return round(100.0 * float(right.float().mean()), 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs="+", default=["synthetic-rgb:mnist"], help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1")
    parser.add_argument("--steps", type=int, default=FitSettings.steps, help="of every classifier")
    parser.add_argument("--self-steps", type=int, default=FitSettings.self_steps, help="names the folder of --runs")
    parser.add_argument("--translator-steps", type=int, default=Plan.translator_steps)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default=FitSettings.precision)
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--runs", type=Path, default=Places.runs, help="folder of translators and classifiers")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/flips.jsonl"), help="file of the rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
