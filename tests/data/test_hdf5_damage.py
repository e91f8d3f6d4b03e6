"""Damaged and hostile HDF5 files: an error that names the file, or the right answer; never a crash or wrong data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from munitaug.data.augmented_file import (
    AugmentedFileError,
    AugmentedFileWriter,
    Layout,
    Rows,
    header_attributes,
)
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.data.packing import COMPRESSIONS, Compression, pack_images
from munitaug.data.shards import shard_path, write_index

ROWS, SIDE, STYLE = 12, 16, 4


def make_rows(seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8)
    images[::2] = 7
    styles = generator.normal(size=(ROWS, STYLE)).astype(np.float32)
    return Rows(images, np.arange(ROWS) % 3, np.arange(ROWS) // 2, (np.arange(ROWS) % 2).astype(np.int16), styles)


def header() -> dict[str, str | int]:
    return header_attributes(config={"a": 1}, checkpoint_sha256="x", seed=0, variants=2, class_names=["a", "b", "c"])


def write_file(path: Path, compression: Compression = "lzf", seed: int = 0) -> Path:
    rows = make_rows(seed)
    with AugmentedFileWriter(path, ROWS, Layout(SIDE, SIDE, 3, STYLE, compression)) as writer:
        writer.append(rows, pack_images(rows.images, compression))
        writer.seal(header())
    return path


def write_shards(path: Path) -> Path:
    places = [write_file(shard_path(path, shard, 2), seed=shard) for shard in range(2)]
    write_index(path, places, [place.name for place in places], header())
    return path


def is_right(dataset: AugmentedDataset, wanted: list[Rows]) -> bool:
    images = np.concatenate([rows.images for rows in wanted])
    styles = np.concatenate([rows.style for rows in wanted])
    labels = np.concatenate([rows.labels for rows in wanted])
    return (
        len(dataset) == len(images)
        and all((dataset[row][0].permute(1, 2, 0).numpy() == images[row]).all() for row in range(len(images)))
        and all((dataset.style(row).numpy() == styles[row]).all() for row in range(len(images)))
        and [dataset[row][1] for row in range(len(images))] == labels.tolist()
        and dataset.class_names == ("a", "b", "c")
        and dataset.provenance["config"] == {"a": 1}
    )


def mutated(content: bytes, draws: random.Random) -> bytes:
    """Gives the content with a bit or bytes changed, a piece overwritten or repeated, or its end cut off."""
    changed, place = bytearray(content), draws.randrange(len(content))
    kind = draws.randrange(5)
    if kind == 0:
        changed[place] ^= 1 << draws.randrange(8)
    elif kind == 1:
        for _ in range(draws.randrange(1, 20)):
            changed[draws.randrange(len(changed))] = draws.randrange(256)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        changed[place : place + 100] = draws.randbytes(len(changed[place : place + 100]))
    else:
        other, length = draws.randrange(len(changed)), draws.randrange(1, 100)
        piece = bytes(changed[other : other + length])
        changed[place : place + len(piece)] = piece
    return bytes(changed)


def survey(path: Path, victim: Path, wanted: list[Rows], seed: int, files: int) -> dict[str, int]:
    """Damages ``victim`` again and again and reads ``path``; gives how often it was read right, and refused."""
    content, draws, found = victim.read_bytes(), random.Random(seed), {"right": 0, "refused": 0}
    for _ in range(files):
        victim.write_bytes(mutated(content, draws))
        try:
            dataset = AugmentedDataset(path)
            dataset.check()
            assert is_right(dataset, wanted)
            dataset.close()
            found["right"] += 1
        except AugmentedFileError as error:
            assert victim.name in str(error)  # noqa: PT017
            found["refused"] += 1
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("files", [40, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_mutated_files_are_refused_or_read_right(tmp_path: Path, compression: Compression, files: int) -> None:
    path = write_file(tmp_path / "aug.h5", compression)
    found = survey(path, path, [make_rows()], 3, files)
    assert sum(found.values()) == files
    assert found["refused"] > files // 2


@pytest.mark.parametrize("name", ["aug.h5", "aug-00001-of-00002.h5"])
@pytest.mark.parametrize("files", [40, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_mutated_indices_and_shards_are_refused_or_read_right(tmp_path: Path, name: str, files: int) -> None:
    path = write_shards(tmp_path / "aug.h5")
    found = survey(path, tmp_path / name, [make_rows(0), make_rows(1)], 4, files)
    assert sum(found.values()) == files
    assert found["refused"] > files // 4


def test_files_of_the_first_version_without_checksums_are_read(tmp_path: Path) -> None:
    rows = make_rows()
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.create_dataset("images", data=rows.images, chunks=(1, SIDE, SIDE, 3), compression="lzf")
        for name in ("labels", "source_index", "variant", "style"):
            file[name] = getattr(rows, name)
        for name, value in header().items():
            file.attrs[name] = value
        file.attrs["complete"] = 1
    assert is_right(AugmentedDataset(tmp_path / "old.h5"), [rows])


def test_other_layouts_are_read_through_hdf5(tmp_path: Path) -> None:
    rows = make_rows()
    write_file(tmp_path / "aug.h5")
    with h5py.File(tmp_path / "aug.h5") as source, h5py.File(tmp_path / "other.h5", "w") as file:
        for name in ("labels", "source_index", "variant", "style"):
            file[name] = source[name][:]
        file.create_dataset("images", data=source["images"][:], chunks=(5, SIDE, SIDE, 3), compression="gzip")
        for name, value in source.attrs.items():
            if name != "content_sha256":
                file.attrs[name] = value
    assert is_right(AugmentedDataset(tmp_path / "other.h5"), [rows])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_without_direct_reading_hdf5_reads_the_same(
    tmp_path: Path, compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "aug.h5", compression)
    monkeypatch.setattr("munitaug.data.hdf5._compression", lambda images: None)
    assert is_right(AugmentedDataset(path), [make_rows()])
    with h5py.File(path) as file:
        place = file["images"].id.get_chunk_info(3).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[place + 9] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(AugmentedFileError, match="image 3 is not what was written"):
        AugmentedDataset(path)[3]


def link_elsewhere(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink("secret.h5", "labels")


def store_elsewhere(file: h5py.File) -> None:
    del file["labels"]
    file.create_dataset("labels", (ROWS,), "<i8", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def lie_elsewhere(file: h5py.File) -> None:
    del file["labels"]
    layout = h5py.VirtualLayout((ROWS,), "<i8")
    layout[:] = h5py.VirtualSource("secret.h5", "labels", (ROWS,))
    file.create_virtual_dataset("labels", layout)


def claim_many_rows(file: h5py.File) -> None:
    for name in ("labels", "source_index", "variant", "style", "images", "image_crc32", "style_crc32"):
        old = file[name]
        shape, kind = (10**12, *old.shape[1:]), old.dtype
        del file[name]
        file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]) if name == "images" else None)


def claim_large_images(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (ROWS, 2**17, 2**17, 3), "u1", chunks=(1, 64, 64, 3), compression="gzip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link_elsewhere, "/labels should be i8"),
        (store_elsewhere, "/labels lies in another file, which is not followed"),
        (lie_elsewhere, "/labels lies in another file, which is not followed"),
        (claim_many_rows, "claims 1000000000000 rows, which it cannot hold"),
        (claim_large_images, "/images claims 51539607552 bytes a row"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, change: Callable[[h5py.File], None], message: str) -> None:
    path = write_file(tmp_path / "aug.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(AugmentedFileError, match=message):
        AugmentedDataset(path)


def test_a_packed_image_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    all_rows, path = make_rows(), tmp_path / "aug.h5"
    first = Rows(*(column[:1] for column in all_rows))  # type: ignore[arg-type]
    bomb = pack_images(np.zeros((1, 500, 500, 3), np.uint8), "gzip")
    with AugmentedFileWriter(path, 1, Layout(SIDE, SIDE, 3, STYLE, "gzip")) as writer:
        writer.append(first, bomb)
        writer.seal(header())
    with pytest.raises(AugmentedFileError, match="image 0 is not what was written"):
        AugmentedDataset(path)[0]


def test_changed_attributes_are_found(tmp_path: Path) -> None:
    path = write_file(tmp_path / "aug.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["class_names"] = json.dumps(["b", "a", "c"])
    with pytest.raises(AugmentedFileError, match="its rows or attributes are not those it was written with"):
        AugmentedDataset(path)


def test_a_changed_style_code_is_found_when_it_is_read_and_by_a_check(tmp_path: Path) -> None:
    path = write_file(tmp_path / "aug.h5")
    with h5py.File(path, "r+") as file:
        file["style"][5, 2] += 1.0
    dataset = AugmentedDataset(path)
    assert dataset.style(4).tolist() == make_rows().style[4].tolist()
    with pytest.raises(AugmentedFileError, match="the style of row 5 is not what was written"):
        dataset.style(5)
    with pytest.raises(AugmentedFileError, match="the style of row 5 is not what was written"):
        dataset.check()
