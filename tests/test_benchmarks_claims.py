"""The claims: what is turned upside down, what is left out, and that each variant differs in the part it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

import munitaug
from benchmarks.claims import VARIANTS, UprightOrNot, places_that_tell
from munitaug.data.domain import ArrayDomain


def digits() -> ArrayDomain:
    images = torch.arange(6 * 16 * 16).reshape(6, 1, 16, 16) % 251
    return ArrayDomain("digits", images.to(torch.uint8), torch.tensor([0, 4, 8, 7, 1, 2]))


def test_digits_that_look_alike_upside_down_are_left_out() -> None:
    assert places_that_tell(torch.tensor([0, 4, 8, 7, 1, 2])) == [1, 3, 5]
    assert len(UprightOrNot(digits())) == 6


def test_every_image_comes_as_it_is_and_upside_down() -> None:
    domain = UprightOrNot(digits())
    upright, label = domain[2]
    flipped, other = domain[3]
    assert (label, other) == (0, 1)
    assert torch.equal(upright, digits()[3][0])
    assert torch.equal(flipped[:, 0], upright[:, -1])
    assert domain.labels.tolist() == [0, 1] * 3


def test_each_variant_leaves_out_one_term_of_its_method() -> None:
    weights = {}
    for name, (method, changes) in VARIANTS.items():
        preset = cast(Any, munitaug.METHODS[method].config_class.preset("small", channels=1))
        config = replace(preset, **changes)
        weights[name] = {key for key, value in vars(config).items() if key.startswith("weight_") and value > 0.0}
    published = weights["munit, published terms"]
    assert published - weights["munit without image reconstruction"] == {"weight_image"}
    assert published - weights["munit without style reconstruction"] == {"weight_style"}
    assert weights["gcgan"] - weights["gcgan, adversarial terms alone"] == {"weight_geometry"}
