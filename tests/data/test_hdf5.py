"""The HDF5 file of augmented images: what is read back, by whom, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from munitaug.data.augmented_file import (
    AugmentedFileError,
    AugmentedFileWriter,
    Layout,
    Rows,
    header_attributes,
)
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.data.packing import COMPRESSIONS, Compression, pack_images

ROWS, HEIGHT, WIDTH, CHANNELS, STYLE = 23, 16, 20, 3, 5


def make_rows(count: int = ROWS, seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, HEIGHT, WIDTH, CHANNELS), dtype=np.uint8)
    images[::2] = 7  # half of them can be packed, half cannot
    return Rows(
        images,
        generator.integers(-1, 10, count),
        np.arange(count) // 2,
        (np.arange(count) % 2).astype(np.int16),
        generator.normal(size=(count, STYLE)).astype(np.float32),
    )


def header() -> dict[str, str | int]:
    return header_attributes(
        config={"method": "munit", "nested": {"weights": [1, 2.5]}},
        checkpoint_sha256="ab" * 32,
        seed=-3,
        variants=2,
        class_names=["naught", "één"],
    )


def write_file(path: Path, rows: Rows, compression: Compression = "lzf", sealed: bool = True) -> Path:
    layout = Layout(HEIGHT, WIDTH, CHANNELS, STYLE, compression)
    with AugmentedFileWriter(path, len(rows.labels), layout) as writer:
        writer.append(rows, pack_images(rows.images, compression))
        if sealed:
            writer.seal(header())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_file(tmp_path / "aug.h5", make_rows())


def change_attribute(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_item_is_read_as_it_was_written(tmp_path: Path, compression: Compression) -> None:
    rows = make_rows()
    dataset = AugmentedDataset(write_file(tmp_path / "aug.h5", rows, compression))
    assert len(dataset) == ROWS
    for index in range(ROWS):
        image, label = dataset[index]
        assert image.dtype == torch.uint8
        assert image.permute(1, 2, 0).is_contiguous()
        assert type(label) is int
        np.testing.assert_array_equal(image.numpy(), np.moveaxis(rows.images[index], 2, 0))
        assert label == rows.labels[index]
        np.testing.assert_array_equal(dataset.style(index).numpy(), rows.style[index])
    np.testing.assert_array_equal(dataset.labels.numpy(), rows.labels)
    np.testing.assert_array_equal(dataset.source_indices.numpy(), rows.source_index)
    np.testing.assert_array_equal(dataset.variants.numpy(), rows.variant)
    assert dataset.image_shape == (CHANNELS, HEIGHT, WIDTH)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_batch_is_the_list_of_its_items(tmp_path: Path, compression: Compression) -> None:
    dataset = AugmentedDataset(write_file(tmp_path / "aug.h5", make_rows(), compression))
    indices = [5, 0, -1, 5, 22]
    batch = dataset.__getitems__(indices)
    assert [label for _, label in batch] == [dataset[index][1] for index in indices]
    assert all(torch.equal(image, dataset[index][0]) for (image, _), index in zip(batch, indices, strict=True))
    assert dataset.__getitems__([]) == []
    batch[0][0].zero_()
    assert torch.equal(batch[3][0], dataset[5][0])


def test_columns_are_given_as_copies(path: Path) -> None:
    dataset = AugmentedDataset(path)
    label = dataset[0][1]
    for column in (dataset.labels, dataset.source_indices, dataset.variants):
        column[0] = 99
    assert dataset[0][1] == dataset.labels[0] == label
    assert 99 not in (dataset.source_indices[0], dataset.variants[0])


def test_negative_numbers_count_from_the_end_and_others_are_refused(path: Path) -> None:
    dataset = AugmentedDataset(path)
    assert torch.equal(dataset[-1][0], dataset[ROWS - 1][0])
    assert torch.equal(dataset[np.arange(ROWS)[3]][0], dataset[3][0])
    for index in (ROWS, -ROWS - 1):
        with pytest.raises(IndexError, match=f"row {index} of .*, which has {ROWS} rows"):
            dataset[index]
        with pytest.raises(IndexError, match="23 rows"):
            dataset.__getitems__([0, index])


def test_class_names_and_provenance_are_kept(path: Path) -> None:
    dataset = AugmentedDataset(path)
    assert dataset.class_names == ("naught", "één")
    provenance = dataset.provenance
    assert provenance["config"] == {"method": "munit", "nested": {"weights": [1, 2.5]}}
    assert provenance["seed"] == -3
    assert provenance["variants"] == 2
    assert provenance["torch_version"] == torch.__version__
    assert provenance["range"] == "0..255"


def test_long_lists_of_classes_fit(tmp_path: Path) -> None:
    names = [f"a rather long name of class {number}" for number in range(5000)]
    with AugmentedFileWriter(tmp_path / "aug.h5", 23, Layout(HEIGHT, WIDTH, CHANNELS, STYLE)) as writer:
        writer.append(make_rows(), pack_images(make_rows().images, "lzf"))
        writer.seal(header_attributes(config={}, checkpoint_sha256="", seed=0, variants=1, class_names=names))
    assert AugmentedDataset(tmp_path / "aug.h5").class_names == tuple(names)


def test_transforms_are_applied_to_image_and_class(path: Path) -> None:
    plain = AugmentedDataset(path)
    dataset = AugmentedDataset(path, transform=lambda image: image.float() / 255, target_transform=lambda label: -label)
    torch.testing.assert_close(dataset[4][0], plain[4][0].float() / 255)
    assert dataset[4][1] == -plain[4][1]
    assert dataset.__getitems__([4])[0][1] == -plain[4][1]


@pytest.mark.parametrize(
    ("workers", "start", "read_before"), [(0, None, False), (2, "fork", False), (2, "fork", True), (1, "spawn", True)]
)
def test_workers_read_the_same_images(path: Path, workers: int, start: str | None, read_before: bool) -> None:
    dataset = AugmentedDataset(path)
    if read_before:
        dataset[0]
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=start)
    batches = list(loader)
    images, labels = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    assert torch.equal(images, torch.stack([dataset[index][0] for index in range(ROWS)]))
    assert torch.equal(labels, dataset.labels)


def test_a_pickled_data_set_reads_on(path: Path) -> None:
    dataset = AugmentedDataset(path)
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3][0], dataset[3][0])
    assert again.class_names == dataset.class_names


def test_a_closed_data_set_opens_again(path: Path) -> None:
    dataset = AugmentedDataset(path)
    first = dataset[3][0]
    dataset.close()
    dataset.close()
    assert torch.equal(dataset[3][0], first)
    dataset.close()
    assert dataset.style(0).shape == (STYLE,)


def test_a_file_that_another_program_writes_is_named(path: Path) -> None:
    with h5py.File(path, "r+"):
        command = f"from munitaug.data.hdf5 import AugmentedDataset; AugmentedDataset({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in done.stderr, done.stderr
    assert f"another program has it open for writing; close it there, then read it again: {str(path)!r}" in done.stderr
    assert len(AugmentedDataset(path)) == ROWS


def test_the_file_is_found_after_a_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    dataset = AugmentedDataset(path.name)
    monkeypatch.chdir("/")
    assert dataset[0][0].shape == (CHANNELS, HEIGHT, WIDTH)


def test_a_subset_fetches_whole_batches(path: Path) -> None:
    dataset = AugmentedDataset(path)
    (images, _), *_ = DataLoader(Subset(dataset, [9, 2, 4]), batch_size=3)
    assert torch.equal(images, torch.stack([dataset[index][0] for index in (9, 2, 4)]))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_files_are_joined_without_a_change(tmp_path: Path, compression: Compression) -> None:
    first, second = make_rows(5, seed=1), make_rows(8, seed=2)
    with AugmentedFileWriter(tmp_path / "all.h5", 13, Layout(HEIGHT, WIDTH, CHANNELS, STYLE, compression)) as writer:
        for number, rows in enumerate((first, second)):
            writer.append_file(write_file(tmp_path / f"{number}.h5", rows, compression))
        assert writer.filled == 13
        writer.seal(header())
    with h5py.File(tmp_path / "all.h5") as file:
        for name, one, two in zip(("images", "labels", "source_index", "variant", "style"), first, second, strict=True):
            np.testing.assert_array_equal(file[name][:], np.concatenate([one, two]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.h5 is not there"):
        AugmentedDataset(tmp_path / "no.h5")


def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aug.h5").write_text("images")
    with pytest.raises(AugmentedFileError, match="is not an HDF5 file"):
        AugmentedDataset(tmp_path / "aug.h5")


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "aug.h5", "w") as file:
        file["images"] = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(AugmentedFileError, match="not one of augmented images"):
        AugmentedDataset(tmp_path / "aug.h5")


def test_an_unfinished_file_is_refused(path: Path) -> None:
    change_attribute(path, "complete", 0)
    with pytest.raises(AugmentedFileError, match=r"unfinished.*generate it again"):
        AugmentedDataset(path)


def test_another_format_version_is_refused(path: Path) -> None:
    change_attribute(path, "format_version", 2)
    with pytest.raises(AugmentedFileError, match=r"has format version 2, .* reads version 1"):
        AugmentedDataset(path)


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AugmentedFileError, match="truncated or damaged"):
        AugmentedDataset(path)


def test_missing_and_unequal_columns_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file["labels"] = np.zeros(3, np.int64)
    with pytest.raises(AugmentedFileError, match="differ in length"):
        AugmentedDataset(path)
    with h5py.File(path, "r+") as file:
        del file["labels"]
    with pytest.raises(AugmentedFileError, match="/labels should be i8 with 1 dimensions"):
        AugmentedDataset(path)


def test_unknown_compression_and_wide_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="compression must be one of lzf, gzip, none, got 'zip'"):
        Layout(16, 16, 3, 8, "zip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must fit in 64 bits"):
        header_attributes(config={}, checkpoint_sha256="", seed=2**63, variants=1, class_names=[])
