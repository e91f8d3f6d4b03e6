"""The real images nearest to translations: does a generator copy, and does it land in the domain?

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from munitaug.data.domain import ImageDomain
from munitaug.images import images_to_model, match_channels, resize_uint8
from munitaug.random import random_permutation

MOST_REAL = 5000
PROBED = 200
BATCH = 250

Describe = Callable[[Tensor], Tensor]
"""uint8 N x C x H x W -> N x D numbers whose Euclidean distance counts."""


class Nearest(NamedTuple):
    """The nearest real image of each translation.

    Args:
        images: uint8 N x C x H x W, of the translations' size.
        median: of the distances from translations to these.
        median_of_real: of the distances from 200 real images (or all) to their nearest other real image.
    """

    images: Tensor
    median: float
    median_of_real: float


@torch.no_grad()
def nearest_real(
    translated: Tensor, real: ImageDomain, describe: Describe, *, seed: int = 0, progress: bool = False
) -> Nearest:
    """Gives the nearest real images of translations.

    Where the two medians are alike, translations lie among the real images as these do among themselves. A much
    smaller first one speaks for copies, a much larger one for translations outside of the domain.

    Args:
        translated: uint8 N x C x H x W.
        real: at least two images; 5000 drawn ones where there are more.
        describe: what distances are of, for example :func:`pixels`.
        seed: of the drawing.
        progress: show a progress bar.

    Raises:
        ValueError: fewer than two real images, or of another size than translations that are not square.
    """
    if len(real) < 2:
        raise ValueError(f"nearest images need at least 2 real images, {real.name} has {len(real)}")
    places = random_permutation(len(real), seed, "nearest")[:MOST_REAL]
    like = _Like(*translated.shape[1:])
    probe = places[:PROBED]
    queries = torch.cat([describe(translated), describe(like(real.images(probe)))])
    itself = torch.cat([torch.full((len(translated),), -1), probe])
    best = torch.full((len(queries),), torch.inf)
    found = torch.zeros(len(queries), dtype=torch.int64)
    for part in tqdm(places.split(BATCH), desc="nearest real images", unit="batch", disable=not progress, leave=False):
        distance = torch.cdist(queries, describe(like(real.images(part))))
        distance[itself[:, None] == part] = torch.inf
        nearest, column = distance.min(dim=1)
        closer = nearest < best
        best[closer], found[closer] = nearest[closer], part[column[closer]]
    count = len(translated)
    images = like(real.images(found[:count]))
    return Nearest(images, float(best[:count].median()), float(best[count:].median()))


def pixels(images: Tensor) -> Tensor:
    """Gives N x (C * H * W) numbers in [-1, 1] of uint8 images."""
    return images_to_model(images).flatten(1)


class _Like(NamedTuple):
    """Brings real images to the channels and the size of translations."""

    channels: int
    height: int
    width: int

    def __call__(self, images: Tensor) -> Tensor:
        matched = images_with_channels(images, self.channels)
        if matched.shape[-2:] == (self.height, self.width):
            return matched
        if self.height != self.width:
            raise ValueError(
                f"real images are {images.shape[-1]} x {images.shape[-2]} px, translations {self.width} x "
                f"{self.height}; nearest images need one size: give a size, for example --size 64"
            )
        return resize_uint8(matched, self.height)


def images_with_channels(images: Tensor, channels: int) -> Tensor:
    """Gives uint8 N x ``channels`` x H x W of uint8 images that are grey or RGB."""
    return match_channels(images.float(), channels).round().to(torch.uint8)
