"""The conditions of a table: what each classifier is trained on; all else is equal.

"self-training" starts from the classifier that "classic" has made, so these two come as a chain.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from munitaug.adaptation.fit import FitSettings
from munitaug.adaptation.self_training import self_train
from munitaug.adaptation.stages import adapt, fit_labelled
from munitaug.adaptation.task import Task
from munitaug.random import seed_of, seeded
from munitaug.translator import Translator

Condition = Literal["source", "classic", "munit", "self-training", "adapt", "oracle"]
CONDITIONS: tuple[Condition, ...] = ("source", "classic", "munit", "self-training", "oracle", "adapt")
"""In the order of the printed table.

source: source images as they are. classic: with classic augmentation. munit: source images and as many
translations under fresh styles, both with classic augmentation. self-training: "classic", then self-training
on the unlabelled target. oracle: the target's training images with their labels. adapt: several of "self-training"
cut short, the surest of which is refined with target images that the translator has restyled and with translations
whose label it confirms; of a translator that cannot restyle, self-training starts from "munit" instead.
"""

CHAINS: tuple[tuple[Condition, ...], ...] = (
    ("adapt",),
    ("munit",),
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
        restyler: b -> b by the same networks, for "adapt"; None of a method that cannot restyle.
    """

    task: Task
    oracle_task: Task | None
    translator: Translator | None
    settings: FitSettings
    restyler: Translator | None = None

    def missing_for(self, condition: Condition) -> str:
        """Gives what is missing to run a condition, in words; empty when nothing is."""
        if condition in ("munit", "adapt") and self.translator is None:
            return "a trained translator (--checkpoint)"
        if condition == "oracle" and self.oracle_task is None:
            return "labels of the target's training images"
        return ""


def run_chain(bench: Bench, chain: tuple[Condition, ...], seed: int) -> Iterator[tuple[Condition, nn.Module]]:
    """Trains a chain of conditions; gives each (condition, classifier) when it is ready.

    The classifier that comes first is trained further for the second, so score it before going on.

    Args:
        bench: data, translator, settings.
        chain: one of CHAINS, or a part of it from the left.
        seed: decides initial weights and every batch.

    Raises:
        DivergenceError: a classifier's weights have become infinite or NaN.
    """
    if chain == ("adapt",):
        yield (
            "adapt",
            adapt(bench.task, bench.settings, restyler=bench.restyler, translator=bench.translator, seed=seed),
        )
        return
    first, task = chain[0], bench.task
    if first == "oracle":
        assert bench.oracle_task is not None
        task = replace(bench.oracle_task, classes=bench.task.classes)
    translator = bench.translator if first == "munit" else None
    model = fit_labelled(task, bench.settings, seed, translator, augmented=first != "source")
    yield first, model
    for condition in chain[1:]:
        with seeded(seed_of(seed, condition), task.device):  # for dropout and the like; batches have their own seeds
            self_train(model, task, bench.settings, seed)
        yield condition, model
