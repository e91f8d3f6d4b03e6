"""The real digit domains, read from files that are already on the disk: mnist, usps, svhn, digits.

Nothing is downloaded and nothing is written, so the data folder may be read-only. torchvision's own classes are
not used: they want MNIST unpacked beside its archives, and read USPS only in one of its two common forms.

Floor 2: imports types and data; scipy and scikit-learn lazily.
"""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from munitaug.data.domain import ArrayDomain
from munitaug.data.fit import fit_images
from munitaug.data.synthetic import DIGIT_NAMES, Split, counts_to_levels
from munitaug.types import DomainError

DigitsName = Literal["mnist", "usps", "svhn", "digits"]

DIGITS_TRAIN = 1000
"""The first 1000 of scikit-learn's 1797 digits, after ``numpy.random.RandomState(0).permutation(1797)``,
are ``digits:train``; the other 797 are ``digits:test``."""

_IDX_UINT8 = 8
_MOST_BYTES = 2**31
"""No digit data set is larger when it is unpacked; a small file that claims to be is meant to fill the memory."""
_EXTRA = 'pip install "munitaug[benchmarks]"'


class LabelledImages(NamedTuple):
    """Native images (uint8 N x C x H x W) and their N int64 digits."""

    images: Tensor
    labels: Tensor


def load_digits_domain(
    name: DigitsName,
    split: Split,
    data_root: Path,
    *,
    channels: int | None = None,
    size: int | None = None,
    invert: bool = False,
    count: int | None = None,
) -> ArrayDomain:
    """Gives one real digit domain in memory, labels 0..9.

    Args:
        name: mnist (28 x 28 grey), usps (16 x 16 grey), svhn (32 x 32 RGB) or digits (8 x 8 grey).
        split: the published ``train`` or ``test`` part; for digits see :data:`DIGITS_TRAIN`.
        data_root: folder that holds the files; digits come with scikit-learn and need none.
        channels: 1 or 3; ``None`` keeps the native channels.
        size: height and width in pixels, antialiased bilinear; ``None`` keeps the native size.
        invert: exchanges dark and light.
        count: only the first ``count`` images; ``None`` takes all.

    Raises:
        DomainError: a file is missing or is not what its name promises.
        ImportError: the package that reads this domain is not installed.
    """
    native = _READERS[name](Path(data_root), split)
    images = fit_images(native.images[:count], channels=channels, size=size, invert=invert)
    return ArrayDomain(f"{name}:{split}", images, native.labels[:count], DIGIT_NAMES)


def read_mnist(data_root: Path, split: Split) -> LabelledImages:
    """Gives MNIST of its four IDX files, packed (.gz) or not, in ``MNIST/raw`` or directly in the folder."""
    stem = "train" if split == "train" else "t10k"
    names = f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"
    files = [_find(data_root, "mnist", split, _idx_places(name)) for name in names]
    images, labels = read_idx(files[0]), read_idx(files[1])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DomainError(
            f"{files[0]} holds {images.shape} and {files[1]} {labels.shape}; expected N x 28 x 28 images and N labels"
        )
    return LabelledImages(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))


