"""Plain styled training: a classifier learns from source images and their translations, without self-training.

Each translator of METHODS alone and with semantic consistency; and, for MUNIT, online (fresh styles at every step)
against offline (K variants of each source image, fixed before training), with the same number of updates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import munitaug
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.self_training import SEMANTIC_WEIGHT, styled
from munitaug.adaptation import BatchOf, ClassicAugmentation, fit
from munitaug.random import torch_generator

OFFLINE_VARIANTS = (1, 3, 5, 10)
LEVELS_PER_UNIT = 127.5


def offline(method: str, variants: int) -> ConditionFunction:
    """Gives the condition of ``variants`` fixed translations of every source image.

    Args:
        method: a name of METHODS.
        variants: K.
    """

    def condition(cell: Cell) -> nn.Module:
        return fit(
            cell.new_classifier(), offline_batches(cell, cell.translator_of(method, 0.0), variants), cell.settings
        )

    return condition


def offline_batches(cell: Cell, translator: munitaug.Translator, variants: int) -> BatchOf:
    """Gives source images beside one of their fixed translations, both with classic augmentation.

    Translating is pure, so variant k of image i is fixed once its style code is. Codes are drawn once, and a variant is
    made when it is asked for, rounded to 8 bits as a file would hold it: the same training as from a file, without the
    memory for K copies of the source. The first variants of a larger K are those of a smaller one, and batches show the
    same source images as online training does.

    Args:
        cell: its task, settings and seed.
        translator: source -> target.
        variants: K, 1 to 10.
    """
    task, settings = cell.task, cell.settings
    drawn = torch_generator(cell.seed, "offline styles")
    styles = munitaug.style_source("prior", translator.style_dim)
    codes = styles.sample(len(task.source_images), max(OFFLINE_VARIANTS), drawn)
    augmentation = ClassicAugmentation()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(cell.seed, "styled", step)
        index = torch.randint(len(task.source_images), (settings.batch_size,), generator=generator)
        which = torch.randint(variants, (settings.batch_size,), generator=generator)
        images, labels = task.source_images[index], task.source_labels[index]
        with torch.no_grad():
            made = translator.translate(images, codes[index, which][:, None].to(images.device)).squeeze(1)
        fixed = ((made + 1.0) * LEVELS_PER_UNIT).round().clamp(0.0, 2.0 * LEVELS_PER_UNIT) / LEVELS_PER_UNIT - 1.0
        return augmentation(torch.cat([images, fixed]), generator), torch.cat([labels, labels])

    return batch


STYLED: dict[str, ConditionFunction] = {
    **{method: styled(method, 0.0) for method in munitaug.METHODS},
    **{f"{method}-semantic": styled(method, SEMANTIC_WEIGHT) for method in munitaug.METHODS},
    **{f"munit-offline-{variants}": offline("munit", variants) for variants in OFFLINE_VARIANTS},
}
"""By name, as they stand in the benchmark's table; "munit" is the online side of the offline ones."""
