"""What an adaptation is given, with the target's labels kept where only the score can reach them.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from munitaug.data.domain import ImageDomain, load_in_memory
from munitaug.data.loader import check_compatible
from munitaug.images import uint8_to_model
from munitaug.networks.modes import device_of, evaluation_mode
from munitaug.random import on_device, random_permutation
from munitaug.types import LabelMissingError

SCORE_BATCH = 500
BEYOND = 1.05
"""Resizing may make values a little outside [-1, 1]."""


@dataclass(frozen=True)
class Task:
    """Labelled source images and unlabelled target images of one size, in memory.

    Args:
        source_images: N x C x H x W in [-1, 1].
        source_labels: N int64 classes.
        target_images: M x C x H x W in [-1, 1], best in random order (:meth:`shuffled`); there are no target labels
            here.
        classes: number of classes.

    Values are looked at on the CPU only, where a GPU would have to be waited for; images of [0, 1] are warned of.

    Raises:
        TypeError: images that are not floating, or labels that are not whole numbers.
        ValueError: no images, of differing channels or sizes, not in [-1, 1] or not finite; labels of another number,
            or that are none of the classes.
    """

    source_images: Tensor
    source_labels: Tensor
    target_images: Tensor
    classes: int

    def __post_init__(self) -> None:
        for what, images in (("source_images", self.source_images), ("target_images", self.target_images)):
            _check_images(what, images)
        if self.source_images.shape[1:] != self.target_images.shape[1:]:
            source, target = (tuple(each.shape[1:]) for each in (self.source_images, self.target_images))
            raise ValueError(f"source and target images must be alike in C x H x W, got {source} and {target}")
        _check_labels(self.source_labels, len(self.source_images), self.classes)

    def to(self, device: str | torch.device) -> Task:
        """Gives the same task with its images and labels on a device."""
        source, labels, target = (
            each.to(device) for each in (self.source_images, self.source_labels, self.target_images)
        )
        return Task(source, labels, target, self.classes)

    def shuffled(self) -> Task:
        """Gives the same task with its target images in a random order, always the same one.

        A folder lists its images class by class. What looks at the first of them (:func:`choose`), or takes them in
        turn (:func:`estimate_norms`), would see some classes alone.
        """
        order = random_permutation(len(self.target_images), 0, "target images")
        return replace(self, target_images=self.target_images[order.to(self.device)])

    def draw_labelled(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Gives source images and their labels, drawn with replacement by a generator on the CPU."""
        index = on_device(torch.randint(len(self.source_images), (count,), generator=generator), self.device)
        return self.source_images[index], self.source_labels[index]

    def draw_unlabelled(self, count: int, generator: torch.Generator) -> Tensor:
        """Gives target images, drawn with replacement by a generator on the CPU."""
        index = torch.randint(len(self.target_images), (count,), generator=generator)
        return self.target_images[on_device(index, self.device)]

    @property
    def device(self) -> torch.device:
        """Gives the device that images and labels are on."""
        return self.source_images.device

    @property
    def channels(self) -> int:
        """Gives the image channels."""
        return self.source_images.shape[1]


class Scorer:
    """Holds the labelled target test set and answers only how many a classifier gets right.

    Args:
        domain: labelled target test images.

    Raises:
        LabelMissingError: an image has no label.
    """

    def __init__(self, domain: ImageDomain) -> None:
        self._labels = domain.require_labels()
        self._images = _images_of(domain)

    def __len__(self) -> int:
        """Gives the number of test images."""
        return len(self._labels)

    def accuracy_percent(self, classifier: nn.Module) -> float:
        """Gives the accuracy on the target test set in percent, 0 to 100."""
        return 100.0 * float((predict(classifier, self._images) == self._labels).float().mean())


@torch.no_grad()
def predict(classifier: nn.Module, images: Tensor) -> Tensor:
    """Gives the N int64 predicted classes of images: N x C x H x W in [-1, 1], in evaluation mode."""
    device = device_of(classifier)
    with evaluation_mode(classifier):
        return torch.cat([classifier(part.to(device)).argmax(dim=1).cpu() for part in images.split(SCORE_BATCH)])


def make_task(source: ImageDomain, target: ImageDomain) -> Task:
    """Gives the task of a labelled source and a target whose labels, if any, are left behind.

    Args:
        source: labelled images, uint8 of one size; all are decoded into memory.
        target: images of that size and number of channels, in the order that the task has them in.

    Raises:
        LabelMissingError: the source has no labels.
        DomainError: channels or sizes differ.
    """
    check_compatible(source, target)
    labels = source.require_labels()
    source_images = _images_of(source)
    target_images = source_images if target is source else _images_of(target)
    return Task(source_images, labels, target_images, source.class_count)


def _check_images(what: str, images: Tensor) -> None:
    if not images.is_floating_point():
        raise TypeError(
            f"{what} must be floating in [-1, 1], got {images.dtype}; of uint8 images take images.float() / 127.5 - 1"
        )
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"{what} must be N x C x H x W with N at least 1, got {tuple(images.shape)}")
    if images.device.type != "cpu":
        return
    low, high = (float(end) for end in images.aminmax())
    if not (low >= -BEYOND and high <= BEYOND):  # so that NaN is refused, too
        raise ValueError(
            f"{what} must be in [-1, 1], got values from {low:.4g} to {high:.4g}; "
            + ("look at what computes them" if low != low else "of [0, 255] take images / 127.5 - 1")
        )
    if low >= 0.0 and high > 0.0:
        warnings.warn(
            f"{what} have no value below 0, but [-1, 1] is wanted, black being -1; of [0, 1] take images * 2 - 1",
            stacklevel=4,
        )


def _check_labels(labels: Tensor, count: int, classes: int) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"source_labels must be whole numbers, the classes, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(f"source_labels must be one class for each of {count} images, got {tuple(labels.shape)}")
    if labels.device.type == "cpu" and not bool(((labels >= 0) & (labels < classes)).all()):
        low, high = (int(end) for end in labels.aminmax())
        raise ValueError(f"source_labels must be 0 to {classes - 1} of {classes} classes, got {low} to {high}")


def _images_of(domain: ImageDomain) -> Tensor:
    return uint8_to_model(load_in_memory(domain).images(range(len(domain))))


def make_oracle_task(target: ImageDomain) -> Task:
    """Gives the task of someone who has the target's training labels: an upper mark, never a method.

    Raises:
        LabelMissingError: the target's training images have no labels.
    """
    if not target.is_labelled:
        raise LabelMissingError(f"{target.name} has no labels, so there is no oracle; leave that condition out")
    return make_task(target, target)
