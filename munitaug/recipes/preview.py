"""A picture of what a translator does: columns of contents, rows of styles.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from munitaug.checkpoint import shared_translator
from munitaug.data.domain import ImageDomain
from munitaug.files import replacing
from munitaug.images import images_to_grid, match_channels, tensor_to_pil
from munitaug.kernel import translate_images
from munitaug.random import random_permutation, torch_generator
from munitaug.recipes.options import DataOptions
from munitaug.styles import style_source
from munitaug.training import resolve_device
from munitaug.translator import Translator

GAP_PX = 2
LEAST_CELL_PX = 48
CAPTION_WIDTH_PX = 96


def preview(
    checkpoint: str | Path | Translator,
    source: str | ImageDomain,
    out: str | Path,
    *,
    target: str | ImageDomain | None = None,
    variants: int = 8,
    columns: int = 12,
    style: str = "prior",
    truncation: float | None = None,
    direction: str = "a2b",
    seed: int = 0,
    device: str = "auto",
    data: DataOptions = DataOptions(),
    overwrite: bool = False,
) -> Path:
    """Draws a sheet (PNG): originals, one row per style, and real target images; gives its path.

    Each row below the originals uses one style for all contents, so that a row looks alike and a column
    keeps its content.

    Args:
        checkpoint: checkpoint or run folder, or a translator.
        source: the contents: a spec or a domain; labelled ones are drawn evenly over the classes.
        out: the PNG.
        target: real images for the last row; None draws none.
        variants: rows of styles.
        columns: contents.
        style: "prior", "bank" or "mixture".
        truncation: see :func:`munitaug.styles.style_source`.
        direction: "a2b" or "b2a".
        seed: chooses contents and styles.
        device: "auto", "cpu", "cuda", ...
        data: how specs are opened.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: settings or images that do not suit.
    """
    path = Path(out)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; choose another --out, or replace it with --overwrite")
    if variants < 1 or columns < 1:
        raise ValueError(f"variants and columns must be at least 1, got {variants} and {columns}")
    translator = (
        checkpoint
        if isinstance(checkpoint, Translator)
        else shared_translator(checkpoint, direction, resolve_device(device))
    )
    domain = data.open(source, invert=data.invert_source) if isinstance(source, str) else source
    contents = domain.images(_spread_over_classes(domain, columns, seed))
    sampler = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    styles = sampler.sample(1, variants if translator.style_dim else 1, torch_generator(seed, "preview"))
    translated = translate_images(translator, contents, styles.expand(len(contents), -1, -1))
    rows = [("source", contents)]
    rows += [(f"{style} {number + 1}", images) for number, images in enumerate(translated.unbind(1))]
    if target is not None:
        real = data.open(target, invert=data.invert_target) if isinstance(target, str) else target
        shown = real.images(_spread_over_classes(real, columns, seed))
        shown_matched = match_channels(shown.float(), contents.shape[1]).round().to(torch.uint8)
        rows.append(("real target", shown_matched))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        draw_sheet(rows).save(temporary, format="PNG")
    return path


def draw_sheet(rows: list[tuple[str, Tensor]]) -> Image.Image:
    """Gives a captioned picture of rows (caption, uint8 N x C x H x W); every row is drawn at one cell height."""
    height = rows[0][1].shape[-2]
    scale = max(1, -(-LEAST_CELL_PX // height))
    strips = [tensor_to_pil(images_to_grid(images, len(images), GAP_PX, scale)).convert("RGB") for _, images in rows]
    width = CAPTION_WIDTH_PX + max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    top = 0
    for (caption, _), strip in zip(rows, strips, strict=True):
        sheet.paste(strip, (CAPTION_WIDTH_PX, top))
        pen.text((6, top + strip.height // 2), caption, fill="black", font=font, anchor="lm")
        top += strip.height
    return sheet


def _spread_over_classes(domain: ImageDomain, count: int, seed: int) -> Tensor:
    """Gives up to ``count`` indices: random, but class by class in turn where there are labels."""
    order = random_permutation(len(domain), seed, "preview")
    if domain.labels is None:
        return order[:count]
    labels = domain.labels[order]
    by_class = [order[labels == label] for label in labels.unique()]
    turns = [queue[turn] for turn in range(max(map(len, by_class))) for queue in by_class if turn < len(queue)]
    return torch.stack(turns[:count])
