"""The interpolation check: its digits, and its measures on images whose shape and ink are known."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

import munitaug
from benchmarks import interpolation
from benchmarks.interpolation import FAINTEST, SLANT, InkedDigits, ink_levels, measured, shapes, sheet, slant, slants
from munitaug.data.domain import ArrayDomain


def bar(column: int = 8, level: float = 1.0, side: int = 17) -> Tensor:
    """Gives 1 x side x side in [-1, 1]: an upright bar of 3 px."""
    image = torch.full((1, side, side), -1.0)
    image[:, 3:-3, column - 1 : column + 2] = 2.0 * level - 1.0
    return image


def test_a_slanted_bar_leans_to_the_right_by_the_shear() -> None:
    upright = bar()[None]
    leaning = 2.0 * slant((upright + 1.0) / 2.0, SLANT) - 1.0
    assert slants(upright).item() == pytest.approx(0.0, abs=1e-4)
    assert slants(leaning).item() == pytest.approx(SLANT, abs=0.03)
    assert leaning[0, 0, 4].argmax() > 8 > leaning[0, 0, -5].argmax()


def test_ink_is_the_level_of_the_strokes_and_shapes_do_not_see_it() -> None:
    full, faint = bar(level=1.0), bar(level=0.5)
    both = torch.stack([full, faint])
    torch.testing.assert_close(ink_levels(both), torch.tensor([1.0, 0.5]), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(shapes(both)[0], shapes(both)[1])


def test_inked_digits_keep_labels_and_vary_in_ink_alone() -> None:
    plain = ArrayDomain("bars", ((torch.stack([bar()] * 40) + 1.0) * 127.5).to(torch.uint8), torch.arange(40) % 10)
    inked = InkedDigits(plain, 0.0)
    levels = ink_levels(inked.images(range(40)).float() / 127.5 - 1.0)
    assert levels.min() >= FAINTEST - 0.01
    assert levels.max() > levels.min() + 0.3
    assert inked.labels.tolist() == plain.require_labels().tolist()
    assert torch.equal(inked[7][0], InkedDigits(plain, 0.0)[7][0])


class BarTranslator:
    """Draws bars: content is a column, style an ink level; perfectly apart, or with the two mixed up."""

    def __init__(self, mixed: bool) -> None:
        self.mixed = mixed

    def between(self, first: Tensor, second: Tensor, share: float) -> Tensor:
        places = [(image * 0.5 + 0.5).sum(dim=(1, 2)).argmax(dim=1).float() for image in (first, second)]
        return torch.lerp(places[0], places[1], share)

    def images(self, content: Tensor, codes: Tensor) -> Tensor:
        columns, levels = content, codes[:, 0]
        if self.mixed:  # ink follows the place
            levels = 0.4 + 0.6 * columns / 16.0
        return torch.stack([bar(round(float(c)), float(v)) for c, v in zip(columns, levels, strict=True)])

    def encode_style(self, y: Tensor) -> Tensor:
        return ink_levels(y)[:, None]


def bars(count: int) -> munitaug.ImageDomain:
    columns = torch.randint(2, 15, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    images = torch.stack([bar(column, 0.35 + 0.65 * (place % 7) / 6.0) for place, column in enumerate(columns)])
    return ArrayDomain("bars", ((images + 1.0) * 127.5).round().to(torch.uint8), torch.zeros(count, dtype=torch.int64))


@pytest.fixture(autouse=True)
def _few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation, "SCORED_PAIRS", 20)


def test_what_is_apart_and_what_is_mixed_are_told_from_each_other() -> None:
    apart, mixed = BarTranslator(mixed=False), BarTranslator(mixed=True)
    found = {
        name: measured(each, cast(munitaug.Translator, each), bars(40), bars(60))
        for name, each in (("apart", apart), ("mixed", mixed))
    }
    assert found["apart"]["geometry_shape"] == pytest.approx(100.0, abs=1.0)
    assert found["apart"]["geometry_ink"] == pytest.approx(0.0, abs=1.0)
    assert found["apart"]["appearance_shape"] == pytest.approx(0.0, abs=1.0)
    assert found["apart"]["appearance_ink"] == pytest.approx(100.0, abs=1.0)
    assert found["apart"]["moved"] > 20.0
    assert found["mixed"]["geometry_ink"] > 50.0


def test_the_sheet_has_rows_of_ends_and_steps() -> None:
    translator = BarTranslator(mixed=False)
    tiles = sheet(translator, cast(munitaug.Translator, translator), bars(12), bars(60))
    assert tiles.shape == (6 * 13, 1, 17, 17)
    assert tiles.min() >= 0.0
    assert tiles.max() <= 1.0
