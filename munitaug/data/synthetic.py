"""``synthetic-digits``: labelled digits rendered from printed fonts, as a source domain that needs no download.

Two protocols. ``print`` (grey): one digit, reduced to 8 x 8 exactly as UCI reduced its handwritten digits.
``numbers`` (RGB): strings of 1 to 3 digits on coloured backgrounds, 32 x 32, in the manner of the SynNumbers of
Ganin and Lempitsky (2015). Image i is a function of (protocol, seed, split, i) alone.

Floor 2: imports types, random, images and data; matplotlib (fonts) lazily, by way of glyphs.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from munitaug.data.backdrops import SIDE_PX, blur, draw_backdrop, draw_ink
from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.fit import fit_images
from munitaug.data.glyphs import CANVAS_PX, FONT_FILES, Typeset, draw_bend, render_glyphs
from munitaug.images import array_to_tensor
from munitaug.random import numpy_generator
from munitaug.types import DomainError

Protocol = Literal["print", "numbers"]
Split = Literal["train", "test"]

DIGIT_NAMES = tuple("0123456789")
INK_LEVELS = 16
DEFAULT_COUNTS: dict[tuple[str, str], int] = {
    ("print", "train"): 6000,
    ("print", "test"): 2000,
    ("numbers", "train"): 12000,
    ("numbers", "test"): 2000,
}

_BITMAP_PX, _CELLS = 32, 8
_MAX_SHIFT_PX = 10.0
_PROGRESS_FROM = 500

ByteArray = npt.NDArray[np.uint8]


class SyntheticDigits(ImageDomain):
    """Rendered digits; every item is drawn when it is asked for, and always the same.

    Args:
        protocol: ``print`` (1 channel, native 8 x 8) or ``numbers`` (3 channels, native 32 x 32).
        split: ``train`` or ``test``; the two share fonts and no image.
        count: number of images; ``None`` takes 6000 (print) or 12000 (numbers) for train, 2000 for test.
        size: height and width in pixels, antialiased bilinear as for the real digits; ``None`` keeps the native one.
        invert: exchanges dark and light.
        seed: another seed gives other images.
        name: for messages and provenance.

    Raises:
        DomainError: unknown protocol or split, or a count below 1.
    """

    def __init__(
        self,
        protocol: Protocol = "print",
        split: Split = "train",
        count: int | None = None,
        *,
        size: int | None = None,
        invert: bool = False,
        seed: int = 0,
        name: str = "synthetic-digits",
    ) -> None:
        if protocol not in get_args(Protocol) or split not in get_args(Split):
            raise DomainError(
                f'protocol must be "print" or "numbers" and split "train" or "test", got {protocol!r} and {split!r}'
            )
        if count is not None and count < 1:
            raise DomainError(f"{name}: count must be at least 1, got {count}")
        super().__init__(name, 1 if protocol == "print" else 3, DIGIT_NAMES)
        self.protocol: Protocol = protocol
        self.split: Split = split
        self.count = DEFAULT_COUNTS[protocol, split] if count is None else count
        self.size = size
        self.inverted = invert
        self.seed = seed

    def __len__(self) -> int:
        """Gives the number of images."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 C x size x size, digit) of one image.

        Raises:
            IndexError: the index is outside the domain.
            ImportError: matplotlib, which brings the fonts, is not installed.
        """
        native, digit = self._render(range(self.count)[index])
        return fit_images(native[None], channels=None, size=self.size, invert=self.inverted)[0], digit

    @property
    def labels(self) -> Tensor:
        """Gives the N int64 digits without rendering: the digit is the first draw of every image."""
        return torch.tensor([_draw_digit(self._generator(index)) for index in range(self.count)])

    def render_all(self) -> ArrayDomain:
        """Gives the same domain in memory, rendered once; a progress bar shows for more than 500 images.

        An image takes a millisecond or two, so there is no pool of workers to start and pay for.
        """
        quiet = True if self.count < _PROGRESS_FROM else None
        items = [self._render(index) for index in tqdm(range(self.count), desc=self.name, unit="image", disable=quiet)]
        images = fit_images(torch.stack([i for i, _ in items]), channels=None, size=self.size, invert=self.inverted)
        return ArrayDomain(self.name, images, torch.tensor([digit for _, digit in items]), self.class_names)

    def _generator(self, index: int) -> np.random.Generator:
        return numpy_generator("synthetic-digits", self.protocol, self.seed, self.split, index)

    def _render(self, index: int) -> tuple[Tensor, int]:
        rng = self._generator(index)
        digit = _draw_digit(rng)
        picture = render_print(digit, rng) if self.protocol == "print" else render_numbers(digit, rng)
        return array_to_tensor(picture), digit


def render_print(digit: int, rng: np.random.Generator) -> ByteArray:
    """Gives one printed digit as 8 x 8 ink counts, 0..16 spread over 0..255: ink light on dark."""
    typeset = _draw_typeset(rng, str(digit), 0)
    return counts_to_levels(bitmap_to_counts(_ink_to_bitmap(render_glyphs(typeset, draw_bend(rng)))))


def render_numbers(digit: int, rng: np.random.Generator) -> ByteArray:
    """Gives a string of 1 to 3 digits in colour, 32 x 32 x 3; ``digit`` is the one in the middle.

    The ink is box-reduced from 128 to 32 px before it is laid over the background, not after: equal where the
    background is one colour, and within its slow change over 4 px elsewhere, for a sixteenth of the work.
    """
    length = int(rng.choice(3, p=(0.5, 0.3, 0.2))) + 1
    centred = (0, int(rng.integers(2)), 1)[length - 1]
    neighbours = "".join(str(number) for number in rng.integers(10, size=length - 1))
    text = neighbours[:centred] + str(digit) + neighbours[centred:]
    ink = render_glyphs(_draw_typeset(rng, text, centred), draw_bend(rng, _MAX_SHIFT_PX))
    block = CANVAS_PX // SIDE_PX
    cover = ink.reshape(SIDE_PX, block, SIDE_PX, block).mean(axis=(1, 3))[:, :, None]
    backdrop = draw_backdrop(rng)
    picture = blur(backdrop + (draw_ink(rng, backdrop) - backdrop) * cover, float(rng.uniform(0.0, 1.2)))
    picture = picture + rng.standard_normal(picture.shape) * rng.uniform(0.0, 0.04)
    return np.asarray(np.rint(np.clip(picture, 0.0, 1.0) * 255.0), dtype=np.uint8)


def bitmap_to_counts(bitmap: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Gives 8 x 8 counts in 0..16 of the ink in each 4 x 4 block of a 32 x 32 bitmap, as UCI counted."""
    block = _BITMAP_PX // _CELLS
    return np.asarray(bitmap.reshape(_CELLS, block, _CELLS, block).sum(axis=(1, 3)), dtype=np.int64)


