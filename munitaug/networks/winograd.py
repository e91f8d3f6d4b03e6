"""3 x 3 convolutions, and 4 x 4 ones of stride 2, in half of the multiplications: wide maps in bfloat16 on a CPU.

Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks": 2 x 2 outputs are made of sums of neighbours
with 16 multiplications in place of 36 (3 x 3), or 36 in place of 64 (4 x 4, stride 2). The products of all tiles are
one batch of matrix products, forward and backward. The sums pay because maps lie pixels first
(`munitaug.networks.pixels_first`), and because a reflected border makes sums that are nothing, where other ways pad.

bfloat16 rounds the sums too: the output is 0.7% off where a plain convolution is 0.2% off (root mean square).

Floor 1: imports torch only.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from munitaug.networks.activations import Activation, activate_own
from munitaug.networks.padding import Border
from munitaug.networks.pixels_first import as_pixels, laid_out, pixels_first
from munitaug.networks.winograd_sums import FourTapsStrideTwo, Scheme, ThreeTaps

SCHEMES: dict[tuple[int, int], Scheme] = {(3, 1): ThreeTaps(), (4, 2): FourTapsStrideTwo()}
"""By kernel side and stride."""
FEWEST_CHANNELS = {(3, 1): (256, 256), (4, 2): (64, 128)}
"""Below these, in and out, the sums cost what the products save."""
FEWEST_TILES = 64
"""Below this, of all images together, taking the kernel to its points costs what the products save."""
MOST_SCRATCH = 2**25
"""Numbers that each piece of scratch memory may hold, 64 MiB; larger ones are made anew each time."""


def winograd_pays(x: Tensor, kernel: Sequence[int], stride: int = 1) -> bool:
    """Tells whether winograd_conv is the faster way for these maps and kernels O x C x k x k, and may be taken."""
    channels_out, channels_in, height, width = kernel
    kind = (width, stride)
    if x.device.type != "cpu" or kind not in SCHEMES or height != width:
        return False
    fewest_in, fewest_out = FEWEST_CHANNELS[kind]
    step = SCHEMES[kind].step
    return (
        channels_in >= fewest_in
        and channels_out >= fewest_out
        and computed_in(x) == torch.bfloat16
        and not (x.shape[-2] % step or x.shape[-1] % step)
        and min(x.shape[-2:]) >= 2 * step
        and x.shape[0] * x.shape[-2] * x.shape[-1] >= FEWEST_TILES * step**2
        and not torch.compiler.is_compiling()
    )


def computed_in(x: Tensor) -> torch.dtype:
    """Gives the type that a convolution of x would be computed in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def winograd_conv(
    x: Tensor, weight: Tensor, bias: Tensor, border: Border, stride: int = 1, activation: Activation = "none"
) -> Tensor:
    """Gives ``activation(conv2d(pad(x, 1, border), weight, bias, stride))``, up to rounding, pixels first.

    Args:
        x: N x C x H x W; sides at least two tiles long, which are 2 px, or 4 with stride 2. Best pixels first.
        weight: O x C x 3 x 3, or with stride 2 O x C x 4 x 4.
        bias: O.
        border: what stands one pixel beyond the border; "reflect" with stride 2.
        stride: of the convolution.
        activation: of the result.
    """
    dtype = computed_in(x)
    with torch.autocast("cpu", enabled=False):
        pixels = as_pixels(pixels_first(x.to(dtype)))
        scheme = SCHEMES[weight.shape[-1], stride]
        out: Tensor = _Convolution.apply(pixels, weight.to(dtype), bias.to(dtype), scheme, border)
    return as_pixels(activate_own(out, activation))


def refuse_second_gradient() -> None:
    """Refuses a backward pass of which gradients are wanted in turn; called inside it.

    Raises:
        RuntimeError: they are wanted (create_graph).
    """
    if torch.is_grad_enabled():
        raise RuntimeError("this convolution has no gradient of its gradient (create_graph); compute it in float32")


