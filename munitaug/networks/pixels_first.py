"""A memory order in which whole rows of pixels lie together: N x C x H x W maps stored as H x W x N x C.

Sums of neighbouring pixels, which Winograd's convolutions are made of, are then sums of long runs of numbers, and
instance norm is batch norm of N C columns. Plain convolutions want N x C x H x W, so maps change order at both ends of
a chain of such layers, and so do their gradients.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_pixels_first(x: Tensor) -> bool:
    """Tells whether N x C x H x W maps on a CPU lie as H x W x N x C, and not as N x C x H x W."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return as_pixels(x).is_contiguous() and not x.is_contiguous()


def is_channels_last(x: Tensor) -> bool:
    """Tells whether N x C x H x W maps on a CPU lie as N x H x W x C, and not as N x C x H x W."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def pixels_first(x: Tensor) -> Tensor:
    """Gives N x C x H x W maps that lie as H x W x N x C; makes their gradient lie as they did."""
    out: Tensor = _PixelsFirst.apply(x)
    return out


def gradient_alike(x: Tensor) -> Tensor:
    """Gives x as it is; where it lies pixels first, makes its gradient lie so too."""
    return pixels_first(x) if is_pixels_first(x) else x


def pixels_last(x: Tensor) -> Tensor:
    """Gives N x C x H x W maps that lie so; makes the gradient lie pixels first where they did."""
    if not is_pixels_first(x):
        return x
    out: Tensor = _PixelsLast.apply(x)
    return out


def as_pixels(maps: Tensor) -> Tensor:
    """Gives N x C x H x W as H x W x N x C, or the other way round; moves nothing."""
    return maps.permute(2, 3, 0, 1)


def laid_out(pixels: Tensor) -> Tensor:
    """Gives the same A x B x C x D numbers, lying in this order.

    Where C x D x A x B is what they lie in, that is a transposition of two dimensions, which torch copies four times as
    fast as four.
    """
    if pixels.is_contiguous() or not as_pixels(pixels).is_contiguous():
        return pixels.contiguous()
    rows, columns = pixels.shape[:2], pixels.shape[2:]
    return as_pixels(pixels).reshape(columns.numel(), rows.numel()).T.contiguous().view(pixels.shape)


def _moved(maps: Tensor) -> Tensor:
    """Gives N x C x H x W maps that lie as H x W x N x C."""
    return as_pixels(laid_out(as_pixels(maps)))


class _PixelsFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.came_so = is_pixels_first(x)
        return _moved(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _moved(grad) if ctx.came_so else laid_out(grad)


class _PixelsLast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return laid_out(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _moved(grad)
