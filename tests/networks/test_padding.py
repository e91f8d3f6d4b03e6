"""Borders and their gradients against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from munitaug.networks.blocks import reflect_pad
from munitaug.networks.padding import Border, pad


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize(
    ("shape", "pixels"), [((2, 3, 4, 5), 1), ((2, 3, 4, 5), 3), ((1, 2, 2, 7), 1), ((1, 1, 9, 4), 2)]
)
def test_borders_and_their_gradients_are_torchs(shape: tuple[int, ...], pixels: int, mode: Border) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected, given = F.pad(x, (pixels,) * 4, mode=mode), pad(x, pixels, mode)
    assert torch.equal(given, expected)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, weights)
    (gradient,) = torch.autograd.grad(given, x, weights)
    torch.testing.assert_close(gradient, wanted)


def test_one_pixel_has_a_repeated_border() -> None:
    x = torch.randn(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(pad(x, 2, "replicate").sum(), x)
    assert gradient.item() == 25.0


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_gradients_have_gradients(mode: Border) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda image: pad(image, 2, mode).square(), (x,))


def test_maps_keep_their_dtype_under_autocast_and_so_do_gradients() -> None:
    x = torch.randn(1, 2, 4, 4).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = pad(x, 1, "reflect")
    assert out.dtype == torch.bfloat16
    assert torch.autograd.grad(out.sum(), x)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (1, 1, 5, 1)])
def test_a_map_of_which_one_side_is_too_small_to_reflect_repeats_both_edges(shape: tuple[int, ...]) -> None:
    x = torch.arange(5.0).view(shape)
    wanted = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    assert torch.equal(reflect_pad(x, 1), wanted)
