"""Do translations keep their labels? Counts by class as a classifier of real target images sees them, and a picture.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from munitaug._version import __version__
from munitaug.adaptation import FitSettings
from munitaug.adaptation.label_preservation import Confusion, classes_seen, classes_seen_in_variants, percentage
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, read_index, shared_translator
from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.specs import parse_spec
from munitaug.files import refuse_existing, replacing, write_text
from munitaug.images import images_to_model, match_channels
from munitaug.metrics import extract_features
from munitaug.networks.modes import device_of
from munitaug.random import random_permutation
from munitaug.recipes.classifier import train_classifier
from munitaug.recipes.evaluate import check_classes, own_test_split
from munitaug.recipes.options import DataOptions
from munitaug.styles import style_source
from munitaug.training import resolve_device
from munitaug.types import DomainError

HELD_OUT = 5
"""One image in so many is kept from a judge that has no test images of its own."""
BATCH = 250
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


def label_preservation(
    checkpoint: str | Path,
    source: str | Path | ImageDomain,
    out: str | Path,
    *,
    judge: str | Path | ImageDomain | nn.Module | None = None,
    judge_test: str | Path | ImageDomain | None = None,
    variants: int = 4,
    style: str = "prior",
    truncation: float | None = None,
    direction: str = "a2b",
    seed: int = 0,
    device: str = "auto",
    fit: FitSettings = FitSettings(),
    data: DataOptions = DataOptions(),
    overwrite: bool = False,
    progress: bool = True,
) -> LabelReport:
    """Counts how many translations keep the label of their image, in the eyes of a classifier of target images.

    The judge learns from labelled images of the wanted kind and then only looks. What it gets wrong by itself counts as
    lost, so its accuracy on images that it has not learnt from is measured too, and that on the untranslated source.
    Writes everything as JSON, and the confusion matrix as a PNG of the same name beside it.

    Args:
        checkpoint: checkpoint or run folder.
        source: labelled images to translate: a spec or a domain.
        out: JSON file to write.
        judge: labelled images of the wanted kind that teach a classifier: a spec or a domain; or a classifier,
            N x C x H x W in [-1, 1] -> N x classes logits, with the channels of the source. None takes the images that
            the checkpoint was trained towards, as far as it names them and they are labelled.
        judge_test: labelled images to test the judge on; None takes the ``test`` split of a named ``judge:train``, and
            otherwise keeps a fifth of each class of the judge's images from its training.
        variants: of each image, K >= 1; one for a translator without styles.
        style: "prior", "bank" or "mixture".
        truncation: see :func:`munitaug.styles.style_source`.
        direction: "a2b" or "b2a".
        seed: of styles and judge.
        device: "auto", "cpu", "cuda", ...
        fit: how the judge is trained.
        data: how specs are opened; ``invert_source`` is of the source, ``invert_target`` of the judge's images.
        overwrite: replace existing files.
        progress: show progress bars.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DomainError: source and judge have different classes.
        FileExistsError: the JSON or the PNG exists.
        ImportError: matplotlib is missing.
        LabelMissingError: source or judge's images have no labels.
        ValueError: settings or images that do not suit.
    """
    if variants < 1:
        raise ValueError(f"variants must be at least 1, got {variants}")
    path, picture = _free_files(Path(out), overwrite)
    _require_matplotlib()
    index = read_index(find_checkpoint(checkpoint))
    translator = shared_translator(checkpoint, direction, resolve_device(device))
    styles = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    data = data.like(checkpoint)
    domain = data.open_source(source)
    labels = domain.require_labels()
    wanted = _recorded_target(checkpoint, direction) if judge is None else judge
    if isinstance(wanted, nn.Module):
        asked = _given_judge(wanted, domain, judge_test, data)
    else:
        lessons = _open_labelled(wanted, domain, data)
        asked = _taught_judge(lessons, judge_test or own_test_split(wanted), data, fit, seed, device, progress)
        asked.classifier.to(translator.style_bank.device)
    classes = _count_classes(asked, domain, labels)
    count = variants if translator.style_dim else 1
    seen = classes_seen_in_variants(
        translator,
        asked.classifier,
        domain,
        styles=styles,
        variants=count,
        channels=asked.channels,
        seed=seed,
        progress="judging variants" if progress else "",
    )
    styled = StyledBy(str(index["method"]), checkpoint_sha256(checkpoint), direction, style, truncation, count, seed)
    counts = Confusion.of(labels.repeat_interleave(count), seen.flatten(), classes)
    report = _report(domain, styled, asked, counts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(report.to_json(), indent=2) + "\n")
    draw_confusion(report, picture)
    return report


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
    _require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = torch.tensor(report.translated.counts)
    shares = 100.0 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    classes = len(counts)
    side = min(14.0, max(5.0, 0.72 * classes + 1.8))
    figure = Figure(figsize=(side, side + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
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
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _report(source: ImageDomain, styled: StyledBy, judge: _Judge, translated: Confusion) -> LabelReport:
    """Gives the report, once the judge has seen the source itself and its own test images too."""
    classes = len(translated.counts)
    names = source.class_names
    return LabelReport(
        source=source.name,
        class_names=tuple(names[label] if label < len(names) else str(label) for label in range(classes)),
        images=len(source),
        styled=styled,
        judge=judge.name,
        judge_images=judge.taught_by,
        judge_test=None if judge.exam is None else judge.exam.name,
        translated=translated,
        untranslated=_asked_about(judge, source, classes),
        judged=_asked_about(judge, judge.exam, classes),
    )


class _Judge(NamedTuple):
    """A classifier and where it comes from.

    Args:
        classifier: N x channels x H x W in [-1, 1] -> N x classes logits.
        name: for the report.
        channels: of its images.
        taught_by: name and number of the images it learnt from.
        exam: labelled images it did not learn from.
    """

    classifier: nn.Module
    name: str
    channels: int
    taught_by: tuple[str, int] | None
    exam: ImageDomain | None


def _given_judge(
    classifier: nn.Module, source: ImageDomain, judge_test: str | Path | ImageDomain | None, data: DataOptions
) -> _Judge:
    exam = None if judge_test is None else _open_labelled(judge_test, source, data)
    return _Judge(classifier, type(classifier).__name__, source.channels, None, exam)


def _taught_judge(
    lessons: ImageDomain,
    judge_test: str | Path | ImageDomain | None,
    data: DataOptions,
    fit: FitSettings,
    seed: int,
    device: str,
    progress: bool,
) -> _Judge:
    """Gives a classifier of labelled images, with others to test it on."""
    taught, exam = (
        _hold_out(lessons, seed) if judge_test is None else (lessons, _open_labelled(judge_test, lessons, data))
    )
    classifier = train_classifier(taught, settings=fit, seed=seed, device=device, progress=progress)
    return _Judge(classifier, f"{fit.classifier} classifier", taught.channels, (lessons.name, len(taught)), exam)


def _open_labelled(given: str | Path | ImageDomain, like: ImageDomain, data: DataOptions) -> ImageDomain:
    """Gives labelled images of the wanted kind, to teach the judge or to test it.

    Raises:
        DomainError: they have other classes than ``like``.
        LabelMissingError: they have no labels.
        ValueError: they are of another size.
    """
    domain = data.open_target(given)
    domain.require_labels()
    check_classes(like, domain)
    _check_size(domain, like)
    return domain


def _check_size(judged: ImageDomain, other: ImageDomain) -> None:
    """Refuses to judge images of one size by what was learnt from another."""
    (height, width), (wanted_height, wanted_width) = (tuple(domain[0][0].shape[-2:]) for domain in (judged, other))
    if (height, width) != (wanted_height, wanted_width):
        raise ValueError(
            f"images of {judged.name} are {width} x {height} px, those of {other.name} {wanted_width} x "
            f"{wanted_height}; the judge has to see all in one size: give it, for example --size {min(height, width)}"
        )


def _recorded_target(checkpoint: str | Path, direction: str) -> str:
    """Gives the spec of the images that a checkpoint was trained towards.

    Raises:
        ValueError: it names none that can be opened.
    """
    key = {"a2b": "target", "b2a": "source"}.get(direction)
    recorded = read_index(find_checkpoint(checkpoint))["provenance"].get(key)
    name = recorded.get("name") if isinstance(recorded, dict) else None
    try:
        if isinstance(name, str):
            parse_spec(name)
            return name
    except DomainError:
        pass
    raise ValueError(
        "the checkpoint does not name the images it was trained towards, or they are not here; say which labelled "
        "images teach the judge, with --judge SPEC"
    )


def _hold_out(domain: ImageDomain, seed: int) -> tuple[ImageDomain, ImageDomain | None]:
    """Gives the images that teach and, of each class, a fifth to test on; None where classes have fewer than five."""
    labels = domain.require_labels()
    order = random_permutation(len(domain), seed, "held out from the judge")
    ranked = [order[labels[order] == label] for label in labels.unique()]
    tested = torch.cat([places[: len(places) // HELD_OUT] for places in ranked]).sort().values
    if len(tested) == 0:
        return domain, None
    taught = torch.cat([places[len(places) // HELD_OUT :] for places in ranked]).sort().values
    held = [
        ArrayDomain(name, domain.images(places), labels[places], domain.class_names)
        for name, places in ((domain.name, taught), (f"a held-out fifth of {domain.name}", tested))
    ]
    return held[0], held[1]


def _count_classes(judge: _Judge, source: ImageDomain, labels: Tensor) -> int:
    """Gives how many classes the judge knows.

    Raises:
        ValueError: its output is something else, or the source has classes that it does not know.
    """
    image = match_channels(images_to_model(source[0][0].unsqueeze(0)), judge.channels)
    scores = extract_features(judge.classifier, image, device=device_of(judge.classifier))
    highest = max(int(labels.max()), -1 if judge.exam is None else int(judge.exam.require_labels().max()))
    if scores.shape[1] <= highest:
        raise ValueError(
            f"the judge knows {scores.shape[1]} classes, but labels go up to {highest}; let it learn from images of "
            "every class, numbered as those of the source"
        )
    return scores.shape[1]


def _asked_about(judge: _Judge, domain: ImageDomain | None, classes: int) -> Confusion:
    if domain is None:
        return Confusion(((0,) * classes,) * classes)
    places: tuple[Tensor, ...] = torch.arange(len(domain)).split(BATCH)
    parts = [classes_seen(judge.classifier, domain.images(part), judge.channels) for part in places]
    return Confusion.of(domain.require_labels(), torch.cat(parts), classes)


def _free_files(out: Path, overwrite: bool) -> tuple[Path, Path]:
    """Gives the JSON file and the PNG beside it.

    Raises:
        FileExistsError: one of them exists and must not be replaced.
        ValueError: both would be one file.
    """
    if out.suffix == ".png":
        raise ValueError(f"{out} is to hold the numbers, as JSON; the picture goes beside it: give a name.json")
    refuse_existing(out, overwrite)
    picture = out.with_suffix(".png")
    refuse_existing(picture, overwrite)
    return out, picture


def _require_matplotlib() -> None:
    """Refuses at once what would fail after the work.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('the picture of mistakes needs: pip install "munitaug[benchmarks]"') from error


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