def counts_to_levels(counts: npt.NDArray[np.int64]) -> ByteArray:
    """Gives uint8 levels in [0, 255] of counts in 0..16; one scale for the printed and the real digits."""
    return np.asarray(np.rint(counts * (255.0 / INK_LEVELS)), dtype=np.uint8)


def _ink_to_bitmap(ink: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Gives the 32 x 32 bitmap of a 128 x 128 drawing, cut tightly and fitted with its proportions, centred."""
    inked = ink >= 0.5
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    assert len(rows) > 0
    cut = inked[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = _BITMAP_PX / max(cut.shape)
    height, width = (max(1, round(side * factor)) for side in cut.shape)
    small = Image.fromarray(cut.astype(np.uint8) * np.uint8(255)).resize((width, height), Image.Resampling.BOX)
    bitmap = np.zeros((_BITMAP_PX, _BITMAP_PX), dtype=np.bool_)
    top, left = (_BITMAP_PX - height) // 2, (_BITMAP_PX - width) // 2
    bitmap[top : top + height, left : left + width] = np.asarray(small) >= 128
    return bitmap


def _draw_digit(rng: np.random.Generator) -> int:
    return int(rng.integers(10))


def _draw_typeset(rng: np.random.Generator, text: str, centred: int) -> Typeset:
    return Typeset(
        text=text,
        centred=centred,
        font=int(rng.integers(len(FONT_FILES))),
        size_px=int(rng.integers(70, 112)),
        stroke_px=int(rng.integers(4)),
    )
