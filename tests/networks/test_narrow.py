"""The convolution to few channels against the plain one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.networks.blocks import ConvUnit, Norm
from munitaug.networks.narrow import narrow_conv


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [3, 4, 7])
@pytest.mark.parametrize("sides", [(7, 7), (8, 10), (9, 12)])
def test_it_equals_the_plain_one_and_so_do_its_gradients(channels: int, kernel: int, sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, *sides), (channels, 5, kernel, kernel), (channels,))
    x, weight, bias = tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    ]
    expected, given = F.conv2d(x, weight, bias).tanh(), narrow_conv(x, weight, bias, torch.tanh)
    torch.testing.assert_close(given, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, tensors, weights)
    for gradient, right in zip(torch.autograd.grad(given, tensors, weights), wanted, strict=True):
        torch.testing.assert_close(gradient, right)


@pytest.mark.parametrize(
    ("channels", "norm", "narrow"), [(3, "none", True), (5, "none", False), (3, "instance", False)]
)
def test_a_unit_of_few_channels_takes_it(
    channels: int, norm: Norm, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def noted(x: Tensor, weight: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        called.append(x)
        return narrow_conv(x, weight, bias, activation)

    monkeypatch.setattr("munitaug.networks.blocks.narrow_conv", noted)
    unit = ConvUnit(2, channels, 5, padding=2, norm=norm, activation="tanh")
    x = torch.randn(1, 2, 8, 8)
    expected = unit.conv(F.pad(x, (2, 2, 2, 2), mode="reflect"))
    expected = F.instance_norm(expected) if norm == "instance" else expected
    torch.testing.assert_close(unit(x), expected.tanh())
    assert bool(called) is narrow
