"""The border of a 5 x 5 convolution of doubled maps: reflected, where kernels of single values repeat it.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def reflected(out: Tensor, x: Tensor, weight: Tensor, which: Tensor) -> Tensor:
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
        ctx.shape, ctx.stride = x.shape, x.stride()
        return _inward_steps(x)

    @staticmethod
    def backward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        grad = rows.new_empty_strided(ctx.shape, ctx.stride).zero_()
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
