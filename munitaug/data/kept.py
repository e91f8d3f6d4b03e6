"""Images decoded once and kept as bytes, where all of them fit.

Floor 2: imports types and data.
"""

from __future__ import annotations

import mmap
from math import prod
from typing import Any

import torch
from torch import Tensor

from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.types import UNLABELLED


class KeptDomain(ImageDomain):
    """The same domain, whose images are decoded when first asked for and come from memory from then on.

    The memory is shared with processes forked from this one, such as a DataLoader's workers: what one decodes, all
    have. Where processes are not forked but begin anew, as on Windows and macOS, each decodes again, as without this.

    Args:
        domain: of images of one size.
        shape: C, H, W of each.
    """

    def __init__(self, domain: ImageDomain, shape: tuple[int, int, int]) -> None:
        super().__init__(domain.name, domain.channels, domain.class_names)
        self._domain = domain
        self._kept: Tensor | None = _shared_bytes(len(domain), *shape)
        self._there: Tensor | None = _shared_bytes(len(domain))

    def __len__(self) -> int:
        """Gives the number of images."""
        return len(self._domain)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 C x H x W, class or -1) of one image, which is the caller's own."""
        if self._kept is None or self._there is None:
            return self._domain[index]
        labels = self.labels
        if not self._there[index]:
            image, label = self._domain[index]
            if image.dtype != torch.uint8 or image.shape != self._kept.shape[1:]:
                return image, label  # not what a domain should give; whoever asked will say so
            self._kept[index] = image
            self._there[index] = 1  # last: another process that sees it finds the image whole
        return self._kept[index].clone(), UNLABELLED if labels is None else int(labels[index])

    @property
    def labels(self) -> Tensor | None:
        """Gives the N int64 classes, or ``None`` when unlabelled."""
        return self._domain.labels

    def __getstate__(self) -> dict[str, Any]:
        """Gives what a process that was not forked gets: all but the memory."""
        return self.__dict__ | {"_kept": None, "_there": None}


def keep_decoded(domain: ImageDomain, limit: int) -> ImageDomain:
    """Gives the domain with its images kept in memory, if they need at most ``limit`` bytes; else the domain itself.

    It is given back as it is, too, when its images are in memory already or differ in size.
    """
    if isinstance(domain, ArrayDomain | KeptDomain) or (isinstance(domain, FolderDomain) and len(domain.sizes) > 1):
        return domain
    shape = tuple(domain.checked_image(0).shape)
    if len(domain) * (prod(shape) + 1) > limit:
        return domain
    return KeptDomain(domain, (shape[0], shape[1], shape[2]))


def _shared_bytes(*shape: int) -> Tensor:
    """Gives zeros in memory that forked processes share, and of which untouched pages take no room.

    Not torch's shared memory, which lies in /dev/shm: containers make that small.
    """
    return torch.frombuffer(mmap.mmap(-1, prod(shape)), dtype=torch.uint8).view(shape)
