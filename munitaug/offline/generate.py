"""Offline generation: K styled variants of every image of a domain, in HDF5, stoppable at any moment.

Floor 4: imports data, kernel, networks, random, styles, translator, types and its own room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from munitaug.data.augmented_file import ORIGINAL_VARIANT, Rows
from munitaug.data.domain import ImageDomain
from munitaug.data.packing import Compression, Packed, pack_images
from munitaug.default_device import on_cpu_by_default
from munitaug.kernel import translate_images, translator_device
from munitaug.networks.modes import evaluation_mode
from munitaug.offline.parts import PartsFolder, PartUnfinishedError
from munitaug.offline.plan import Plan, Stripe, make_plan
from munitaug.random import torch_generator
from munitaug.styles import ClassStyles, StyleSource
from munitaug.threads import Behind, ahead
from munitaug.translator import Translator
from munitaug.types import UNLABELLED, DomainError

DEPTH = 2
"""Batches that wait between two threads."""
MAX_PACKING_THREADS = 8
WHOLE = Stripe()


@on_cpu_by_default
def generate(
    translator: Translator,
    domain: ImageDomain,
    path: str | os.PathLike[str],
    *,
    styles: StyleSource,
    variants: int = 4,
    seed: int = 0,
    keep_original: bool = False,
    batch_size: int = 64,
    compression: Compression = "lzf",
    provenance: Mapping[str, object] | None = None,
    checkpoint_sha256: str = "",
    progress: bool = True,
    should_stop: Callable[[], bool] | None = None,
    overwrite: bool = False,
    shards: int = 0,
    stripe: Stripe = WHOLE,
) -> Path:
    """Writes an HDF5 file of styled variants, to be read with ``AugmentedDataset``; gives its path.

    A run that was stopped, by whatever means, goes on where it was when the same call is made again, and gives the
    same bytes. Until the end its pieces lie in ``<path>.parts``, so for a moment the disk holds everything twice,
    unless there are shards, which are only moved. Reading, translating and packing overlap.

    With shards, any number of processes may share the work: each makes those of its stripe, and the last one the
    index. The bytes of a shard depend on its place among the shards, not on the processes.

    The style of variant k of image i depends on (seed, i, k) alone; and on the image's label, where styles go by it.
    Pixels depend on the batch size only through the rounding of the device's arithmetic: mostly hidden by the rounding
    to 8 bits, but not promised; at one batch size they repeat on one device (on a GPU as far as its kernels are
    deterministic).

    Args:
        translator: is used in evaluation mode on the device of its weights, and put back as it was.
        domain: source images of one size; unlabelled ones get label -1.
        path: of the file; missing parent folders are made.
        styles: where style codes come from.
        variants: K, styled images per source image; row i * K + k is variant k of image i.
        seed: of the style draws, a 64-bit signed number.
        keep_original: puts every source image, untouched, before its variants, as variant -1 with style 0:
            K + 1 rows per image.
        batch_size: source images translated at once.
        compression: "lzf", "gzip" or "none".
        provenance: JSON values that say where the translator and styles come from; kept in the file.
        checkpoint_sha256: of the translator's checkpoint; kept in the file.
        progress: whether to show a bar on stderr.
        should_stop: asked before every batch; the run ends in order when it says True.
        overwrite: an existing output is replaced when the new one is complete; unfinished parts of another plan go.
        shards: files ``aug-00007-of-00064.h5`` of which ``path`` is the index; 0 writes one file.
        stripe: which of several processes this is.

    Raises:
        FileExistsError: the output exists, and overwrite is False.
        ValueError: an argument is out of range, several variants of a one-to-one method, codes of the wrong length, or
            ``<path>.parts`` holds finished pieces of a run with other arguments.
        TypeError: a number is not whole, or provenance holds something that JSON cannot.
        DomainError: images of different sizes, or too small.
        BlockingIOError: another process is writing this output.
        OSError: the disk is full; the message says what is safe.
        Interrupted: should_stop said so; the message says how to continue.
    """
    plan = make_plan(
        translator,
        domain,
        styles,
        variants=variants,
        seed=seed,
        keep_original=keep_original,
        batch_size=batch_size,
        compression=compression,
        provenance=provenance or {},
        checkpoint_sha256=checkpoint_sha256,
        shards=shards,
    )
    output = Path(path).expanduser()
    parts = PartsFolder(output, plan, stripe)
    parts.refuse_finished(overwrite)
    with parts.locked():
        missing = parts.begin(overwrite)
        with evaluation_mode(translator):
            _make_parts(parts, missing, _PartMaker(translator, domain, styles, plan), should_stop, progress)
        parts.finish(should_stop)
    return output


def item_styles(styles: StyleSource, seed: int, item: int | str, variants: int, label: int = UNLABELLED) -> Tensor:
    """Gives 1 x K x S float32 codes of one source image, a number or a path.

    Code k is a function of (seed, item, k) alone, and of the label where styles go by it (ClassBankStyles).
    """
    generators = [torch_generator(seed, "style", item, variant) for variant in range(variants)]
    if isinstance(styles, ClassStyles):
        draws = [styles.sample_for(torch.tensor([label]), 1, generator) for generator in generators]
    else:
        draws = [styles.sample(1, 1, generator) for generator in generators]
    return torch.cat(draws, dim=1).float()


def _make_parts(
    parts: PartsFolder,
    missing: list[int],
    maker: _PartMaker,
    should_stop: Callable[[], bool] | None,
    progress: bool,
) -> None:
    """Reads, translates and writes, each in a thread of its own; of each, a few batches are in memory."""
    plan = parts.plan
    mine = (part for part in range(plan.parts) if parts.stripe.has(part))
    rows = {part: plan.rows_per_item * len(plan.part_items(part)) for part in mine}
    done = sum(rows.values()) - sum(rows[part] for part in missing)
    batches = (maker.read(part, batch) for part in missing for batch in plan.part_batches(part))
    with (
        tqdm(total=sum(rows.values()), initial=done, unit="image", disable=not progress) as bar,
        ThreadPoolExecutor(_packing_threads()) as pool,
        Behind[_Made](lambda made: _write_parts(parts, maker, pool, made), DEPTH) as writer,
        closing(ahead(batches, DEPTH)) as read,
    ):
        for batch in read:
            if should_stop is not None and should_stop():
                writer.finish()
                raise parts.interruption()
            writer.put(maker.translate(batch))
            bar.update(len(batch.items) * plan.rows_per_item)


def _write_parts(parts: PartsFolder, maker: _PartMaker, pool: ThreadPoolExecutor, made: Iterator[_Made]) -> None:
    """Packs and writes batches, part after part; the last part may be unfinished when they end."""
    for first in made:
        rows_of_part = len(parts.plan.part_items(first.part)) * parts.plan.rows_per_item
        with suppress(PartUnfinishedError), parts.writing(first.part) as file:
            for batch in chain([first], made):
                rows = maker.rows(batch)
                file.append(rows, _packed(rows.images, parts.plan.layout.compression, pool))
                if file.filled == rows_of_part:
                    break


def _packed(images: npt.NDArray[np.uint8], compression: Compression, pool: ThreadPoolExecutor) -> list[Packed]:
    """Gives the chunks of the images, packed by all threads of the pool."""
    pieces = np.array_split(images, _packing_threads())
    return list(chain.from_iterable(pool.map(lambda piece: pack_images(piece, compression), pieces)))


def _packing_threads() -> int:
    """Gives the cores of this process beside the one that translates, 1 to MAX_PACKING_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    neighbours = os.environ.get("LOCAL_WORLD_SIZE", "1")
    share = cores // max(int(neighbours), 1) if neighbours.isdigit() else cores
    return max(1, min(MAX_PACKING_THREADS, share - 1))


