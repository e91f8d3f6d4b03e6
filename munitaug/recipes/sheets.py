"""Drawing a sheet of images: captioned rows in sections, cells with a mark, a legend below. Computes nothing.

Floor 6: imports images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from munitaug.images import tensor_to_pil

WIDEST_PX = 1600
LEAST_CELL_PX = 48
GAP_PX = 4
MARGIN_PX = 8
FRAME_PX = 2
TEXT_PX = 14
SMALL_TEXT_PX = 12
LINE_PX = 18
HEADING_PX = 30
PAPER, INK, GREY, RED = "white", "black", (110, 110, 110), (208, 0, 0)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class SheetRow:
    """A row of the sheet.

    Args:
        caption: at its left.
        images: uint8 N x C x H x W.
        note: a second line of the caption, in grey.
        leading: uint8 C x H x W, an image beside the caption that the row is about.
        marks: for each image what its red frame says, None for no frame; empty for no frames.
    """

    caption: str
    images: Tensor
    note: str = ""
    leading: Tensor | None = None
    marks: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class SheetSection:
    """Rows that belong together, under a heading ("" for none)."""

    heading: str
    rows: tuple[SheetRow, ...]


class _Layout(NamedTuple):
    """Where things stand on the sheet, in px."""

    cell_width: int
    cell_height: int
    lead_left: int
    cells_left: int
    width: int

    @property
    def row_height(self) -> int:
        return max(self.cell_height, 2 * LINE_PX) + GAP_PX

    def cell_left(self, column: int) -> int:
        return self.cells_left + column * (self.cell_width + GAP_PX)


def draw_sheet(sections: Sequence[SheetSection], legend: str = "") -> Image.Image:
    """Gives the picture, RGB, at most about 1600 px wide.

    All cells have one size: that of the first image, enlarged by a whole number to at least 48 px, or reduced where
    the sheet would be too wide (never below 48 px, so that many columns make a wide sheet). Other sizes are fitted in.

    Args:
        sections: at least one, with at least one row.
        legend: lines below.
    """
    rows = [row for section in sections for row in section.rows]
    layout = _lay_out(rows)
    lines = _wrap(legend, layout.width - 2 * MARGIN_PX)
    headings = sum(1 for section in sections if section.heading)
    legend_height = len(lines) * LINE_PX + (MARGIN_PX if lines else 0)
    height = 2 * MARGIN_PX + headings * HEADING_PX + len(rows) * layout.row_height + legend_height
    sheet = Image.new("RGB", (layout.width, height), PAPER)
    top = MARGIN_PX
    for section in sections:
        if section.heading:
            _write(sheet, MARGIN_PX, top + HEADING_PX - LINE_PX // 2 - 2, section.heading)
            top += HEADING_PX
        for row in section.rows:
            _draw_row(sheet, row, layout, top)
            top += layout.row_height
    for number, line in enumerate(lines):
        _write(sheet, MARGIN_PX, top + MARGIN_PX + number * LINE_PX + LINE_PX // 2, line)
    return sheet


def _lay_out(rows: Sequence[SheetRow]) -> _Layout:
    columns = max(len(row.images) for row in rows)
    has_lead = any(row.leading is not None for row in rows)
    text_width = max(
        max(_font(TEXT_PX).getlength(row.caption), _font(SMALL_TEXT_PX).getlength(row.note)) for row in rows
    )
    lead_left = MARGIN_PX + int(text_width) + 2 * MARGIN_PX
    image_height, image_width = rows[0].images.shape[-2:]
    lead_count = 1 if has_lead else 0
    free = WIDEST_PX - lead_left - lead_count * 2 * MARGIN_PX - MARGIN_PX
    widest_cell = free // (columns + lead_count) - GAP_PX
    width, height = _cell_size(image_width, image_height, widest_cell)
    cells_left = lead_left + lead_count * (width + 2 * MARGIN_PX)
    return _Layout(width, height, lead_left, cells_left, cells_left + columns * (width + GAP_PX) + MARGIN_PX)


def _cell_size(width: int, height: int, widest: int) -> tuple[int, int]:
    """Gives the size of a cell for images of width x height, where cells may be ``widest`` wide."""
    enlarged = max(1, -(-LEAST_CELL_PX // min(width, height)))
    if width * enlarged <= widest:
        return width * enlarged, height * enlarged
    reduced = max(widest, LEAST_CELL_PX)
    return reduced, max(1, round(height * reduced / width))


def _draw_row(sheet: Image.Image, row: SheetRow, layout: _Layout, top: int) -> None:
    middle = top + layout.cell_height // 2
    _write(sheet, MARGIN_PX, middle - (LINE_PX // 2 if row.note else 0), row.caption)
    if row.note:
        _write(sheet, MARGIN_PX, middle + LINE_PX // 2, row.note, small=True)
    if row.leading is not None:
        _paste(sheet, row.leading, layout, layout.lead_left, top)
    for column, image in enumerate(row.images):
        _paste(sheet, image, layout, layout.cell_left(column), top)
    for column, mark in enumerate(row.marks):
        if mark is not None:
            _draw_mark(sheet, mark, layout, layout.cell_left(column), top)


def _paste(sheet: Image.Image, image: Tensor, layout: _Layout, left: int, top: int) -> None:
    picture = tensor_to_pil(image).convert("RGB")
    share = min(layout.cell_width / picture.width, layout.cell_height / picture.height)
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    whole = size[0] % picture.width == 0 and size[1] % picture.height == 0
    fitted = picture.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)
    sheet.paste(fitted, (left + (layout.cell_width - size[0]) // 2, top + (layout.cell_height - size[1]) // 2))


def _draw_mark(sheet: Image.Image, mark: str, layout: _Layout, left: int, top: int) -> None:
    """Draws a frame around a cell, outside of its image, and a tag in its lower right corner."""
    pen, font = ImageDraw.Draw(sheet), _font(SMALL_TEXT_PX)
    right, bottom = left + layout.cell_width + FRAME_PX - 1, top + layout.cell_height + FRAME_PX - 1
    pen.rectangle((left - FRAME_PX, top - FRAME_PX, right, bottom), outline=RED, width=FRAME_PX)
    if mark:
        tag_width = int(font.getlength(mark)) + 4
        pen.rectangle((right - tag_width, bottom - SMALL_TEXT_PX, right, bottom), fill=RED)
        pen.text((right - tag_width // 2, bottom - SMALL_TEXT_PX // 2), mark, fill=PAPER, font=font, anchor="mm")


def _write(sheet: Image.Image, left: int, middle: int, text: str, small: bool = False) -> None:
    font, fill = (_font(SMALL_TEXT_PX), GREY) if small else (_font(TEXT_PX), INK)
    ImageDraw.Draw(sheet).text((left, middle), text, fill=fill, font=font, anchor="lm")


def _wrap(text: str, width_px: int) -> list[str]:
    """Gives the text in lines of at most a width, broken at spaces."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and _font(TEXT_PX).getlength(longer) > width_px:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


@lru_cache(maxsize=4)
def _font(size_px: int) -> Font:
    return ImageFont.load_default(size=size_px)
