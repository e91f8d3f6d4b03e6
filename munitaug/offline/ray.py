"""Ray Data as the engine of generation: for clusters, and for sources that Ray reads.

Ray reads, schedules, retries and writes; here stand only the generators of its actor pool. Styles are the same function
of (seed, item, variant) as everywhere, so the images are those of :func:`munitaug.offline.generate.generate`.
Ray is imported when it is needed: ``pip install "munitaug[ray]"``.

Floor 4: imports data, files, images, kernel, styles, translator, types and its own room.
"""

from __future__ import annotations

import copy
import errno
import io
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from munitaug.data.augmented_file import ORIGINAL_VARIANT
from munitaug.data.decode import decode_file
from munitaug.data.domain import ImageDomain
from munitaug.files import making_folder
from munitaug.images import array_to_tensor
from munitaug.kernel import translate_images
from munitaug.offline.exports import ArrowTable, ExportRow, image_to_png, parquet_table
from munitaug.offline.generate import generate as generate_files
from munitaug.offline.generate import item_styles
from munitaug.offline.plan import Stripe, check_counts
from munitaug.settings import whole_number
from munitaug.styles import StyleSource
from munitaug.translator import Translator
from munitaug.types import UNLABELLED, DomainError

RayFormat = Literal["parquet", "webdataset", "hdf5"]
RAY_FORMATS: tuple[RayFormat, ...] = get_args(RayFormat)
Batch = dict[str, npt.NDArray[np.generic]]


class RayDataset(Protocol):
    """What is used here of a ``ray.data.Dataset``."""

    def map_batches(self, fn: type, **settings: object) -> RayDataset:
        """Gives the data set of what ``fn`` makes of its batches."""
        ...

    def write_parquet(self, path: str) -> None:
        """Writes Parquet files."""
        ...

    def write_webdataset(self, path: str, *, encoder: None) -> None:
        """Writes tar files."""
        ...


Source = ImageDomain | RayDataset


@dataclass(frozen=True)
class _Job:
    """What every actor is told.

    Args:
        translator: as it is sent to the actors, on the CPU.
        styles: where codes come from.
        domain: of the images, where they do not come in the batches.
        variants: K.
        seed: of the styles.
        keep_original: puts each source image before its variants.
        on_gpu: whether the actor has a GPU.
        as_table: gives tables of Arrow for Parquet, else columns for WebDataset.
        class_names: of the labels.
    """

    translator: Translator
    styles: StyleSource
    domain: ImageDomain | None
    variants: int
    seed: int
    keep_original: bool
    on_gpu: bool
    as_table: bool
    class_names: Sequence[str]


@dataclass(frozen=True)
class _ShardSettings:
    """Where HDF5 shards go.

    Args:
        path: of the index.
        shards: their number.
        batch_size: source images translated at once.
    """

    path: Path
    shards: int
    batch_size: int


