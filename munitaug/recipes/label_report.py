"""What a count of kept labels says: a table, a JSON document, and the confusion matrix as a picture.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor

from munitaug._version import __version__
from munitaug.adaptation.label_preservation import Confusion, percentage
from munitaug.recipes.pictures import picture

MOST_CLASSES_WITH_NUMBERS = 20
LEAST_RED_PERCENT = 5.0
"""The share of a mistake that is full red, where no mistake is more frequent."""
BLUE, RED = (0.12, 0.44, 0.55), (0.82, 0.1, 0.1)
LONGEST_NAME = 14


@dataclass(frozen=True)
class StyledBy:
    """What made variants: method and weights (SHA-256), direction, styles, number of variants, and the seed."""

    method: str
    checkpoint_sha256: str
    direction: str
    style: str
    truncation: float | None
    variants: int
    seed: int


@dataclass(frozen=True)
class LabelReport:
    """How many variants keep their label, and what the judge of that is worth.

    Args:
        source: name of the translated domain.
        class_names: of the classes in label order; their numbers where they have no names.
        images: of the source.
        styled: what made the variants.
        judge: name of the classifier.
        judge_images: name and number of the images that taught it; None for a classifier that came as it is.
        judge_test: name of the held-out images it was tested on; None where there are none.
        translated: label x seen class, of the variants.
        untranslated: label x seen class, of the source images as they are.
        judged: label x seen class, of the judge's held-out images; no counts where there are none.
    """

    source: str
    class_names: tuple[str, ...]
    images: int
    styled: StyledBy
    judge: str
    judge_images: tuple[str, int] | None
    judge_test: str | None
    translated: Confusion
    untranslated: Confusion
    judged: Confusion

    def table(self) -> str:
        """Gives the counts in words: a line for each class, one for all, and what the judge is worth."""
        width = max(5, *map(len, self.class_names))
        titles = (f"{'class':<{width}}", "variants", "kept %", "untranslated %", "judge alone %", "usual mistake")
        lines = ["  ".join(titles)]
        for label, name in enumerate(self.class_names):
            if sum(self.translated.counts[label]):
                lines.append(self._line(label, name, width).rstrip())
        numbers = (self.translated.percent, self.untranslated.percent, self.judged.percent)
        lines.append(_columns("all", width, self.translated.total, numbers).rstrip())
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> tuple[str, str]:
        """Gives two sentences: what was kept, and who says so."""
        kept = (
            f"{self.translated.kept} of {self.translated.total} variants ({_percent(self.translated.percent)}) of "
            f"{self.source} keep their label."
        )
        taught = (
            "" if self.judge_images is None else f" taught by {self.judge_images[1]} images of {self.judge_images[0]}"
        )
        alone = "; its own accuracy is not known"
        if self.judge_test is not None and self.judged.total:
            alone = (
                f"; of {self.judged.total} images of {self.judge_test}, which it has not learnt from, it gets "
                f"{_percent(self.judged.percent)} right"
            )
        return kept, f"Judge: {self.judge}{taught}{alone}. Its own errors count as lost labels."

    def to_json(self) -> dict[str, Any]:
        """Gives everything as a JSON document; shares in percent, null where there is no image."""
        facts = {key: value for key, value in asdict(self).items() if key not in _COUNTS}
        return {
            "munitaug": __version__,
            **facts,
            "judge_images": None
            if self.judge_images is None
            else dict(zip(("name", "count"), self.judge_images, strict=True)),
            "overall": {
                "variants": self.translated.total,
                "kept": self.translated.kept,
                "kept_percent": _number(self.translated.percent),
                "untranslated_percent": _number(self.untranslated.percent),
                "judge_alone_percent": _number(self.judged.percent),
            },
            "classes": [self._class_facts(label, name) for label, name in enumerate(self.class_names)],
            "confusion": {name: getattr(self, name).counts for name in _COUNTS},
        }

    def _class_facts(self, label: int, name: str) -> dict[str, Any]:
        row = self.translated.counts[label]
        return {
            "label": label,
            "name": name,
            "variants": sum(row),
            "kept": row[label],
            "kept_percent": _number(self.translated.class_percent(label)),
            "untranslated_percent": _number(self.untranslated.class_percent(label)),
            "judge_alone_percent": _number(self.judged.class_percent(label)),
            "usual_mistake": self.translated.usual_mistake(label),
        }

    def _line(self, label: int, name: str, width: int) -> str:
        numbers = tuple(part.class_percent(label) for part in (self.translated, self.untranslated, self.judged))
        row = self.translated.counts[label]
        other = self.translated.usual_mistake(label)
        mistake = "-" if other is None else f"{self.class_names[other]} ({_percent(percentage(row[other], sum(row)))})"
        return _columns(name, width, sum(row), numbers) + f"  {mistake}"


_COUNTS = ("translated", "untranslated", "judged")


def draw_confusion(report: LabelReport, path: Path) -> None:
    """Draws the confusion matrix of the variants as a PNG: counts, and their share of the label's row in percent.

    The diagonal, what is kept, is blue; mistakes are red, on a scale of their own, as they are few where all is well.
    Beyond 20 classes the cells have no numbers.

    Args:
        report: at least one class.
        path: of the PNG; an existing one is replaced.

    Raises:
        ImportError: matplotlib is missing.
    """
    counts = torch.tensor(report.translated.counts)
    shares = 100.0 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    classes = len(counts)
    side = min(14.0, max(5.0, 0.72 * classes + 1.8))
    with picture(path, side, side + 0.6) as axes:
        axes.imshow(_cell_colours(shares).numpy(), interpolation="nearest")
        if classes <= MOST_CLASSES_WITH_NUMBERS:
            for row, column in torch.cartesian_prod(torch.arange(classes), torch.arange(classes)).tolist():
                text, colour = _cell_text(int(counts[row, column]), float(shares[row, column]), row == column)
                axes.text(column, row, text, color=colour, ha="center", va="center", fontsize=7.5)
        names = [_short(name) for name in report.class_names]
        axes.set_xticks(range(classes), names, rotation=0 if max(map(len, names)) < 4 else 90)
        axes.set_yticks(range(classes), names)
        axes.set_xlabel("class that the judge sees in the translation")
        axes.set_ylabel("label of the source image")
        lines = [fill(line, width=round(13.5 * side)) for line in report.remarks()]
        axes.set_title("\n".join(lines), fontsize=9, loc="left")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)


def _cell_colours(shares: Tensor) -> Tensor:
    """Gives classes x classes x 3 colours in 0..1 of shares in percent: white to blue or, off the diagonal, red."""
    kept = torch.eye(len(shares), dtype=torch.bool)
    most = max(LEAST_RED_PERCENT, float(shares[~kept].max()) if len(shares) > 1 else 0.0)
    strength = torch.where(kept, shares / 100.0, 0.75 * shares / most).unsqueeze(2)
    full = torch.where(kept.unsqueeze(2), torch.tensor(BLUE), torch.tensor(RED))
    return 1.0 + strength * (full - 1.0)


def _cell_text(count: int, share: float, kept: bool) -> tuple[str, str]:
    """Gives count and share of a cell, nothing for none, and a colour that can be read on the cell's."""
    return f"{count}\n{_percent(share)}" if count else "", "white" if kept and share > 55.0 else "#222222"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1f}%"


def _number(share: float) -> float | None:
    return None if math.isnan(share) else round(share, 3)


def _columns(name: str, width: int, total: int, shares: Sequence[float]) -> str:
    kept, untranslated, alone = ("-" if math.isnan(share) else f"{share:.1f}" for share in shares)
    return f"{name:<{width}}  {total:>8}  {kept:>6}  {untranslated:>14}  {alone:>13}"
