"""The HDF5 file of augmented images: its schema, the functions that write it, the data set that reads it.

Floor 2: imports _version and types.

Root of a file of N rows, images of H x W pixels and C channels, style codes of S numbers:

    /images        uint8   N x H x W x C, one chunk per image   in [0, 255]
    /labels        int64   N                                    class, or -1 when unlabelled
    /source_index  int64   N                                    place of the original in its domain
    /variant       int16   N                                    0 ... K-1, or -1: the untouched original
    /style         float32 N x S                                the code drawn for the row; 0 for originals

Attributes: format, format_version, munitaug_version, torch_version, h5py_version, checkpoint_sha256, config (JSON),
seed, variants (K), range ("0..255"), class_names (JSON list), complete (1, written last). "images" and "labels" at
the root are also what the Hugging Face reader of HDF5 looks for.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from munitaug._version import __version__

FORMAT = "munitaug-augmented"
FORMAT_VERSION = 1
ORIGINAL_VARIANT = -1
"""The variant number of a source image that was kept as it is."""

Compression = Literal["lzf", "gzip", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("lzf", "gzip", "none")
AttributeValue = str | int
Array = npt.NDArray[np.generic]
CHUNK_CACHE_BYTES = 2**16
"""HDF5's default of 8 MiB only costs time: a chunk is one image, and a shuffled epoch reads each once."""
COLUMNS = ("images", "labels", "source_index", "variant", "style")


class AugmentedFileError(ValueError):
    """A file that cannot be read as augmented images: foreign, damaged, unfinished, or of another format version."""


@dataclass(frozen=True)
class Layout:
    """The shape of one row and how images are packed.

    Args:
        height: of an image, in pixels.
        width: of an image, in pixels.
        channels: of an image.
        style_dim: numbers in a style code; 0 for one-to-one methods.
        compression: "lzf" (fast), "gzip" (smallest) or "none"; all are lossless and read without plugins.

    Raises:
        ValueError: unknown compression.
    """

    height: int
    width: int
    channels: int
    style_dim: int
    compression: Compression = "lzf"

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression must be one of {', '.join(COMPRESSIONS)}, got {self.compression!r}")

    @property
    def image_bytes(self) -> int:
        """Gives the bytes of one image before compression."""
        return self.height * self.width * self.channels


