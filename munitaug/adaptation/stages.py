"""The library's best recipe for a classifier: styled training, then self-training on the target.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import build_classifier
from munitaug.adaptation.fit import FitSettings, OnUpdate, fit, styled_batches
from munitaug.adaptation.self_training import restyled_by, self_train
from munitaug.adaptation.task import Task
from munitaug.random import seed_of
from munitaug.translator import Translator

OnStage = Callable[[str, int, Tensor, nn.Module], None]
"""(stage, finished updates of it, loss, classifier): for logs and snapshots; must not change the classifier."""

STAGES = ("styled", "self-training")


def adapt(
    task: Task,
    translator: Translator,
    settings: FitSettings = FitSettings(),
    *,
    restyler: Translator | None = None,
    seed: int = 0,
    start: nn.Module | None = None,
    progress: bool = False,
    on_update: OnStage | None = None,
) -> nn.Module:
    """Gives a classifier of the target, which it knows without labels; in evaluation mode.

    First it learns from source images and as many translations of them under fresh styles; then it is trained further
    on the target's images by what their views tell (:func:`self_train`).

    Args:
        task: labelled source, unlabelled target, on the device to train on.
        translator: source -> target, on the same device.
        settings: network, steps, learning rates, weights.
        restyler: target -> target, for ``settings.restyle_weight``; None leaves restyled views out.
        seed: decides initial weights and every batch.
        start: a classifier that the first stage has made already, which is then left out; changed in place.
        progress: show progress bars.
        on_update: called after each update.

    Raises:
        ValueError: unknown classifier, or restyled views have a weight and no restyler.
    """
    if settings.restyle_weight > 0.0 and restyler is None:
        raise ValueError(
            f"restyle_weight is {settings.restyle_weight}, but there is no restyler; give method.restyler(target), or "
            "set the weight to 0"
        )
    first, second = STAGES
    if start is None:
        start = fit_styled(task, translator, settings, seed, first if progress else "", _of_stage(first, on_update))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, second))  # for dropout and the like; batches have their own seeds
        return self_train(
            start,
            task,
            settings,
            seed,
            labelled=styled_batches(
                task, settings, seed_of(seed, "tied"), ClassicAugmentation(), translator, with_source=False
            ),
            restyle=None if restyler is None else restyled_by(restyler),
            progress=second if progress else "",
            on_update=_of_stage(second, on_update),
        )


def fit_styled(
    task: Task,
    translator: Translator,
    settings: FitSettings,
    seed: int,
    progress: str = "",
    on_update: OnUpdate | None = None,
) -> nn.Module:
    """Gives a classifier of source images and as many translations of them under fresh styles; in evaluation mode.

    Args:
        task: labelled source, on the device to train on.
        translator: source -> target, on the same device.
        settings: network, steps, learning rate.
        seed: decides initial weights and every batch.
        progress: label of the progress bar; empty for none.
        on_update: called after each update.
    """
    model = build_classifier(settings.classifier, task.channels, task.classes, seed_of(seed, "classifier"))
    model.to(task.source_images.device)
    batches = styled_batches(task, settings, seed, ClassicAugmentation(), translator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, STAGES[0]))
        return fit(model, batches, settings, progress, on_update)


def _of_stage(stage: str, on_update: OnStage | None) -> OnUpdate | None:
    if on_update is None:
        return None

    def note(step: int, loss: Tensor, classifier: nn.Module) -> None:
        on_update(stage, step, loss, classifier)

    return note