class _Read(NamedTuple):
    """A batch of source images, N x C x H x W, with N x K x S codes, in pinned memory where a GPU waits for them."""

    part: int
    items: range
    originals: Tensor
    codes: Tensor


class _Made(NamedTuple):
    """The rows of a batch: N(K + 1) x H x W x C images on the CPU, which are there when ``arrived`` says so."""

    part: int
    items: range
    images: Tensor
    codes: Tensor
    arrived: torch.cuda.Event | None


@final
class _PartMaker:
    """Turns source images into rows.

    Args:
        translator: in evaluation mode.
        domain: source images.
        styles: where style codes come from.
        plan: of the run.
    """

    def __init__(self, translator: Translator, domain: ImageDomain, styles: StyleSource, plan: Plan) -> None:
        self.translator = translator
        self.domain = domain
        self.styles = styles
        self.plan = plan
        self.device = translator_device(translator)
        labels = domain.checked_labels()
        self.labels = torch.full((len(domain),), UNLABELLED) if labels is None else labels

    def read(self, part: int, batch: range) -> _Read:
        """Gives a batch of source images and their codes."""
        originals = self._originals(batch)
        plan = self.plan
        labels = self.labels[batch.start : batch.stop].tolist()
        codes = torch.cat(
            [
                item_styles(self.styles, plan.seed, item, plan.variants, label)
                for item, label in zip(batch, labels, strict=True)
            ]
        )
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):  # a thread begins with the first GPU, which may be another's
                originals, codes = originals.pin_memory(), codes.pin_memory()
        return _Read(part, batch, originals, codes)

    def translate(self, read: _Read) -> _Made:
        """Gives the images of a batch; on a GPU they may still be on their way, so that the next batch can begin."""
        originals = read.originals.to(self.device, non_blocking=True)
        images = translate_images(self.translator, originals, read.codes)
        codes = read.codes
        if self.plan.keep_original:
            images = torch.cat([originals[:, None], images], dim=1)
            codes = torch.cat([torch.zeros_like(codes[:, :1]), codes], dim=1)
        images = images.flatten(0, 1).permute(0, 2, 3, 1)
        if self.device.type != "cuda":
            return _Made(read.part, read.items, images.cpu(), codes, None)
        host = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
        host.copy_(images.contiguous(), non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))
        return _Made(read.part, read.items, host, codes, arrived)

    def rows(self, made: _Made) -> Rows:
        """Gives the rows of a batch, once its images have arrived."""
        if made.arrived is not None:
            made.arrived.synchronize()
        plan = self.plan
        first = ORIGINAL_VARIANT if plan.keep_original else 0
        items = torch.arange(made.items.start, made.items.stop)
        return Rows(
            np.ascontiguousarray(made.images.numpy()),
            self.labels[items].repeat_interleave(plan.rows_per_item).numpy(),
            items.repeat_interleave(plan.rows_per_item).numpy(),
            np.tile(np.arange(first, plan.variants, dtype=np.int16), len(items)),
            made.codes.flatten(0, 1).numpy(),
        )

    def _originals(self, batch: range) -> Tensor:
        images = self.domain.images(batch)
        layout = self.plan.layout
        wanted = (layout.channels, layout.height, layout.width)
        if tuple(images.shape[1:]) != wanted:
            raise DomainError(
                f"{self.domain.name}: images of different sizes cannot go into one file: the first is {wanted} as "
                f"C, H, W, those from number {batch.start} on are {tuple(images.shape[1:])}; give a size, for example "
                "--size 64"
            )
        return images
