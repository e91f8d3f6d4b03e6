"""The library's best recipe for a classifier: labels of the source, then self-training on the target with new styles.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import build_classifier
from munitaug.adaptation.fit import FitSettings, OnUpdate, fit, source_batches, styled_batches
from munitaug.adaptation.self_training import restyled_by, self_train
from munitaug.adaptation.task import Task
from munitaug.random import seed_of
from munitaug.translator import Translator

OnStage = Callable[[str, int, Tensor, nn.Module], None]
"""(stage, finished updates of it, loss, classifier): for logs and snapshots; must not change the classifier."""

STAGES = ("labelled", "self-training")


def adapt(
    task: Task,
    settings: FitSettings = FitSettings(),
    *,
    restyler: Translator | None = None,
    translator: Translator | None = None,
    seed: int = 0,
    start: nn.Module | None = None,
    progress: bool = False,
    on_update: OnStage | None = None,
) -> nn.Module:
    """Gives a classifier of the target, which it knows without labels; in evaluation mode.

    First it learns from labelled source images (:func:`fit_labelled`); then it is trained further on the target's
    images by what their views tell (:func:`self_train`), restyled views among them.

    Args:
        task: labelled source, unlabelled target, on the device to train on.
        settings: network, steps, learning rates, weights.
        restyler: target -> target (``Method.restyler``), on the same device, for ``settings.restyle_weight``; None
            leaves restyled views out.
        translator: source -> target, on the same device: the first stage also learns from fresh translations, which is
            how a method without restyler helps. Where translations bend labels this is the worse start.
        seed: decides initial weights and every batch.
        start: a classifier that the first stage has made already, which is then left out; changed in place.
        progress: show progress bars.
        on_update: called after each update.

    Raises:
        ValueError: unknown classifier.
    """
    first, second = STAGES
    if start is None:
        start = fit_labelled(task, settings, seed, translator, first if progress else "", _of_stage(first, on_update))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, second))  # for dropout and the like; batches have their own seeds
        return self_train(
            start,
            task,
            settings,
            seed,
            restyle=None if restyler is None else restyled_by(restyler),
            progress=second if progress else "",
            on_update=_of_stage(second, on_update),
        )


def fit_labelled(
    task: Task,
    settings: FitSettings,
    seed: int,
    translator: Translator | None = None,
    progress: str = "",
    on_update: OnUpdate | None = None,
) -> nn.Module:
    """Gives a classifier of source images under classic augmentation; in evaluation mode.

    Args:
        task: labelled source, on the device to train on.
        settings: network, steps, learning rate.
        seed: decides initial weights and every batch.
        translator: source -> target, on the same device: adds as many translations under fresh styles; or None.
        progress: label of the progress bar; empty for none.
        on_update: called after each update.
    """
    model = build_classifier(settings.classifier, task.channels, task.classes, seed_of(seed, "classifier"))
    model.to(task.source_images.device)
    classic = ClassicAugmentation()
    if translator is None:
        batches = source_batches(task, settings, seed, classic)
    else:
        batches = styled_batches(task, settings, seed, classic, translator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, STAGES[0]))
        return fit(model, batches, settings, progress, on_update)


def _of_stage(stage: str, on_update: OnStage | None) -> OnUpdate | None:
    if on_update is None:
        return None

    def note(step: int, loss: Tensor, classifier: nn.Module) -> None:
        on_update(stage, step, loss, classifier)

    return note
