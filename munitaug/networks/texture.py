"""Texture as Gram matrices of features, and features that need no weights file.

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.precision import full_precision

FILTERS, SIDE = 64, 5


class RandomFeatures(nn.Module):
    """One layer of fixed random filters with ReLU: N x C x H x W in [-1, 1] -> N x 64 x H x W.

    Gram matrices of such features describe textures well (Ustyuzhaninov et al., "What does it take to generate natural
    textures?", ICLR 2017), on small and grey images too, where VGG's weights say little.

    Args:
        channels: image channels.
        generator: decides the filters.
    """

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        filters = torch.randn(FILTERS, channels, SIDE, SIDE, generator=generator)
        self.register_buffer("filters", filters / filters.flatten(1).norm(dim=1)[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Gives the features."""
        padded = F.pad(x, (SIDE // 2,) * 4, mode="reflect")
        return F.relu(F.conv2d(padded, self.get_buffer("filters")))


def gram_matrices(features: Tensor) -> Tensor:
    """Gives N x F x F: mean over positions of the products of every two features (Gatys et al. 2016, eq. 3).

    Args:
        features: N x F x h x w.
    """
    flat = features.float().flatten(2)
    with full_precision(flat.device):
        return flat @ flat.transpose(1, 2) / flat.shape[2]
