"""2 x 2 blocks of pixels spread over the image and gathered again: pixel_shuffle by 2, three times as fast on a CPU.

torch copies number by number where neighbours come of different maps. Here two neighbours of 16 bits are the halves of
an integer, which a processor joins and cuts in long runs. For 32 bits the same does not pay.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.networks.pixels_first import as_pixels, is_pixels_first

NUMBER = 16
"""Bits of a number that this pays for."""


def spread(x: Tensor) -> Tensor:
    """Gives ``pixel_shuffle(x, 2)``: N x C x 2H x 2W of N x 4C x H x W."""
    if x.device.type != "cpu" or 8 * x.element_size() != NUMBER or torch.compiler.is_compiling():
        return F.pixel_shuffle(x, 2)
    out: Tensor = _Moved.apply(x, False)
    return out


class _Moved(torch.autograd.Function):
    """Pixels spread, or gathered; gradients go the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, back: bool) -> Tensor:
        ctx.back = back
        return _gathered(x) if back else _spread(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Moved.apply(grad, not ctx.back), None


def _spread(x: Tensor) -> Tensor:
    images, maps, height, width = x.shape
    left, right = x.contiguous().view(torch.int16).view(images, maps // 4, 2, 2, height, width).unbind(3)
    both = left.to(torch.int32).bitwise_and_(2**NUMBER - 1)
    both.bitwise_or_(right.to(torch.int32).bitwise_left_shift_(NUMBER))
    out = x.new_empty(images, maps // 4, 2 * height, 2 * width)
    out.view(torch.int32).view(images, maps // 4, height, 2, width).copy_(both.transpose(2, 3))
    return out


def _gathered(x: Tensor) -> Tensor:
    images, maps, height, width = x.shape
    in_a_row = x.contiguous().flatten()  # strides of one single map may be those of another order
    pairs = in_a_row.view(torch.int32).view(images, maps, height // 2, 2, width // 2)
    both = pairs.transpose(2, 3).contiguous()
    out = x.new_empty(images, 4 * maps, height // 2, width // 2)
    left, right = out.view(torch.int16).view(images, maps, 2, 2, height // 2, width // 2).unbind(3)
    left.copy_(both)  # keeps the lower half
    right.copy_(both.bitwise_right_shift_(NUMBER))
    return out


def spread_runs(x: Tensor) -> Tensor:
    """Gives N x C x 2H x 2W, channels last, of N x 4C x H x W: for each place in 2 x 2 blocks, row by row, C maps.

    Where C numbers lie side by side, before and after, that is a copy of such runs and not of single numbers.

    Args:
        x: lies pixels first or channels last, on a CPU.
    """
    out: Tensor = _Runs.apply(x)
    return out


class _Runs(torch.autograd.Function):
    """Runs moved to where their pixel is; gradients go the other way, into the order that x lay in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        images, maps, height, width = x.shape
        ctx.shape, ctx.came_first = x.shape, is_pixels_first(x)
        out = _empty_channels_last(x, (images, maps // 4, 2 * height, 2 * width))
        _blocks(out).copy_(_places(x))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        images, maps, height, width = ctx.shape
        if ctx.came_first:
            out = as_pixels(grad.new_empty(height, width, images, maps))
        else:
            out = _empty_channels_last(grad, ctx.shape)
        _places(out).copy_(_blocks(grad))
        return out


def _empty_channels_last(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _places(x: Tensor) -> Tensor:
    """Gives N x H x 2 x W x 2 x C of N x 4C x H x W."""
    by_place: Tensor = x.unflatten(1, (2, 2, -1))
    return by_place.permute(0, 4, 1, 5, 2, 3)


def _blocks(x: Tensor) -> Tensor:
    """Gives N x H x 2 x W x 2 x C of N x C x 2H x 2W."""
    blocks: Tensor = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return blocks
