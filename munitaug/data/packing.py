"""How the bytes of an image are packed and unpacked, as HDF5's own filters do it, but by any number of threads.

HDF5 lets one thread at a time in, and packs while it has it. Chunks packed here are handed over as they are
(``write_direct_chunk``) and are, byte for byte, what the filter would have made, so every reader of HDF5 unpacks them.

Floor 2: imports the standard library, numpy and h5py.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable
from functools import cache
from typing import Literal

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5z

Compression = Literal["lzf", "gzip", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("lzf", "gzip", "none")
GZIP_LEVEL = 4
"""h5py's default."""
PACKED, PLAIN = 0, 1
"""HDF5's filter mask of a chunk: all filters were used, or the first (here the only one) was skipped."""

Packed = tuple[int, bytes]
"""The filter mask and the bytes of one chunk."""
LzfFunction = Callable[[int | bytes, int, int, int], int]


def pack_images(images: npt.NDArray[np.uint8], compression: Compression) -> list[Packed]:
    """Gives the chunk of every image; one that packing would enlarge is left plain.

    Args:
        images: N x H x W x C, contiguous.
        compression: "lzf", "gzip" or "none".
    """
    if compression == "none":
        return [(PACKED, image.tobytes()) for image in images]
    if compression == "gzip":
        return [_smaller(zlib.compress(image, GZIP_LEVEL), image) for image in images]
    compress = lzf_function("lzf_compress")
    if compress is None:
        return _packed_by_hdf5(images)
    size, start = images[0].nbytes if len(images) else 0, images.ctypes.data
    room = np.empty(max(size, 1), np.uint8)
    place = room.ctypes.data
    chunks: list[Packed] = []
    for number, image in enumerate(images):
        length = compress(start + number * size, size, place, size)
        chunks.append((PACKED, room[:length].tobytes()) if length else (PLAIN, image.tobytes()))
    return chunks


def unpack_gzip(packed: bytes, size: int) -> bytes:
    """Gives the ``size`` bytes that are packed; of more, no more than that is unpacked.

    Raises:
        ValueError: the bytes are damaged, or there are more or fewer.
    """
    try:
        plain = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(plain) != size:
        raise ValueError(f"expected {size} bytes, got {len(plain)} or more")
    return plain


@cache
def lzf_function(name: str) -> LzfFunction | None:
    """Gives LZF's "lzf_compress" or "lzf_decompress": (from, its length, to, room there) -> length, 0 for failure.

    The code is the one in h5py's own filter. ``None`` where this build of h5py does not let others see it; then HDF5
    itself has to pack and unpack, one image at a time.
    """
    try:
        function = getattr(ctypes.CDLL(h5z.__file__), name)
    except (OSError, AttributeError):
        return None
    source = ctypes.c_char_p if name == "lzf_decompress" else ctypes.c_void_p
    function.argtypes = (source, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint)
    function.restype = ctypes.c_uint
    found: LzfFunction = function
    return found


def _smaller(packed: bytes, image: npt.NDArray[np.uint8]) -> Packed:
    return (PACKED, packed) if len(packed) < image.nbytes else (PLAIN, image.tobytes())


def _packed_by_hdf5(images: npt.NDArray[np.uint8]) -> list[Packed]:
    with h5py.File("packing", "w", driver="core", backing_store=False) as file:
        chunked = file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]), compression="lzf")
        file.flush()
        return [chunked.id.read_direct_chunk((row, 0, 0, 0)) for row in range(len(images))]
