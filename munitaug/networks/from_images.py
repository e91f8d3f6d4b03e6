"""Convolutions of images, whose few channels become many maps: computed channels last, given pixels first.

Torch's convolutions in bfloat16 make maps that lie channels last, and bring them into another order if asked. From
there to pixels first (`munitaug.networks.pixels_first`), which the wide convolutions that come next want, runs of
numbers are copied whole; from channels first it is a transposition, which takes ten times as long. The images' gradient
is a convolution to a few channels again (`munitaug.networks.narrow`), in half of the time that torch takes for it.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.activations import Activation, activate_own
from munitaug.networks.narrow import MOST_CHANNELS, narrow_conv
from munitaug.networks.pixels_first import as_pixels
from munitaug.networks.winograd import FEWEST_CHANNELS, computed_in, refuse_second_gradient

FEWEST_MAPS = min(channels_in for channels_in, _ in FEWEST_CHANNELS.values())
"""With fewer no convolution that wants pixels first comes next."""


def image_conv_pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Tells whether image_conv is the faster way for these images and this convolution, and may be taken."""
    return (
        x.device.type == "cpu"
        and conv.in_channels <= MOST_CHANNELS
        and conv.out_channels >= FEWEST_MAPS
        and computed_in(x) == torch.bfloat16
        and not torch.compiler.is_compiling()
    )


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, activation: Activation = "none") -> Tensor:
    """Gives ``activation(conv2d(x, weight, bias, stride))``, N x O x H' x W', pixels first.

    Args:
        x: N x C x H x W, padded already.
        weight: O x C x k x k.
        bias: O.
        stride: of the convolution.
        activation: of the result.
    """
    dtype = computed_in(x)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _Convolution.apply(x.to(dtype), weight.to(dtype), bias.to(dtype), stride)
    return as_pixels(activate_own(out, activation))


class _Convolution(torch.autograd.Function):
    """N x C x H x W -> H' x W' x N x O."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        x, weight = _channels_last(x), _channels_last(weight)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return as_pixels(torch.conv2d(x, weight, bias, stride)).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient()
        x, weight = ctx.saved_tensors
        grad = _channels_last(as_pixels(grad))
        for_images, for_weight, for_bias = ctx.needs_input_grad[:3]
        narrow = for_images and ctx.stride == 1
        steps, none, one = [ctx.stride, ctx.stride], [0, 0], [1, 1]
        asked = [for_images and not narrow, for_weight, for_bias]
        gradients: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], steps, none, one, False, none, 1, asked
        )
        return _images_gradient(grad, weight) if narrow else gradients[0], *gradients[1:], None


def _images_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Gives the gradient of images whose convolution of stride 1 has this gradient."""
    turned = _channels_last(weight.flip(2, 3).transpose(0, 1))
    wide = F.pad(grad, (weight.shape[-1] - 1,) * 4)
    return narrow_conv(wide, turned, grad.new_zeros(len(turned)), lambda out: out)


def _channels_last(maps: Tensor) -> Tensor:
    """Gives N x C x H x W maps that lie as N x H x W x C, and say so where C is 1 too."""
    return torch.empty_like(maps, memory_format=torch.channels_last).copy_(maps)
