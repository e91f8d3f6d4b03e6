"""Landmarks found without labels, and the small networks that move them from one domain to another.

The landmark branch after Zhang et al., "Unsupervised Discovery of Object Landmarks as Structural Representations",
CVPR 2018 (YutingZhang/lmdis-rep, read, not copied), from which TransGaGa's separation and concentration terms come.
Coordinates are (row, column) in [0, 1], so that the image has the area 1.

Floor 1: imports torch only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.blocks import ConvUnit, ResidualBlock
from munitaug.networks.precision import full_precision

LEAST_VARIANCE = 1e-6
DOWNSAMPLE = 2
"""Heatmaps have 1 / 2 of the image's side: digits of 16 px leave 8 x 8."""


class LandmarkEncoder(nn.Module):
    """Image -> heatmaps: an hourglass, then a soft-max over the landmarks and one background map at every pixel.

    Args:
        channels: image channels.
        width: feature maps after the first convolution.
        landmarks: heatmaps without the background.
        n_residual: residual blocks at the narrowest place.
    """

    def __init__(self, channels: int, width: int, landmarks: int, n_residual: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            ConvUnit(channels, width, 5, padding=2, norm="instance"),
            ConvUnit(width, 2 * width, 4, stride=2, padding=1, norm="instance"),
        )
        self.inner = nn.Sequential(
            ConvUnit(2 * width, 2 * width, 4, stride=2, padding=1, norm="instance"),
            *(ResidualBlock(2 * width) for _ in range(n_residual)),
        )
        self.up = ConvUnit(2 * width, 2 * width, 3, padding=1, norm="instance")
        self.to_maps = nn.Conv2d(2 * width, landmarks + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x L x H/2 x W/2 heatmaps, each of mass 1, for x: N x C x H x W in [-1, 1], sides multiples of 4."""
        wide = self.down(x)
        features = wide + F.interpolate(self.inner(wide), scale_factor=2, mode="nearest")
        shares = self.to_maps(self.up(features)).float().log_softmax(dim=1)[:, :-1]
        # In logarithms, because a landmark that the background has pushed aside has next to no mass to divide by.
        maps: Tensor = shares.flatten(2).softmax(dim=2).view_as(shares)
        return maps


def heatmaps_to_moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Gives the means N x L x 2 in [0, 1] and the standard deviations N x L x 2 of heatmaps N x L x h x w of mass 1."""
    grid = coordinate_grid(maps.shape[2], maps.shape[3], maps)
    with full_precision(maps.device):
        means = torch.einsum("nlhw,hwc->nlc", maps, grid)
        squares = torch.einsum("nlhw,hwc->nlc", maps, grid.square())
    return means, (squares - means.square()).clamp_min(LEAST_VARIANCE).sqrt()


def draw_gaussians(means: Tensor, height: int, width: int, deviation: float) -> Tensor:
    """Gives N x L x height x width bumps of height 1 around the means, N x L x 2."""
    grid = coordinate_grid(height, width, means)
    squares = (grid - means[:, :, None, None, :]).square().sum(dim=-1)
    return torch.exp(-squares / (2.0 * deviation**2))


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Gives height x width x 2: (row, column) of pixel centres in [0, 1]."""
    rows = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    columns = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def separation_loss(means: Tensor, deviation: float) -> Tensor:
    """Gives the sum over ordered pairs of landmarks of exp(-d^2 / (2 deviation^2)), averaged over images.

    Args:
        means: N x L x 2 in [0, 1].
        deviation: distance, in units of the image's side, within which landmarks push one another off.
    """
    squares = (means[:, :, None] - means[:, None, :]).square().sum(dim=-1)
    pushes = torch.exp(-squares / (2.0 * deviation**2))
    others = 1.0 - torch.eye(means.shape[1], device=means.device)
    return (pushes * others).sum(dim=(1, 2)).mean()


def concentration_loss(deviations: Tensor) -> Tensor:
    """Gives the exponential of each heatmap's entropy as a Gaussian, 2 pi e s_row s_column, summed over landmarks.

    Args:
        deviations: N x L x 2; averaged over the N images.
    """
    return (2.0 * math.pi * math.e * deviations.prod(dim=-1)).sum(dim=1).mean()


class FullyConnected(nn.Module):
    """Linear layers with ReLU between them, after which nothing."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inside, outside) for inside, outside in pairwise(widths)])

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x widths[-1] for x: N x widths[0]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class LatentMapper(nn.Module):
    """Code of one domain -> code of the other: fully connected with ReLU, added to the code itself.

    Args:
        size: numbers in a code.
        width: of the two hidden layers.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.change = FullyConnected((size, width, width, size))

    def forward(self, code: Tensor) -> Tensor:
        """Gives N x size."""
        out: Tensor = code + self.change(code)
        return out


class LatentDiscriminator(nn.Module):
    """Code -> one score, as a list of one map, so that the adversarial losses take it."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layers = FullyConnected((size, width, width, 1))

    def forward(self, code: Tensor) -> list[Tensor]:
        """Gives a list of one N x 1 x 1 x 1 tensor of scores for code: N x size."""
        return [self.layers(code)[:, :, None, None]]
