"""A convolution of maps doubled by repetition, in less than half of the multiplications.

Of the 25 values under a 5 x 5 kernel at most 9 differ, because each is repeated 2 x 2 times; of the 9 under a 3 x 3
kernel at most 4. So the kernel's weights are summed where they meet the same value: one smaller kernel for each of the
four places within a repeated value (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
take such kernels as weights of their own). The sums are exact. Reflection at the border of the doubled maps shows a 3 x
3 kernel what repetition does; for 5 x 5 it needs a correction along the border.

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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
    kernels, biases = summed_kernels(weight), bias.repeat_interleave(4)
    if pays(x, kernels):
        maps = pixels_last(winograd_conv(x, kernels, biases, "replicate"))
    else:
        maps = F.conv2d(pad(x, 1, "replicate"), kernels, biases)
    out = F.pixel_shuffle(maps, 2)
    return out if min(x.shape[-2:]) == 1 else _reflected(out, x, weight)


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


def summed_kernels(weight: Tensor) -> Tensor:
    """Gives 4 O x C x 3 x 3 of O x C x 5 x 5, in the order that pixel_shuffle wants: out, row, column."""
    kernels = _sums(_sums(weight, 2), 4)  # column, row, out, in, 3, 3
    return kernels.permute(2, 1, 0, 3, 4, 5).reshape(-1, weight.shape[1], 3, 3)


def _sums(weight: Tensor, dim: int) -> Tensor:
    """Gives what meets the value before, the own and the next: for the first of two equal values, and the second."""
    first, second, third, fourth, fifth = weight.unbind(dim)
    of_first = torch.stack([first + second, third + fourth, fifth], dim)
    return torch.stack([of_first, torch.stack([first, second + third, fourth + fifth], dim)])


def _reflected(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gives the convolution over a reflected border of one over a repeated border; changes ``out``.

    Two pixels beyond the border a reflection shows the second value and a repetition the first. The outermost row and
    column of weights see that pixel, and only from the outermost row and column of the output. Written as matrix
    products: convolutions of a single row take four times as long.
    """
    height, width = out.shape[-2:]
    rows = torch.stack([x[:, :, 1] - x[:, :, 0], x[:, :, -2] - x[:, :, -1]])
    columns = torch.stack([x[:, :, :, 1] - x[:, :, :, 0], x[:, :, :, -2] - x[:, :, :, -1]])
    corners = torch.stack([columns[..., 1] - columns[..., 0], columns[..., -2] - columns[..., -1]])
    in_corners = torch.einsum("fenc,ocfe->noef", corners, weight[:, :, ::4, ::4])
    beside_rows = _along(rows, torch.stack([weight[:, :, 0], weight[:, :, -1]]))
    beside_columns = _along(columns, torch.stack([weight[..., 0], weight[..., -1]]))
    in_height, in_width = (torch.arange(0, side, side - 1, device=out.device) for side in (height, width))
    beside_columns = beside_columns.index_add(3, in_height, in_corners)
    out = out.index_add_(2, in_height, beside_rows)
    return out.index_add_(3, in_width, beside_columns.transpose(2, 3))


def _along(lines: Tensor, kernels: Tensor) -> Tensor:
    """Gives N x O x E x 2 L: E lines of N x C x L values, doubled, their ends repeated, each under its kernel.

    Args:
        lines: E x N x C x L.
        kernels: E x O x C x 5.
    """
    seen = F.pad(lines.flatten(0, 1), (1, 1), mode="replicate").unflatten(0, lines.shape[:2]).unfold(3, 3, 1)
    return torch.einsum("enclt,peoct->noelp", seen, _sums(kernels, 3)).flatten(3)
