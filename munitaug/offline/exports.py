"""An augmented file in the forms that other libraries read: a folder of images, WebDataset, Parquet.

Floor 4: imports data, files, images and types.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, get_args

from torch import Tensor
from tqdm import tqdm

from munitaug.data.hdf5 import AugmentedDataset
from munitaug.files import making_folder
from munitaug.images import tensor_to_pil
from munitaug.types import UNLABELLED

DataFormat = Literal["folder", "webdataset", "parquet"]
DATA_FORMATS: tuple[DataFormat, ...] = get_args(DataFormat)
PROVENANCE_NAME = ".provenance.json"
"""Hidden, so that readers that take every file of a folder pass it by."""
_AT_ONCE = 256
_NAMED_CLASSES = 10
_SPLIT = re.compile(
    r"(^|[-._ 0-9])(train(ing)?|valid(ation)?|val|dev|test(ing)?|eval(uation)?)($|[-._ 0-9])", re.IGNORECASE
)
"""What huggingface/datasets takes a folder's name for a split by (src/datasets/data_files.py)."""


class ArrowTable(Protocol):
    """What is used here of a ``pyarrow.Table``."""

    schema: object


@dataclass(frozen=True)
class ExportRow:
    """One row with its picture packed.

    Args:
        name: of its files, without an ending.
        png: the bytes of a PNG file.
        label: the class, or -1.
        source_index: place of the original in its domain.
        variant: 0 to K - 1, or -1 for the original.
        style: the code, S numbers.
    """

    name: str
    png: bytes
    label: int
    source_index: int
    variant: int
    style: list[float]

    def facts(self) -> dict[str, object]:
        """Gives all but the picture."""
        names = ("label", "source_index", "variant", "style")
        return {name: getattr(self, name) for name in names}

    def webdataset_files(self) -> dict[str, bytes]:
        """Gives what WebDataset keeps of a row, by ending."""
        return {"png": self.png, "cls": str(self.label).encode(), "json": json.dumps(self.facts()).encode()}


def export_data(
    source: str | Path,
    out: str | Path,
    *,
    format: DataFormat = "folder",
    rows_per_file: int = 10_000,
    progress: bool = True,
) -> Path:
    """Writes a generated file, or all shards of an index, in another form; gives the folder.

    - "folder": a PNG per image in a sub-folder per class, and ``metadata.jsonl`` (label, source_index, variant, style),
      as torchvision's and timm's ImageFolder and ``datasets.load_dataset("imagefolder", data_files="out/**")`` read it
      (with ``data_dir`` it takes classes called train, test and the like for splits, of which this warns). ImageFolder
      numbers the folders it finds: class names out of order get a number in front, so that its labels are the file's,
      and images without a label become a last class. It warns of classes without an image, for which no folder stands;
    - "webdataset": ``data-000000.tar`` and so on, per row a ``.png``, a ``.cls`` and a ``.json``;
    - "parquet": ``data-00000-of-00004.parquet``, as ``datasets.load_dataset("parquet")`` reads it, with images decoded
      and classes named. Needs pyarrow: ``pip install "munitaug[parquet]"``.

    Pictures are PNG, so no pixel changes. Where they come from is kept in ``.provenance.json``.

    Args:
        source: a file made by ``munitaug generate``.
        out: folder to make; it appears when all of it is written.
        format: one of the above.
        rows_per_file: rows of a tar or Parquet file.
        progress: show a progress bar.

    Raises:
        FileExistsError: ``out`` exists.
        BlockingIOError: another process writes ``out``.
        AugmentedFileError: the file, a shard of it or one image is damaged.
        ValueError: unknown format, or rows_per_file below 1.
        ImportError: pyarrow is missing.
    """
    if format not in DATA_FORMATS:
        raise ValueError(f"format must be one of {', '.join(DATA_FORMATS)}, got {format!r}")
    if rows_per_file < 1:
        raise ValueError(f"rows_per_file must be at least 1, got {rows_per_file}")
    if format == "parquet":
        _pyarrow()
    folder, dataset = Path(out).expanduser(), AugmentedDataset(source)
    with (
        making_folder(folder) as unfinished,
        tqdm(_rows(dataset), total=len(dataset), unit="image", disable=not progress) as rows,
    ):
        if format == "folder":
            _write_folder(rows, unfinished, class_folders(dataset.class_names, dataset.labels.tolist()))
        elif format == "webdataset":
            _write_tars(rows, unfinished, len(dataset), rows_per_file)
        else:
            _write_parquet(rows, unfinished, dataset, rows_per_file)
        (unfinished / PROVENANCE_NAME).write_text(json.dumps(dataset.provenance, indent=1), encoding="utf-8")
    return folder


def class_folders(class_names: Sequence[str], labels: Iterable[int]) -> dict[int, str]:
    """Gives the folder of every class, and of -1 where images without a label are, so that folders sort as classes do.

    A class has its own name where all are good names in sorted order, else its number in front. Unlabelled images come
    last. Warns of classes without an image: readers that number the folders they find give other numbers then.

    Args:
        class_names: in label order.
        labels: of all images; those beyond the names have numbers for names.
    """
    found = set(labels)
    numbers = sorted(label for label in found if label >= 0)
    names = dict(enumerate(class_names if numbers else ()))
    names |= {number: f"{number:05d}" for number in numbers if number >= len(class_names)}
    count = max(names, default=-1) + 1
    _warn_of_absent(found, count)
    if found and min(found) < 0:
        names[UNLABELLED] = "unlabelled" if names else "images"
    own = list(names.values())
    _warn_of_splits(own)
    plain = [re.sub(r"[^\w. -]", "_", name).strip(" .")[:100] for name in own]
    are_good = (
        own == plain == sorted(own) == sorted(own, key=_natural_order) and "" not in own and "metadata.jsonl" not in own
    )
    if are_good and len({name.casefold() for name in own}) == len(own):
        return names
    digits = max(5, len(str(count)))
    return {
        label: f"{count if label == UNLABELLED else label:0{digits}d}-{name}"
        for label, name in zip(names, plain, strict=True)
    }


