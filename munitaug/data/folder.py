"""A folder of images as a domain: flat without labels, or one sub-folder per class.

Floor 2: imports types and data.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from munitaug.data.decode import (
    MODE_OF_CHANNELS,
    UnreadableError,
    UnsuitableError,
    check_size,
    decode_file,
    image_to_tensor,
    match_mode,
)
from munitaug.data.domain import ImageDomain
from munitaug.data.fit import check_side
from munitaug.types import UNLABELLED, DomainError

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
NOT_READ = frozenset(
    {".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".tga", ".eps", ".svg", ".psd", ".exr", ".hdr", ".dng", ".cr2"}
    | {".cr3", ".nef", ".arw", ".raw", ".ico"}
)
"""Endings of images that are left out with a warning."""

NEARLY_BLACK = 32
"""Images of a folder without a level as high as this are warned of."""
_NAMED_FILES = 10
_PROGRESS_FROM = 2000


class FolderDomain(ImageDomain):
    """Images of a folder, decoded when asked for; every file is decoded once at construction, to find broken ones.

    If images lie in ``root`` itself, the domain has no labels. If they lie in sub-folders only, each sub-folder
    (with all that is below it) is a class, numbered in sorted order. Hidden files and folders are ignored, links are
    followed. How file formats become 8-bit channels is written at :func:`munitaug.data.decode.decode_file`.

    Args:
        root: the folder.
        channels: 1 to 4; ``None`` takes them from the first image. Transparency is laid on white where the
            channels wanted have none.
        size: height and width in pixels: the centre square, resized antialiased bilinear; ``None`` keeps the sizes.
        invert: exchanges dark and light; transparency stays.
        skip_unreadable: leave broken files out with a warning, instead of refusing the folder.
        name: for messages and provenance; ``None`` takes the path.

    Raises:
        DomainError: the folder is missing, empty or ambiguous, or holds broken or unsuitable files.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        channels: int | None = None,
        size: int | None = None,
        invert: bool = False,
        skip_unreadable: bool = False,
        name: str | None = None,
    ) -> None:
        self.root = Path(root).expanduser().absolute()  # found again after os.chdir
        self.size = size
        own_name = str(root) if name is None else name
        if channels is not None and channels not in MODE_OF_CHANNELS:
            raise DomainError(f"channels must be 1, 2, 3 or 4, got {channels}")
        check_side(size)
        class_names, files, labels = list_images(self.root)
        facts = _inspect_all(files, size, own_name)
        kept = _keep_readable(self.root, files, facts, skip_unreadable)
        readable = [fact for fact in facts if isinstance(fact, _Facts)]
        self.files: tuple[Path, ...] = tuple(files[index] for index in kept)
        shared = _shared_channels(self.root, self.files, readable) if channels is None else channels
        super().__init__(own_name, shared, class_names)
        self.inverted = invert
        _warn_of_darkness(own_name, readable)
        self.sizes: tuple[tuple[int, int], ...] = tuple(sorted({(fact.height, fact.width) for fact in readable}))
        if size is not None:
            self.sizes = ((size, size),)
        self._labels = torch.tensor([labels[index] for index in kept], dtype=torch.int64) if class_names else None

    def __len__(self) -> int:
        """Gives the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (uint8 C x H x W, class or -1) of one image.

        Raises:
            DomainError: the file has changed or vanished since the folder was opened.
        """
        file = self.files[index]
        try:
            image = match_mode(decode_file(file), self.channels)
        except (UnreadableError, UnsuitableError) as error:
            raise DomainError(f"{file} could be read when the folder was opened, but not now: {error}") from error
        picture = image_to_tensor(image, self.size)
        if self.inverted:
            colours = 3 if self.channels > 2 else 1
            picture[:colours] = 255 - picture[:colours]
        return picture, UNLABELLED if self._labels is None else int(self._labels[index])

    @property
    def labels(self) -> Tensor | None:
        """Gives the N int64 classes, or ``None`` for a flat folder."""
        return self._labels

    def fingerprint(self, *, labels: bool = True) -> str:
        """Gives the SHA-256 of the first image, the last image, the paths in the folder and sizes of all files.

        So a file that is replaced is noticed unless it has the same number of bytes; no other image is decoded.

        Args:
            labels: include them.
        """
        digest = hashlib.sha256(super().fingerprint(labels=labels).encode())
        for file in self.files:
            digest.update(os.fsencode(file.relative_to(self.root).as_posix()) + f"\0{file.stat().st_size}\0".encode())
        return digest.hexdigest()


