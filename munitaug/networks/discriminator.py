"""MUNIT's multi-scale patch discriminator.

Huang et al. 2018, appendix B.1; after NVlabs/MUNIT networks.py, class MsImageDis (read, not copied).

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from munitaug.networks.blocks import ConvUnit


@dataclass(frozen=True)
class DiscriminatorShape:
    """The sizes of one discriminator.

    Args:
        channels: image channels, 1 to 4.
        width: feature maps of the first layer; each further layer doubles them.
        n_layers: 4 x 4 convolutions of stride 2 at each scale.
        n_scales: image pyramid levels, each judged by weights of its own.
        spectral_norm: divide every weight by its largest singular value (Miyato et al. 2018).
        n_outputs: score maps of each scale, one for each domain that shares the discriminator.
    """

    channels: int
    width: int
    n_layers: int
    n_scales: int
    spectral_norm: bool = False
    n_outputs: int = 1


class PatchDiscriminator(nn.Module):
    """Image -> one score per patch: strided convolutions without norm, LeakyReLU 0.2, a 1 x 1 convolution."""

    def __init__(self, shape: DiscriminatorShape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, width = shape.channels, shape.width
        for _ in range(shape.n_layers):
            layers.append(ConvUnit(channels, width, 4, stride=2, padding=1, activation="leaky_relu"))
            channels, width = width, 2 * width
        layers.append(nn.Conv2d(channels, shape.n_outputs, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x n_outputs x h x w scores, unbounded, for x: N x C x H x W in [-1, 1]."""
        out: Tensor = self.layers(x)
        return out


class PyramidDiscriminator(nn.Module):
    """One network per pyramid level; the image is halved between levels.

    Args:
        scales: the networks, that of the whole image first.
        spectral: divide the weights of their convolutions by their largest singular values.
    """

    def __init__(self, scales: Iterable[nn.Module], *, spectral: bool) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)
        if spectral:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives one map of patch scores per scale, largest image first, for x: N x C x H x W in [-1, 1]."""
        maps: list[Tensor] = []
        for level, scale in enumerate(self.scales):
            if level > 0:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            maps.append(scale(x))
        return maps


class MultiScaleDiscriminator(PyramidDiscriminator):
    """A patch discriminator per pyramid level."""

    def __init__(self, shape: DiscriminatorShape) -> None:
        super().__init__((PatchDiscriminator(shape) for _ in range(shape.n_scales)), spectral=shape.spectral_norm)