class Rows(NamedTuple):
    """Consecutive rows of a file.

    Args:
        images: N x H x W x C uint8 in [0, 255].
        labels: N int64, -1 where unlabelled.
        source_index: N int64.
        variant: N int16.
        style: N x S float32.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    source_index: npt.NDArray[np.int64]
    variant: npt.NDArray[np.int16]
    style: npt.NDArray[np.float32]


def empty_rows(count: int, layout: Layout) -> Rows:
    """Gives room for ``count`` rows; the numbers in it are arbitrary."""
    return Rows(
        np.empty((count, layout.height, layout.width, layout.channels), np.uint8),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int16),
        np.empty((count, layout.style_dim), np.float32),
    )


def create_columns(file: h5py.File, count: int, layout: Layout) -> None:
    """Makes the five columns for ``count`` rows in a file opened for writing.

    Only images are chunked: one chunk per image is what makes a shuffled read fast.
    """
    shape = (count, layout.height, layout.width, layout.channels)
    packing = None if layout.compression == "none" else layout.compression
    file.create_dataset("images", shape, "u1", chunks=(1, *shape[1:]), compression=packing, track_times=False)
    for name, kind in (("labels", "<i8"), ("source_index", "<i8"), ("variant", "<i2")):
        file.create_dataset(name, (count,), kind, track_times=False)
    file.create_dataset("style", (count, layout.style_dim), "<f4", track_times=False)


def write_rows(file: h5py.File, start: int, rows: Rows) -> None:
    """Writes rows from row ``start`` on."""
    columns: tuple[Array, ...] = rows
    for name, column in zip(COLUMNS, columns, strict=True):
        if column.size:
            file[name][start : start + len(column)] = column


def append_file(target: h5py.File, start: int, source: h5py.File) -> int:
    """Copies all rows of a file of the same layout to row ``start`` on; gives the row after them.

    Images travel as they lie in the file, packed, so nothing is decoded or packed again.
    """
    count = len(source["labels"])
    for name in COLUMNS[1:]:
        if source[name].size:
            target[name][start : start + count] = source[name][:]
    read, write = source["images"].id.read_direct_chunk, target["images"].id.write_direct_chunk
    for row in range(count):
        filter_mask, packed = read((row, 0, 0, 0))
        write((start + row, 0, 0, 0), packed, filter_mask)
    return start + count


def header_attributes(
    *,
    config: Mapping[str, object],
    checkpoint_sha256: str,
    seed: int,
    variants: int,
    class_names: Sequence[str],
) -> dict[str, AttributeValue]:
    """Gives the root attributes of a file, all but ``complete``.

    Args:
        config: where the images come from; JSON values only.
        checkpoint_sha256: of the checkpoint; empty when there was none.
        seed: of the style draws, a 64-bit signed number.
        variants: styled images per source image.
        class_names: in label order; empty when unlabelled.

    Raises:
        TypeError: config holds something that JSON cannot.
        ValueError: seed does not fit.
    """
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed must fit in 64 bits, got {seed}")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "munitaug_version": __version__,
        "torch_version": str(torch.__version__),
        "h5py_version": str(h5py.__version__),
        "checkpoint_sha256": checkpoint_sha256,
        "config": json.dumps(config, sort_keys=True),
        "seed": seed,
        "variants": variants,
        "range": "0..255",
        "class_names": json.dumps(list(class_names)),
    }


def seal(file: h5py.File, attributes: Mapping[str, AttributeValue]) -> None:
    """Writes the root attributes and, last of all, ``complete = 1``."""
    for name, value in attributes.items():
        file.attrs[name] = value
    file.attrs["complete"] = 1


def read_attributes(file: h5py.File) -> dict[str, AttributeValue]:
    """Gives the root attributes as Python strings and integers; others are turned into text."""
    return {
        name: int(value) if isinstance(value, int | np.integer) else str(value) for name, value in file.attrs.items()
    }


def check_header(file: h5py.File, path: Path) -> dict[str, AttributeValue]:
    """Gives the root attributes of a complete file of augmented images.

    Raises:
        AugmentedFileError: foreign, unfinished, of another version, or with columns missing or of unequal length.
    """
    attributes = read_attributes(file)
    if attributes.get("format") != FORMAT:
        raise AugmentedFileError(
            f"{path} is an HDF5 file, but not one of augmented images: its attribute `format` should be "
            f'"{FORMAT}" and is {attributes.get("format")!r}; make such a file with munitaug generate'
        )
    if attributes.get("format_version") != FORMAT_VERSION:
        raise AugmentedFileError(
            f"{path} has format version {attributes.get('format_version')}, but munitaug {__version__} reads version "
            f"{FORMAT_VERSION}; read it with munitaug {attributes.get('munitaug_version')}, or generate it again"
        )
    if attributes.get("complete") != 1:
        raise AugmentedFileError(f"{path} is unfinished: the run that wrote it was stopped; generate it again")
    _check_columns(file, path)
    return attributes


def _check_columns(file: h5py.File, path: Path) -> None:
    kinds = {
        "images": ("u1", 4),
        "labels": ("i8", 1),
        "source_index": ("i8", 1),
        "variant": ("i2", 1),
        "style": ("f4", 2),
    }
    for name, (kind, dimensions) in kinds.items():
        column = file.get(name)
        if not isinstance(column, h5py.Dataset) or column.dtype != np.dtype(kind) or column.ndim != dimensions:
            raise AugmentedFileError(f"{path} is damaged: /{name} should be {kind} with {dimensions} dimensions")
    lengths = {name: len(file[name]) for name in kinds}
    if len(set(lengths.values())) > 1:
        raise AugmentedFileError(f"{path} is damaged: its columns differ in length ({lengths})")


def open_for_reading(path: Path) -> h5py.File:
    """Gives the opened file.

    Raises:
        FileNotFoundError: there is none.
        AugmentedFileError: not HDF5, or truncated or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; make it with munitaug generate")
    if not h5py.is_hdf5(path):
        raise AugmentedFileError(f"{path} is not an HDF5 file (or its first bytes are damaged)")
    try:
        return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
    except (PermissionError, BlockingIOError):
        raise
    except (OSError, RuntimeError) as error:
        raise AugmentedFileError(
            f"{path} is a truncated or damaged HDF5 file, perhaps a broken copy; copy or generate it again ({error})"
        ) from error


def _is_packed(images: h5py.Dataset) -> bool:
    """Tells whether a chunk differs from the plain bytes of one image, so that only HDF5 can read it."""
    return bool(images.chunks != (1, *images.shape[1:]) or images.id.get_create_plist().get_nfilters() > 0)


