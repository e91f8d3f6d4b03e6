"""Halving and doubling of feature maps through a smoothing filter, so that strides do not alias.

Zhang, "Making convolutional networks shift-invariant again", ICML 2019, as CUT uses it (taesungp/contrastive-unpaired-
translation, models/networks.py, classes Downsample and Upsample; read, not copied). Fixed filters, no parameters.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.blocks import reflect_pad

HALVING_FILTER = (0.25, 0.5, 0.25)


class SmoothHalving(nn.Module):
    """Every second value, from the first, of maps filtered by (1, 2, 1) / 4 in both directions.

    N x C x H x W, sides of at least 2 -> N x C x ceil(H / 2) x ceil(W / 2).

    Args:
        border: "reflect", or "replicate" for repeated edges.
    """

    kernel: Tensor

    def __init__(self, border: Literal["reflect", "replicate"] = "reflect") -> None:
        super().__init__()
        self.border = border
        row = torch.tensor(HALVING_FILTER)
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the halved maps."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, -1, -1, -1)
        padded = reflect_pad(x, 1) if self.border == "reflect" else F.pad(x, (1, 1, 1, 1), mode=self.border)
        return F.conv2d(padded, kernel, stride=2, groups=channels)


def double_smoothly(x: Tensor) -> Tensor:
    """Gives N x C x 2H x 2W: zeros between the values of x, filtered by (1, 3, 3, 1) / 4 in both directions.

    With the border repeated this is bilinear interpolation between pixel centres.
    """
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
