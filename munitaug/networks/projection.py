"""CUT's head: features at a few positions of each map -> unit vectors that can be compared.

Park et al. 2020, section 3.2; after taesungp/contrastive-unpaired-translation, models/networks.py, class PatchSampleF
(read, not copied). There, the weights come to be at the first forward pass; here, with the network.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEAST_LENGTH = 1e-7


def draw_positions(sizes: Sequence[int], count: int, generator: torch.Generator) -> list[Tensor]:
    """Gives for each map up to ``count`` different positions, row by row from 0, the same for all its images.

    Args:
        sizes: h * w of each map.
        count: positions in a map; all of a smaller one.
        generator: decides; on the CPU.
    """
    return [torch.randperm(size, generator=generator)[:count] for size in sizes]


class PatchProjection(nn.Module):
    """One MLP with one hidden layer for each map: N x F x h x w -> N x positions x width, of length 1.

    Args:
        feature_widths: channels of each map.
        width: of the hidden layer and of the vectors.
    """

    def __init__(self, feature_widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            [nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width)) for size in feature_widths]
        )

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Gives for each map float32 N x P x width vectors of the features at its P positions."""
        vectors = []
        for head, features, chosen in zip(self.heads, maps, positions, strict=True):
            projected = head(features.flatten(2)[:, :, chosen].transpose(1, 2)).float()
            vectors.append(projected / (projected.norm(dim=2, keepdim=True) + LEAST_LENGTH))
        return vectors
