"""A picture of what a translator does: columns of contents; rows of styles, exemplars, ways between them, real images.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from munitaug.checkpoint import shared_translator
from munitaug.data.domain import ImageDomain, check_classes
from munitaug.default_device import on_cpu_by_default
from munitaug.files import only_writer_of, refuse_existing, replacing
from munitaug.kernel import images_to_styles, translate_images, translator_device
from munitaug.random import random_permutation, torch_generator
from munitaug.recipes.judge import Judge, make_judge
from munitaug.recipes.nearest import images_with_channels, nearest_real, pixels
from munitaug.recipes.options import DataOptions, refuse_among_images
from munitaug.recipes.sheets import SheetRow, SheetSection, draw_sheet
from munitaug.styles import interpolate_styles, style_source
from munitaug.training import resolve_device
from munitaug.translator import NO_STYLES, Translator

LONGEST_NAME = 40


@on_cpu_by_default
def preview(
    checkpoint: str | Path | Translator,
    source: str | Path | ImageDomain,
    out: str | Path,
    *,
    target: str | Path | ImageDomain | None = None,
    variants: int = 8,
    columns: int = 12,
    style: str = "prior",
    truncation: float | None = None,
    strength: float = 1.0,
    exemplars: str | Path | ImageDomain | None = None,
    exemplar_rows: int = 3,
    interpolate: int = 0,
    nearest: bool = False,
    judge: str | Path | ImageDomain | nn.Module | None = None,
    direction: str = "a2b",
    seed: int = 0,
    device: str = "auto",
    data: DataOptions = DataOptions(),
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Draws a sheet (PNG): originals, one row per style, and whatever else is asked for; gives its path.

    Each row below the originals uses one style for all contents, so that a row looks alike and a column keeps its
    content. With a judge, a red frame with the class that it sees marks translations in which this is not the label of
    the original, and captions say how many kept theirs. A judge's own mistakes count as losses.

    Args:
        checkpoint: checkpoint or run folder, or a translator.
        source: the contents: a spec or a domain; labelled ones are drawn evenly over the classes.
        out: the PNG.
        target: real images for the last row, and for ``nearest``; None draws none.
        variants: rows of styles.
        columns: contents.
        style: "prior", "bank" or "mixture".
        truncation: see :func:`munitaug.styles.style_source`.
        strength: of every style, in [0, 1]; below 1 it is blended with the content image's own style.
        exemplars: target images whose styles get rows of their own: a spec or a domain.
        exemplar_rows: how many of them are drawn.
        interpolate: rows on the way between two styles, both ends included; 0 draws none. Between the first two
            exemplars where there are any, linear; else between the first two styles, spherical for the prior.
        nearest: also draw the real target image nearest to each translation of the first style: by features of the
            judge where there is one, else by pixels.
        judge: a classifier, N x C x H x W in [-1, 1] -> logits, or labelled images (a spec or a domain) on which a
            small one is trained first; needs a labelled source.
        direction: "a2b" or "b2a".
        seed: chooses contents, styles, exemplars, and the judge that is trained.
        device: "auto", "cpu", "cuda", ...
        data: how specs are opened.
        overwrite: replace an existing file.
        progress: show progress bars where it takes a while.

    Raises:
        BlockingIOError: another process writes ``out``.
        DomainError: the judge would learn classes that are not the source's.
        FileExistsError: ``out`` exists, or is a folder.
        LabelMissingError: a judge without labels to hold translations against, or to learn from.
        ValueError: settings or images that do not suit, or ``out`` is called other than .png.
    """
    path = Path(out).expanduser()
    refuse_existing(path, overwrite)
    if path.suffix.lower() not in ("", ".png"):
        raise ValueError(f"a sheet is a PNG, got {path.name}; name it {path.stem}.png")
    wishes = _Wishes(variants, columns, style, strength, exemplar_rows, interpolate, nearest, seed, progress)
    wishes.check(has_target=target is not None)
    if isinstance(checkpoint, Translator):
        translator = checkpoint
    else:
        translator = shared_translator(checkpoint, direction, resolve_device(device))
        data = data.like(checkpoint, direction)
    if translator.style_dim == 0:
        wishes.check_without_styles(has_exemplars=exemplars is not None)
    sampler = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    contents = data.open_source(source)
    real = None if target is None else data.open_target(target)
    shown = None if exemplars is None else data.open_target(exemplars)
    jury = None if judge is None else _open_judge(judge, data, contents)
    refuse_among_images(path, contents, real, shown, jury if isinstance(jury, ImageDomain) else None)
    codes = sampler.sample(1, max(variants, 2) if translator.style_dim else 1, torch_generator(seed, "preview"))[0]
    with only_writer_of(path):  # from here on, as a judge may be trained: a place that cannot be written is said now
        refuse_existing(path, overwrite)  # again: another process may have written it till now
        painter = _make_painter(translator, contents, wishes, jury)
        picture = _compose(painter, wishes, codes, contents, shown, real)
        with replacing(path) as temporary:
            picture.save(temporary, format="PNG")
    return path