def generate(
    translator: Translator,
    source: Source,
    out: str | Path,
    *,
    styles: StyleSource,
    format: RayFormat = "parquet",
    variants: int = 4,
    seed: int = 0,
    keep_original: bool = False,
    batch_size: int = 64,
    actors: int | tuple[int, int] = 1,
    gpus_per_actor: float = 0.0,
    cpus_per_actor: float = 0.5,
    shards: int = 64,
    class_names: Sequence[str] = (),
) -> str:
    """Writes K styled variants of every image with Ray Data; gives the place written to.

    Args:
        translator: is sent to the actors once.
        source: a domain that every node can read, or a data set of Ray with the columns ``image`` (H x W x C uint8, as
            ``ray.data.read_images`` gives it, or an encoded picture, as bytes or as Hugging Face's struct, as
            ``ray.data.read_parquet`` gives it), ``source_index`` or ``path`` (which decides the styles; read_images
            has it with ``include_paths=True``) and, if there are labels, ``label``. Images of one size.
        out: of "parquet" and "webdataset" a folder to make, or a place that Ray writes to (``s3://...``); of "hdf5" the
            index file, on a disk that all nodes share.
        styles: where codes come from.
        format: "parquet" (for Hugging Face's datasets), "webdataset", or "hdf5", whose files are byte for byte those of
            ``munitaug.offline.generate`` with the same shards and no provenance, and which takes domains only.
        variants: K.
        seed: of the styles.
        keep_original: puts each source image before its variants.
        batch_size: source images translated at once.
        actors: generators side by side, or the least and the most.
        gpus_per_actor: 0 runs them on the CPU.
        cpus_per_actor: CPUs of Ray's count that each holds; some must be left for reading and writing.
        shards: of "hdf5".
        class_names: in label order; of a domain its own.

    Raises:
        ImportError: Ray is missing.
        FileExistsError: ``out`` exists.
        BlockingIOError: another process fills that folder.
        ValueError: an argument is out of range, "hdf5" of something that is no domain, or generators that leave no CPU
            to read with, on which Ray would wait for ever.
        TypeError: a number is not whole.
        DomainError: a data set without the columns that are needed, or labels that are not whole numbers.
    """
    ray, ray_data = _ray()
    if format not in RAY_FORMATS:
        raise ValueError(f"format must be one of {', '.join(RAY_FORMATS)}, got {format!r}")
    domain = source if isinstance(source, ImageDomain) else None
    variants, batch_size = whole_number("variants", variants), whole_number("batch_size", batch_size)
    seed, shards = whole_number("seed", seed), whole_number("shards", shards)
    check_counts(translator, domain, variants, batch_size)
    place = str(out) if "://" in str(out) else str(Path(out).expanduser())
    if "://" not in place and Path(place).exists():
        raise FileExistsError(errno.EEXIST, "exists already and is left as it is; choose another output", place)
    if format == "hdf5" and domain is None:
        raise ValueError("hdf5 shards number their images, which needs a domain; write parquet or webdataset")
    if format == "hdf5" and domain is not None and not 1 <= shards <= len(domain):
        raise ValueError(f"shards must be 1 to {len(domain)} (images), got {shards}")
    names = domain.class_names if domain is not None else class_names
    sent = copy.deepcopy(translator).cpu()
    job = _Job(sent, styles, domain, variants, seed, keep_original, gpus_per_actor > 0, format == "parquet", names)
    if not ray.is_initialized():
        ray.init()
    least = actors if isinstance(actors, int) else actors[0]
    _check_room(ray.cluster_resources().get("CPU", 0.0), least, cpus_per_actor)
    sizes = {"num_cpus": cpus_per_actor, "num_gpus": gpus_per_actor}
    pool = {"concurrency": actors, "batch_format": "numpy", **sizes}
    if format == "hdf5":
        settings = _ShardSettings(Path(place).absolute(), shards, batch_size)
        numbers = ray_data.range(shards)
        numbers.map_batches(_ShardMaker, batch_size=1, fn_constructor_args=(job, settings), **pool).materialize()
        return place
    items: RayDataset = ray_data.range(len(source)) if isinstance(source, ImageDomain) else source
    made = items.map_batches(_Generator, batch_size=batch_size, fn_constructor_args=(job,), **pool)
    with nullcontext(place) if "://" in place else making_folder(Path(place).absolute()) as folder:
        if format == "parquet":
            made.write_parquet(str(folder))
        else:
            made.write_webdataset(str(folder), encoder=None)
    return place


