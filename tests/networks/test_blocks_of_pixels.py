"""Blocks of 2 x 2 pixels against torch's pixel_shuffle."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from munitaug.networks.blocks_of_pixels import spread, spread_runs
from munitaug.networks.pixels_first import is_pixels_first, pixels_first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 12, 3, 5), (3, 8, 6, 4)])
def test_every_bit_lies_where_pixel_shuffle_puts_it(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype)
    x.view(-1)[0], x.view(-1)[-1] = float("nan"), float("-inf")
    expected = F.pixel_shuffle(x, 2)
    assert torch.equal(spread(x).view(torch.int8), expected.view(torch.int8))


def test_maps_in_another_order_are_spread_as_well() -> None:
    x = torch.randn(2, 8, 3, 4).bfloat16().to(memory_format=torch.channels_last)
    assert torch.equal(spread(x), F.pixel_shuffle(x, 2))


def test_gradients_go_back_to_where_pixels_came_from() -> None:
    x = torch.randn(2, 8, 3, 4).bfloat16().requires_grad_()
    weights = torch.randn(2, 2, 6, 8).bfloat16()
    (given,) = torch.autograd.grad(spread(x), x, weights)
    assert torch.equal(given, F.pixel_unshuffle(weights, 2))
    (given,) = torch.autograd.grad(spread(x), x, weights.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(given, F.pixel_unshuffle(weights, 2))


def test_gradients_of_one_map_may_have_strides_of_another_order() -> None:
    x = torch.randn(2, 4, 3, 4).bfloat16().requires_grad_()
    weights = torch.randn(2, 1, 6, 8).bfloat16()
    as_channels_last = weights.as_strided(weights.shape, (48, 1, 8, 1))  # which counts as contiguous, too
    (given,) = torch.autograd.grad(spread(x), x, as_channels_last)
    assert torch.equal(given, F.pixel_unshuffle(weights, 2))


def test_gradients_have_gradients() -> None:
    x = torch.randn(1, 4, 2, 2).bfloat16().requires_grad_()
    (first,) = torch.autograd.grad(spread(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(second, torch.full_like(x, 2.0))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 8, 2, 3), (2, 4, 3, 2), (2, 12, 3, 5)])
def test_runs_lie_where_pixel_shuffle_puts_them_of_maps_in_its_order(shape: tuple[int, ...], first: bool) -> None:
    by_place = torch.randn(shape)
    by_map = by_place.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)
    x = pixels_first(by_place) if first else by_place.contiguous(memory_format=torch.channels_last)
    spread_out = spread_runs(x.requires_grad_())
    assert torch.equal(spread_out, F.pixel_shuffle(by_map, 2))
    assert spread_out.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(spread_out)
    (gradient,) = torch.autograd.grad(spread_out, x, weights)
    assert torch.equal(gradient.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), F.pixel_unshuffle(weights, 2))


def test_gradients_of_runs_lie_as_the_maps_did() -> None:
    x = torch.randn(2, 8, 3, 4)
    first, last = pixels_first(x).requires_grad_(), x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(2, 2, 6, 8)
    (gradient,) = torch.autograd.grad(spread_runs(first), first, weights)
    assert is_pixels_first(gradient)
    (gradient,) = torch.autograd.grad(spread_runs(last), last, weights)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_runs_have_gradients() -> None:
    x = pixels_first(torch.randn(2, 4, 2, 2)).requires_grad_()
    (first,) = torch.autograd.grad(spread_runs(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(second, torch.full_like(x, 2.0))
