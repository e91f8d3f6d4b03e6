"""A generated file in other forms: read back by other code, and nothing lost on the way."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from munitaug.data.augmented_file import AugmentedFileError
from munitaug.data.domain import ArrayDomain
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.offline import export_data
from munitaug.offline.exports import DataFormat, class_folders
from tests.offline.toys import ITEMS, make_domain, run
from tests.runs import run_cli

FORMATS: tuple[DataFormat, ...] = ("folder", "webdataset", "parquet")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 images of 10 classes, two variants of each, in 3 shards."""
    return run(tmp_path_factory.mktemp("source") / "aug.h5", shards=3)


def pixels(source: Path, row: int) -> list[object]:
    with h5py.File(source) as file:
        found: list[object] = file["images"][row].tolist()
        return found


def test_the_folder_is_read_by_torchvision(source: Path, tmp_path: Path) -> None:
    folder = export_data(source, tmp_path / "deep" / "out", progress=False)
    images = ImageFolder(folder)
    assert images.classes == list("0123456789")
    assert len(images) == 2 * ITEMS
    for path, label in images.samples:
        row = int(Path(path).stem)
        assert label == row // 2 % 10
        assert np.array(Image.open(path)).tolist() == pixels(source, row)


def test_the_metadata_of_the_folder_say_what_the_file_says(source: Path, tmp_path: Path) -> None:
    folder = export_data(source, tmp_path / "out", progress=False)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    with h5py.File(source) as file:
        for row, line in enumerate(lines):
            assert line["file_name"] == f"{file['labels'][row]}/{row:09d}.png"
            assert (folder / line["file_name"]).is_file()
            assert [line[name] for name in ("label", "source_index", "variant")] == [
                file[name][row] for name in ("labels", "source_index", "variant")
            ]
            assert np.array_equal(np.float32(line["style"]), file["style"][row])
    assert len(lines) == 2 * ITEMS
    assert json.loads((folder / ".provenance.json").read_text())["config"]["method"] == "toy"


def test_unlabelled_and_grey_images_are_exported(tmp_path: Path) -> None:
    source = run(tmp_path / "aug.h5", domain=make_domain(labelled=False), keep_original=True)
    folder = export_data(source, tmp_path / "out", progress=False)
    assert sorted(entry.name for entry in folder.iterdir()) == [".provenance.json", "images", "metadata.jsonl"]
    assert len(list((folder / "images").iterdir())) == 3 * ITEMS
    line = json.loads((folder / "metadata.jsonl").read_text().splitlines()[0])
    assert (line["label"], line["variant"], line["style"]) == (-1, -1, [0.0, 0.0, 0.0])


def test_tars_hold_three_files_a_row(source: Path, tmp_path: Path) -> None:
    folder = export_data(source, tmp_path / "out", format="webdataset", rows_per_file=15, progress=False)
    tars = sorted(folder.glob("*.tar"))
    assert [tar.name for tar in tars] == ["data-000000.tar", "data-000001.tar", "data-000002.tar"]
    seen = []
    for tar in tars:
        with tarfile.open(tar) as archive:
            content = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
        for name in [name for name in content if name.endswith(".png")]:
            row, key = int(name[:-4]), name[:-4]
            assert np.array(Image.open(io.BytesIO(content[name]))).tolist() == pixels(source, row)
            assert int(content[f"{key}.cls"]) == row // 2 % 10
            assert json.loads(content[f"{key}.json"])["source_index"] == row // 2
            seen.append(row)
    assert seen == list(range(2 * ITEMS))


def test_parquet_files_say_what_their_columns_are(source: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = export_data(source, tmp_path / "out", format="parquet", rows_per_file=20, progress=False)
    tables = [parquet.read_table(file) for file in sorted(folder.glob("*.parquet"))]
    assert [table.num_rows for table in tables] == [20, 20, 4]
    features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list("0123456789"), "_type": "ClassLabel"}
    rows = [row for table in tables for row in table.to_pylist()]
    dataset = AugmentedDataset(source)
    for number, row in enumerate(rows):
        assert np.array(Image.open(io.BytesIO(row["image"]["bytes"]))).tolist() == pixels(source, number)
        assert (row["label"], row["source_index"], row["variant"]) == (number // 2 % 10, number // 2, number % 2)
        assert np.array(row["style"], np.float32).tolist() == dataset.style(number).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("format", "reader"), [("parquet", "parquet"), ("folder", "imagefolder")])
