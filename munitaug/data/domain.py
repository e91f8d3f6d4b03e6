"""What a domain is: uint8 images of one size and channel count, with or without labels.

Floor 2: imports types and images.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from munitaug.types import UNLABELLED, DomainError, LabelMissingError


class ImageDomain(Dataset[tuple[Tensor, int]], ABC):
    """A data set of images of one kind; item i is (uint8 C x H x W in [0, 255], class or -1), and always the same.

    What changes items at random belongs behind a domain: a run knows its domains again by them.

    Args:
        name: as the user wrote it, for messages and provenance.
        channels: image channels, 1 to 4.
        class_names: names of the classes in label order; empty when unlabelled.
    """

    inverted: bool = False
    """Dark and light were exchanged in reading. A translator wants the polarity that it was trained with."""

    def __init__(self, name: str, channels: int, class_names: tuple[str, ...] = ()) -> None:
        self.name = name
        self.channels = channels
        self.class_names = class_names

    @abstractmethod
    def __len__(self) -> int:
        """Gives the number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 C x H x W, class or -1) of one image."""

    @property
    @abstractmethod
    def labels(self) -> Tensor | None:
        """Gives the N int64 classes without decoding images, or ``None`` when unlabelled."""

    def images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Gives uint8 N x C x H x W of the images at these indices.

        Raises:
            DomainError: the images differ in size.
        """
        items = [self.checked_image(int(index)) for index in indices]
        if not items:
            return torch.zeros(0, self.channels, 0, 0, dtype=torch.uint8)
        shapes = {tuple(item.shape) for item in items}
        if len(shapes) > 1:
            raise DomainError(
                f"{self.name}: images of different sizes cannot form one batch ({sorted(shapes)[:3]} as C, H, W); "
                "give a size, for example --size 64"
            )
        return torch.stack(items)

    def fingerprint(self, *, labels: bool = True) -> str:
        """Gives the SHA-256 of the first image, the last image and all labels: tells most changes of a data set.

        Args:
            labels: include them.
        """
        digest = hashlib.sha256()
        for index in (0, len(self) - 1):
            image = self.checked_image(index)
            digest.update(f"{tuple(image.shape)}".encode())
            digest.update(image.contiguous().numpy().tobytes())
        known = self.checked_labels() if labels else None
        if known is not None:
            digest.update(known.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def checked_image(self, index: int) -> Tensor:
        """Gives uint8 C x H x W of one image; a class of the user's own may have given something else.

        Raises:
            TypeError: it has.
        """
        item = self[index]
        image = item[0] if isinstance(item, tuple | list) and item else item
        if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == self.channels:
            return image
        found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise TypeError(
            f"{self.name}: item {index} must be (uint8 tensor {self.channels} x H x W in [0, 255], class or -1), got "
            f"{found} for its image; of a PIL image torchvision.transforms.v2.functional.pil_to_tensor makes one"
        )

    def checked_labels(self) -> Tensor | None:
        """Gives the labels as N int64, or ``None``, whatever a class of the user's own has for them.

        Raises:
            DomainError: they are not one whole number for each image.
        """
        labels = self.labels
        return None if labels is None else _whole_labels(self.name, labels, len(self))

    def require_labels(self) -> Tensor:
        """Gives the labels.

        Raises:
            LabelMissingError: the domain has none.
            DomainError: they are not one whole number for each image.
        """
        labels = self.checked_labels()
        if labels is None or not self.is_labelled:
            raise LabelMissingError(
                f"{self.name} has no labels, but they are needed here; use a folder with one sub-folder per class"
            )
        return labels

    @property
    def is_labelled(self) -> bool:
        """Says whether every image has a label."""
        labels = self.checked_labels()
        return labels is not None and not bool((labels == UNLABELLED).any())

    @property
    def class_count(self) -> int:
        """Gives the number of classes that labels are of, 0 .. class_count - 1.

        Raises:
            LabelMissingError: the domain has no labels.
        """
        return int(self.require_labels().max()) + 1


class ArrayDomain(ImageDomain):
    """A domain held in memory, decoded once.

    Args:
        name: for messages and provenance.
        images: uint8 N x C x H x W in [0, 255].
        labels: N classes, whole numbers, or ``None``.
        class_names: names of the classes in label order.

    Raises:
        DomainError: no image, or labels that are not one whole number for each image.
        TypeError: images are not uint8.
    """

    def __init__(
        self, name: str, images: Tensor, labels: Tensor | None = None, class_names: tuple[str, ...] = ()
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise TypeError(f"{name}: images must be uint8 N x C x H x W, got {images.dtype} {tuple(images.shape)}")
        if len(images) == 0:
            raise DomainError(f"{name} holds no image")
        super().__init__(name, images.shape[1], class_names)
        self._images = images
        self._labels = None if labels is None else _whole_labels(name, labels, len(images))

    def __len__(self) -> int:
        """Gives the number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 C x H x W, class or -1) of one image."""
        return self._images[index], UNLABELLED if self._labels is None else int(self._labels[index])

    @property
    def labels(self) -> Tensor | None:
        """Gives the N int64 classes, or ``None``."""
        return self._labels

    def images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Gives uint8 N x C x H x W of the images at these indices."""
        return self._images[torch.as_tensor(indices, dtype=torch.int64)]


def load_in_memory(domain: ImageDomain) -> ArrayDomain:
    """Gives the same domain with every image decoded into memory; itself if it already is.

    Raises:
        DomainError: the images differ in size.
    """
    if isinstance(domain, ArrayDomain):
        return domain
    return ArrayDomain(domain.name, domain.images(range(len(domain))), domain.labels, domain.class_names)


def check_classes(source: ImageDomain, other: ImageDomain) -> None:
    """Refuses domains whose label numbers mean different classes.

    Raises:
        DomainError: both name their classes, and otherwise.
    """
    check_class_names(source, other.name, other.class_names)


def check_class_names(source: ImageDomain, name: str, class_names: Sequence[str]) -> None:
    """Refuses classes that are not those of the source's labels, number by number.

    Args:
        source: labelled images.
        name: of whatever has the other classes, for the message.
        class_names: in label order; none says nothing.

    Raises:
        DomainError: both name their classes, and otherwise.
    """
    own, others = tuple(source.class_names), tuple(class_names)
    if not own or not others or own == others:
        return
    differing = sorted(set(own) ^ set(others))
    if not differing:
        raise DomainError(
            f"{source.name} and {name} have the same classes in another order ({', '.join(own[:5])} and "
            f"{', '.join(others[:5])}), so that their label numbers differ; name the folders alike"
        )
    raise DomainError(
        f"{source.name} has {len(own)} classes and {name} has {len(others)}, and they are not the same "
        f"({', '.join(differing[:5])}); give both the same class folders"
    )


def _whole_labels(name: str, labels: Tensor, count: int) -> Tensor:
    """Gives labels as int64.

    Raises:
        DomainError: they are not one whole number for each of ``count`` images.
    """
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise DomainError(
            f"{name}: labels must be N whole numbers, the classes, got {labels.dtype} {tuple(labels.shape)}; "
            "of one-hot rows take labels.argmax(1)"
        )
    if len(labels) != count:
        raise DomainError(f"{name} holds {count} images, but {len(labels)} labels")
    if len(labels) and int(labels.min()) < UNLABELLED:
        raise DomainError(
            f"{name}: labels must be classes from 0 on, or {UNLABELLED} where none is known, got {int(labels.min())}"
        )
    return labels.to(torch.int64)
