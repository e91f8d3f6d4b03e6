"""DeepCORAL (Sun & Saenko, ECCV workshops 2016) through skada: equal covariances of both domains' logits."""

from __future__ import annotations

from torch import nn

from benchmarks.conditions.base import Cell
from benchmarks.conditions.joint import check_skada, train_through_skada


def coral(cell: Cell) -> nn.Module:
    """Trains on labelled source and unlabelled target batches; the covariances of their logits shall be equal.

    The loss is on the last layer's output, as in the paper's experiments, at skada's weight of 1.

    Raises:
        ImportError: skada is missing.
    """
    check_skada("DeepCORAL")
    from skada.deep import DeepCoral

    return train_through_skada(cell, DeepCoral, "logits", "coral")
