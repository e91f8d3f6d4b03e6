"""Convolution units and residual blocks: pad, convolve, normalise, activate.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.activations import Activation, activate_own
from munitaug.networks.few_pixels import product_conv, product_conv_pays
from munitaug.networks.from_images import image_conv, image_conv_pays
from munitaug.networks.narrow import MOST_CHANNELS, narrow_conv
from munitaug.networks.norms import MunitLayerNorm, adaptive_instance_norm, instance_norm
from munitaug.networks.padding import pad
from munitaug.networks.pixels_first import gradient_alike, pixels_first, pixels_last
from munitaug.networks.upsampling import KERNELS as DOUBLED_KERNELS
from munitaug.networks.upsampling import doubled_conv
from munitaug.networks.winograd import winograd_conv, winograd_pays

Norm = Literal["none", "instance", "layer"]


def reflect_pad(x: Tensor, pixels: int, at_least: int = 0) -> Tensor:
    """Gives x with a reflected border; a side too small to reflect (1 px maps) repeats its edge instead.

    Args:
        x: N x C x H x W.
        pixels: width of the border.
        at_least: sides still smaller than this (the kernel that comes next) repeat their edge until they
            are not; so deep discriminators also judge small images, which the published code refuses.
    """
    if pixels > 0:
        x = pad(x, pixels, "reflect" if min(x.shape[-2:]) > pixels else "replicate")
    missing_height, missing_width = max(0, at_least - x.shape[-2]), max(0, at_least - x.shape[-1])
    if missing_height or missing_width:
        x = F.pad(x, (0, missing_width, 0, missing_height), mode="replicate")
    return x


def reflected_conv(x: Tensor, conv: nn.Conv2d, pixels: int, activation: Activation = "none") -> Tensor:
    """Gives the activated convolution of x with a reflected border of ``pixels``, the fastest way for its shape."""
    bias, stride = conv.bias, conv.stride[0]
    assert bias is not None
    if pixels == 1 and winograd_pays(x, conv.weight.shape, stride):
        return winograd_conv(x, conv.weight, bias, "reflect", stride, activation)
    x = reflect_pad(pixels_last(x), pixels, conv.kernel_size[0])
    if image_conv_pays(x, conv):
        return image_conv(x, conv.weight, bias, stride, activation)
    if product_conv_pays(x, conv):
        return activate_own(product_conv(x, conv.weight, bias, stride), activation)
    return activate_own(conv(x), activation)


class ConvUnit(nn.Module):
    """Reflect pad, convolution with bias, normalisation, activation, in this order; first doubled if asked for.

    The bias stands also where instance norm removes it again, as in NVlabs/MUNIT networks.py (Conv2dBlock),
    so that parameter counts and foreign weights agree.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        norm: Norm = "none",
        activation: Activation = "relu",
        doubled: bool = False,
    ) -> None:
        super().__init__()
        self.doubled = doubled
        self.kernel = kernel
        self.padding = padding
        self.norm = norm
        self.activation = activation
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride)
        self.layer_norm = MunitLayerNorm(channels_out) if norm == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x channels_out x H' x W' features."""
        assert self.conv.bias is not None
        if self.doubled and self.kernel in DOUBLED_KERNELS:
            return self._finished(doubled_conv(x, self.conv.weight, self.conv.bias))
        if self.doubled:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        narrow = self.conv.out_channels <= MOST_CHANNELS and self.conv.stride == (1, 1) and self.kernel > 1
        if narrow and self.norm == "none":  # with a norm the activation would come too early
            x = reflect_pad(x, self.padding, self.kernel)
            return narrow_conv(x, self.conv.weight, self.conv.bias, lambda out: activate_own(out, self.activation))
        if self.norm == "none":
            return reflected_conv(x, self.conv, self.padding, self.activation)
        return self._finished(reflected_conv(x, self.conv, self.padding))

    def _finished(self, x: Tensor) -> Tensor:
        """Gives the convolution's output, normalised and activated."""
        if self.norm == "instance":
            return instance_norm(x, self.activation)
        return activate_own(x if self.layer_norm is None else self.layer_norm(x), self.activation)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with instance norm and a skip; ReLU only between the two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvUnit(channels, channels, 3, padding=1, norm="instance", activation="relu")
        self.second = ConvUnit(channels, channels, 3, padding=1, norm="instance", activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x C x H x W features of the same shape."""
        if winograd_pays(x, self.first.conv.weight.shape):
            x = pixels_first(x)
        out: Tensor = x + self.second(self.first(x))
        return gradient_alike(out)


class AdaptiveResidualBlock(nn.Module):
    """A residual block whose two normalisations take shift and scale from outside (AdaIN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3)

    @staticmethod
    def parameter_count(channels: int) -> int:
        """Gives how many AdaIN numbers one block takes: shift and scale for two layers."""
        return 4 * channels

    def forward(self, x: Tensor, adain: Tensor) -> Tensor:
        """Gives K N x C x H x W features; what no style enters is computed once for the K results of each sample.

        Args:
            x: N x C x H x W.
            adain: K N x 4C, K in a row for each sample: shift and scale of the first layer, then of the second.
        """
        if winograd_pays(x, self.first.weight.shape):
            x = pixels_first(x)
        shift_1, scale_1, shift_2, scale_2 = adain.to(x.dtype).chunk(4, dim=1)
        y = adaptive_instance_norm(reflected_conv(x, self.first, 1), shift_1, scale_1, "relu")
        z = adaptive_instance_norm(reflected_conv(y, self.second, 1), shift_2, scale_2)
        sums: Tensor = x.unsqueeze(1) + z.unflatten(0, (x.shape[0], -1))
        return gradient_alike(sums.flatten(0, 1))
