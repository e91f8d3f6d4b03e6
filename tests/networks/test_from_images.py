"""Convolutions of images against plain ones: numbers, gradients, order in memory, where they are taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks import blocks, pixels_first
from munitaug.networks.activations import Activation, activate_own
from munitaug.networks.autoencoder import AutoEncoderShape, ContentEncoder
from munitaug.networks.blocks import ConvUnit
from munitaug.networks.from_images import FEWEST_MAPS, image_conv, image_conv_pays
from munitaug.networks.pixels_first import is_pixels_first
from tests.networks.alike import assert_alike

KINDS = [(7, 1, (12, 14)), (7, 1, (13, 12)), (5, 1, (9, 9)), (3, 1, (6, 8)), (4, 2, (10, 12)), (4, 2, (9, 10))]
"""Kernel, stride and the sides of what is padded already; outputs of odd and of even sides."""


def tensors(channels: int, kernel: int, sides: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Gives images, weights and bias."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return drawn(3, channels, *sides), drawn(6, channels, kernel, kernel), drawn(6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("kernel", "stride", "sides"), KINDS)
def test_it_equals_the_plain_one_and_so_do_its_gradients(
    kernel: int, stride: int, sides: tuple[int, int], channels: int
) -> None:
    x, weight, bias = inputs = tensors(channels, kernel, sides)
    given, expected = image_conv(x, weight, bias, stride), F.conv2d(x, weight, bias, stride)
    assert is_pixels_first(given)
    assert_alike(given, expected, inputs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("asked", [0, 1, 2])
def test_only_the_gradients_that_are_asked_for_are_made(asked: int, stride: int) -> None:
    inputs = tensors(3, 4, (10, 10))
    for at, tensor in enumerate(inputs):
        tensor.requires_grad_(at == asked)
    (right,) = torch.autograd.grad(F.conv2d(*inputs, stride).square().sum(), inputs[asked])
    (found,) = torch.autograd.grad(image_conv(*inputs, stride).square().sum(), inputs[asked])
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu", "tanh"])
def test_the_activation_is_that_of_other_convolutions(activation: Activation) -> None:
    inputs = tensors(3, 4, (10, 10))
    expected = activate_own(F.conv2d(*inputs, 2), activation)
    torch.testing.assert_close(image_conv(*inputs, 2, activation), expected)


def test_a_gradient_of_its_gradient_is_refused() -> None:
    x, weight, bias = tensors(3, 4, (10, 10))
    loss = image_conv(x, weight, bias, 2).square().sum()
    with pytest.raises(RuntimeError, match="no gradient of its gradient"):
        torch.autograd.grad(loss, x, create_graph=True)


def test_it_pays_for_images_that_become_wide_maps_in_bfloat16() -> None:
    images = torch.zeros(2, 3, 16, 16)
    wide = nn.Conv2d(3, FEWEST_MAPS, 3)
    assert not image_conv_pays(images, wide)
    assert image_conv_pays(images.bfloat16(), wide)
    with torch.autocast("cpu", torch.bfloat16):
        assert image_conv_pays(images, wide)
        assert not image_conv_pays(images, nn.Conv2d(3, FEWEST_MAPS - 1, 3))
        assert not image_conv_pays(torch.zeros(2, 5, 16, 16), nn.Conv2d(5, FEWEST_MAPS, 3))
        assert not image_conv_pays(images.to("meta"), wide)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kernel", "stride", "norm"), [(7, 1, "instance"), (7, 1, "none"), (4, 2, "none")])
def test_first_layers_of_wide_networks_take_it(
    kernel: int, stride: int, norm: blocks.Norm, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    unit = ConvUnit(channels, 64, kernel, stride, padding=kernel // 2, norm=norm)
    x = torch.randn(2, channels, 16, 16, requires_grad=True)
    found: list[list[Tensor]] = []
    for way in (image_conv_pays, lambda x, conv: False):
        monkeypatch.setattr(blocks, "image_conv_pays", way)
        with torch.autocast("cpu", torch.bfloat16):
            out = unit(x)
        assert is_pixels_first(out) == (way is image_conv_pays)
        found.append([out, *torch.autograd.grad(out.float().square().mean(), [x, *unit.parameters()])])
    exact = unit(x)
    right = [exact, *torch.autograd.grad(exact.square().mean(), [x, *unit.parameters()])]
    for mine, plain, wanted in zip(*found, right, strict=True):
        scale = wanted.abs().max()
        assert mine.dtype == plain.dtype
        off, off_before = (((each.float() - wanted).abs().max() / scale).item() for each in (mine, plain))
        assert off < max(2e-2, 2.0 * off_before)


def test_the_first_maps_are_not_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, bool]] = []
    laid_out = pixels_first.laid_out

    def noting(pixels: Tensor) -> Tensor:
        moved.append((pixels.numel(), pixels.is_contiguous()))
        return laid_out(pixels)

    monkeypatch.setattr(pixels_first, "laid_out", noting)
    encoder = ContentEncoder(AutoEncoderShape(3, 64, 2, 2, n_residual=1, style_dim=8, mlp_width=16))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randn(2, 3, 32, 32)).float().square().sum().backward()
    first = 2 * 64 * 32 * 32
    assert (first, True) in moved
    assert (first, False) not in moved
