"""Padding, convolution units and residual blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.networks.activations import Activation, activate
from munitaug.networks.blocks import AdaptiveResidualBlock, ConvUnit, ResidualBlock, reflect_pad
from tests.oracles import adain_by_loops, munit_layer_norm_by_numpy


def test_a_border_is_reflected_as_numpy_does() -> None:
    x = torch.randn(2, 3, 4, 5)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    assert torch.equal(reflect_pad(x, 2), torch.from_numpy(expected))
    assert reflect_pad(x, 0) is x


def test_a_side_too_small_to_reflect_repeats_its_edge() -> None:
    x = torch.tensor([[[[3.0]]]])
    assert torch.equal(reflect_pad(x, 1), torch.full((1, 1, 3, 3), 3.0))
    assert torch.equal(reflect_pad(x, 1, at_least=4), torch.full((1, 1, 4, 4), 3.0))


def test_sides_that_are_large_enough_are_not_enlarged() -> None:
    assert reflect_pad(torch.zeros(1, 1, 2, 9), 1, at_least=4).shape == (1, 1, 4, 11)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [-1.0, 2.0]),
        ("relu", [0.0, 2.0]),
        ("leaky_relu", [-0.2, 2.0]),
        ("tanh", [-0.7615942, 0.9640276]),
    ],
)
def test_activations(kind: Activation, expected: list[float]) -> None:
    torch.testing.assert_close(activate(torch.tensor([-1.0, 2.0]), kind), torch.tensor(expected))


def convolution_by_loops(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    side = weight.shape[-1]
    height, width = (x.shape[2] - side) // stride + 1, (x.shape[3] - side) // stride + 1
    out = torch.zeros(x.shape[0], weight.shape[0], height, width)
    for row in range(height):
        for column in range(width):
            patch = x[:, None, :, row * stride : row * stride + side, column * stride : column * stride + side]
            out[:, :, row, column] = (patch * weight).sum(dim=(2, 3, 4)) + bias
    return out


def test_a_unit_pads_convolves_normalises_and_activates_in_this_order() -> None:
    unit = ConvUnit(2, 3, 4, stride=2, padding=1, norm="layer", activation="relu")
    x = torch.randn(2, 2, 6, 8)
    with torch.no_grad():
        bias = unit.conv.bias
        assert bias is not None
        padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect"))
        convolved = convolution_by_loops(padded, unit.conv.weight, bias, stride=2)
        assert unit.layer_norm is not None
        normal = munit_layer_norm_by_numpy(convolved, unit.layer_norm.gain, unit.layer_norm.shift)
        torch.testing.assert_close(unit(x), normal.clamp(min=0), atol=1e-5, rtol=1e-4)


def test_every_unit_keeps_its_bias_and_instance_norm_removes_it_again() -> None:
    unit = ConvUnit(2, 3, 3, padding=1, norm="instance")
    x = torch.randn(1, 2, 6, 6)
    before = unit(x)
    assert unit.conv.bias is not None
    with torch.no_grad():
        unit.conv.bias.add_(5.0)
    torch.testing.assert_close(unit(x), before, atol=1e-5, rtol=1e-4)


def test_a_residual_block_with_dead_convolutions_is_the_identity_without_relu_after_the_sum() -> None:
    block = ResidualBlock(3)
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        block.second.conv.weight.zero_()
    torch.testing.assert_close(block(x), x)


def adaptive_block_by_hand(block: AdaptiveResidualBlock, x: Tensor, adain: Tensor) -> Tensor:
    channels = x.shape[1]
    shift_1, scale_1, shift_2, scale_2 = (adain[:, n * channels : (n + 1) * channels] for n in range(4))
    y = adain_by_loops(block.first(F.pad(x, (1, 1, 1, 1), mode="reflect")), shift_1, scale_1).clamp(min=0)
    return x + adain_by_loops(block.second(F.pad(y, (1, 1, 1, 1), mode="reflect")), shift_2, scale_2)


def test_an_adaptive_block_equals_the_loop_version() -> None:
    block, x = AdaptiveResidualBlock(3), torch.randn(2, 3, 4, 4)
    adain = torch.randn(2, AdaptiveResidualBlock.parameter_count(3))
    with torch.no_grad():
        torch.testing.assert_close(block(x, adain), adaptive_block_by_hand(block, x, adain), atol=1e-5, rtol=1e-4)


def test_in_an_adain_slice_the_shift_stands_before_the_scale() -> None:
    block, x = AdaptiveResidualBlock(2), torch.randn(1, 2, 4, 4)
    # second layer: shift (7, 8), scale 0: whatever the convolutions do, 7 and 8 are added to x
    adain = torch.tensor([[0.3, 0.4, 1.0, 2.0, 7.0, 8.0, 0.0, 0.0]])
    torch.testing.assert_close(block(x, adain), x + torch.tensor([7.0, 8.0]).view(1, 2, 1, 1))
    # first layer: a shift of -100 lets ReLU give 0 everywhere, so the second convolution sees nothing but its bias
    silent = block(x, torch.tensor([[-100.0, -100.0, 1.0, 1.0, 0.0, 0.0, 5.0, 5.0]]))
    torch.testing.assert_close(silent, x, atol=1e-3, rtol=0)


def test_styles_of_one_content_share_what_no_style_enters() -> None:
    block, x = AdaptiveResidualBlock(3), torch.randn(2, 3, 4, 5)
    adain = torch.randn(6, AdaptiveResidualBlock.parameter_count(3))
    seen: list[int] = []
    block.first.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    shared = block(x, adain)
    torch.testing.assert_close(shared, block(x.repeat_interleave(3, dim=0), adain))
    assert seen == [2, 6]
