"""The search for the nearest real image, against a slow loop."""

from __future__ import annotations

from statistics import median_low

import pytest
import torch
from torch import Tensor

from munitaug.data.domain import ArrayDomain
from munitaug.recipes import nearest
from munitaug.recipes.nearest import nearest_real, pixels


def random_domain(count: int, channels: int = 1, side: int = 4) -> ArrayDomain:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)
    return ArrayDomain("real", images)


def distance(one: Tensor, other: Tensor) -> float:
    return float(((one.double() - other.double()) / 127.5).square().sum().sqrt())


def test_the_nearest_and_the_medians_are_those_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BATCH", 4)  # so that the best is kept from one batch to the next
    real = random_domain(11)
    images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    found = nearest_real(images, real, pixels)
    everything = real.images(range(11))
    rows = [[distance(image, other) for other in everything] for image in images]
    for image, row in zip(found.images, rows, strict=True):
        assert torch.equal(image, everything[row.index(min(row))])
    assert found.median == pytest.approx(median_low(map(min, rows)), rel=1e-4)
    between = [
        min(distance(everything[i], everything[j]) for j in range(11) if j != i)  # never an image and itself
        for i in range(11)
    ]
    assert found.median_of_real == pytest.approx(median_low(between), rel=1e-4)


def test_a_copy_has_distance_0() -> None:
    real = random_domain(6)
    found = nearest_real(real.images([4, 2]), real, pixels)
    assert torch.equal(found.images, real.images([4, 2]))
    assert found.median == pytest.approx(0.0, abs=1e-2)
    assert found.median_of_real > 0.5


def test_only_so_many_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "MOST_REAL", 3)
    real = random_domain(40)
    described: list[int] = []

    def describe(images: Tensor) -> Tensor:
        described.append(len(images))
        return pixels(images)

    nearest_real(real.images([0]), real, describe)
    assert described == [1, 3, 3]  # the translation, real images as queries, real images to search


def test_real_images_are_brought_to_channels_and_size_of_translations() -> None:
    colour = random_domain(5, channels=3, side=8)
    found = nearest_real(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), colour, pixels)
    assert found.images.shape == (2, 1, 4, 4)


def test_another_size_is_refused_where_translations_are_not_square() -> None:
    with pytest.raises(ValueError, match=r"4 x 4 px, translations 6 x 4; .*--size"):
        nearest_real(torch.zeros(1, 1, 4, 6, dtype=torch.uint8), random_domain(3), pixels)


def test_a_single_real_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 real images, real has 1"):
        nearest_real(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), random_domain(1), pixels)