class _Convolution(torch.autograd.Function):
    """H x W x N x C -> H' x W' x N x O; tiles are made again for gradients, being 2 to 4 times what they came of."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor, scheme: Scheme, border: Border) -> Tensor:
        at_points = _at_points(weight, scheme)
        ctx.save_for_backward(pixels, at_points)
        ctx.scheme, ctx.border = scheme, border
        products = _product(_tiles(pixels, scheme, border), at_points.transpose(1, 2), "products")
        products[_everywhere(scheme)] += bias
        return _outputs(products, pixels.shape, scheme)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient()
        pixels, at_points = ctx.saved_tensors
        scheme, border = ctx.scheme, ctx.border
        for_pixels = for_weight = for_bias = None
        products = _outputs_adjoint(laid_out(grad), scheme)
        if ctx.needs_input_grad[0]:
            tiles = _product(products, at_points, "tiles")
            for_pixels = _tiles_adjoint(tiles, pixels.shape, scheme, border)
        if ctx.needs_input_grad[1]:
            products_of_both = torch.bmm(products.transpose(1, 2), _tiles(pixels, scheme, border))
            for_weight = _at_points_adjoint(products_of_both, scheme)
        if ctx.needs_input_grad[2]:
            for_bias = products[_everywhere(scheme)].sum(0)
        return for_pixels, for_weight, for_bias, None, None


def _everywhere(scheme: Scheme) -> int:
    """Gives the place among the points of both sides whose product enters all four outputs of a tile."""
    return scheme.everywhere * (scheme.points + 1)


def _at_points(weight: Tensor, scheme: Scheme) -> Tensor:
    """Gives the kernel at the points of both sides, points^2 x O x parts^2 C."""
    channels_out, channels_in = weight.shape[:2]
    both = _both_sides(scheme, weight.dtype) @ weight.reshape(channels_out * channels_in, -1).T
    both = both.view(scheme.points**2, -1, channels_out, channels_in)
    return both.transpose(1, 2).reshape(scheme.points**2, channels_out, -1)


def _at_points_adjoint(grad: Tensor, scheme: Scheme) -> Tensor:
    """Gives O x C x k x k of points^2 x O x parts^2 C."""
    channels_out, side = grad.shape[1], scheme.at_points.shape[-1]
    both = grad.unflatten(2, (scheme.parts**2, -1)).transpose(1, 2).reshape(scheme.points**2 * scheme.parts**2, -1)
    taps: Tensor = both.T @ _both_sides(scheme, grad.dtype)
    return taps.view(channels_out, -1, side, side)


@cache
def _both_sides(scheme: Scheme, dtype: torch.dtype) -> Tensor:
    """Gives points^2 parts^2 x k^2: what takes a kernel to its points; the second side before the first."""
    one = scheme.at_points.to(dtype)
    return torch.einsum("pak,qbl->qpbakl", one, one).reshape(scheme.points**2 * scheme.parts**2, -1)


def _tiles(pixels: Tensor, scheme: Scheme, border: Border) -> Tensor:
    """Gives points^2 x (tiles of both sides, N) x parts^2 C of H x W x N x C."""
    rows, tiles = _places(pixels.shape, scheme)
    halfway = scheme.split(pixels, _scratch("rows", rows, pixels), 0, border)
    return scheme.split(halfway, _scratch("tiles", tiles, pixels), 2, border).view(scheme.points**2, -1, tiles[-1])


def _tiles_adjoint(grad: Tensor, shape: torch.Size, scheme: Scheme, border: Border) -> Tensor:
    """Gives H x W x N x C of points^2 x (tiles of both sides, N) x parts^2 C."""
    rows, tiles = _places(shape, scheme)
    halfway = scheme.split_adjoint(grad.view(tiles), _scratch("rows", rows, grad), 2, border)
    return scheme.split_adjoint(halfway, grad.new_empty(shape), 0, border)


def _places(shape: torch.Size, scheme: Scheme) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Gives the shapes of the sums along the first side, and along both."""
    height, width, images, channels = shape
    points, step, parts = scheme.points, scheme.step, scheme.parts
    rows = (points, height // step, width, images, parts * channels)
    return rows, (points, points, height // step, width // step, images, parts * parts * channels)


def _outputs(products: Tensor, shape: torch.Size, scheme: Scheme) -> Tensor:
    """Gives H' x W' x N x O of points^2 x (tiles of both sides, N) x O; ``shape`` is that of what went in."""
    height, width, images, _ = shape
    channels, points, step = products.shape[-1], scheme.points, scheme.step
    halfway = _scratch("rows", (points, height // step, width // scheme.stride, images, channels), products)
    scheme.join(products.view(points, points, height // step, width // step, images, channels), halfway, 2)
    out = products.new_empty(height // scheme.stride, width // scheme.stride, images, channels)
    return scheme.join(halfway, out, 0)


def _outputs_adjoint(grad: Tensor, scheme: Scheme) -> Tensor:
    """Gives points^2 x (tiles of both sides, N) x O of H' x W' x N x O."""
    height, width, images, channels = grad.shape
    points = scheme.points
    halfway = _scratch("rows", (points, height // 2, width, images, channels), grad)
    products = _scratch("products", (points, points, height // 2, width // 2, images, channels), grad)
    return scheme.join_adjoint(scheme.join_adjoint(grad, halfway, 0), products, 2).view(points**2, -1, channels)


_held = threading.local()


def _scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Gives memory for numbers that nobody needs after this call: the same each time, so that it stays in the cache."""
    count = math.prod(shape)
    if count > MOST_SCRATCH:
        return like.new_empty(shape)
    held: Tensor | None = getattr(_held, name, None)
    if held is None or held.dtype != like.dtype or len(held) < count:
        with torch.inference_mode(False):  # memory made while inferring could not be written while training
            held = like.new_empty(count)
        setattr(_held, name, held)
    return held[:count].view(shape)


def _product(first: Tensor, second: Tensor, name: str) -> Tensor:
    out = _scratch(name, (*first.shape[:2], second.shape[2]), first)
    return torch.bmm(first, second, out=out)
