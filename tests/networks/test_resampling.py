"""Smooth halving and doubling against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from munitaug.networks.resampling import SmoothHalving, double_smoothly


def reflected(index: int, length: int) -> int:
    index = abs(index)
    return index if index < length else 2 * (length - 1) - index


def halved_by_loops(plane: Tensor) -> list[list[float]]:
    height, width = plane.shape
    row = {-1: 1, 0: 2, 1: 1}
    return [
        [
            sum(
                row[i] * row[j] / 16 * plane[reflected(top + i, height), reflected(left + j, width)].item()
                for i in row
                for j in row
            )
            for left in range(0, width, 2)
        ]
        for top in range(0, height, 2)
    ]


def doubled_by_loops(plane: Tensor) -> list[list[float]]:
    """Each value spreads by (1, 3, 3, 1) / 4 around its two places; values beyond the border are the border's."""
    height, width = plane.shape
    out = [[0.0] * (2 * width) for _ in range(2 * height)]
    weights = (1, 3, 3, 1)
    for i in range(-1, height + 1):
        for j in range(-1, width + 1):
            value = plane[min(max(i, 0), height - 1), min(max(j, 0), width - 1)].item()
            for down, row in enumerate(weights):
                for right, column in enumerate(weights):
                    y, x = 2 * i - 1 + down, 2 * j - 1 + right
                    if 0 <= y < 2 * height and 0 <= x < 2 * width:
                        out[y][x] += row * column / 16 * value
    return out


@pytest.mark.parametrize("size", [(2, 2), (5, 8), (7, 3)], ids=str)
def test_halving_is_that_of_a_slow_loop(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    wanted = torch.tensor([[halved_by_loops(plane) for plane in image] for image in x])
    torch.testing.assert_close(SmoothHalving()(x), wanted)


def test_halving_with_repeated_edges_is_that_of_a_slow_loop() -> None:
    x = torch.randn(2, 3, 5, 6)
    out = SmoothHalving("replicate")(x)
    assert out.shape == (2, 3, 3, 3)
    weights = (0.25, 0.5, 0.25)
    for row in range(3):
        for column in range(3):
            total = torch.zeros(2, 3)
            for down in range(3):
                for right in range(3):
                    y, z = min(max(2 * row + down - 1, 0), 4), min(max(2 * column + right - 1, 0), 5)
                    total += weights[down] * weights[right] * x[:, :, y, z]
            torch.testing.assert_close(out[:, :, row, column], total)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)], ids=str)
def test_doubling_is_that_of_a_slow_loop(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    wanted = torch.tensor([[doubled_by_loops(plane) for plane in image] for image in x])
    torch.testing.assert_close(double_smoothly(x), wanted)


def test_the_filter_is_no_part_of_a_checkpoint() -> None:
    assert SmoothHalving().state_dict() == {}