def _natural_order(name: str) -> list[str | int]:
    """Gives what timm sorts folders by."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def image_to_png(image: Tensor) -> bytes:
    """Gives the PNG file of uint8 C x H x W; C is 1 to 4."""
    buffer = io.BytesIO()
    tensor_to_pil(image).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def parquet_table(rows: Sequence[ExportRow], class_names: Sequence[str]) -> ArrowTable:
    """Gives rows as a table of Arrow, whose schema tells Hugging Face's datasets what the columns are."""
    pa = _pyarrow()
    columns = {
        "image": pa.array(
            [{"bytes": row.png, "path": f"{row.name}.png"} for row in rows],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array([row.label for row in rows], pa.int64()),
        "source_index": pa.array([row.source_index for row in rows], pa.int64()),
        "variant": pa.array([row.variant for row in rows], pa.int16()),
        "style": pa.array([row.style for row in rows], pa.list_(pa.float32())),
    }
    label = {"names": list(class_names), "_type": "ClassLabel"} if class_names else {"dtype": "int64", "_type": "Value"}
    features = {
        "image": {"_type": "Image"},
        "label": label,
        "source_index": {"dtype": "int64", "_type": "Value"},
        "variant": {"dtype": "int16", "_type": "Value"},
        "style": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table: ArrowTable = pa.table(columns).replace_schema_metadata(metadata)
    return table


def _rows(dataset: AugmentedDataset) -> Iterator[ExportRow]:
    """Gives all rows in order; several threads pack pictures, a few hundred of which are in memory."""
    columns = [column.tolist() for column in (dataset.labels, dataset.source_indices, dataset.variants)]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(dataset), _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, len(dataset)))
            pictures = pool.map(image_to_png, [dataset[row][0] for row in numbers])
            for row, png in zip(numbers, pictures, strict=True):
                label, source_index, variant = (column[row] for column in columns)
                yield ExportRow(f"{row:09d}", png, label, source_index, variant, dataset.style(row).tolist())


def _warn_of_absent(found: set[int], count: int) -> None:
    absent = count - sum(label >= 0 for label in found)
    if absent:
        some = islice((str(label) for label in range(count) if label not in found), _NAMED_CLASSES)
        rest = f" and {absent - _NAMED_CLASSES} more" if absent > _NAMED_CLASSES else ""
        warnings.warn(
            f"classes without an image: {', '.join(some)}{rest}. ImageFolder numbers the folders it finds, so its "
            "labels may be other numbers than the file's; those are in metadata.jsonl",
            stacklevel=4,
        )


def _warn_of_splits(names: Sequence[str]) -> None:
    splits = [name for name in names if _SPLIT.search(name)]
    if splits:
        warnings.warn(
            f"Hugging Face's imagefolder takes {', '.join(splits[:_NAMED_CLASSES])} for a split of the data where it "
            "is given data_dir, and drops the other classes; give it data_files='FOLDER/**'",
            stacklevel=4,
        )


def _write_folder(rows: Iterator[ExportRow] | tqdm[ExportRow], folder: Path, classes: Mapping[int, str]) -> None:
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        for row in rows:
            inside = classes[max(row.label, UNLABELLED)]
            (folder / inside).mkdir(exist_ok=True)
            name = f"{inside}/{row.name}.png"
            (folder / name).write_bytes(row.png)
            metadata.write(json.dumps({"file_name": name, **row.facts()}) + "\n")


def _write_tars(rows: Iterator[ExportRow] | tqdm[ExportRow], folder: Path, count: int, rows_per_file: int) -> None:
    remaining = iter(rows)
    for number in range(-(-count // rows_per_file)):
        with tarfile.open(folder / f"data-{number:06d}.tar", "w") as archive:
            for _ in range(min(rows_per_file, count - number * rows_per_file)):
                row = next(remaining)
                for ending, content in row.webdataset_files().items():
                    member = tarfile.TarInfo(f"{row.name}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def _write_parquet(
    rows: Iterator[ExportRow] | tqdm[ExportRow], folder: Path, dataset: AugmentedDataset, rows_per_file: int
) -> None:
    from pyarrow import parquet

    remaining, files = iter(rows), -(-len(dataset) // rows_per_file)
    for number in range(files):
        count = min(rows_per_file, len(dataset) - number * rows_per_file)
        schema = parquet_table([], dataset.class_names).schema
        with parquet.ParquetWriter(folder / f"data-{number:05d}-of-{files:05d}.parquet", schema) as file:
            for start in range(0, count, _AT_ONCE):
                group = [next(remaining) for _ in range(min(_AT_ONCE, count - start))]
                file.write_table(parquet_table(group, dataset.class_names))


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError('Parquet needs pyarrow; install it with pip install "munitaug[parquet]"') from error
    module: ModuleType = pyarrow
    return module
