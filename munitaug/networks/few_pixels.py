"""Convolutions that leave a few pixels, as one matrix product: the deep layers of discriminators on a CPU.

There the kernel is far larger than the maps, and torch's convolutions spend their time on bringing it into an order of
their own, forward and twice backward. A product takes it as it lies.

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_PIXELS = 64
"""Pixels of the result, of all images together; with more, writing out what each pixel sees costs what is saved."""
FEWEST_WEIGHTS = 2**19


def product_conv_pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Tells whether product_conv is the faster way for these maps, padded already, and this convolution."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    height, width = _sides(x, conv.kernel_size[0], conv.stride[0])
    weights = conv.in_channels * conv.out_channels * conv.kernel_size[0] ** 2
    return len(x) * height * width <= MOST_PIXELS and weights >= FEWEST_WEIGHTS and conv.kernel_size[0] > 1


def product_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """Gives ``conv2d(x, weight, bias, stride)``, up to rounding.

    Args:
        x: N x C x H x W, padded already.
        weight: O x C x k x k.
        bias: O.
        stride: of the convolution.
    """
    sides = _sides(x, weight.shape[-1], stride)
    seen = F.unfold(x, weight.shape[-1], stride=stride).transpose(1, 2).flatten(0, 1)  # (N, pixels) x C k k
    products = F.linear(seen, weight.flatten(1), bias)
    return products.view(len(x), *sides, -1).permute(0, 3, 1, 2)


def _sides(x: Tensor, kernel: int, stride: int) -> tuple[int, int]:
    height, width = ((side - kernel) // stride + 1 for side in x.shape[-2:])
    return height, width
