"""Borders of equal width on all four sides.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["reflect", "replicate"]


def pad(x: Tensor, pixels: int, mode: Border) -> Tensor:
    """Gives N x C x H x W maps with ``pixels`` more on each side, in their own dtype.

    On a CPU, autocast takes reflection for arithmetic that needs float32, and copies maps to it and back; and torch's
    gradients of borders go number by number, which takes twenty times as long as copying the maps.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.pad(x, (pixels, pixels, pixels, pixels), mode=mode)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _Padded.apply(x, pixels, mode)
    return out


class _Padded(torch.autograd.Function):
    """A padded copy; its gradient is that of the inside, plus what the border's pixels were copied from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pixels: int, mode: Border) -> Tensor:
        ctx.pixels, ctx.mode = pixels, mode
        return F.pad(x, (pixels, pixels, pixels, pixels), mode=mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _folded(_folded(grad, 2, ctx.pixels, ctx.mode), 3, ctx.pixels, ctx.mode), None, None


def _folded(grad: Tensor, dim: int, pixels: int, mode: Border) -> Tensor:
    """Gives the gradient without the border at both ends of a side, which goes to the lines it was copied from."""
    side = grad.shape[dim] - 2 * pixels
    inside = grad.narrow(dim, pixels, side).clone()
    for line in range(pixels):
        first, last = (pixels - line, side - 2 - line) if mode == "reflect" else (0, side - 1)
        inside.select(dim, first).add_(grad.select(dim, line))
        inside.select(dim, last).add_(grad.select(dim, pixels + side + line))
    return inside
