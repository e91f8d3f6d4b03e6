"""The memory order in which rows of pixels lie together: changed, told, and undone in gradients."""

from __future__ import annotations

import pytest
import torch

from munitaug.networks.norms import MunitLayerNorm, adaptive_instance_norm, instance_norm
from munitaug.networks.padding import pad
from munitaug.networks.pixels_first import gradient_alike, is_pixels_first, laid_out, pixels_first, pixels_last


def test_numbers_stay_and_order_changes_and_back() -> None:
    x = torch.randn(2, 3, 4, 5)
    first = pixels_first(x)
    assert torch.equal(first, x)
    assert is_pixels_first(first)
    assert not is_pixels_first(x)
    last = pixels_last(first)
    assert torch.equal(last, x)
    assert last.is_contiguous()
    assert pixels_last(x) is x


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 1, 4, 4), (1, 1, 4, 4), (2, 3, 1, 1), (2, 3, 1, 4)])
def test_sides_of_one_are_no_trouble(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(pixels_first(x), x)
    assert torch.equal(pixels_last(pixels_first(x)), x)
    torch.testing.assert_close(instance_norm(pixels_first(x)), instance_norm(x))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (1, 0, 3, 2), (0, 2, 3, 1)])
def test_any_order_is_laid_out(order: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5).permute(order)
    out = laid_out(x)
    assert torch.equal(out, x)
    assert out.is_contiguous()


def test_gradients_lie_as_what_they_are_of() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    first = pixels_first(x)
    again = pixels_first(first)
    last = pixels_last(again)
    seen: list[bool] = []
    for maps in (first, again):
        maps.register_hook(lambda gradient: seen.append(is_pixels_first(gradient)))
    weights = torch.randn(2, 3, 4, 5)
    last.backward(weights)
    assert seen == [True, True]
    assert x.grad is not None
    assert x.grad.is_contiguous()
    assert torch.equal(x.grad, weights)


def test_a_gradient_is_made_to_lie_as_its_maps_do() -> None:
    seen: list[bool] = []
    for maps in (pixels_first(torch.randn(2, 3, 4, 5)), torch.randn(2, 3, 4, 5)):
        leaf = maps.requires_grad_()
        middle = leaf * 1
        middle.register_hook(lambda gradient: seen.append(is_pixels_first(gradient)))
        gradient_alike(middle).backward(torch.randn(2, 3, 4, 5))
    assert seen == [True, False]


@pytest.mark.parametrize("results", [1, 3])
def test_norms_do_not_mind_the_order(results: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6, requires_grad=True)
    shift, scale = torch.randn(2, 2 * results, 3).unbind(0)
    layer_norm = MunitLayerNorm(3)
    for norm in (instance_norm, lambda x: adaptive_instance_norm(x, shift, scale), layer_norm):
        usual, given = norm(x), norm(pixels_first(x))
        torch.testing.assert_close(given, usual)
        weights = torch.randn_like(usual)
        (wanted,) = torch.autograd.grad(usual, x, weights)
        (gradient,) = torch.autograd.grad(given, x, weights)
        torch.testing.assert_close(gradient, wanted)
    assert is_pixels_first(adaptive_instance_norm(pixels_first(x), shift, scale))


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_border_keeps_the_dtype_under_autocast(mode: str) -> None:
    x = torch.randn(1, 2, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        given = pad(x, 1, mode)  # type: ignore[arg-type]
    assert given.dtype == torch.bfloat16
    assert torch.equal(given, torch.nn.functional.pad(x, (1, 1, 1, 1), mode=mode))
