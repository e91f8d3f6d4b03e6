"""A convolution of maps doubled by repetition, in less than half of the multiplications.

Of the 25 values under a 5 x 5 kernel at most 9 differ, because each is repeated 2 x 2 times; of the 9 under a 3 x 3
kernel at most 4. So the kernel's weights are summed where they meet the same value: one smaller kernel for each of the
four places within a repeated value (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
take such kernels as weights of their own). The sums are exact. Reflection at the border of the doubled maps shows a 3 x
3 kernel what repetition does; for 5 x 5 it needs a correction along the border.

Floor 1: imports torch only.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.networks.blocks_of_pixels import spread
from munitaug.networks.padding import pad
from munitaug.networks.pixels_first import pixels_last
from munitaug.networks.winograd import pays, winograd_conv

KERNELS = (3, 5)


def doubled_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives ``conv2d(reflect_pad(doubled x, k // 2), weight, bias)``, up to rounding.

    Args:
        x: N x C x H x W; a side of 1 px, which leaves nothing to reflect, repeats its edge.
        weight: O x C x k x k, k one of KERNELS.
        bias: O.

    Returns:
        N x O x 2H x 2W.
    """
    if weight.shape[-1] == 3:
        return _with_kernels_of_two(pad(x, 1, "replicate"), weight, bias)
    inside, beside = which_taps(weight)
    kernels, biases = summed_kernels(weight, inside), bias.repeat_interleave(4)
    if pays(x, kernels):
        maps = pixels_last(winograd_conv(x, kernels, biases, "replicate"))
    else:
        maps = F.conv2d(pad(x, 1, "replicate"), kernels, biases)
    out = spread(maps)
    return out if min(x.shape[-2:]) == 1 else _reflected(out, x, weight, beside)


