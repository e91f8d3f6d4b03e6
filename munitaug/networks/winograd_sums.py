"""The sums of Winograd's convolutions along one side of the maps, and what gradients become in them.

A scheme cuts a side into tiles that give two outputs each. ``split`` writes, for each tile, what meets the kernel at
each point; ``join`` writes the two outputs of each tile's products. Both write into memory they are given, and both
have an adjoint that takes gradients the other way.

Floor 1: imports torch only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from munitaug.networks.padding import Border


class Scheme(ABC):
    """One kind of convolution along one side.

    ``stride`` is the convolution's. A tile takes ``step`` new values, gives 2 outputs and multiplies at ``points``
    points; ``parts`` values stand side by side where the kernel has one tap for both.
    """

    stride: int
    step: int
    points: int
    parts: int
    at_points: Tensor
    """points x parts x taps: the kernel's taps at the points."""
    everywhere: int
    """The point whose product enters both outputs of a tile once, with the sign +."""

    @abstractmethod
    def split(self, x: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes points x ... x parts C of ... x C, one value for ``step`` along ``dim``."""

    @abstractmethod
    def split_adjoint(self, grad: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes ... x C of points x ... x parts C, ``dim`` being that of ``out``."""

    @abstractmethod
    def join(self, products: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes ... of points x ..., two values for one along ``dim``."""

    @abstractmethod
    def join_adjoint(self, grad: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes points x ... of ..., one value for two along ``dim``."""


class ThreeTaps(Scheme):
    """F(2, 3), Lavin & Gray 2016, section 4.1: four points in place of six multiplications.

    Of the values a b c d from one before a tile to one after it, the points see a - c, b + c, c - b and b - d. Where a
    border is reflected, the first of the first tile and the last of the last tile are differences of equal values.
    """

    stride, step, points, parts, everywhere = 1, 2, 4, 1, 1
    at_points = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]).unsqueeze(1)

    def split(self, x: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes the sums of values, as the class says."""
        even, odd = _in_turns(x, dim, 2)
        rest = even.shape[dim] - 1
        torch.sub(odd.narrow(dim, 0, rest), odd.narrow(dim, 1, rest), out=out[0].narrow(dim, 1, rest))
        torch.add(even, odd, out=out[1])
        torch.sub(odd, even, out=out[2])
        torch.sub(even.narrow(dim, 0, rest), even.narrow(dim, 1, rest), out=out[3].narrow(dim, 0, rest))
        for place, at in ((out[0], 0), (out[3], rest)):
            if border == "reflect":
                place.select(dim, at).zero_()
            else:
                torch.sub(even.select(dim, at), odd.select(dim, at), out=place.select(dim, at))
        return out

    def split_adjoint(self, grad: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes the values' gradients."""
        even, odd = _in_turns(out, dim, 2)
        rest = even.shape[dim] - 1
        torch.sub(grad[1], grad[2], out=even)
        torch.add(grad[1], grad[2], out=odd)
        after, before = grad[0].narrow(dim, 1, rest), grad[3].narrow(dim, 0, rest)
        odd.narrow(dim, 0, rest).add_(after)
        odd.narrow(dim, 1, rest).sub_(after)
        even.narrow(dim, 0, rest).add_(before)
        even.narrow(dim, 1, rest).sub_(before)
        if border == "replicate":
            for place, at in ((grad[0], 0), (grad[3], rest)):
                even.select(dim, at).add_(place.select(dim, at))
                odd.select(dim, at).sub_(place.select(dim, at))
        return out

    def join(self, products: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes the two outputs of each tile."""
        first, second = _in_turns(out, dim, 2)
        torch.add(products[1], products[2], out=first)
        first.add_(products[0])
        torch.sub(products[1], products[2], out=second)
        second.sub_(products[3])
        return out

    def join_adjoint(self, grad: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes the products' gradients."""
        first, second = _in_turns(grad, dim, 2)
        out[0] = first
        torch.add(first, second, out=out[1])
        torch.sub(first, second, out=out[2])
        torch.neg(second, out=out[3])
        return out


class FourTapsStrideTwo(Scheme):
    """F(2, 2) of pairs of values: four taps two apart are two taps of pairs; three points in place of four.

    A pair is an odd value and the even one after it. Of the pairs a b c from the one that begins before a tile, the
    points see a - b, b and b - c. Borders are reflected: of the first pair before, a - b is nothing in its first part,
    and of the last pair after, b - c in its second.
    """

    stride, step, points, parts, everywhere = 2, 4, 3, 2, 1
    at_points = torch.einsum("pa,st->psat", torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), torch.eye(2)).flatten(2)

    def split(self, x: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes the sums of values, as the class says."""
        _only_reflected(border)
        x0, x1, x2, x3 = _in_turns(x, dim, 4)
        rest = x0.shape[dim] - 1
        odd, even = out.unflatten(-1, (2, -1)).unbind(-2)
        torch.sub(x3.narrow(dim, 0, rest), x1.narrow(dim, 1, rest), out=odd[0].narrow(dim, 1, rest))
        odd[0].select(dim, 0).zero_()
        odd[1] = x1
        torch.sub(x1, x3, out=odd[2])
        torch.sub(x0, x2, out=even[0])
        even[1] = x2
        torch.sub(x2.narrow(dim, 0, rest), x0.narrow(dim, 1, rest), out=even[2].narrow(dim, 0, rest))
        even[2].select(dim, rest).zero_()
        return out

    def split_adjoint(self, grad: Tensor, out: Tensor, dim: int, border: Border) -> Tensor:
        """Writes the values' gradients."""
        _only_reflected(border)
        x0, x1, x2, x3 = _in_turns(out, dim, 4)
        rest = x0.shape[dim] - 1
        odd, even = grad.unflatten(-1, (2, -1)).unbind(-2)
        before, after = odd[0].narrow(dim, 1, rest), even[2].narrow(dim, 0, rest)
        x0.copy_(even[0])
        x0.narrow(dim, 1, rest).sub_(after)
        torch.sub(even[1], even[0], out=x2)
        x2.narrow(dim, 0, rest).add_(after)
        torch.add(odd[1], odd[2], out=x1)
        x1.narrow(dim, 1, rest).sub_(before)
        torch.neg(odd[2], out=x3)
        x3.narrow(dim, 0, rest).add_(before)
        return out

    def join(self, products: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes the two outputs of each tile."""
        first, second = _in_turns(out, dim, 2)
        torch.add(products[0], products[1], out=first)
        torch.sub(products[1], products[2], out=second)
        return out

    def join_adjoint(self, grad: Tensor, out: Tensor, dim: int) -> Tensor:
        """Writes the products' gradients."""
        first, second = _in_turns(grad, dim, 2)
        out[0] = first
        torch.add(first, second, out=out[1])
        torch.neg(second, out=out[2])
        return out


def _only_reflected(border: Border) -> None:
    if border != "reflect":
        raise ValueError(f'a kernel of four taps knows the border "reflect", got {border!r}')


def _in_turns(x: Tensor, dim: int, count: int) -> tuple[Tensor, ...]:
    """Gives ``count`` views of x, of every ``count``-th value along ``dim``."""
    turns: Tensor = x.unflatten(dim, (-1, count))
    return turns.unbind(dim + 1)
