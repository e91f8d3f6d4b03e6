"""Classic augmentation of a batch: small affine and elastic changes, contrast and noise, drawn anew for each image.

Written on whole batches because the classifiers here are so small that per-image transforms would cost more
than training does.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.random import on_device

ELASTIC_POINTS = 4


@dataclass(frozen=True)
class ClassicAugmentation:
    """Ranges of the drawn changes; each is uniform but for ``elastic``.

    Args:
        rotation_deg: largest turn to either side, in degrees.
        shear: largest horizontal shear, as a fraction of the height.
        scale: largest change of each side's length, as a fraction.
        shift: largest move, as a fraction of the side.
        contrast: largest change of contrast, as a fraction.
        noise: largest standard deviation of added noise, in units of [-1, 1].
        elastic: standard deviation (normal, not uniform) of how far each of 4 x 4 points is moved to either side and up
            or down, as a fraction of half the side; between them moves are interpolated. It comes last, so it smooths
            the noise too. After Simard, Steinkraus & Platt, ICDAR 2003, who smooth a move of every pixel.
    """

    rotation_deg: float = 12.0
    shear: float = 0.2
    scale: float = 0.15
    shift: float = 0.08
    contrast: float = 0.2
    noise: float = 0.05
    elastic: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Gives changed images of the same shape.

        Args:
            images: N x C x H x W in [-1, 1].
            generator: on the CPU.
        """
        count, device = len(images), images.device
        draw = on_device(torch.rand(count, 8, generator=generator) * 2.0 - 1.0, device)
        grid = F.affine_grid(
            self._matrices(draw, images.shape[2] / images.shape[3]), list(images.shape), align_corners=False
        )
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        contrast = 1.0 + self.contrast * draw[:, 6].view(-1, 1, 1, 1)
        deviation = self.noise * draw[:, 7].abs().view(-1, 1, 1, 1)
        noise = on_device(torch.randn(images.shape, generator=generator), device)
        changed = (moved * contrast + noise * deviation).clamp(-1.0, 1.0)
        return self._bent(changed, generator) if self.elastic > 0.0 else changed

    def _bent(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Gives the images with their inner points moved."""
        count, _, height, width = images.shape
        points = on_device(torch.randn(count, 2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator), images.device)
        moves = F.interpolate(self.elastic * points, (height, width), mode="bicubic", align_corners=True)
        still = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
        grid = F.affine_grid(still, list(images.shape), align_corners=False) + moves.permute(0, 2, 3, 1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _matrices(self, draw: Tensor, aspect: float) -> Tensor:
        """Gives N x 2 x 3 sampling matrices of N x 8 numbers in [-1, 1].

        Turns and shears are of pixels; the matrices are of coordinates in which either side has the length 2.

        Args:
            draw: N x 8.
            aspect: height by width.
        """
        angle = draw[:, 0] * (self.rotation_deg * math.pi / 180.0)
        cos, sin = angle.cos(), angle.sin()
        wide, high = 1.0 + self.scale * draw[:, 1], 1.0 + self.scale * draw[:, 2]
        shear = self.shear * draw[:, 3]
        first = torch.stack([cos / wide, (shear * cos - sin) / wide * aspect, 2.0 * self.shift * draw[:, 4]], dim=1)
        second = torch.stack([sin / high / aspect, (shear * sin + cos) / high, 2.0 * self.shift * draw[:, 5]], dim=1)
        return torch.stack([first, second], dim=1)