@dataclass(frozen=True)
class _Wishes:
    """What a sheet shall hold; see :func:`preview`."""

    variants: int
    columns: int
    style: str
    strength: float
    exemplar_rows: int
    interpolate: int
    nearest: bool
    seed: int
    progress: bool

    def check(self, has_target: bool) -> None:
        """Refuses what cannot be drawn.

        Raises:
            ValueError: a number outside its range, or nothing to search the nearest images in.
        """
        if self.variants < 1 or self.columns < 1:
            raise ValueError(f"variants and columns must be at least 1, got {self.variants} and {self.columns}")
        if self.interpolate < 0 or self.interpolate == 1 or self.exemplar_rows < 1:
            raise ValueError(
                f"interpolate must be 0 or at least 2 (both ends count) and exemplar_rows at least 1, got "
                f"{self.interpolate} and {self.exemplar_rows}"
            )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}")
        if self.nearest and not has_target:
            raise ValueError("nearest real images need the images to search: give --target")

    def check_without_styles(self, has_exemplars: bool) -> None:
        """Refuses what needs styles, for a translator that has none.

        Raises:
            ValueError: something about styles is wished for.
        """
        if has_exemplars or self.interpolate or self.strength != 1.0 or self.style != "prior":
            raise ValueError(NO_STYLES)


class _Ends(NamedTuple):
    """Codes, M x style_dim, with their exemplar images where there are any, and the way between the first two."""

    codes: Tensor
    kind: Literal["spherical", "linear"]
    images: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class _Painter:
    """Translates the same contents in one style after another, and has a judge look at the outcome."""

    translator: Translator
    contents: Tensor
    labels: Tensor | None
    strength: float
    judge: Judge | None

    def row(self, caption: str, code: Tensor, leading: Tensor | None = None) -> SheetRow:
        """Gives all contents in one style of style_dim numbers."""
        count = len(self.contents)
        strength = None if self.strength == 1.0 else torch.full((count, 1), self.strength)
        images = translate_images(self.translator, self.contents, code.expand(count, 1, -1), strength).squeeze(1)
        if self.judge is None or self.labels is None:
            return SheetRow(caption, images, "", leading)
        marks = self.judge.marks(images, self.labels)
        return SheetRow(caption, images, f"{marks.count(None)} of {count} kept", leading, marks)

    def originals(self, name: str) -> SheetSection:
        """Gives the contents as they are."""
        return SheetSection("", (SheetRow("source", self.contents, _short(name, 24)),))

    def styles(self, style: str, codes: Tensor) -> SheetSection:
        """Gives one row for each of K x style_dim codes."""
        if self.translator.style_dim == 0:
            return SheetSection("Translations", (self.row("translated", codes[0]),))
        rows = tuple(self.row(f"{style} {number + 1}", code) for number, code in enumerate(codes))
        return SheetSection(self._heading(f"Styles of the {style}"), rows)

    def exemplars(self, exemplars: _Ends, name: str, count: int) -> SheetSection:
        """Gives one row for each of the first ``count`` exemplars, led by it."""
        both = list(zip(exemplars.codes, self._matched(exemplars.images), strict=True))[:count]
        rows = tuple(self.row(f"exemplar {number + 1}", *one) for number, one in enumerate(both))
        return SheetSection(self._heading(f"Styles of exemplars from {_short(name)}"), rows)

    def way(self, ends: _Ends, steps: int) -> SheetSection:
        """Gives ``steps`` rows from the first style to the second."""
        images = self._matched(ends.images)
        leading = {0: images[0], steps - 1: images[1]} if images else {}
        weights = torch.linspace(0.0, 1.0, steps).tolist()
        codes = [interpolate_styles(ends.codes[0], ends.codes[1], weight, ends.kind) for weight in weights]
        rows = tuple(
            self.row(f"{weight:.2f}", code, leading.get(number))
            for number, (weight, code) in enumerate(zip(weights, codes, strict=True))
        )
        what = "exemplar" if images else "style"
        return SheetSection(self._heading(f"From {what} 1 to {what} 2, {ends.kind} interpolation"), rows)

    def nearest(self, row: SheetRow, real: ImageDomain, seed: int, progress: bool) -> SheetSection:
        """Gives the row again, and below it the real images that are nearest to its own."""
        describe = pixels if self.judge is None else self.judge.features
        found = nearest_real(row.images, real, describe, seed=seed, progress=progress)
        measure = "pixels" if self.judge is None else "features of the judge"
        heading = (
            f"Nearest real images in {_short(real.name)} by {measure}: median distance {found.median:.2f}, "
            f"from real to other real images {found.median_of_real:.2f}"
        )
        return SheetSection(heading, (row, SheetRow("nearest real", found.images)))

    def legend(self, sections: Sequence[SheetSection]) -> str:
        """Gives the words on frames, with the share that kept its label in each section; none without a judge."""
        if self.judge is None:
            return ""
        shares = []
        for section in sections:
            marks = [mark for row in section.rows for mark in row.marks]
            kept = marks.count(None)
            shares.append(f"{section.heading}: {kept} of {len(marks)} ({kept / len(marks):.0%})")
        return (
            f"Red frame: {_short(self.judge.name, 60)} sees the class in the tag, not the label of the source image. "
            "Labels kept:\n" + "\n".join(shares)
        )

    def _heading(self, text: str) -> str:
        return text if self.strength == 1.0 else f"{text}, strength {self.strength:g}"

    def _matched(self, images: tuple[Tensor, ...]) -> list[Tensor]:
        return [images_with_channels(image, self.contents.shape[1]) for image in images]


