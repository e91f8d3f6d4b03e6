"""What an adaptation is given, with the target's labels kept where only the score can reach them.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Task:
    """Labelled source images and unlabelled target images of one size, in memory.

    Args:
        source_images: N x C x H x W in [-1, 1].
        source_labels: N int64 classes.
        target_images: M x C x H x W in [-1, 1], best in random order (:meth:`shuffled`); there are no target labels
            here.
        classes: number of classes.
    """

    source_images: Tensor
    source_labels: Tensor
    target_images: Tensor
    classes: int

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
        self._images = uint8_to_model(load_in_memory(domain).images(range(len(domain))))

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

    Raises:
        LabelMissingError: the source has no labels.
        DomainError: channels or sizes differ.
    """
    check_compatible(source, target)
    labels = source.require_labels()
    source_images = _images_of(source)
    target_images = source_images if target is source else _images_of(target)
    return Task(source_images, labels, target_images, source.class_count)


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
