"""Images changed after random unlabelled target images, with nothing learnt: FDA, histograms, pixel statistics.

FDA (Yang & Soatto, CVPR 2020) and histogram matching are albumentations' transforms; pixel distribution adaptation is
ours in the place of albumentations', see :func:`match_pixels`. A batch holds source images and changed ones of the same
labels, half and half, under classic augmentation: plain styled training with the transform in the translator's place.

albumentations takes from 0.2 ms (grey) to 3 ms (FDA, RGB) per image and thread, more than training takes, so changed
images come from a pool of at most POOL_IMAGES, drawn once from random pairs of source and target images. In 1200 steps
of 64 images each is seen about nine times, under fresh classic augmentation; a data set of more images is not seen
whole in changed form (the unchanged half is drawn from all of it).

Settings are the library's, with probability 1, but for FDA: albumentations 2.0.8 swaps frequencies within
floor(beta * side) of a centre that it sets half a step before the mean's own place, so with its beta up to 0.1 nearly
nothing happens below 32 px: at 16 px the mean grey value stays that of the source in every draw. With up to 0.25 both
small and large swaps are drawn at all our sizes. It was not tuned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.conditions.base import Cell
from munitaug.adaptation import BatchOf, ClassicAugmentation, FitSettings, Task, fit
from munitaug.random import numpy_generator, seed_of, torch_generator

POOL_IMAGES = 8192
FDA_BETA = (0.0, 0.25)
PIXEL_SHARE = (0.25, 1.0)
"""albumentations' default range of how far pixel distributions are adapted."""

Pixels = NDArray[np.uint8]
"""H x W x C."""


class ReferenceTransform(Protocol):
    """A transform of albumentations that reads references from its call."""

    def __call__(self, *, image: Pixels, **references: list[Pixels]) -> dict[str, Pixels]: ...

    def set_random_seed(self, seed: int) -> None: ...


Adapt = Callable[[Pixels, Pixels], Pixels]
"""(source image, target image) -> the source image in the manner of the target image."""


def fda(cell: Cell) -> nn.Module:
    """Trains on source images beside copies with the low frequencies' amplitudes of target images."""
    return _beside(cell, through_albumentations("FDA", "fda_metadata", cell.seed, {"beta_limit": FDA_BETA}))


def histogram(cell: Cell) -> nn.Module:
    """Trains on source images beside copies with the histograms of target images."""
    return _beside(cell, through_albumentations("HistogramMatching", "hm_metadata", cell.seed, {}))


def pixel_distribution(cell: Cell) -> nn.Module:
    """Trains on source images beside copies with the channels' means and deviations of target images."""
    draws = numpy_generator(cell.seed, "pixel distribution")
    return _beside(cell, lambda image, reference: match_pixels(image, reference, float(draws.uniform(*PIXEL_SHARE))))


def _beside(cell: Cell, adapt: Adapt) -> nn.Module:
    pool = adapted_pool(cell.task, adapt, cell.settings.steps * cell.settings.batch_size, cell.seed)
    return fit(cell.new_classifier(), pooled_batches(cell.task, pool, cell.settings, cell.seed), cell.settings)


def through_albumentations(name: str, references_key: str, seed: int, options: dict[str, tuple[float, float]]) -> Adapt:
    """Gives a transform of albumentations whose draws are a function of the seed and of the calls so far.

    Args:
        name: of its class.
        references_key: under which it is given target images.
        seed: of its own generator; a pipeline would wipe it.
        options: that are not the defaults.

    Raises:
        ImportError: albumentations is missing.
    """
    os.environ.setdefault(
        "NO_ALBUMENTATIONS_UPDATE", "1"
    )  # importing it asks a server for its newest version otherwise
    try:
        import albumentations
    except ImportError as error:
        raise ImportError(
            f'albumentations is not installed, and {name} is its: pip install "munitaug[albumentations]"'
        ) from error
    transform: ReferenceTransform = getattr(albumentations, name)(**options, p=1.0)
    transform.set_random_seed(seed_of(seed, name) % 2**32)

    def adapt(image: Pixels, reference: Pixels) -> Pixels:
        return transform(image=image, **{references_key: [reference]})["image"]

    return adapt


def match_pixels(image: Pixels, reference: Pixels, share: float) -> Pixels:
    """Gives the image with each channel's mean and standard deviation moved to those of the reference.

    What albumentations documents for PixelDistributionAdaptation(transform_type="standard"). Version 2.0.8 of it
    computes in [0, 1] and then rounds to whole levels of 255, so that it only darkens images; hence this.

    Args:
        image: H x W x C.
        reference: the same channels.
        share: 0 keeps the image, 1 goes the whole way.
    """
    own, other = image.astype(np.float64), reference.astype(np.float64)
    deviation = own.std(axis=(0, 1))
    scale = other.std(axis=(0, 1)) / np.where(deviation > 0.0, deviation, 1.0)
    moved = np.clip((own - own.mean(axis=(0, 1))) * scale + other.mean(axis=(0, 1)), 0.0, 255.0)
    blended: Pixels = np.rint(own + share * (moved - own)).astype(np.uint8)
    return blended


def adapted_pool(task: Task, adapt: Adapt, wanted: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gives changed source images M x C x H x W in [-1, 1] and their M labels, on the task's device.

    Each comes from a source image and a target image of their own, both drawn at random.

    Args:
        task: labelled source, unlabelled target.
        adapt: the transform.
        wanted: M, if there are fewer than POOL_IMAGES.
        seed: decides the pairs.
    """
    count = min(wanted, POOL_IMAGES)
    generator = torch_generator(seed, "references")
    source = torch.randint(len(task.source_images), (count,), generator=generator)
    target = torch.randint(len(task.target_images), (count,), generator=generator)
    pairs = zip(_pixels(task.source_images[source]), _pixels(task.target_images[target]), strict=True)
    images = torch.from_numpy(np.stack([adapt(image, reference) for image, reference in pairs]))
    moved = images.movedim(3, 1).to(task.source_images.device).float() / 127.5 - 1.0
    return moved.contiguous(), task.source_labels[source]


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    """Gives N x H x W x C bytes of N x C x H x W images in [-1, 1]."""
    levels = ((images.cpu() + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)
    pixels: NDArray[np.uint8] = np.ascontiguousarray(levels.movedim(1, 3).numpy())
    return pixels


def pooled_batches(task: Task, pool: tuple[Tensor, Tensor], settings: FitSettings, seed: int) -> BatchOf:
    """Gives source images and as many of the pool, with their labels, under classic augmentation."""
    augmentation = ClassicAugmentation()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed, "styled", step)  # the source images of plain styled training
        index = torch.randint(len(task.source_images), (settings.batch_size,), generator=generator)
        place = torch.randint(len(pool[1]), (settings.batch_size,), generator=generator)
        images = torch.cat([task.source_images[index], pool[0][place]])
        return augmentation(images, generator), torch.cat([task.source_labels[index], pool[1][place]])

    return batch