def read_idx(file: Path) -> npt.NDArray[np.uint8]:
    """Gives the array of an IDX file of bytes, unpacked if the name ends in .gz.

    Raises:
        DomainError: the file is damaged, too large, or holds another type.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DomainError(f"{file} cannot be unpacked ({error}); fetch it again") from error
    _refuse_bomb(file, len(content))
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    if content[:3] != bytes((0, 0, _IDX_UINT8)) or len(content) < start:
        raise DomainError(f"{file} is not an IDX file of bytes; fetch it again")
    shape = tuple(int(side) for side in np.frombuffer(content, ">u4", axes, offset=4))
    if len(content) - start != math.prod(shape):
        raise DomainError(f"{file} should hold {shape} bytes, but holds {len(content) - start}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def read_usps(data_root: Path, split: Split) -> LabelledImages:
    """Gives USPS (7291 train, 2007 test) of ``usps.h5``, or of libsvm's ``usps.bz2`` and ``usps.t.bz2``.

    Both hold the same digits in the same order, but usps.h5, which is common on the web and preferred if both are
    there, is sharpened: strokes are nearly black and white (correlation with libsvm's pixels about 0.96). Scores on
    the two are not comparable. Levels are rounded to the nearest, where torchvision cuts them off.
    """
    packed = "usps.bz2" if split == "train" else "usps.t.bz2"
    file = _find(data_root, "usps", split, ("usps.h5", packed, f"USPS/{packed}"))
    intensity, labels = _read_usps_h5(file, split) if file.suffix == ".h5" else _read_libsvm(file)
    levels = np.rint(intensity * 255.0).clip(0.0, 255.0).astype(np.uint8).reshape(-1, 1, 16, 16)
    return LabelledImages(torch.from_numpy(levels), torch.from_numpy(labels.astype(np.int64)))


def _read_usps_h5(file: Path, split: Split) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Gives (N x 256 intensities in [0, 1], N labels 0..9)."""
    try:
        with h5py.File(file, "r") as archive:
            _refuse_bomb(file, archive[split]["data"].nbytes, archive[split]["target"].nbytes)
            intensity = np.asarray(archive[split]["data"], dtype=np.float64)
            return intensity, np.asarray(archive[split]["target"], dtype=np.int64)
    except DomainError:
        raise
    except (OSError, KeyError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise DomainError(f"{file} should hold {split}/data and {split}/target, but: {error}") from error


def _read_libsvm(file: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Gives (N x 256 intensities in [0, 1], N labels 0..9) of lines ``1..10 1:v 2:v ...``, v in [-1, 1]."""
    try:
        with bz2.open(file, "rt") as text:
            content = text.read(_MOST_BYTES // 8 + 1)
        _refuse_bomb(file, 8 * len(content))
        numbers = [float(word) for word in content.replace(":", " ").split()]
        table = np.array(numbers).reshape(-1, 1 + 2 * 256)
        return (table[:, 2::2] + 1.0) / 2.0, table[:, 0].astype(np.int64) - 1
    except DomainError:
        raise
    except (OSError, EOFError, ValueError) as error:
        raise DomainError(f"{file} is not USPS in libsvm's format ({error}); fetch it again") from error


def read_svhn(data_root: Path, split: Split) -> LabelledImages:
    """Gives SVHN (format 2, cropped) of ``train_32x32.mat`` or ``test_32x32.mat``; its label 10 means digit 0."""
    mat = f"{split}_32x32.mat"
    file = _find(data_root, "svhn", split, (mat, f"SVHN/{mat}"))
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise ImportError(f"{file} is read with scipy, which is missing: {_EXTRA}") from error
    try:
        _refuse_bomb(file, *(math.prod(shape) for _, shape, _ in whosmat(file)))
        content = loadmat(file)
        images, labels = np.asarray(content["X"]), np.asarray(content["y"]).astype(np.int64).reshape(-1)
    except DomainError:
        raise
    except Exception as error:  # scipy raises a dozen unrelated types for a damaged file
        raise DomainError(f"{file} cannot be read as SVHN's X and y ({error}); fetch it again") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise DomainError(
            f"{file} should hold X as uint8 32 x 32 x 3 x {len(labels)}, got {images.dtype} {images.shape}"
        )
    planes = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return LabelledImages(torch.from_numpy(planes), torch.from_numpy(labels % 10))


def read_optdigits(data_root: Path, split: Split) -> LabelledImages:
    """Gives the 8 x 8 digits that come with scikit-learn, ink counts 0..16 spread over 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f"digits come with scikit-learn, which is missing: {_EXTRA}") from error
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    chosen = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
    levels = counts_to_levels(bunch.images[chosen].astype(np.int64))[:, None]
    return LabelledImages(torch.from_numpy(levels), torch.from_numpy(bunch.target[chosen].astype(np.int64)))


def _idx_places(name: str) -> tuple[str, ...]:
    return f"MNIST/raw/{name}", f"MNIST/raw/{name}.gz", name, f"{name}.gz"


def _find(data_root: Path, name: str, split: str, places: tuple[str, ...]) -> Path:
    """Gives the first of these files that exists.

    Raises:
        DomainError: none does.
    """
    for place in places:
        if (data_root / place).is_file():
            return data_root / place
    raise DomainError(
        f"{name}:{split} needs one of {', '.join(places)} in {data_root}, but none is there; munitaug downloads "
        "nothing: put the file there, or name its folder with --data-root (or MUNITAUG_DATA)"
    )


def _refuse_bomb(file: Path, *sizes: int) -> None:
    """Refuses a file of which a part, in bytes, is larger than any digit data set.

    Raises:
        DomainError: it is.
    """
    if max(sizes, default=0) > _MOST_BYTES:
        raise DomainError(f"{file} would unpack to more than {_MOST_BYTES} bytes, as no digit data set does")


_READERS: dict[DigitsName, Callable[[Path, Split], LabelledImages]] = {
    "mnist": read_mnist,
    "usps": read_usps,
    "svhn": read_svhn,
    "digits": read_optdigits,
}