def test_hugging_face_datasets_reads_it(
    source: Path, tmp_path: Path, format: DataFormat, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    folder = export_data(source, tmp_path / "out", format=format, progress=False)
    where = {"data_files": f"{folder}/**"} if reader == "imagefolder" else {"data_dir": str(folder)}
    loaded = datasets.load_dataset(reader, **where, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 2 * ITEMS
    by_place = {(row["source_index"], row["variant"]): row for row in loaded}
    for number in (0, 7, 43):
        row = by_place[number // 2, number % 2]
        assert np.array(row["image"]).tolist() == pixels(source, number)
        assert row["label"] == number // 2 % 10
    if format == "parquet":
        assert loaded.features["label"].names == list("0123456789")


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_exists_is_left_alone(source: Path, tmp_path: Path, format: DataFormat) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        export_data(source, tmp_path / "out", format=format, progress=False)
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_an_export_that_was_stopped_leaves_no_folder_and_can_be_repeated(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            export_data(source, tmp_path / "out", format="webdataset", progress=False)
    assert os.listdir(tmp_path) == ["out.unfinished"]
    export_data(source, tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("*.tar"))
    assert os.listdir(tmp_path) == ["out"]


def test_a_damaged_shard_is_not_exported(tmp_path: Path) -> None:
    source = run(tmp_path / "aug.h5", shards=2)
    shard = tmp_path / "aug-00001-of-00002.h5"
    with h5py.File(shard) as file:
        place = file["images"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(shard.read_bytes())
    damaged[place] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(AugmentedFileError, match="aug-00001-of-00002"):
        export_data(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (["dog", "cat"], ["00000-dog", "00001-cat"]),
        (["Dog", "cat"], ["00000-Dog", "00001-cat"]),  # timm thinks little of capitals
        ([str(number) for number in range(11)], [f"{number:05d}-{number}" for number in range(11)]),
        (["../cat", "/etc"], ["00000-_cat", "00001-_etc"]),
        (["a/b", "a_b"], ["00000-a_b", "00001-a_b"]),
        (["Cat", "cat"], ["00000-Cat", "00001-cat"]),
        (["..", "x"], ["00000-", "00001-x"]),
        (["metadata.jsonl"], ["00000-metadata.jsonl"]),
        (["x" * 300], ["00000-" + "x" * 100]),
    ],
)
def test_class_names_cannot_lead_out_of_the_folder(names: list[str], folders: list[str]) -> None:
    assert list(class_folders(names, range(len(names))).values()) == folders


def domain_of(labels: list[int], names: tuple[str, ...] = ()) -> ArrayDomain:
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    return ArrayDomain("some", images.contiguous(), torch.tensor(labels), names)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, 1], ("dog", "cat")),
        (list(range(11)), tuple(str(number) for number in range(11))),
        ([1, 0, 2], ()),
        ([1, 0, 2], ("z", "images")),
    ],
)
def test_the_classes_of_torchvision_are_those_of_the_file(
    tmp_path: Path, labels: list[int], names: tuple[str, ...]
) -> None:
    source = run(tmp_path / "aug.h5", domain=domain_of(labels, names), variants=1)
    images = ImageFolder(export_data(source, tmp_path / "out", progress=False))
    assert [label for _, label in sorted((Path(path).stem, label) for path, label in images.samples)] == labels


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("cat", "images"), {"cat", "images", "unlabelled"}),
        (("cat", "unlabelled"), {"00000-cat", "00001-unlabelled", "00002-unlabelled"}),
        (("cat", "zebra"), {"00000-cat", "00001-zebra", "00002-unlabelled"}),
    ],
)
def test_images_without_a_label_are_a_last_class_of_their_own(
    tmp_path: Path, names: tuple[str, ...], folders: set[str]
) -> None:
    source = run(tmp_path / "aug.h5", domain=domain_of([1, -1, 0], names), variants=1)
    images = ImageFolder(export_data(source, tmp_path / "out", progress=False))
    assert {entry.name for entry in (tmp_path / "out").iterdir() if entry.is_dir()} == folders
    assert {int(Path(path).stem): label for path, label in images.samples} == {0: 1, 1: 2, 2: 0}


def test_classes_without_an_image_are_named(tmp_path: Path) -> None:
    source = run(tmp_path / "aug.h5", domain=domain_of([1, 2, 2, 3, 9]), variants=1)
    with pytest.warns(UserWarning, match=r"without an image: 0, 4, 5, 6, 7, 8\. ImageFolder .* in metadata\.jsonl"):
        folder = export_data(source, tmp_path / "out", progress=False)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [1, 2, 2, 3, 9]
    with pytest.warns(UserWarning, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 999989 more\."):
        assert class_folders((), [999_999]) == {999_999: "999999"}


def test_unknown_formats_and_sizes_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be one of folder, webdataset, parquet, got 'zip'"):
        export_data(source, tmp_path / "out", format="zip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows_per_file must be at least 1, got 0"):
        export_data(source, tmp_path / "out", rows_per_file=0)


def test_the_command_line_exports(source: Path, tmp_path: Path) -> None:
    outcome = run_cli("export-data", source, "--out", tmp_path / "out", "--format", "webdataset")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"exported data set: {tmp_path / 'out'}\n"
    assert (tmp_path / "out" / "data-000000.tar").is_file()
    again = run_cli("export-data", source, "--out", tmp_path / "out")
    assert again.code == 2
    assert "exists already" in again.err


def test_folders_of_over_a_hundred_thousand_classes_sort_as_classes_do() -> None:
    with pytest.warns(UserWarning, match="classes without an image"):
        folders = class_folders((), [99_999, 100_000])
    assert list(folders.values()) == sorted(folders.values()) == ["099999-99999", "100000-100000"]


@pytest.mark.parametrize("name", ["train", "test", "val", "train station", "dev.1", "Testing"])
def test_a_class_that_would_be_taken_for_a_split_is_told(name: str) -> None:
    with pytest.warns(UserWarning, match=rf"takes {name} for a split of the data where it is given data_dir"):
        class_folders(["bus", name], [0, 1])


@pytest.mark.parametrize("name", ["trainer", "latest", "valve", "contest", "device"])
def test_words_that_hold_a_split_are_none(name: str, recwarn: pytest.WarningsRecorder) -> None:
    class_folders(["bus", name], [0, 1])
    assert not recwarn


def test_images_without_a_label_are_not_taken_for_a_class_that_is_absent() -> None:
    with pytest.warns(UserWarning, match=r"classes without an image: 1\. "):
        class_folders(("cat", "dog"), [-1, 0])
