"""Exemplar images: every form of one gives the code of the picture a person sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from munitaug.methods import Munit
from munitaug.transforms.exemplars import exemplar_styles
from tests.tiny import TINY
from tests.transforms.toys import BrightnessTranslator, frozen

SIZE = (16, 16)


def brightness(exemplar: Any) -> float:
    """Gives the brightness in [0, 1] that the toy's style code tells of an exemplar."""
    codes = exemplar_styles(frozen(BrightnessTranslator()), exemplar).bank
    return (math.tanh(float(codes[0, 0])) + 1.0) / 2.0


def palette_with_transparency() -> PIL.Image.Image:
    image = PIL.Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0])
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PIL.Image.new("1", SIZE, 0), 0.0),
        (PIL.Image.new("L", SIZE, 51), 0.2),
        (PIL.Image.new("RGB", SIZE, (51, 51, 51)), 0.2),
        (PIL.Image.fromarray(np.full(SIZE, 51 * 257, np.uint16)), 0.2),
        (PIL.Image.fromarray(np.full(SIZE, 51 * 257, np.int32)), 0.2),
        (PIL.Image.new("RGBA", SIZE, (51, 51, 51, 255)), 0.2),
        (PIL.Image.new("RGBA", SIZE, (0, 0, 0, 0)), 1.0),
        (PIL.Image.new("LA", SIZE, (0, 0)), 1.0),
        (palette_with_transparency(), 1.0),
        (np.full(SIZE, 51, np.uint8), 0.2),
        (torch.full((3, *SIZE), 0.2), 0.2),
    ],
)
def test_code_is_of_the_picture_that_is_seen(image: Any, expected: float) -> None:
    shown = min(max(expected, 0.005), 0.995)  # the toy clamps to [-0.99, 0.99]
    assert brightness(image) == pytest.approx(shown, abs=1e-4)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIL.Image.new("F", SIZE), r'mode "F".*would clip its values'),
        (PIL.Image.new("CMYK", SIZE), "colour mode CMYK"),
        (np.full(SIZE, 200.0), "exemplar image of torch.float64 must be in .* got values from 200 to 200"),
        (torch.full((2, 3, *SIZE), -1.0), "normalise afterwards"),
        (torch.full((3, *SIZE), float("nan")), "got values from nan"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brightness(image)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"exemplar image must be uint8 .* got torch.int32"):
        brightness(np.zeros(SIZE, np.int32))


def test_an_autocast_around_the_call_changes_no_code() -> None:
    translator = Munit(TINY).translator("a", "b").eval().requires_grad_(False)
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    codes = exemplar_styles(translator, [image]).sample(1, 1, torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(exemplar_styles(translator, [image]).sample(1, 1, torch.Generator()), codes)
