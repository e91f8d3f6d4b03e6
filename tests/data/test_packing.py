"""Chunks packed outside HDF5 are those that HDF5 packs itself."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from munitaug.data import packing
from munitaug.data.packing import COMPRESSIONS, Compression, pack_images, unpack_gzip


def half_noise(count: int = 6) -> npt.NDArray[np.uint8]:
    """Every other image is noise, which cannot be packed."""
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 20, 3), dtype=np.uint8)
    images[::2] //= 64
    return images


def chunks_of_hdf5(path: Path, images: npt.NDArray[np.uint8], compression: Compression) -> list[tuple[int, bytes]]:
    with h5py.File(path, "w") as file:
        packing = None if compression == "none" else compression
        column = file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]), compression=packing)
        file.flush()
        return [column.id.read_direct_chunk((row, 0, 0, 0)) for row in range(len(images))]


@pytest.mark.parametrize("compression", ["lzf", "none"])
def test_chunks_are_those_of_hdf5(tmp_path: Path, compression: Compression) -> None:
    images = half_noise()
    assert pack_images(images, compression) == chunks_of_hdf5(tmp_path / "x.h5", images, compression)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_hdf5_unpacks_the_chunks(tmp_path: Path, compression: Compression) -> None:
    images = half_noise()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        filters = None if compression == "none" else compression
        column = file.create_dataset("images", images.shape, "u1", chunks=(1, 16, 20, 3), compression=filters)
        for row, (mask, chunk) in enumerate(pack_images(images, compression)):
            column.id.write_direct_chunk((row, 0, 0, 0), chunk, mask)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["images"][:], images)


@pytest.mark.parametrize("compression", ["lzf", "gzip"])
def test_noise_is_kept_plain_and_the_rest_shrinks(compression: Compression) -> None:
    images = half_noise()
    chunks = pack_images(images, compression)
    assert [mask for mask, _ in chunks] == [0, 1, 0, 1, 0, 1]
    for image, (mask, chunk) in zip(images, chunks, strict=True):
        assert chunk == image.tobytes() if mask else len(chunk) < image.nbytes


def test_where_lzf_cannot_be_called_hdf5_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pack_images(half_noise(), "lzf")
    monkeypatch.setattr(packing, "lzf_function", lambda name: None)
    assert pack_images(half_noise(), "lzf") == expected


def test_lzf_is_found_in_this_h5py() -> None:
    """Not promised by h5py; without it everything works, more slowly."""
    assert packing.lzf_function("lzf_compress") is not None
    assert packing.lzf_function("lzf_no_such_thing") is None


def test_no_image_gives_no_chunk() -> None:
    for compression in COMPRESSIONS:
        assert pack_images(np.zeros((0, 16, 16, 3), np.uint8), compression) == []


def test_a_gzip_bomb_and_damage_are_errors() -> None:
    assert unpack_gzip(zlib.compress(bytes(100)), 100) == bytes(100)
    for count in (99, 101, 10**7):
        with pytest.raises(ValueError, match=r"expected 100 bytes, got (99|101) or more"):
            unpack_gzip(zlib.compress(bytes(count)), 100)
    with pytest.raises(ValueError, match="incorrect header"):
        unpack_gzip(b"no zlib stream", 100)
