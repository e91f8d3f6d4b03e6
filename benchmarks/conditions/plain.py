"""Without any use of the target: source images as they are, with classic augmentation; and the oracle above all."""

from __future__ import annotations

from torch import nn

from benchmarks.conditions.base import Cell
from munitaug.adaptation import fit_labelled


def source(cell: Cell) -> nn.Module:
    """Trains on source images as they are."""
    return fit_labelled(cell.task, cell.settings, cell.seed, augmented=False)


def classic(cell: Cell) -> nn.Module:
    """Trains on source images under classic augmentation; other conditions start from it, so it is kept."""
    return cell.once("classic", lambda cell: fit_labelled(cell.task, cell.settings, cell.seed))


def oracle(cell: Cell) -> nn.Module:
    """Trains on the target's training images with their labels, under classic augmentation: an upper mark.

    Raises:
        ValueError: the pair has no such labels.
    """
    if cell.oracle_task is None:
        raise ValueError(f"{cell.pair} has no labels of target training images, so there is no oracle")
    return fit_labelled(cell.oracle_task, cell.settings, cell.seed)
