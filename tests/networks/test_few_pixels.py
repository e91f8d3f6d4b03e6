"""Convolutions to a few pixels against plain ones: numbers, gradients, where they are taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks import blocks
from munitaug.networks.blocks import ConvUnit
from munitaug.networks.few_pixels import FEWEST_WEIGHTS, MOST_PIXELS, product_conv, product_conv_pays
from tests.networks.alike import assert_alike


def tensors(kernel: int, sides: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Gives maps, weights and bias."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return drawn(3, 5, *sides), drawn(7, 5, kernel, kernel), drawn(7)


KINDS = [(4, 2, (4, 4)), (4, 2, (6, 9)), (3, 1, (4, 3)), (3, 2, (7, 6))]


@pytest.mark.parametrize(("kernel", "stride", "sides"), KINDS)
def test_it_equals_the_plain_one_and_so_do_its_gradients(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    x, weight, bias = inputs = tensors(kernel, sides)
    given, expected = product_conv(x, weight, bias, stride), F.conv2d(x, weight, bias, stride)
    assert_alike(given, expected, inputs)


def test_its_gradient_has_a_gradient() -> None:
    x, weight, bias = inputs = tensors(4, (6, 6))
    found = []
    for out in (product_conv(x, weight, bias, 2), F.conv2d(x, weight, bias, 2)):
        (slope,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), inputs))
    for mine, right in zip(*found, strict=True):
        torch.testing.assert_close(mine, right)


def test_it_pays_for_few_pixels_under_large_kernels() -> None:
    conv = nn.Conv2d(128, 256, 4, 2)
    assert conv.weight.numel() == FEWEST_WEIGHTS
    few = torch.zeros(MOST_PIXELS // 4, 128, 6, 6)
    assert product_conv_pays(few, conv)
    assert not product_conv_pays(torch.cat([few, few[:1]]), conv)
    assert not product_conv_pays(torch.zeros(MOST_PIXELS // 4, 128, 6, 8), conv)
    assert not product_conv_pays(few, nn.Conv2d(128, 255, 4, 2))
    assert not product_conv_pays(torch.zeros(4, 1024, 1, 1), nn.Conv2d(1024, 1024, 1))
    assert not product_conv_pays(few.to("meta"), conv)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_deep_layer_takes_it(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    unit = ConvUnit(128, 256, 4, 2, padding=1, activation="leaky_relu")
    x = torch.randn(4, 128, 4, 4, requires_grad=True)
    found = []
    for way in (product_conv_pays, lambda x, conv: False):
        monkeypatch.setattr(blocks, "product_conv_pays", way)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            out = unit(x)
        assert out.dtype == precision
        found.append([out, *torch.autograd.grad(out.float().square().sum(), [x, *unit.parameters()])])
    for mine, plain in zip(*found, strict=True):
        assert mine.dtype == plain.dtype
        off = (mine.float() - plain.float()).norm() / plain.float().norm()
        assert off.item() < (1e-5 if precision == torch.float32 else 1e-2)
