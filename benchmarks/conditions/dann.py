"""DANN (Ganin et al., JMLR 2016) through skada: features from which a domain classifier cannot tell domains apart."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.conditions.base import Cell
from benchmarks.conditions.joint import check_skada, head_of, train_through_skada
from munitaug.random import seed_of

DOMAIN_WEIGHT = 0.5
"""skada adds the domains' losses up; the paper takes their mean."""


class DomainHead(nn.Module):
    """Tells domains apart: the chance of each image to be a target image; its gradient into the features is reversed.

    skada's own, in version 0.6.0, ends in a softmax over one output, which is 1 for every image, with no gradient: DANN
    as skada gives it is training on the source. Here a sigmoid stands in its place. There is no batch norm, as in the
    paper's own for digits (x -> 100 -> 1).

    Args:
        features: length of the vectors that it is given.
    """

    strength: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())
        self.register_buffer("strength", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Gives N chances of N x F features."""
        still = features.detach()
        turned = still + self.strength * (still - features)  # the features' value, their gradient times -strength
        chances: Tensor = self.layers(turned).squeeze(1)
        return chances


def reversal_strength(progress: float) -> float:
    """Gives how strong the reversed gradient is: 0 at the start, almost 1 at the end, as the paper has it."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def dann(cell: Cell) -> nn.Module:
    """Trains on labelled source and unlabelled target batches, with a domain classifier on the last features.

    Raises:
        ImportError: skada is missing.
    """
    check_skada("DANN")
    from skada.deep import DANN

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(cell.seed, "domain classifier"))
        domain_head = DomainHead(head_of(cell.new_classifier()).in_features)

    def before_step(step: int) -> None:
        domain_head.strength.fill_(reversal_strength(step / cell.settings.steps))

    make = partial(DANN, domain_classifier=domain_head, reg=DOMAIN_WEIGHT)
    return train_through_skada(cell, make, "features", "dann", before_step)
