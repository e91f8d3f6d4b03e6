"""The HDF5 file of augmented images: its schema, the writer, and what is checked before anything is believed.

Floor 2: imports _version, types and its own room.

Root of a file of N rows, images of H x W pixels and C channels, style codes of S numbers:

    /images        uint8   N x H x W x C, one chunk per image   in [0, 255]
    /labels        int64   N                                    class, or -1 when unlabelled
    /source_index  int64   N                                    place of the original in its domain
    /variant       int16   N                                    0 ... K-1, or -1: the untouched original
    /style         float32 N x S                                the code drawn for the row; 0 for originals
    /image_crc32   uint32  N                                    of the image's chunk, as it lies in the file
    /style_crc32   uint32  N                                    of the bytes of the row's code

Attributes: format, format_version, munitaug_version, torch_version, h5py_version, checkpoint_sha256, config (JSON),
seed, variants (K), range ("0..255"), class_names (JSON list), content_sha256 (of the other attributes, the labels,
source_index, variant and the two CRC columns), complete (1, written last). "images" and "labels" at the root are also
what the Hugging Face reader of HDF5 looks for. Structures are those of HDF5 1.10, which bear checksums of their own.
Files from before there were CRC columns and content_sha256 are read without these checks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, final

import h5py
import numpy as np
import numpy.typing as npt
import torch

from munitaug._version import __version__
from munitaug.data.packing import COMPRESSIONS, Compression, Packed

FORMAT = "munitaug-augmented"
FORMAT_VERSION = 1
ORIGINAL_VARIANT = -1
"""The variant number of a source image that was kept as it is."""

AttributeValue = str | int
Array = npt.NDArray[np.generic]
CHUNK_CACHE_BYTES = 2**16
"""HDF5's default of 8 MiB only costs time: a chunk is one image, and a shuffled epoch reads each once."""
COLUMNS = ("images", "labels", "source_index", "variant", "style")
CHECKSUMS = ("image_crc32", "style_crc32")
SEALED_COLUMNS = (*COLUMNS[1:4], *CHECKSUMS)
"""Columns that are read whole when a file is opened; the rows of the others are checked when they are read."""
OLDEST_HDF5 = ("v110", "v110")
MAX_ROW_BYTES = 2**30
"""A file that claims larger images or codes is refused before room is made for one."""
MAX_PACKING = 1024
"""Deflate shrinks nothing further than that: a packed column that claims more is refused."""


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


def create_columns(file: h5py.File, count: int, layout: Layout) -> None:
    """Makes the columns for ``count`` rows in a file opened for writing.

    Only images are chunked: one chunk per image is what makes a shuffled read fast.
    """
    shape = (count, layout.height, layout.width, layout.channels)
    packing = None if layout.compression == "none" else layout.compression
    file.create_dataset("images", shape, "u1", chunks=(1, *shape[1:]), compression=packing, track_times=False)
    for name, kind in (("labels", "<i8"), ("source_index", "<i8"), ("variant", "<i2")):
        file.create_dataset(name, (count,), kind, track_times=False)
    file.create_dataset("style", (count, layout.style_dim), "<f4", track_times=False)
    for name in CHECKSUMS:
        file.create_dataset(name, (count,), "<u4", track_times=False)


