"""The conditions of a table: what each classifier is trained on; all else is equal.

Conditions come in chains, because self-training starts from a classifier that another condition has made:
"self-training" goes on from "classic", "adapt" from "munit".

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import build_classifier
from munitaug.adaptation.fit import BatchOf, FitSettings, fit, source_batches, styled_batches
from munitaug.adaptation.self_training import self_train
from munitaug.adaptation.task import Task
from munitaug.random import seed_of
from munitaug.translator import Translator

Condition = Literal["source", "classic", "munit", "self-training", "adapt", "oracle"]
CONDITIONS: tuple[Condition, ...] = ("source", "classic", "munit", "self-training", "oracle", "adapt")
"""In the order of the printed table.

source: source images as they are. classic: with classic augmentation. munit: source images and as many
translations under fresh styles, both with classic augmentation. self-training: "classic", then self-training
on the unlabelled target. oracle: the target's training images with their labels. adapt: "munit", then
self-training (with labels of fresh translations beside it, if the settings give them a weight).
"""

CHAINS: tuple[tuple[Condition, ...], ...] = (
    ("munit", "adapt"),
    ("classic", "self-training"),
    ("source",),
    ("oracle",),
)
"""Conditions that share work, longest first so that parallel workers end together."""


@dataclass(frozen=True)
class Bench:
    """Everything that a chain of conditions is run with.

    Args:
        task: labelled source, unlabelled target.
        oracle_task: the target's labelled training images for "oracle", or None.
        translator: a -> b, on the CPU or wherever it shall run; needed by "munit" and "adapt".
        settings: equal for all conditions.
    """

    task: Task
    oracle_task: Task | None
    translator: Translator | None
    settings: FitSettings

    def missing_for(self, condition: Condition) -> str:
        """Gives what is missing to run a condition, in words; empty when nothing is."""
        if condition in ("munit", "adapt") and self.translator is None:
            return "a trained translator (--checkpoint)"
        if condition == "oracle" and self.oracle_task is None:
            return "labels of the target's training images"
        return ""


def run_chain(
    bench: Bench, chain: tuple[Condition, ...], seed: int, progress: bool = False
) -> Iterator[tuple[Condition, nn.Module]]:
    """Trains a chain of conditions; gives each (condition, classifier) when it is ready.

    The classifier that comes first is trained further for the second, so score it before going on.

    Args:
        bench: data, translator, settings.
        chain: one of CHAINS, or a part of it from the left.
        seed: decides initial weights and every batch.
        progress: show progress bars.
    """
    settings, task = bench.settings, bench.oracle_task if chain[0] == "oracle" else bench.task
    assert task is not None
    model = build_classifier(settings.classifier, task.channels, bench.task.classes, seed_of(seed, "classifier"))
    for condition in chain:
        bar = f"{condition}, seed {seed}" if progress else ""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, condition))  # for dropout and the like; batches have their own seeds
            if condition == chain[0]:
                fit(model, _first_batches(bench, task, condition, seed), settings, bar)
            else:
                own_seed = seed_of(seed, condition)
                tied = _styled(bench, own_seed, with_source=False) if condition == "adapt" else None
                self_train(model, task, settings, seed, labelled=tied, progress=bar)
        yield condition, model


def _first_batches(bench: Bench, task: Task, condition: Condition, seed: int) -> BatchOf:
    if condition == "munit":
        return _styled(bench, seed, with_source=True)
    return source_batches(task, bench.settings, seed, None if condition == "source" else ClassicAugmentation())


def _styled(bench: Bench, seed: int, with_source: bool) -> BatchOf:
    assert bench.translator is not None
    return styled_batches(bench.task, bench.settings, seed, ClassicAugmentation(), bench.translator, with_source)
