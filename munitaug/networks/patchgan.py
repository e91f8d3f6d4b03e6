"""The 70 x 70 PatchGAN discriminator of pix2pix and CycleGAN, and CUT's variant of it.

Isola et al. 2017, appendix 6.1.2; Zhu et al. 2017, appendix 7.2; after taesungp/contrastive-unpaired-translation,
models/networks.py, class NLayerDiscriminator (read, not copied).

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from munitaug.networks.activations import activate_own
from munitaug.networks.blocks import reflect_pad
from munitaug.networks.norms import instance_norm
from munitaug.networks.resampling import SmoothHalving

KERNEL = 4
WIDEST = 8
"""Layers are at most this many times as wide as the first."""


@dataclass(frozen=True)
class PatchGanShape:
    """The sizes of one discriminator.

    Args:
        channels: image channels, 1 to 4.
        width: feature maps of the first layer; each further one doubles them, up to 8 times.
        n_layers: halving layers; 3 give patches of 70 x 70 px.
        antialias: halve through a smoothing filter in place of a stride.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int
    width: int
    n_layers: int
    antialias: bool = False

    def __post_init__(self) -> None:
        for name, value in (("discriminator_width", self.width), ("n_discriminator_layers", self.n_layers)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


class PatchGan(nn.Module):
    """4 x 4 convolutions with instance norm in all but the first and last, LeakyReLU 0.2; zeros at the border.

    2,764,737 parameters with 3 channels, width 64 and 3 layers. Where a map is too small for the next convolution and
    its norm, as with 3 layers below 32 px, its edge is repeated; the published code refuses such images.

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: PatchGanShape) -> None:
        super().__init__()
        widths = [shape.channels, *(shape.width * min(2**layer, WIDEST) for layer in range(shape.n_layers + 1))]
        self.n_halving = shape.n_layers
        self.smooth_halving = SmoothHalving() if shape.antialias else None
        strides = [1 if shape.antialias else 2] * shape.n_layers + [1]
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(widths[layer], widths[layer + 1], KERNEL, stride, padding=1)
                for layer, stride in enumerate(strides)
            ]
        )
        self.score = nn.Conv2d(widths[-1], 1, KERNEL, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives a list of one map, N x 1 x h x w scores, unbounded, for x: N x channels x H x W in [-1, 1]."""
        for layer, convolution in enumerate(self.convolutions):
            strided = layer < self.n_halving and self.smooth_halving is None
            x = convolution(reflect_pad(x, 0, at_least=KERNEL if strided else KERNEL - 1))  # leaves 2 x 2 or more
            x = instance_norm(x, "leaky_relu") if layer > 0 else activate_own(x, "leaky_relu")
            if layer < self.n_halving and self.smooth_halving is not None:
                x = self.smooth_halving(x)
        return [self.score(reflect_pad(x, 0, at_least=KERNEL - 2))]
