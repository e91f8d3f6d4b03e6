"""Do translations keep their labels? Counts by class as a classifier of real target images sees them, and a picture.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from munitaug.adaptation import FitSettings
from munitaug.adaptation.label_preservation import Confusion, classes_seen, classes_seen_in_variants
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, read_index, shared_translator
from munitaug.data.domain import ArrayDomain, ImageDomain, check_classes
from munitaug.data.specs import parse_spec
from munitaug.default_device import on_cpu_by_default
from munitaug.files import only_writer_of, refuse_existing, write_text
from munitaug.images import images_to_model, match_channels
from munitaug.kernel import translator_device
from munitaug.metrics import extract_features
from munitaug.networks.modes import device_of
from munitaug.random import random_permutation
from munitaug.recipes.classifier import train_classifier
from munitaug.recipes.evaluate import own_test_split
from munitaug.recipes.label_report import LabelReport, StyledBy, draw_confusion
from munitaug.recipes.options import DataOptions, refuse_among_images
from munitaug.recipes.pictures import require_matplotlib
from munitaug.settings import whole_number
from munitaug.styles import style_source
from munitaug.training import resolve_device
from munitaug.types import DomainError

HELD_OUT = 5
"""One image in so many is kept from a judge that has no test images of its own."""
BATCH = 250


@on_cpu_by_default
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
        BlockingIOError: another process writes ``out``.
        CheckpointError: the checkpoint cannot be read.
        DomainError: source and judge have different classes.
        FileExistsError: the JSON or the PNG exists.
        ImportError: matplotlib is missing.
        LabelMissingError: source or judge's images have no labels.
        TypeError: variants or seed is no whole number.
        ValueError: settings or images that do not suit.
    """
    variants, seed = whole_number("variants", variants), whole_number("seed", seed)
    if variants < 1:
        raise ValueError(f"variants must be at least 1, got {variants}")
    path, picture = _free_files(Path(out).expanduser(), overwrite)
    require_matplotlib()
    index = read_index(find_checkpoint(checkpoint))
    translator = shared_translator(checkpoint, direction, resolve_device(device))
    styles = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    data = data.like(checkpoint, direction)
    domain = data.open_source(source)
    labels = domain.require_labels()
    wanted = _recorded_target(checkpoint, direction) if judge is None else judge
    lessons = None if isinstance(wanted, nn.Module) else _open_labelled(wanted, domain, data)
    refuse_among_images(picture, domain, lessons)
    count = variants if translator.style_dim else 1
    with only_writer_of(path):  # before a judge is trained: a place that cannot be written is said now
        _free_files(path, overwrite)  # again: another process may have written them till now
        if isinstance(wanted, nn.Module):
            asked = _given_judge(wanted, domain, judge_test, data)
        else:
            assert lessons is not None
            asked = _taught_judge(lessons, judge_test or own_test_split(wanted), data, fit, seed, device, progress)
            asked.classifier.to(translator_device(translator))
        classes = _count_classes(asked, domain, labels)
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
        styled = StyledBy(
            str(index["method"]), checkpoint_sha256(checkpoint), direction, style, truncation, count, seed
        )
        counts = Confusion.of(labels.repeat_interleave(count), seen.flatten(), classes)
        report = _report(domain, styled, asked, counts)
        draw_confusion(report, picture)
        write_text(path, json.dumps(report.to_json(), indent=2) + "\n")
    return report


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
    (height, width), (wanted_height, wanted_width) = (
        tuple(domain.checked_image(0).shape[-2:]) for domain in (judged, other)
    )
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
    image = match_channels(images_to_model(source.checked_image(0).unsqueeze(0)), judge.channels)
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
