"""Translation as a data augmentation: thin front ends over one kernel.

``MUNITTransform`` here is the torchvision v2 one. The albumentations one is
``munitaug.transforms.albumentations.MUNITTransform``; it is not imported here, because albumentations is an
optional package and looks for updates on the network when it is imported.

Floor 6: imports checkpoint and everything below it.
"""

from __future__ import annotations

from munitaug.transforms.batch import MUNITBatchTransform
from munitaug.transforms.dataset import VariantDataset, variant_collate
from munitaug.transforms.forks import one_thread_after_fork
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.loader import AugmentingLoader
from munitaug.transforms.torchvision import MUNITTransform

__all__ = [
    "AugmentingLoader",
    "LabelGuard",
    "MUNITBatchTransform",
    "MUNITTransform",
    "VariantDataset",
    "variant_collate",
]

one_thread_after_fork()