def list_images(root: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """Gives (class names, image files in sorted order, class of each file or -1); no file is opened.

    Warns of files whose endings are those of images that are not read.

    Raises:
        DomainError: no folder, no image, images both beside and inside sub-folders, or a class without any.
    """
    if not root.is_dir():
        raise DomainError(f"{root} is not a folder; expected a folder of images")
    left_out: Counter[str] = Counter()
    loose = _readable(filter(_is_image, root.iterdir()), left_out)
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    inside = {folder: _readable(_walk(folder), left_out) for folder in folders}
    if left_out:
        warnings.warn(
            f"left out {left_out.total()} files of {root} that are images of other kinds "
            f"({', '.join(sorted(left_out))}); convert them to PNG, or remove them to silence this",
            stacklevel=3,
        )
    filled = [folder for folder, files in inside.items() if files]
    if loose and filled:
        raise DomainError(
            f"{root} holds images itself ({loose[0].name}) and in sub-folders ({filled[0].name}); expected either "
            "only images (no labels) or only one sub-folder per class"
        )
    if loose:
        return (), loose, [UNLABELLED] * len(loose)
    if not filled:
        raise DomainError(
            f"{root} holds no image; expected {', '.join(sorted(EXTENSIONS))} files, or sub-folders (classes) of them"
        )
    if len(filled) < len(folders):
        empty = next(folder for folder in folders if not inside[folder])
        raise DomainError(f"{empty} holds no image, but every sub-folder of {root} is a class; fill or remove it")
    files = [file for folder in folders for file in inside[folder]]
    labels = [label for label, folder in enumerate(folders) for _ in inside[folder]]
    return tuple(folder.name for folder in folders), files, labels


class _Facts(NamedTuple):
    channels: int
    height: int
    width: int
    brightest: int


def _readable(images: Iterable[Path], left_out: Counter[str]) -> list[Path]:
    """Gives the files that are read, in sorted order, and counts the endings of the others in ``left_out``."""
    files = sorted(images)
    left_out.update(file.suffix.lower() for file in files if file.suffix.lower() in NOT_READ)
    return [file for file in files if file.suffix.lower() in EXTENSIONS]


def _is_image(file: Path) -> bool:
    named = file.suffix.lower() in EXTENSIONS | NOT_READ and not file.name.startswith(".")
    return named and (file.is_file() or not file.exists())  # no folder, nor a pipe; a link to nothing is told later


def _walk(folder: Path) -> Iterator[Path]:
    """Gives the images below a folder; a link that leads back to a folder above it is not followed."""
    pending: list[tuple[Path, frozenset[str]]] = [(folder, frozenset())]
    while pending:
        here, above = pending.pop()
        place = os.path.realpath(here)
        if place in above:
            continue
        for entry in sorted(here.iterdir()):
            if _is_image(entry):
                yield entry
            elif entry.is_dir() and not entry.name.startswith("."):
                pending.append((entry, above | {place}))


def _inspect_all(files: Sequence[Path], size: int | None, name: str) -> list[_Facts | Exception]:
    """Gives what each file holds, or why it cannot be used."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        results = pool.map(lambda file: _inspect(file, size), files)
        quiet = True if len(files) <= _PROGRESS_FROM else None
        return list(tqdm(results, total=len(files), desc=f"checking {name}", unit="image", disable=quiet))


def _inspect(file: Path, size: int | None) -> _Facts | Exception:
    try:
        image = decode_file(file)
        check_size(image, size)
    except (UnreadableError, UnsuitableError) as error:
        return error
    channels = len(image.getbands())
    extrema = np.atleast_2d(np.array(image.getextrema()))[: 3 if channels > 2 else 1]
    return _Facts(channels, image.height, image.width, int(extrema.max()))


def _keep_readable(
    root: Path, files: Sequence[Path], facts: Sequence[_Facts | Exception], skip_unreadable: bool
) -> list[int]:
    """Gives the indices of the usable files.

    Raises:
        DomainError: a file is unsuitable, or unreadable and not to be skipped, or none is left.
    """
    verdicts = list(zip(files, facts, strict=True))
    unsuitable = [f"{file}: {fact}" for file, fact in verdicts if isinstance(fact, UnsuitableError)]
    if unsuitable:
        raise DomainError(f"{len(unsuitable)} of {len(files)} images cannot be used: {_some_of(unsuitable)}")
    broken = [f"{file} ({fact})" for file, fact in verdicts if isinstance(fact, UnreadableError)]
    if broken and not skip_unreadable:
        raise DomainError(
            f"{len(broken)} of {len(files)} images cannot be read: {_some_of(broken)}; repair or remove them, "
            "or leave them out with --skip-unreadable"
        )
    if len(broken) == len(files):
        raise DomainError(f"{root} holds no readable image: {_some_of(broken)}")
    if broken:
        warnings.warn(
            f"left out {len(broken)} of {len(files)} images that cannot be read: {_some_of(broken)}; "
            "remove them to silence this",
            stacklevel=3,
        )
    return [index for index, fact in enumerate(facts) if isinstance(fact, _Facts)]


def _shared_channels(root: Path, files: Sequence[Path], facts: Sequence[_Facts]) -> int:
    first = facts[0].channels
    for file, fact in zip(files, facts, strict=True):
        if fact.channels != first:
            raise DomainError(
                f"images in {root} differ in channels: {files[0]} has {first}, {file} has {fact.channels}; "
                "give one count for all, for example --channels 3"
            )
    return first


def _warn_of_darkness(name: str, facts: Sequence[_Facts]) -> None:
    """Warns where all that a network would see is nearly black, as of cameras' 12 bits in 16-bit files, or of masks."""
    brightest = max(fact.brightest for fact in facts)
    if brightest < NEARLY_BLACK:
        warnings.warn(
            f"no pixel of the images of {name} is above {brightest} of 255, so they are nearly black; where files do "
            "not use their whole range (12 bits in 16-bit files, class numbers of a mask), scale their values first",
            stacklevel=3,
        )


def _some_of(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED_FILES
    return "; ".join(names[:_NAMED_FILES]) + (f"; and {rest} more" if rest > 0 else "")