def _compose(
    painter: _Painter,
    wishes: _Wishes,
    codes: Tensor,
    contents: ImageDomain,
    exemplars: ImageDomain | None,
    real: ImageDomain | None,
) -> Image.Image:
    """Gives the picture: originals, styles, exemplars, ways, nearest and other real images, as far as wished for."""
    styled = painter.styles(wishes.style, codes[: wishes.variants])
    judged = [styled]
    ends = _Ends(codes[:2], "spherical" if wishes.style == "prior" else "linear")
    if exemplars is not None:
        if wishes.interpolate and len(exemplars) < 2:
            raise ValueError(f"a way between exemplars needs 2 of them, but {exemplars.name} has 1")
        needed = max(wishes.exemplar_rows, 2 if wishes.interpolate else 1)
        ends = _exemplar_codes(painter.translator, exemplars, needed, wishes.seed)
        judged.append(painter.exemplars(ends, exemplars.name, wishes.exemplar_rows))
    if wishes.interpolate:
        judged.append(painter.way(ends, wishes.interpolate))
    others = []
    if real is not None and wishes.nearest:
        others.append(painter.nearest(styled.rows[0], real, wishes.seed, wishes.progress))
    if real is not None:
        others.append(_real_section(real, wishes.columns, painter.contents.shape[1], wishes.seed))
    return draw_sheet([painter.originals(contents.name), *judged, *others], painter.legend(judged))


def _make_painter(
    translator: Translator, domain: ImageDomain, wishes: _Wishes, judge: nn.Module | ImageDomain | None
) -> _Painter:
    places = _spread_over_classes(domain, wishes.columns, wishes.seed)
    images = domain.images(places)
    if judge is None:
        return _Painter(translator, images, None, wishes.strength, None)
    labels = domain.require_labels()[places]
    juror = make_judge(judge, images, wishes.seed, wishes.progress, str(translator_device(translator)))
    return _Painter(translator, images, labels, wishes.strength, juror)


def _exemplar_codes(translator: Translator, domain: ImageDomain, count: int, seed: int) -> _Ends:
    """Gives the codes and images of ``count`` exemplars, which may differ in size; their labels are not read."""
    places = range(len(domain)) if len(domain) <= count else random_permutation(len(domain), seed, "exemplars")[:count]
    images = tuple(domain.checked_image(int(place)) for place in places)
    codes = torch.cat([images_to_styles(translator, image.unsqueeze(0)) for image in images])
    return _Ends(codes, "linear", images)


def _real_section(real: ImageDomain, columns: int, channels: int, seed: int) -> SheetSection:
    images = real.images(_spread_over_classes(real, columns, seed))
    row = SheetRow("real target", images_with_channels(images, channels))
    return SheetSection(f"Real images of {_short(real.name)}", (row,))


def _open_judge(
    judge: str | Path | ImageDomain | nn.Module, data: DataOptions, contents: ImageDomain
) -> ImageDomain | nn.Module:
    """Gives the judge; of images, with the classes of those that it is to judge."""
    if isinstance(judge, nn.Module):
        return judge
    domain = data.open_target(judge)
    domain.require_labels()
    check_classes(contents, domain)
    return domain


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    return name if len(name) <= longest else f"...{name[3 - longest :]}"


def _spread_over_classes(domain: ImageDomain, count: int, seed: int) -> Tensor:
    """Gives up to ``count`` indices: random, but class by class in turn where there are labels."""
    order = random_permutation(len(domain), seed, "preview")
    if domain.labels is None:
        return order[:count]
    labels = domain.labels[order]
    by_class = [order[labels == label] for label in labels.unique()]
    turns = [queue[turn] for turn in range(max(map(len, by_class))) for queue in by_class if turn < len(queue)]
    return torch.stack(turns[:count])
