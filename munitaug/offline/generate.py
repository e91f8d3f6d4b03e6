"""Offline generation: K styled variants of every image of a domain, in one HDF5 file, stoppable at any moment.

Floor 4: imports data, kernel, networks, random, styles, translator, types and its own room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from tqdm import tqdm

from munitaug.data.domain import ImageDomain
from munitaug.data.hdf5 import ORIGINAL_VARIANT, Compression, Rows, empty_rows
from munitaug.kernel import translate_images
from munitaug.networks.modes import evaluation_mode
from munitaug.offline.parts import PartsFolder
from munitaug.offline.plan import Plan, make_plan
from munitaug.random import torch_generator
from munitaug.styles import StyleSource
from munitaug.translator import Translator
from munitaug.types import UNLABELLED, DomainError


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
) -> Path:
    """Writes an HDF5 file of styled variants, to be read with ``AugmentedDataset``; gives its path.

    A run that was stopped, by whatever means, goes on where it was when the same call is made again, and gives the
    same bytes. Until the end its pieces lie in ``<path>.parts``, so for a moment the disk holds everything twice.

    The style of variant k of image i depends on (seed, i, k) alone. Pixels depend on the batch size only through the
    rounding of the device's arithmetic: mostly hidden by the rounding to 8 bits, but not promised; at one batch size
    they repeat on one device (on a GPU as far as its kernels are deterministic).

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

    Raises:
        FileExistsError: the output exists, and overwrite is False.
        ValueError: an argument is out of range, several variants of a one-to-one method, codes of the wrong length, or
            ``<path>.parts`` holds an unfinished run with other arguments.
        TypeError: provenance holds something that JSON cannot.
        DomainError: images of different sizes.
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
    )
    output = Path(path)
    parts = PartsFolder(output, plan)
    parts.refuse_finished(overwrite)
    with parts.locked():
        if not parts.begin(overwrite):
            with evaluation_mode(translator):
                _make_missing_parts(parts, _PartMaker(translator, domain, styles, plan), should_stop, progress)
            parts.merge(should_stop)
        parts.remove()
    return output


def item_styles(styles: StyleSource, seed: int, item: int, variants: int) -> Tensor:
    """Gives 1 x K x S codes of one source image; code k is a function of (seed, item, k) alone."""
    draws = [styles.sample(1, 1, torch_generator(seed, "style", item, variant)) for variant in range(variants)]
    return torch.cat(draws, dim=1)


def _make_missing_parts(
    parts: PartsFolder, maker: _PartMaker, should_stop: Callable[[], bool] | None, progress: bool
) -> None:
    plan, missing = parts.plan, parts.missing()
    done = plan.rows - plan.rows_per_item * sum(len(plan.part_items(part)) for part in missing)
    with tqdm(total=plan.rows, initial=done, unit="image", disable=not progress) as bar:
        for part in missing:
            rows = empty_rows(len(plan.part_items(part)) * plan.rows_per_item, plan.layout)
            filled = 0
            for batch in maker.batches(part):
                parts.stop_if(should_stop)
                filled += maker.fill(rows, filled, batch)
                bar.update(len(batch) * plan.rows_per_item)
            parts.write(part, rows)


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
        labels = domain.labels
        self.labels = torch.full((len(domain),), UNLABELLED) if labels is None else labels

    def batches(self, part: int) -> list[range]:
        """Gives the source images of a part in batches that begin at multiples of the batch size."""
        items, size = self.plan.part_items(part), self.plan.batch_size
        return [items[start : start + size] for start in range(0, len(items), size)]

    def fill(self, rows: Rows, start: int, batch: range) -> int:
        """Writes the rows of a batch of source images from row ``start`` on; gives their number."""
        plan = self.plan
        originals = self._originals(batch)
        codes = torch.cat([item_styles(self.styles, plan.seed, item, plan.variants) for item in batch])
        images = translate_images(self.translator, originals, codes)
        numbers = torch.arange(plan.variants, dtype=torch.int16)
        if plan.keep_original:
            images = torch.cat([originals[:, None], images], dim=1)
            codes = torch.cat([torch.zeros_like(codes[:, :1]), codes], dim=1)
            numbers = torch.cat([torch.tensor([ORIGINAL_VARIANT], dtype=torch.int16), numbers])
        items = torch.arange(batch.start, batch.stop)
        place = slice(start, start + len(batch) * plan.rows_per_item)
        rows.images[place] = images.flatten(0, 1).permute(0, 2, 3, 1).numpy()
        rows.labels[place] = self.labels[items].repeat_interleave(plan.rows_per_item).numpy()
        rows.source_index[place] = items.repeat_interleave(plan.rows_per_item).numpy()
        rows.variant[place] = numbers.repeat(len(batch)).numpy()
        rows.style[place] = codes.flatten(0, 1).numpy()
        return place.stop - start

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