class AugmentedDataset(Dataset[tuple[Tensor, int]]):
    """Augmented images from a file; item i is (uint8 C x H x W in [0, 255], class or -1).

    Works with any number of DataLoader workers and any start method: every process opens the file itself, at its first
    read. Rows of one source image lie together: row i * K + k is variant k of image i (with originals kept, K + 1 rows
    per image, the original first).

    Args:
        path: a file made by ``munitaug generate``.
        transform: called with the image; what it gives is the item's image.
        target_transform: called with the class; what it gives is the item's class.

    Raises:
        FileNotFoundError: there is no such file.
        AugmentedFileError: foreign, unfinished, truncated, or of another format version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Tensor], Tensor] | None = None,
        target_transform: Callable[[int], int] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.transform = transform
        self.target_transform = target_transform
        with open_for_reading(self.path) as file:
            self._attributes = check_header(file, self.path)
            # numpy, not tensors: tensors would go to workers through shared memory, a file handle for each
            self._labels, self._source_indices, self._variants = (file[name][:] for name in COLUMNS[1:4])
            self.image_shape: tuple[int, ...] = tuple(int(file["images"].shape[axis]) for axis in (3, 1, 2))
            self._is_packed = _is_packed(file["images"])
        self._file: h5py.File | None = None
        self._images: h5py.Dataset | None = None
        self._process_id = -1

    @property
    def labels(self) -> Tensor:
        """Gives the N int64 classes; -1 where unlabelled."""
        return torch.from_numpy(self._labels)

    @property
    def source_indices(self) -> Tensor:
        """Gives, N int64, the place of every row's original in its domain."""
        return torch.from_numpy(self._source_indices)

    @property
    def variants(self) -> Tensor:
        """Gives N int16 variant numbers, 0 to K - 1; -1 for an original."""
        return torch.from_numpy(self._variants)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Gives the names of the classes in label order; empty when unlabelled."""
        return tuple(json.loads(str(self._attributes["class_names"])))

    @property
    def provenance(self) -> dict[str, object]:
        """Gives where the images come from: the file's attributes, with ``config`` decoded."""
        return {**self._attributes, "config": json.loads(str(self._attributes["config"]))}

    def style(self, index: int) -> Tensor:
        """Gives the style code of a row, S float32; zeros for an original.

        Raises:
            IndexError: no such row.
        """
        row = self._row(index)
        return torch.from_numpy(self._open()["style"][row])

    def close(self) -> None:
        """Closes the file in this process; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = self._images = None

    def __len__(self) -> int:
        """Gives the number of rows."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (image, class) of one row; negative numbers count from the end.

        Raises:
            IndexError: no such row.
        """
        row = self._row(index)
        image = torch.from_numpy(self._pixels([row])[0]).permute(2, 0, 1).contiguous()
        return self._transformed(image, int(self._labels[row]))

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Gives the items of many rows, as a DataLoader asks for them; a loop, since h5py's own lists are slower.

        Raises:
            IndexError: no such row.
        """
        rows = list(map(operator.index, indices))
        if rows and (min(rows) < 0 or max(rows) >= len(self._labels)):
            rows = [self._row(index) for index in rows]
        images = torch.from_numpy(self._pixels(rows)).permute(0, 3, 1, 2).contiguous().unbind()
        items = zip(images, self._labels[rows].tolist(), strict=True)
        if self.transform is None and self.target_transform is None:
            return list(items)
        return [self._transformed(image, label) for image, label in items]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_images": None}

    def _transformed(self, image: Tensor, label: int) -> tuple[Tensor, int]:
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def _row(self, index: int) -> int:
        row = operator.index(index)
        row = row + len(self._labels) if row < 0 else row
        if not 0 <= row < len(self._labels):
            raise IndexError(f"row {index} of {self.path}, which has {len(self._labels)} rows")
        return row

    def _pixels(self, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Gives N x H x W x C of the rows, writable."""
        if self._images is None or self._process_id != os.getpid():
            self._images = self._open()["images"]
        channels, height, width = self.image_shape
        if self._is_packed:
            pixels = np.empty((len(rows), height, width, channels), np.uint8)
            for place, row in enumerate(rows):
                pixels[place] = self._images[row]
            return pixels
        read = self._images.id.read_direct_chunk  # the bytes as they lie in the file: half the time of h5py's own way
        joined = bytearray().join(read((row, 0, 0, 0))[1] for row in rows)
        return np.frombuffer(joined, np.uint8).reshape(len(rows), height, width, channels)

    def _open(self) -> h5py.File:
        """Gives the file opened by this process; a handle inherited through fork is closed first, never shared."""
        if self._file is None or self._process_id != os.getpid():
            self.close()
            self._file = open_for_reading(self.path)
            self._process_id = os.getpid()
        return self._file
