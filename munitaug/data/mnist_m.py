"""MNIST-M: MNIST's digits over crops of photographs, made here from a folder of photographs.

Ganin & Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015, section 4: a crop of a photograph
of BSDS500, drawn at random, is the background, and the image is |background - digit| per channel, so that a stroke
inverts what lies below it. Image i is a function of (seed, split, i), the digit and the photographs.

Floor 2: imports types, random and data; PIL.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from munitaug.data.decode import UnreadableError, UnsuitableError, decode_file, match_mode
from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.fit import fit_images
from munitaug.data.folder import EXTENSIONS
from munitaug.data.synthetic import Split
from munitaug.images import array_to_tensor
from munitaug.random import numpy_generator
from munitaug.types import DomainError

LONGEST_SIDE_PX = 481
"""Of a photograph of BSDS500; larger photographs are shrunk to it, so that a crop shows as much detail."""
MOST_PHOTOGRAPHS = 500
"""As many as BSDS500 has; of a larger folder this many are taken, evenly spaced in the order of their names."""
_PROGRESS_FROM = 5000


class MnistM(ImageDomain):
    """Digits over photographs; every item is blended when it is asked for, and always the same.

    Args:
        digits: grey images of one size, light strokes on black, with or without labels.
        photographs: a folder, read with its sub-folders; every photograph at least as large as a digit.
        split: ``train`` or ``test``; decides the crops and nothing else (both draw from all photographs, as published).
        size: height and width in pixels of the result, antialiased bilinear; ``None`` keeps those of the digits.
        seed: another seed draws other crops.

    Raises:
        DomainError: the digits are not grey, or the folder is missing, empty, or holds a broken or too small file.
    """

    def __init__(
        self,
        digits: ImageDomain,
        photographs: str | Path,
        split: Split = "train",
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        if digits.channels != 1:
            raise DomainError(f"mnist-m is made of grey digits, but {digits.name} has {digits.channels} channels")
        super().__init__(f"mnist-m:{split}", 3, digits.class_names)
        self._digits = digits
        self.split: Split = split
        self.size = size
        self.seed = seed
        self._photographs = read_photographs(Path(photographs), tuple(digits[0][0].shape[1:]))

    def __len__(self) -> int:
        """Gives the number of images."""
        return len(self._digits)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 3 x size x size, digit or -1) of one image.

        Raises:
            IndexError: the index is outside the domain.
        """
        position = range(len(self))[index]
        digit, label = self._digits[position]
        return fit_images(self._blend(position, digit)[None], channels=None, size=self.size, invert=False)[0], label

    @property
    def labels(self) -> Tensor | None:
        """Gives the classes of the digits, or ``None``."""
        return self._digits.labels

    def render_all(self) -> ArrayDomain:
        """Gives the same domain in memory; a progress bar shows for more than 5000 images."""
        quiet = True if len(self) < _PROGRESS_FROM else None
        positions = tqdm(range(len(self)), desc=self.name, unit="image", disable=quiet)
        images = torch.stack([self._blend(position, self._digits[position][0]) for position in positions])
        fitted = fit_images(images, channels=None, size=self.size, invert=False)
        return ArrayDomain(self.name, fitted, self.labels, self.class_names)

    def _blend(self, position: int, digit: Tensor) -> Tensor:
        """Gives uint8 3 x H x W of one digit, uint8 1 x H x W."""
        rng = numpy_generator("mnist-m", self.seed, self.split, position)
        photograph = self._photographs[int(rng.integers(len(self._photographs)))]
        height, width = digit.shape[1:]
        top = int(rng.integers(photograph.shape[1] - height + 1))
        left = int(rng.integers(photograph.shape[2] - width + 1))
        return blend(photograph[:, top : top + height, left : left + width], digit)


def blend(background: Tensor, digit: Tensor) -> Tensor:
    """Gives |background - digit| per channel, uint8 3 x H x W.

    Args:
        background: uint8 3 x H x W.
        digit: uint8 1 x H x W.
    """
    return (background.to(torch.int16) - digit.to(torch.int16)).abs_().to(torch.uint8)


def read_photographs(folder: Path, smallest: tuple[int, ...]) -> list[Tensor]:
    """Gives photographs of a folder and its sub-folders, uint8 3 x H x W, no side over 481 px, by name.

    Args:
        folder: of image files; hidden ones are ignored.
        smallest: (height, width) in pixels that each must have at least.

    Raises:
        DomainError: there is no such folder or no image in it, or one is broken or too small.
    """
    if not folder.is_dir():
        raise DomainError(f"{folder} is no folder of photographs; mnist-m needs one (published: BSDS500)")
    shown = (file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
    files = sorted(file for file in shown if not any(p.startswith(".") for p in file.relative_to(folder).parts))
    if not files:
        raise DomainError(f"{folder} holds no photograph; mnist-m needs image files such as .jpg or .png")
    if len(files) > MOST_PHOTOGRAPHS:
        files = [files[int(place)] for place in np.linspace(0, len(files) - 1, MOST_PHOTOGRAPHS)]
    return [_read_photograph(file, smallest) for file in files]


def _read_photograph(file: Path, smallest: tuple[int, ...]) -> Tensor:
    try:
        image = match_mode(decode_file(file), 3)
    except (UnreadableError, UnsuitableError) as error:
        raise DomainError(f"{file} cannot be used as a background: {error}; remove it") from error
    image.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.BOX)
    if image.height < smallest[0] or image.width < smallest[1]:
        raise DomainError(
            f"{file} is {image.width} x {image.height} px (width x height) after shrinking, but a background needs "
            f"{smallest[1]} x {smallest[0]}; remove it"
        )
    return array_to_tensor(np.asarray(image))
