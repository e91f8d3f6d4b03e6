"""The library's best recipe for a classifier: source labels, self-training on the target, a choice, and new styles.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import build_classifier
from munitaug.adaptation.fit import (
    FitSettings,
    OnUpdate,
    channels_last,
    fit,
    in_fresh_styles,
    source_batches,
    styled_batches,
)
from munitaug.adaptation.objectives import information_maximisation
from munitaug.adaptation.self_training import self_train, translated_views
from munitaug.adaptation.task import SCORE_BATCH, Task
from munitaug.default_device import on_cpu_by_default
from munitaug.networks.modes import with_gradients
from munitaug.random import seed_of, seeded
from munitaug.translator import Translator

OnStage = Callable[[str, int, Tensor, nn.Module], None]
"""(stage, finished updates of it, loss, classifier): for logs and snapshots; must not change the classifier."""

Once = Callable[[str, Callable[[], nn.Module]], nn.Module]
"""(name, what makes a classifier) -> the classifier, made now or kept from an earlier run."""

CHOICE_IMAGES = 5000


@on_cpu_by_default
@with_gradients
def adapt(
    task: Task,
    settings: FitSettings = FitSettings(),
    *,
    restyler: Translator | None = None,
    translator: Translator | None = None,
    seed: int = 0,
    once: Once = lambda name, make: make(),
    progress: bool = False,
    on_update: OnStage | None = None,
) -> nn.Module:
    """Gives a classifier of the target, which it knows without labels; in evaluation mode.

    Self-training may settle on exchanged classes, and which ones is chance. So ``settings.starts`` classifiers are
    trained on source labels and then shortly on the target (:func:`self_trained`); the one with the highest information
    maximisation on target images is kept and refined (:func:`refine`).

    Args:
        task: labelled source, unlabelled target, on the device to train on.
        settings: network, steps, learning rates, weights.
        restyler: target -> target (``Method.restyler``), on the same device: when refining, restyled images are among
            the views.
        translator: source -> target, on the same device. With a restyler, refining also learns from fresh translations
            whose label the classifier gives too (:func:`refine`). Without one, source labels are learnt from fresh
            translations at the start, all of them, which is how a method without restyler helps.
        seed: decides initial weights and every batch.
        once: makes the classifiers "self-trained-0", "self-trained-1", ...; may keep them for a resumed run.
        progress: show progress bars.
        on_update: called after each update.

    Raises:
        DivergenceError: a weight has become infinite or NaN.
        ValueError: unknown classifier.
    """
    short = replace(settings, self_steps=settings.start_steps)
    if settings.restyle_weight == 0.0:
        restyler = None
    early, late = (translator, None) if restyler is None else (None, translator)
    candidates = []
    for index in range(settings.starts):
        own_seed = seed if index == 0 else seed_of(seed, "start", index)
        candidates.append(
            once(
                f"self-trained-{index}",
                lambda s=own_seed: self_trained(task, short, s, early, progress, on_update),  # type: ignore[misc]
            )
        )
    chosen = choose(candidates, task.target_images)
    return refine(chosen, task, settings, seed, restyler, late, progress=progress, on_update=on_update)


def self_trained(
    task: Task,
    settings: FitSettings,
    seed: int,
    translator: Translator | None = None,
    progress: bool = False,
    on_update: OnStage | None = None,
) -> nn.Module:
    """Gives a classifier of source labels, trained further on the target's images; in evaluation mode.

    Args:
        task: labelled source, unlabelled target.
        settings: network, steps, learning rates, weights.
        seed: decides initial weights and every batch.
        translator: see :func:`fit_labelled`.
        progress: show progress bars.
        on_update: called after each update, in the stages "labelled" and "self-training".
    """
    first, second = "labelled", "self-training"
    start = fit_labelled(task, settings, seed, translator, first if progress else "", _of_stage(first, on_update))
    with seeded(seed_of(seed, second), task.device):  # for dropout and the like; batches have their own seeds
        bar = second if progress else ""
        return self_train(start, task, settings, seed, progress=bar, on_update=_of_stage(second, on_update))


@on_cpu_by_default
@with_gradients
def fit_labelled(
    task: Task,
    settings: FitSettings,
    seed: int,
    translator: Translator | None = None,
    progress: str = "",
    on_update: OnUpdate | None = None,
    *,
    augmented: bool = True,
) -> nn.Module:
    """Gives a classifier of source images under classic augmentation; in evaluation mode.

    Args:
        task: labelled source, on the device to train on.
        settings: network, steps, learning rate.
        seed: decides initial weights and every batch.
        translator: source -> target, on the same device: adds as many translations under fresh styles; or None.
        progress: label of the progress bar; empty for none.
        on_update: called after each update.
        augmented: or source images as they are, which goes without translator.

    Raises:
        DivergenceError: a weight has become infinite or NaN.
        ValueError: unknown classifier.
    """
    model = build_classifier(settings.classifier, task.channels, task.classes, seed_of(seed, "classifier"))
    model.to(task.device)
    if translator is None:
        batches = source_batches(task, settings, seed, ClassicAugmentation() if augmented else None)
    else:
        batches = styled_batches(task, settings, seed, ClassicAugmentation(), translator)
    with seeded(seed_of(seed, "labelled"), task.device):
        return fit(model, batches, settings, progress, on_update)


@torch.no_grad()
def choose(candidates: list[nn.Module], images: Tensor) -> nn.Module:
    """Gives the classifier whose predictions are surest and most evenly spread over the classes; needs no label.

    Information maximisation as a validator (pytorch-adapt's IMValidator; Musgrave et al. 2022). Of equals the first;
    one whose predictions are not finite is never chosen.

    Args:
        candidates: in evaluation mode; at least one.
        images: N x C x H x W in [-1, 1] of the target, in random order (``Task.shuffled``): the first 5000 are looked
            at.

    Raises:
        ValueError: no classifier has finite predictions.
    """
    shown = images[:CHOICE_IMAGES]
    scores = []
    for candidate in candidates:
        logits = torch.cat([candidate(channels_last(part)).float() for part in shown.split(SCORE_BATCH)])
        scores.append(-float(information_maximisation(logits)))
    known = [place for place, score in enumerate(scores) if math.isfinite(score)]
    if not known:
        raise ValueError(f"there must be a classifier whose predictions are finite numbers, got scores {scores}")
    return candidates[max(known, key=scores.__getitem__)]


def refine(
    classifier: nn.Module,
    task: Task,
    settings: FitSettings,
    seed: int,
    restyler: Translator | None = None,
    translator: Translator | None = None,
    *,
    progress: bool = False,
    on_update: OnStage | None = None,
) -> nn.Module:
    """Gives a self-trained classifier, trained further with restyled views and translations; in evaluation mode.

    Args:
        classifier: changed in place.
        task: its target images are used, and with a translator its labelled source images.
        settings: refine_steps, learning rate, weights.
        seed: decides every batch.
        restyler: target -> target; None leaves restyled views out.
        translator: source -> target; None leaves translations out. Their labels count where the averaged classifier
            gives them too, and surely: those that translation has bent, and those that the classifier does not know
            yet, teach nothing.
        progress: show a progress bar.
        on_update: called after each update, in the stage "refining".
    """
    stage = "refining"
    own_seed = seed_of(seed, stage)
    with seeded(own_seed, task.device):
        return self_train(
            classifier,
            task,
            replace(settings, self_steps=settings.refine_steps),
            own_seed,
            restyle=None if restyler is None else in_fresh_styles(restyler),
            translated=None if translator is None else translated_views(task, settings, own_seed, translator),
            settle=False,
            progress=stage if progress else "",
            on_update=_of_stage(stage, on_update),
        )


def _of_stage(stage: str, on_update: OnStage | None) -> OnUpdate | None:
    if on_update is None:
        return None

    def note(step: int, loss: Tensor, classifier: nn.Module) -> None:
        on_update(stage, step, loss, classifier)

    return note
