"""Drawing: where cells, frames, leading images and words come to stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from munitaug.recipes.sheets import GAP_PX, LEAST_CELL_PX, MARGIN_PX, RED, WIDEST_PX, SheetRow, SheetSection, draw_sheet

Pixels = npt.NDArray[np.uint8]
STEP_PX = 48 + GAP_PX


def grey(level: int, count: int = 3, side: int = 16) -> Tensor:
    return torch.full((count, 1, side, side), level, dtype=torch.uint8)


def drawn(*rows: SheetRow, heading: str = "", legend: str = "") -> Pixels:
    return np.asarray(draw_sheet([SheetSection(heading, rows)], legend))


def cell(pixels: Pixels, row: int, column: int, columns: int = 3, cell_px: int = 48) -> Pixels:
    """Gives a cell of a sheet without headings, found from its right edge."""
    left = pixels.shape[1] - MARGIN_PX - (columns - column) * (cell_px + GAP_PX)
    top = MARGIN_PX + row * (cell_px + GAP_PX)
    return pixels[top : top + cell_px, left : left + cell_px]


def test_small_images_are_enlarged_pixel_by_pixel() -> None:
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    pixels = drawn(SheetRow("first", grey(70)), SheetRow("second", images))
    assert (cell(pixels, 0, 0) == 70).all()
    wanted = np.kron(images[2, 0].numpy(), np.ones((3, 3), dtype=np.uint8))
    assert np.array_equal(cell(pixels, 1, 2)[..., 0], wanted)
    assert (pixels[MARGIN_PX : MARGIN_PX + 48, -MARGIN_PX - GAP_PX :] == 255).all()


def test_colours_are_kept_beside_grey() -> None:
    colour = torch.tensor([10, 200, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(3, 3, 16, 16)
    pixels = drawn(SheetRow("grey", grey(70)), SheetRow("colour", colour))
    assert (cell(pixels, 1, 1) == (10, 200, 90)).all()


@pytest.mark.parametrize(("side", "columns", "cell_px"), [(16, 3, 48), (28, 3, 56), (64, 12, 64)])
def test_cells_are_a_whole_number_of_times_the_image(side: int, columns: int, cell_px: int) -> None:
    pixels = drawn(SheetRow("", grey(0, columns, side)))
    black = (pixels == 0).all(axis=2)
    assert black.sum() == columns * cell_px**2
    assert pixels.shape[0] == 2 * MARGIN_PX + cell_px + GAP_PX


def test_large_images_are_reduced_until_the_sheet_fits() -> None:
    pixels = drawn(SheetRow("caption", grey(0, 12, 256)))
    assert WIDEST_PX - 12 <= pixels.shape[1] <= WIDEST_PX


def test_cells_stay_large_enough_to_see_however_many_there_are() -> None:
    pixels = drawn(SheetRow("", grey(0, 60, 256)))
    assert (pixels == 0).all(axis=2).sum() == 60 * LEAST_CELL_PX**2


def test_images_of_other_sizes_are_fitted_into_the_cell() -> None:
    pixels = drawn(SheetRow("", grey(0, 1)), SheetRow("", torch.zeros(1, 1, 32, 16, dtype=torch.uint8)))
    black = (cell(pixels, 1, 0, columns=1) == 0).all(axis=2)
    assert black.all(axis=0).sum() == 24  # upright, so half as wide as high, in the middle
    assert black[:, 12:36].all()


def test_a_frame_stands_around_its_cell_and_says_what_is_seen() -> None:
    marked = SheetRow("", grey(70), marks=(None, "5", None))
    pixels, plain = drawn(marked), drawn(SheetRow("", grey(70)))
    red = (pixels == RED).all(axis=2)
    left = pixels.shape[1] - MARGIN_PX - 2 * STEP_PX
    top = MARGIN_PX
    assert red[top - 2 : top, left - 2 : left + 50].all()
    assert red[top - 2 : top + 50, left - 2 : left].all()
    assert red[top + 40 : top + 48, left + 40 : left + 48].mean() > 0.3  # the tag
    untouched = cell(pixels, 0, 1)[:36]
    assert np.array_equal(untouched, cell(plain, 0, 1)[:36])
    assert not red[:, : left - 2].any()
    assert not red[:, left + 50 :].any()


def test_a_leading_image_stands_left_of_its_row_and_moves_all_rows() -> None:
    pixels = drawn(SheetRow("one", grey(70)), SheetRow("two", grey(70), leading=grey(0)[0]))
    plain = drawn(SheetRow("one", grey(70)), SheetRow("two", grey(70)))
    moved = pixels.shape[1] - plain.shape[1]
    left = pixels.shape[1] - MARGIN_PX - 3 * STEP_PX
    assert moved == 48 + 2 * MARGIN_PX
    assert (pixels[MARGIN_PX + STEP_PX : MARGIN_PX + STEP_PX + 48, left - moved : left - moved + 48] == 0).all()
    assert (pixels[MARGIN_PX : MARGIN_PX + 48, left - moved : left] == 255).all()


def words_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []

    def write(self: object, xy: object, text: str, **changes: object) -> None:
        del self, xy, changes
        words.append(text)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", write)
    return words


def test_headings_captions_notes_and_the_legend_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(monkeypatch)
    drawn(SheetRow("caption", grey(0), note="note"), heading="heading", legend="one\ntwo")
    assert words == ["heading", "caption", "note", "one", "two"]


def test_a_long_legend_is_broken_at_spaces_within_the_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(monkeypatch)
    legend = " ".join(f"word{number}" for number in range(60))
    lines_px = drawn(SheetRow("", grey(0)), legend=legend).shape[0] - drawn(SheetRow("", grey(0))).shape[0]
    lines = [line for line in words if line]
    assert " ".join(lines) == legend
    assert len(lines) > 3
    assert lines_px == 18 * len(lines) + MARGIN_PX


def test_words_leave_ink_and_none_of_it_in_the_cells() -> None:
    pixels = drawn(SheetRow("a caption", grey(255), note="and a note"))
    assert pixels.min() < 128
    assert all((cell(pixels, 0, column) == 255).all() for column in range(3))


def test_a_heading_makes_room_for_itself() -> None:
    row = SheetRow("", grey(0))
    assert isinstance(draw_sheet([SheetSection("", (row,))]), Image.Image)
    assert drawn(row, heading="heading").shape[0] == drawn(row).shape[0] + 30