def _with_kernels_of_two(padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives the convolution with a 3 x 3 kernel: each of the four places sees the next values on its own side."""
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    first, second, third = weight.unbind(2)
    rows = [torch.stack([first, second + third], 2), torch.stack([first + second, third], 2)]
    kernels = []
    for first, second, third in (kernel.unbind(3) for kernel in rows):
        kernels += [torch.stack([first, second + third], 3), torch.stack([first + second, third], 3)]
    maps = F.conv2d(padded, torch.cat(kernels), bias.repeat(4)).unflatten(1, (2, 2, -1))
    places = [
        torch.stack([maps[:, row, column, :, row:, column:][..., :height, :width] for column in range(2)], dim=-1)
        for row in range(2)
    ]
    return torch.stack(places, dim=3).flatten(4, 5).flatten(2, 3)


def summed_kernels(weight: Tensor, which: Tensor) -> Tensor:
    """Gives 4 O x C x 3 x 3 of O x C x 5 x 5, in the order that pixel_shuffle wants: out, row, column.

    In autocast's dtype where that is on, but summed in float32.

    Args:
        weight: O x C x 5 x 5.
        which: 25 x 36, the first of which_taps.
    """
    kind = weight.device.type
    has_autocast = torch.amp.is_autocast_available(kind)
    with torch.autocast(kind, enabled=False) if has_autocast else nullcontext():
        sums: Tensor = weight.flatten(2) @ which  # out, in, row, column, 3, 3
    if has_autocast and torch.is_autocast_enabled(kind):
        sums = sums.to(torch.get_autocast_dtype(kind))
    by_place: Tensor = sums.unflatten(2, (4, 3, 3)).transpose(1, 2)
    return by_place.flatten(0, 1)


def which_taps(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gives 25 x 36 and 25 x 28, of zeros and ones: the sums of taps that doubled maps ask for, as products.

    36 for 2 x 2 places x 3 x 3 taps; 12 for both outermost rows x 2 places x 3 taps, 12 for columns, 4 for corners.
    """
    if weight.device.type == "cpu" and not torch.compiler.is_compiling():
        return WHICH_TAPS[0].to(weight.dtype), WHICH_TAPS[1].to(weight.dtype)
    return _made_taps(weight.device, weight.dtype)


def _made_taps(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    taps = torch.eye(5, device=device, dtype=dtype)
    first, second, third, fourth, fifth = taps.unbind(1)
    of_first = torch.stack([first + second, third + fourth, fifth], 1)
    of_both = torch.stack([of_first, torch.stack([first, second + third, fourth + fifth], 1)])  # place, tap, sum
    ends = taps[::4]
    borders = [
        torch.einsum("ek,plt->klept", ends, of_both),
        torch.einsum("el,pkt->klept", ends, of_both),
        torch.einsum("ek,fl->klef", ends, ends),
    ]
    inside = torch.einsum("pka,qlb->klpqab", of_both, of_both).reshape(25, 36)
    return inside, torch.cat([part.reshape(25, -1) for part in borders], 1)


WHICH_TAPS = _made_taps(torch.device("cpu"), torch.float32)


def _reflected(out: Tensor, x: Tensor, weight: Tensor, which: Tensor) -> Tensor:
    """Gives the convolution over a reflected border of one over a repeated border; changes ``out``.

    Two pixels beyond the border a reflection shows the second value and a repetition the first. The outermost row and
    column of weights see that pixel, and only from the outermost row and column of the output. Written as matrix
    products: convolutions of a single row take four times as long.

    Args:
        out: N x O x 2H x 2W.
        x: N x C x H x W.
        weight: O x C x 5 x 5.
        which: 25 x 28, the second of which_taps.
    """
    of_rows, of_columns, of_corners = (weight.flatten(2) @ which).split([12, 12, 4], dim=2)
    rows, columns = _inward_steps(x) if torch.compiler.is_compiling() else _InwardSteps.apply(x)
    corners = torch.stack([columns[..., 1] - columns[..., 0], columns[..., -2] - columns[..., -1]])
    in_corners = torch.einsum("fenc,ocef->noef", corners, of_corners.unflatten(2, (2, 2)).transpose(2, 3))
    beside_rows, beside_columns = _along(rows, of_rows), _along(columns, of_columns)
    height, width = out.shape[-2:]
    in_height = torch.arange(0, height, height - 1, device=out.device)
    beside_columns = beside_columns.index_add(3, in_height, in_corners)
    if torch.compiler.is_compiling():
        in_width = torch.arange(0, width, width - 1, device=out.device)
        return out.index_add_(2, in_height, beside_rows).index_add_(3, in_width, beside_columns.transpose(2, 3))
    with_borders: Tensor = _BordersAdded.apply(out, beside_rows, beside_columns)
    return with_borders


def _inward_steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """Gives by how much the second line exceeds the outermost, 2 x N x C x W of rows and 2 x N x C x H of columns."""
    rows = torch.stack([x[:, :, 1] - x[:, :, 0], x[:, :, -2] - x[:, :, -1]])
    return rows, torch.stack([x[:, :, :, 1] - x[:, :, :, 0], x[:, :, :, -2] - x[:, :, :, -1]])


class _InwardSteps(torch.autograd.Function):
    """The inward steps; one gradient as large as the maps in place of eight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.like = x.shape
        return _inward_steps(x)

    @staticmethod
    def backward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        grad = rows.new_zeros(ctx.like)
        for dim, steps in ((2, rows), (3, columns)):
            side = grad.shape[dim]
            for step, outermost, second in zip(steps, (0, side - 1), (1, side - 2), strict=True):
                grad.select(dim, second).add_(step)
                grad.select(dim, outermost).sub_(step)
        return grad


class _BordersAdded(torch.autograd.Function):
    """Adds N x O x 2 x W to the outermost rows and N x O x 2 x H to the outermost columns of N x O x H x W, in place.

    As index_add_, which copies the maps for columns.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.mark_dirty(out)
        for at in (0, -1):
            out.select(2, at).add_(rows.select(2, at))
            out.select(3, at).add_(columns.select(2, at))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = (torch.stack([grad.select(dim, 0), grad.select(dim, -1)], 2) for dim in (2, 3))
        return grad, rows, columns


def _along(lines: Tensor, taps: Tensor) -> Tensor:
    """Gives N x O x E x 2 L: E lines of N x C x L values, doubled, their ends repeated, each under its kernel.

    Args:
        lines: E x N x C x L.
        taps: O x C x 12: of E lines, 2 places within a repeated value, 3 taps.
    """
    products = torch.einsum("encl,ocept->tnoelp", lines, taps.unflatten(2, (len(lines), 2, 3)))
    before, own, after = products.unbind(0)
    before = torch.cat([before[..., :1, :], before[..., :-1, :]], dim=-2)
    after = torch.cat([after[..., 1:, :], after[..., -1:, :]], dim=-2)
    return (before + own + after).flatten(3)