class _Generator:
    """An actor that turns batches of images, or of their numbers, into batches of rows."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.translator = job.translator.to("cuda" if job.on_gpu else "cpu").eval()
        labels = None if job.domain is None else job.domain.checked_labels()
        self.labels = None if labels is None else labels.numpy()

    def __call__(self, batch: Batch) -> Batch | ArrowTable:
        """Gives the rows of a batch: a table of Arrow, or the columns of WebDataset."""
        job = self.job
        images, keys, labels = self._read(batch)
        codes = torch.cat(
            [
                item_styles(job.styles, job.seed, key, job.variants, int(label))
                for key, label in zip(keys, labels, strict=True)
            ]
        )
        made = translate_images(self.translator, images, codes)
        first = 0
        if job.keep_original:
            made = torch.cat([images[:, None], made], dim=1)
            codes = torch.cat([torch.zeros_like(codes[:, :1]), codes], dim=1)
            first = ORIGINAL_VARIANT
        rows = [
            ExportRow(
                name=_row_name(key, place, made.shape[1]),
                png=image_to_png(made[item, place]),
                label=int(labels[item]),
                source_index=key if isinstance(key, int) else -1,
                variant=first + place,
                style=codes[item, place].tolist(),
            )
            for item, key in enumerate(keys)
            for place in range(made.shape[1])
        ]
        return parquet_table(rows, job.class_names) if job.as_table else _webdataset_columns(rows)

    def _read(self, batch: Batch) -> tuple[Tensor, list[int | str], npt.NDArray[np.generic]]:
        """Gives N x C x H x W images, what decides their styles, and their labels."""
        if self.job.domain is not None:
            items = [int(item) for item in batch["id"]]
            return self.job.domain.images(items), list(items), self._labels_of(items)
        if "image" not in batch or not {"source_index", "path"} & batch.keys():
            raise DomainError(
                f"a data set needs the columns image and source_index or path, but has {', '.join(sorted(batch))}; "
                "read images with ray.data.read_images(..., include_paths=True)"
            )
        images = [picture_to_tensor(picture) for picture in batch["image"]]
        keys: list[int | str] = (
            [int(item) for item in batch["source_index"]]
            if "source_index" in batch
            else [str(item) for item in batch["path"]]
        )
        if len({image.shape for image in images}) > 1:
            raise DomainError("images of different sizes cannot form one batch; read them with size=(64, 64)")
        labels = np.asarray(batch.get("label", np.full(len(keys), UNLABELLED)))
        if not np.issubdtype(labels.dtype, np.integer):
            raise DomainError(f"the column label must hold whole numbers, the classes, but holds {labels.dtype}")
        return torch.stack(images), keys, labels

    def _labels_of(self, items: Sequence[int]) -> npt.NDArray[np.generic]:
        return np.full(len(items), UNLABELLED) if self.labels is None else self.labels[list(items)]


class _ShardMaker:
    """An actor that makes HDF5 shards; the last one to be through makes the index."""

    def __init__(self, job: _Job, settings: _ShardSettings) -> None:
        self.job = job
        self.settings = settings
        self.translator = job.translator.to("cuda" if job.on_gpu else "cpu")

    def __call__(self, batch: Batch) -> Batch:
        """Makes the shards of these numbers."""
        job, settings = self.job, self.settings
        assert job.domain is not None
        for shard in batch["id"].tolist():
            generate_files(
                self.translator,
                job.domain,
                settings.path,
                styles=job.styles,
                variants=job.variants,
                seed=job.seed,
                keep_original=job.keep_original,
                batch_size=settings.batch_size,
                progress=False,
                shards=settings.shards,
                stripe=Stripe(int(shard), settings.shards),
            )
        return batch


def picture_to_tensor(picture: object) -> Tensor:
    """Gives uint8 C x H x W of pixels (H x W, or H x W x C) or of an encoded picture (bytes, or a struct with them).

    Raises:
        DomainError: it is neither.
        ValueError: the picture is damaged or unsuitable.
    """
    if isinstance(picture, Mapping):
        picture = picture.get("bytes")
    if isinstance(picture, bytes):
        picture = np.array(decode_file(io.BytesIO(picture)))
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise DomainError(f"an image must be uint8 H x W x C or an encoded picture, got {type(picture).__name__}")
    return array_to_tensor(picture)


def _row_name(key: int | str, place: int, rows_per_item: int) -> str:
    """Gives the number of a row, as in a file; of an image known by its path, that path without dots, and the place.

    Dots are escaped, for WebDataset's keys end at the first one.
    """
    if isinstance(key, int):
        return f"{key * rows_per_item + place:09d}"
    return f"{key.strip('/').replace('%', '%25').replace('.', '%2E')}-{place:05d}"


def _webdataset_columns(rows: Sequence[ExportRow]) -> Batch:
    files = [row.webdataset_files() for row in rows]
    columns = {ending: np.array([row_files[ending] for row_files in files], object) for ending in files[0]}
    return {"__key__": np.array([row.name for row in rows], object), **columns}


def _check_room(cpus: float, actors: int, cpus_per_actor: float) -> None:
    if actors * cpus_per_actor > cpus - 1.0:
        raise ValueError(
            f"{actors} generators of {cpus_per_actor} CPUs leave none of Ray's {cpus:g} CPUs to read with; "
            "use fewer actors or a smaller cpus_per_actor"
        )


def _ray() -> tuple[ModuleType, ModuleType]:
    """Gives Ray and Ray Data."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError('this engine needs Ray Data; install it with pip install "munitaug[ray]"') from error
    return ray, ray.data
