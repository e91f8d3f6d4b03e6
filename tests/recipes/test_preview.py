"""The sheet of contents and styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw

from munitaug.checkpoint import shared_translator
from munitaug.data.domain import ArrayDomain
from munitaug.recipes import preview
from munitaug.recipes.preview import draw_sheet
from tests.runs import toy_domain

CELL_PX = 48  # 16 px images are drawn three times as large
STRIP_PX = CELL_PX + 4
Pixels = npt.NDArray[np.uint8]


def flat_domain(count: int = 12) -> ArrayDomain:
    """Images of one level, 20 times their class."""
    labels = torch.tensor([0] * (count - 3) + [1, 2, 3])
    images = (20 * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).contiguous()
    return ArrayDomain("flat", images, labels)


def sheet(path: Path) -> Pixels:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def cell_levels(pixels: Pixels, row: int, columns: int) -> list[int]:
    middle = row * STRIP_PX + STRIP_PX // 2
    return [int(pixels[middle, 96 + 2 + CELL_PX // 2 + column * (CELL_PX + 2), 0]) for column in range(columns)]


def test_sheet_has_a_row_for_originals_styles_and_target(tiny_run: Path, tmp_path: Path) -> None:
    path = preview(tiny_run, toy_domain(), tmp_path / "deep" / "grid.png", target=toy_domain(), variants=2, columns=5)
    assert sheet(path).shape == ((1 + 2 + 1) * STRIP_PX, 96 + 5 * (CELL_PX + 2) + 2, 3)


def test_rows_are_captioned(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []

    def write(self: object, xy: object, text: str, **changes: object) -> None:
        del self, xy, changes
        captions.append(text)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", write)
    preview(tiny_run, toy_domain(), tmp_path / "grid.png", target=toy_domain(), variants=2, columns=3, style="bank")
    assert captions == ["source", "bank 1", "bank 2", "real target"]


def test_captions_leave_ink(tmp_path: Path) -> None:
    drawn = draw_sheet([("source", torch.zeros(1, 1, 16, 16, dtype=torch.uint8))])
    assert np.asarray(drawn)[:, :96].min() < 128


def test_contents_are_spread_over_the_classes(tiny_run: Path, tmp_path: Path) -> None:
    path = preview(tiny_run, flat_domain(), tmp_path / "grid.png", variants=1, columns=4)
    assert sorted(cell_levels(sheet(path), 0, 4)) == [0, 20, 40, 60]


def test_real_images_of_the_target_are_drawn_as_they_are(tiny_run: Path, tmp_path: Path) -> None:
    path = preview(tiny_run, toy_domain(), tmp_path / "grid.png", target=flat_domain(), variants=1, columns=4)
    assert sorted(cell_levels(sheet(path), 2, 4)) == [0, 20, 40, 60]


def test_unlabelled_contents_and_fewer_images_than_columns(tiny_run: Path, tmp_path: Path) -> None:
    path = preview(tiny_run, toy_domain(count=3, labelled=False), tmp_path / "grid.png", variants=1, columns=12)
    assert sheet(path).shape[1] == 96 + 3 * (CELL_PX + 2) + 2


def test_equal_seeds_give_equal_sheets(tiny_run: Path, tmp_path: Path) -> None:
    first, again, other = (
        preview(tiny_run, toy_domain(), tmp_path / f"{name}.png", seed=seed).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first != other


def test_a_translator_may_be_given(tiny_run: Path, tmp_path: Path) -> None:
    translator = shared_translator(tiny_run)
    first = preview(translator, toy_domain(), tmp_path / "a.png").read_bytes()
    assert first == preview(tiny_run, toy_domain(), tmp_path / "b.png").read_bytes()


def test_an_existing_picture_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="exists already; choose another --out, or replace it with --overwrite"):
        preview(tiny_run, toy_domain(), path)
    assert path.read_text() == "mine"
    preview(tiny_run, toy_domain(), path, overwrite=True)
    assert sheet(path).ndim == 3


@pytest.mark.parametrize("name", ["variants", "columns"])
def test_an_empty_sheet_is_refused(tiny_run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="variants and columns must be at least 1"):
        preview(tiny_run, toy_domain(), tmp_path / "grid.png", **{name: 0})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
