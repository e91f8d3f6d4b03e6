"""The data set that reads a file of augmented images, or many through their index.

Floor 2: imports its own room.
"""

from __future__ import annotations

import json
import operator
import os
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from munitaug.data.augmented_file import AugmentedFileError as AugmentedFileError
from munitaug.data.augmented_file import damage_named, open_for_reading, read_contents
from munitaug.data.packing import PACKED, Compression, lzf_function, unpack_gzip
from munitaug.data.shards import Shard, open_shards, read_shards

MAX_OPEN_FILES = 128
"""Shards kept open at once."""
GZIP_FILTER, LZF_FILTER = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF


class AugmentedDataset(Dataset[tuple[Tensor, int]]):
    """Augmented images from a file or an index; item i is (uint8 C x H x W in [0, 255], class or -1).

    Works with any number of DataLoader workers and any start method. Rows of one source image lie together: row
    i * K + k is variant k of image i (with originals kept, K + 1 rows per image, the original first). The shards of an
    index are checked when it is opened (present, of the right size, of the same run); the bytes of an image are
    compared with their CRC-32 the first time they are read.

    Args:
        path: a file made by ``munitaug generate``, in one piece or the index of shards.
        transform: called with the image; what it gives is the item's image.
        target_transform: called with the class; what it gives is the item's class.

    Raises:
        FileNotFoundError: there is no such file.
        AugmentedFileError: foreign, unfinished, truncated, damaged, or of another format version; of an index, also a
            shard that is missing or another file. Reading raises it too, for an image that is not what was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Tensor], Tensor] | None = None,
        target_transform: Callable[[int], int] | None = None,
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.transform = transform
        self.target_transform = target_transform
        with open_for_reading(self.path) as file:
            contents = read_contents(file, self.path)
        # numpy, not tensors: tensors would go to workers through shared memory, a file handle for each
        self._labels, self._source_indices, self._variants = contents.labels, contents.source_index, contents.variant
        self._attributes, self._style_crcs = contents.attributes, contents.style_crc32
        shards = read_shards(contents, self.path)
        index = _beside_shards(self.path, shards)
        shape = open_shards(shards, index) if shards else contents.image_shape
        self.image_shape: tuple[int, ...] = (shape[2], shape[0], shape[1])
        paths = [index.with_name(shard.name) for shard in shards] or [self.path]
        counts = [shard.rows for shard in shards] or [len(self._labels)]
        self._starts = np.cumsum([0, *counts])[:-1].tolist()
        crcs = contents.image_crc32
        self._files = [
            _ImageFile(place, shape, count, None if crcs is None else crcs[start : start + count])
            for place, count, start in zip(paths, counts, self._starts, strict=True)
        ]
        self._opened: deque[_ImageFile] = deque()

    @property
    def labels(self) -> Tensor:
        """Gives the N int64 classes, a copy; -1 where unlabelled."""
        return torch.tensor(self._labels)

    @property
    def source_indices(self) -> Tensor:
        """Gives, N int64, the place of every row's original in its domain; a copy."""
        return torch.tensor(self._source_indices)

    @property
    def variants(self) -> Tensor:
        """Gives N int16 variant numbers, 0 to K - 1, a copy; -1 for an original."""
        return torch.tensor(self._variants)

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
            AugmentedFileError: the code is not what was written.
        """
        row = self._row(index)
        file, place = self._file_of(row)
        code = file.style(place)
        if self._style_crcs is not None and zlib.crc32(code.tobytes()) != self._style_crcs[row]:
            raise AugmentedFileError(f"{file.path} is damaged: the style of row {place} is not what was written")
        return torch.from_numpy(code)

    def check(self) -> None:
        """Reads every image and code once, so that damage shows now and not in the middle of a training.

        Raises:
            AugmentedFileError: names the file and its first damaged row.
        """
        for row in range(len(self)):
            self._image(row)
            self.style(row)

    def close(self) -> None:
        """Closes the files in this process; the next read opens them again."""
        while self._opened:
            self._opened.popleft().close()

    def __len__(self) -> int:
        """Gives the number of rows."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Gives (image, class) of one row; negative numbers count from the end.

        The image's pixels lie in memory as in the file, channels last, as torchvision's ``pil_to_tensor`` gives them.

        Raises:
            IndexError: no such row.
            AugmentedFileError: the image is not what was written.
        """
        row = self._row(index)
        image: Tensor = self._image(row)
        label: int = self._labels.item(row)
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Gives the items of many rows, as a DataLoader asks for them.

        Raises:
            IndexError: no such row.
            AugmentedFileError: an image is not what was written.
        """
        return [self[index] for index in indices]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": deque()}

    def _row(self, index: int) -> int:
        row = operator.index(index)
        row = row + len(self._labels) if row < 0 else row
        if not 0 <= row < len(self._labels):
            raise IndexError(f"row {index} of {self.path}, which has {len(self._labels)} rows")
        return row

    def _image(self, row: int) -> Tensor:
        file, place = self._file_of(row)
        return file.image(place)

    def _file_of(self, row: int) -> tuple[_ImageFile, int]:
        """Gives the opened file of a row and the row's place in it."""
        number = bisect_right(self._starts, row) - 1 if len(self._starts) > 1 else 0
        file = self._files[number]
        if not file.is_open:
            while len(self._opened) >= MAX_OPEN_FILES:
                self._opened.popleft().close()
            file.open()
            self._opened.append(file)
        return file, row - self._starts[number]