@final
class AugmentedFileWriter:
    """Writes a file row after row; used in a ``with`` block, whose end closes it.

    Args:
        path: of the file, which is made anew; unfinished until :meth:`seal`.
        count: rows of the whole file.
        layout: of the rows.
    """

    def __init__(self, path: Path, count: int, layout: Layout) -> None:
        self._file = h5py.File(path, "w", libver=OLDEST_HDF5)
        try:
            create_columns(self._file, count, layout)
        except BaseException:
            self._let_go()
            raise
        self._write_chunk = self._file["images"].id.write_direct_chunk
        self.filled = 0

    def append(self, rows: Rows, packed: Sequence[Packed]) -> None:
        """Writes the next rows; ``packed`` are their images, see :func:`munitaug.data.packing.pack_images`."""
        crcs = [zlib.crc32(chunk) for _, chunk in packed]
        style_crcs = [zlib.crc32(code.tobytes()) for code in rows.style]
        self._fill(*rows[1:], np.array(crcs, np.uint32), np.array(style_crcs, np.uint32))
        self._write_chunks(packed)

    def append_file(self, path: Path) -> None:
        """Writes the rows of a finished file of the same layout; images travel packed, so nothing is packed again.

        Raises:
            AugmentedFileError: an image of it is damaged.
        """
        with open_for_reading(path) as source:
            columns = {name: source[name][:] for name in (*COLUMNS[1:], *CHECKSUMS)}
            read = source["images"].id.read_direct_chunk
            packed = [read((row, 0, 0, 0)) for row in range(len(columns["labels"]))]
        for row, (_, chunk) in enumerate(packed):
            if zlib.crc32(chunk) != columns["image_crc32"][row]:
                raise AugmentedFileError(f"{path} is damaged: image {row} is not what was written")
        self._fill(*columns.values())
        self._write_chunks(packed)

    def seal(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Writes the root attributes and, last of all, ``complete = 1``."""
        digest = content_sha256(attributes, [self._file[name][:] for name in SEALED_COLUMNS])
        write_attributes(self._file, {**attributes, "content_sha256": digest})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            try:
                self._file.close()
            except BaseException:
                self._let_go()
                raise
        else:
            self._let_go()

    def _fill(self, *columns: Array) -> None:
        """Writes all columns but the images; they come first, so that where they lie depends on nothing else."""
        for name, column in zip((*COLUMNS[1:], *CHECKSUMS), columns, strict=True):
            if column.size:
                self._file[name][self.filled : self.filled + len(column)] = column

    def _write_chunks(self, packed: Sequence[Packed]) -> None:
        for row, (mask, chunk) in enumerate(packed, self.filled):
            self._write_chunk((row, 0, 0, 0), chunk, mask)
        self.filled += len(packed)

    def _let_go(self) -> None:
        for _ in range(2):  # with a full disk the first close fails too, the second lets the file go
            with suppress(OSError, RuntimeError):
                self._file.close()


def content_sha256(attributes: Mapping[str, AttributeValue], columns: Sequence[Array]) -> str:
    """Gives the SHA-256 of what is read when a file is opened: attributes and :data:`SEALED_COLUMNS`."""
    kept = {name: value for name, value in attributes.items() if name not in ("content_sha256", "complete")}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for column in columns:
        digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


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


@dataclass(frozen=True)
class Contents:
    """What is read of a file when it is opened.

    Args:
        attributes: of the root.
        labels: N int64.
        source_index: N int64.
        variant: N int16.
        image_crc32: N uint32; ``None`` in files from before there was such a column.
        style_crc32: N uint32, or ``None``.
        image_shape: H, W, C; zeros for an index.
        style_dim: S; 0 for an index.
    """

    attributes: dict[str, AttributeValue]
    labels: npt.NDArray[np.int64]
    source_index: npt.NDArray[np.int64]
    variant: npt.NDArray[np.int16]
    image_crc32: npt.NDArray[np.uint32] | None
    style_crc32: npt.NDArray[np.uint32] | None
    image_shape: tuple[int, int, int]
    style_dim: int


def read_contents(file: h5py.File, path: Path) -> Contents:
    """Gives all of a complete file but its images and codes.

    Raises:
        AugmentedFileError: foreign, unfinished, of another version or damaged.
    """
    with damage_named(path):
        attributes = check_header(file, path)
        names = [name for name in SEALED_COLUMNS if name in file]
        columns = {name: file[name][:] for name in names}
        is_index = "shards" in attributes
        height, width, channels = (0, 0, 0) if is_index else (int(side) for side in file["images"].shape[1:])
        style_dim = 0 if is_index else int(file["style"].shape[1])
    if "content_sha256" in attributes and (
        len(names) != len(SEALED_COLUMNS)
        or content_sha256(attributes, list(columns.values())) != attributes["content_sha256"]
    ):
        raise AugmentedFileError(f"{path} is damaged: its rows or attributes are not those it was written with")
    labels, source_index, variant = (columns[name] for name in SEALED_COLUMNS[:3])
    crc, style_crc = (columns.get(name) for name in CHECKSUMS)
    return Contents(attributes, labels, source_index, variant, crc, style_crc, (height, width, channels), style_dim)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns whatever h5py makes of a damaged file into one error that names the file; one in use is in use."""
    try:
        yield
    except (AugmentedFileError, PermissionError):
        raise
    except BlockingIOError as error:
        message = "another program has it open for writing; close it there, then read it again"
        raise BlockingIOError(errno.EAGAIN, message, str(path)) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise AugmentedFileError(
            f"{path} is a truncated or damaged HDF5 file, perhaps a broken copy; copy or generate it again ({error})"
        ) from error


def write_attributes(file: h5py.File, attributes: Mapping[str, AttributeValue]) -> None:
    """Writes root attributes and, last of all, ``complete = 1``.

    Text is UTF-8 of fixed length: text of variable length, and the places of virtual data sets, lie in HDF5's global
    heap, the one structure without a checksum, and damage there can make HDF5 search for ever.
    """
    for name, value in {**attributes, "complete": 1}.items():
        if isinstance(value, str):
            content = value.encode()
            file.attrs.create(name, content, dtype=h5py.string_dtype("utf-8", max(1, len(content))))
        else:
            file.attrs[name] = value


def read_attributes(file: h5py.File) -> dict[str, AttributeValue]:
    """Gives the root attributes as Python strings and integers; others are turned into text."""
    return {name: _python_value(value) for name, value in file.attrs.items()}


def _python_value(value: object) -> AttributeValue:
    if isinstance(value, int | np.integer):
        return int(value)
    return value.decode() if isinstance(value, bytes) else str(value)


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
        **{name: ("u4", 1) for name in CHECKSUMS if name in file},
    }
    if "shards" in file.attrs:  # what is virtual is read from the shards
        del kinds["images"], kinds["style"]
    for name, (kind, dimensions) in kinds.items():
        column = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(column, h5py.Dataset) or column.dtype != np.dtype(kind) or column.ndim != dimensions:
            raise AugmentedFileError(f"{path} is damaged: /{name} should be {kind} with {dimensions} dimensions")
        if column.is_virtual or column.external:
            raise AugmentedFileError(f"{path}: /{name} lies in another file, which is not followed")
    lengths = {name: len(file[name]) for name in kinds}
    if len(set(lengths.values())) > 1:
        raise AugmentedFileError(f"{path} is damaged: its columns differ in length ({lengths})")
    for name in kinds:
        _check_size(file[name], name, path)


def _check_size(column: h5py.Dataset, name: str, path: Path) -> None:
    """Refuses a small file that claims to hold so much that making room for it would be the harm."""
    row_bytes = column.dtype.itemsize * math.prod(column.shape[1:])
    if row_bytes > MAX_ROW_BYTES:
        raise AugmentedFileError(f"{path}: /{name} claims {row_bytes} bytes a row; at most {MAX_ROW_BYTES} are read")
    room = path.stat().st_size * (MAX_PACKING if column.chunks else 1)
    if name in SEALED_COLUMNS and column.nbytes > room:
        raise AugmentedFileError(f"{path} is damaged: /{name} claims {len(column)} rows, which it cannot hold")


def open_for_reading(path: Path) -> h5py.File:
    """Gives the opened file.

    Raises:
        FileNotFoundError: there is none.
        AugmentedFileError: a folder, not HDF5, or truncated or damaged.
    """
    if path.is_dir():
        raise AugmentedFileError(f"{path} is a folder; give the HDF5 file that munitaug generate wrote, or the index")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; make it with munitaug generate")
    if not h5py.is_hdf5(path):
        raise AugmentedFileError(f"{path} is not an HDF5 file (or its first bytes are damaged)")
    with damage_named(path):
        return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
