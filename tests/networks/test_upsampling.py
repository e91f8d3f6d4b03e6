"""The doubled convolution against doubling, reflecting and convolving one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode

from munitaug.networks import upsampling
from munitaug.networks.blocks import ConvUnit, reflect_pad
from munitaug.networks.upsampling import doubled_conv, summed_kernels, which_taps
from tests.networks.alike import assert_alike


def step_by_step(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(reflect_pad(F.interpolate(x, scale_factor=2, mode="nearest"), weight.shape[-1] // 2), weight, bias)


def some_tensors(height: int, width: int, kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, height, width), (4, 3, kernel, kernel), (4,))
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("sides", [(1, 1), (1, 4), (2, 2), (2, 5), (3, 2), (8, 8), (7, 3)])
def test_it_equals_the_steps_and_so_do_its_gradients(
    sides: tuple[int, int], kernel: int, order: torch.memory_format
) -> None:
    x, weight, bias = tensors = some_tensors(*sides, kernel)
    expected, given = step_by_step(*tensors), doubled_conv(x.contiguous(memory_format=order), weight, bias)
    if kernel == 5 and min(sides) > 1:
        assert given.is_contiguous(memory_format=order)
    assert given.shape == (2, 4, 2 * sides[0], 2 * sides[1])
    assert_alike(given, expected, tensors)


def test_each_weight_stands_once_in_each_of_the_four_kernels() -> None:
    weight = torch.ones(2, 3, 5, 5)
    kernels = summed_kernels(weight, which_taps(weight)[0]).transpose(0, 1)
    expected = torch.outer(torch.tensor([2.0, 2.0, 1.0]), torch.tensor([2.0, 2.0, 1.0]))
    assert torch.equal(kernels[1, 0, 2], expected)
    assert torch.equal(kernels[0, 3, 1], expected.flip(0, 1))
    assert kernels.sum(dim=(3, 4)).unique().tolist() == [25.0]


def test_weights_are_summed_in_float32_under_autocast_and_rounded_then() -> None:
    weight = torch.zeros(1, 1, 5, 5)
    weight[0, 0, 0, :2] = torch.tensor([1.0 + 2.0**-9, -1.0])  # rounded before, nothing is left of the sum
    with torch.autocast("cpu", torch.bfloat16):
        kernels = summed_kernels(weight, which_taps(weight)[0])
    assert kernels.dtype == torch.bfloat16
    assert float(kernels[0, 0, 0, 0, 0]) == 2.0**-9


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_doubling_unit_is_a_unit_after_doubling(kernel: int) -> None:
    torch.manual_seed(0)
    doubling = ConvUnit(3, 4, kernel, padding=kernel // 2, norm="layer", doubled=True)
    plain = ConvUnit(3, 4, kernel, padding=kernel // 2, norm="layer")
    plain.load_state_dict(doubling.state_dict())
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(doubling(x), plain(F.interpolate(x, scale_factor=2, mode="nearest")))


def test_what_traces_the_code_leaves_no_stand_in_behind() -> None:
    x, weight, bias = (each.bfloat16() for each in some_tensors(8, 8, 5))
    upsampling._KEPT_TAPS.clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        traced = doubled_conv(*(mode.from_tensor(each) for each in (x, weight, bias)))
    assert type(doubled_conv(x, weight, bias)) is Tensor
    assert traced.shape == (len(x), len(weight), 16, 16)


def test_what_was_made_for_use_may_be_trained_with() -> None:
    x, weight, bias = some_tensors(8, 8, 5)
    upsampling._KEPT_TAPS.clear()
    with torch.inference_mode():
        doubled_conv(x, weight, bias)
    doubled_conv(x, weight.requires_grad_(), bias).sum().backward()
    assert weight.grad is not None