def _beside_shards(index: Path, shards: Sequence[Shard]) -> Path:
    """Gives the index, or where links lead from it, whichever has the shards beside it."""
    if shards and not index.with_name(shards[0].name).exists():
        real = index.resolve()
        return real if real.with_name(shards[0].name).exists() else index
    return index


@final
class _ImageFile:
    """The images of one file.

    Where a chunk is one image, its bytes are read straight from the file: finding it through HDF5 and converting what
    comes costs more than the reading. Reading at a place shares no state, so a handle inherited through fork is fine.

    Args:
        path: of the file.
        image_shape: H, W, C.
        count: of images.
        crcs: CRC-32 of their chunks, or ``None``.
    """

    def __init__(
        self, path: Path, image_shape: tuple[int, int, int], count: int, crcs: npt.NDArray[np.uint32] | None
    ) -> None:
        height, width, channels = image_shape
        self.path = path
        self._count = count
        self._crcs = crcs
        self._unchecked = bytearray(b"\1") * count
        self._bytes = height * width * channels
        self._size, self._strides = (channels, height, width), (1, width * channels, channels)
        self._chunks: _ChunkTable | None = None
        self._descriptor = -1
        self._file: h5py.File | None = None
        self._process_id = -1
        self._size_and_time: tuple[int, int] | None = None
        self.is_open = False

    def open(self) -> None:
        """Opens the file; the first time it also finds where every chunk lies.

        Raises:
            AugmentedFileError: damaged, or no longer the file that was opened the first time.
        """
        status = self.path.stat()
        if self._size_and_time not in (None, (status.st_size, status.st_mtime_ns)):
            raise AugmentedFileError(f"{self.path} was replaced while it was being read; open the data set anew")
        self._size_and_time = (status.st_size, status.st_mtime_ns)
        if self._chunks is None:
            with open_for_reading(self.path) as file, damage_named(self.path):
                self._chunks = _chunk_table(file["images"], self._count) if file.userblock_size == 0 else _NO_TABLE
            if (self._chunks.lengths > status.st_size).any():
                raise AugmentedFileError(f"{self.path} is damaged: it names images larger than itself")
        if self._chunks.compression is not None:
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.is_open = True

    def close(self) -> None:
        """Lets the handles go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._file is not None:
            self._file.close()
        self._descriptor, self._file, self.is_open = -1, None, False

    def image(self, row: int) -> Tensor:
        """Gives uint8 C x H x W of one row.

        Raises:
            AugmentedFileError: not what was written.
        """
        chunks = self._chunks
        if chunks is None or chunks.compression is None:
            return self._image_through_hdf5(row)
        packed = os.pread(self._descriptor, chunks.lengths.item(row), chunks.offsets.item(row))
        if self._unchecked[row]:
            self._check(row, packed, chunks)
        if chunks.masks[row] != PACKED or chunks.compression == "none":
            plain = packed
        elif chunks.compression == "gzip":
            plain = self._unpacked_gzip(row, packed)
        else:
            return self._unpacked_lzf(row, packed)
        return torch.frombuffer(bytearray(plain), dtype=torch.uint8).as_strided(self._size, self._strides)

    def style(self, row: int) -> npt.NDArray[np.float32]:
        """Gives the code of one row."""
        with damage_named(self.path):
            code: npt.NDArray[np.float32] = self._hdf5()["style"][row]
        return code

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_descriptor": -1, "_file": None, "is_open": False}

    def _hdf5(self) -> h5py.File:
        """Gives the file opened through HDF5 by this process; a handle inherited through fork is closed first."""
        if self._file is None or self._process_id != os.getpid():
            if self._file is not None:
                self._file.close()
            self._file, self._process_id = open_for_reading(self.path), os.getpid()
        return self._file

    def _check(self, row: int, packed: bytes, chunks: _ChunkTable) -> None:
        length = chunks.lengths.item(row)
        is_plain = chunks.masks[row] != PACKED or chunks.compression == "none"
        if len(packed) != length or length == 0 or (is_plain and length != self._bytes):
            raise self._damaged(row)
        if self._crcs is not None and zlib.crc32(packed) != self._crcs[row]:
            raise self._damaged(row)
        self._unchecked[row] = 0

    def _unpacked_gzip(self, row: int, packed: bytes) -> bytes:
        try:
            return unpack_gzip(packed, self._bytes)
        except ValueError as error:
            raise self._damaged(row) from error

    def _unpacked_lzf(self, row: int, packed: bytes) -> Tensor:
        unpack = lzf_function("lzf_decompress")
        assert unpack is not None
        image = torch.empty_strided(self._size, self._strides, dtype=torch.uint8)
        if unpack(packed, len(packed), image.data_ptr(), self._bytes) != self._bytes:
            raise self._damaged(row)
        return image

    def _image_through_hdf5(self, row: int) -> Tensor:
        with damage_named(self.path):
            images = self._hdf5()["images"]
            if self._unchecked[row] and self._crcs is not None and images.chunks == (1, *images.shape[1:]):
                if zlib.crc32(images.id.read_direct_chunk((row, 0, 0, 0))[1]) != self._crcs[row]:
                    raise self._damaged(row)
                self._unchecked[row] = 0
            return torch.from_numpy(images[row]).permute(2, 0, 1)

    def _damaged(self, row: int) -> AugmentedFileError:
        return AugmentedFileError(
            f"{self.path} is damaged: image {row} is not what was written; copy or generate the file again"
        )


@final
class _ChunkTable:
    """Where the chunk of every image lies.

    Args:
        compression: of the chunks, or ``None`` if only HDF5 can read them.
        count: of images.
    """

    def __init__(self, compression: Compression | None, count: int) -> None:
        self.compression = compression
        self.offsets = np.zeros(count, np.int64)
        self.lengths = np.zeros(count, np.int64)
        self.masks = bytearray(count)


_NO_TABLE = _ChunkTable(None, 0)


def _chunk_table(images: h5py.Dataset, count: int) -> _ChunkTable:
    compression = _compression(images)
    if compression is None:
        return _NO_TABLE
    table = _ChunkTable(compression, count)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        row = chunk.chunk_offset[0]
        table.offsets[row], table.lengths[row] = chunk.byte_offset, chunk.size
        table.masks[row] = PACKED if chunk.filter_mask == PACKED else 1

    images.id.chunk_iter(note)
    return table


def _compression(images: h5py.Dataset) -> Compression | None:
    """Gives how the chunks are packed; ``None`` where their bytes cannot be read without HDF5."""
    properties = images.id.get_create_plist()
    if not hasattr(os, "pread") or not hasattr(images.id, "chunk_iter") or images.chunks != (1, *images.shape[1:]):
        return None
    if properties.get_nfilters() == 0:
        return "none"
    filters = [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
    if filters == [GZIP_FILTER]:
        return "gzip"
    return "lzf" if filters == [LZF_FILTER] and lzf_function("lzf_decompress") is not None else None
