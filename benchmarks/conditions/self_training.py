"""Self-training on the unlabelled target: its parts alone, in turn and joined; and, which is ours, after translation.

"adapt" self-trains shortly from several starts, keeps the surest and refines it with restyled views and translations.
"self-training-restarts" does the same without either: the difference between these two is translation's share.
"adapt-restyled" does it with restyled views alone, as the library's recipe was before 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from torch import Tensor, nn

import munitaug
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.plain import classic
from munitaug.adaptation import (
    BatchOf,
    ClassicAugmentation,
    FitSettings,
    OnUpdate,
    adapt,
    estimate_norms,
    fit_labelled,
    self_train,
    source_batches,
)
from munitaug.random import seeded

SEMANTIC_WEIGHT = 1.0
SNAPSHOTS = 5
"""Copies of the classifier in each stage that are scored when training is over."""


def information_alone(cell: Cell) -> nn.Module:
    """Trains "classic" further by information maximisation alone (SHOT-IM)."""
    return _continued(cell, classic(cell), replace(cell.settings, consistency_weight=0.0), "information")


def consistency_alone(cell: Cell) -> nn.Module:
    """Trains "classic" further by agreement of views alone, beside labelled source images (FixMatch-style)."""
    return _continued(cell, classic(cell), cell.settings, "consistency", 0.0, _source(cell))


def in_turn(cell: Cell) -> nn.Module:
    """Trains "classic" further by agreement of views, then by information maximisation."""
    first = consistency_alone(cell)
    return _continued(cell, first, replace(cell.settings, consistency_weight=0.0), "information")


def self_training(cell: Cell) -> nn.Module:
    """Trains "classic" further by both terms together."""
    return _continued(cell, classic(cell), cell.settings, "self-training")


def restarts(cell: Cell) -> nn.Module:
    """Trains what "adapt" trains, without translation."""
    return _adapted(cell, None, None, "")


def restyled_alone(cell: Cell) -> nn.Module:
    """Trains what "adapt" trains, with restyled views of target images but without translations of the source."""
    return _adapted(cell, cell.restyler_of("munit", SEMANTIC_WEIGHT), None, "")


def adapted(method: str) -> ConditionFunction:
    """Gives the condition of the library's recipe: :func:`munitaug.adaptation.adapt`, with views restyled by a method.

    With a method that cannot restyle, classifiers start from its translations instead of refining with them.

    Args:
        method: a name of METHODS, trained with semantic consistency.
    """

    def condition(cell: Cell) -> nn.Module:
        restyler = cell.restyler_of(method, SEMANTIC_WEIGHT) if cell.settings.restyle_weight > 0.0 else None
        translator = cell.translator_of(method, SEMANTIC_WEIGHT)
        return _adapted(cell, restyler, translator, f"{method}-" if restyler is None else "")

    return condition


def _adapted(
    cell: Cell, restyler: munitaug.Translator | None, translator: munitaug.Translator | None, prefix: str
) -> nn.Module:
    """Runs the library's recipe; classifiers that other conditions train too are trained once."""

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        return cell.once(prefix + name, lambda _: make())

    note = _noted(cell, "refining", cell.settings.refine_steps, self_trained=True)

    def on_update(stage: str, step: int, loss: Tensor, classifier: nn.Module) -> None:
        if stage == "refining":
            note(step, loss, classifier)

    return adapt(
        cell.task,
        cell.settings,
        restyler=restyler,
        translator=translator,
        seed=cell.seed,
        once=once,
        on_update=on_update,
    )


def styled(method: str, weight: float) -> ConditionFunction:
    """Gives plain styled training: source images and fresh translations of them, both with classic augmentation."""

    def train(cell: Cell) -> nn.Module:
        note = _noted(cell, "styled", cell.settings.steps)
        return fit_labelled(cell.task, cell.settings, cell.seed, cell.translator_of(method, weight), on_update=note)

    return lambda cell: cell.once(f"{method}-{weight:g}", train)


def _continued(
    cell: Cell,
    start: nn.Module,
    settings: FitSettings,
    stage: str,
    information_weight: float = 1.0,
    labelled: BatchOf | None = None,
) -> nn.Module:
    cell.on_snapshot("start", 0, start)
    return self_train(
        start,
        cell.task,
        settings,
        cell.seed,
        labelled=labelled,
        information_weight=information_weight,
        on_update=_noted(cell, stage, settings.self_steps, self_trained=True),
    )


def _source(cell: Cell) -> BatchOf:
    return source_batches(cell.task, cell.settings, cell.seed + 1, ClassicAugmentation())


def _noted(cell: Cell, stage: str, steps: int, *, self_trained: bool = False) -> OnUpdate:
    """Gives what hands classifiers to the cell's snapshots; self-trained ones as they would be, had training ended."""
    every = max(1, steps // SNAPSHOTS)

    def note(step: int, loss: Tensor, classifier: nn.Module) -> None:
        del loss
        if step % every:
            return
        if self_trained:
            with seeded(0, cell.task.device):  # what draws in training mode must not draw from the training's numbers
                classifier = estimate_norms(deepcopy(classifier), cell.task.target_images)
        cell.on_snapshot(stage, step, classifier)

    return note
