"""How a classifier is trained further on target images without labels.

Two terms, together: information maximisation (SHOT-IM, Liang, Hu & Feng, ICML 2020), which wants sure and evenly used
predictions; and agreement of views (FixMatch, Sohn et al., NeurIPS 2020), in which what an averaged copy of the
classifier (mean teacher, Tarvainen & Valpola 2017) is sure of in a lightly changed image becomes the label of the same
image strongly changed. Alone the first may settle on exchanged classes and the second may keep its first errors.

Batch norm sees the target alone: labelled batches, if there are any, pass by themselves, as in self-ensembling for
domain adaptation (French, Mackiewicz & Fisher, ICLR 2018), and the statistics of the result are those of the target.

Every batch is a function of (seed, step), so a run repeats exactly.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.fit import (
    BatchOf,
    FitSettings,
    OnUpdate,
    Translate,
    channels_last,
    in_fresh_styles,
    in_precision,
    new_optimiser,
    trained,
    update,
)
from munitaug.adaptation.objectives import confirmed_label_loss, information_maximisation, view_consistency
from munitaug.adaptation.task import SCORE_BATCH, Task
from munitaug.default_device import on_cpu_by_default
from munitaug.networks.modes import with_gradients
from munitaug.random import torch_generator
from munitaug.translator import Translator

WEAK = ClassicAugmentation()
STRONG = ClassicAugmentation(rotation_deg=20.0, shear=0.3, scale=0.25, shift=0.12, contrast=0.4, noise=0.15)
TEACHER_DECAY = 0.99
SHARES_DECAY = 0.98


class LabelledViews(NamedTuple):
    """Images whose labels may be wrong, changed in two ways: N x C x H x W in [-1, 1], and N int64 classes."""

    weak: Tensor
    strong: Tensor
    labels: Tensor


ViewsOf = Callable[[int], LabelledViews]
"""step -> views of labelled images."""


@on_cpu_by_default
@with_gradients
def self_train(
    classifier: nn.Module,
    task: Task,
    settings: FitSettings,
    seed: int,
    *,
    labelled: BatchOf | None = None,
    label_weight: float = 1.0,
    restyle: Translate | None = None,
    translated: ViewsOf | None = None,
    information_weight: float = 1.0,
    even: bool = True,
    strong: ClassicAugmentation = STRONG,
    settle: bool = True,
    progress: str = "",
    on_update: OnUpdate | None = None,
) -> nn.Module:
    """Trains a classifier further on unlabelled target images; gives it back, in evaluation mode.

    Target batches have twice the supervised size, so that the mean prediction is a fair estimate of the classes'
    shares.

    Args:
        classifier: already trained on the source; changed in place, and in the end the average of its last updates.
        task: its target images are used, nothing else; labelled images come by ``labelled`` and ``translated``.
        settings: steps, learning rate, weights of the terms.
        seed: of batches and augmentation.
        labelled: step -> images and labels to keep hold of, or None.
        label_weight: of their cross-entropy.
        restyle: gives a further view of target images for ``settings.restyle_weight``, or None.
        translated: gives translations of labelled images for ``settings.translation_weight``, or None; a label counts
            if the teacher gives it too.
        information_weight: of information maximisation; 0 leaves it out.
        even: classes shall be used evenly; or else as often as the teacher has used them lately, which is for a
            target whose classes are far from equally frequent: it also keeps the teacher's errors more easily.
        strong: the changes of the views that learn.
        settle: lower the learning rate to zero in the end; without it the averaging alone calms the weights, which
            generalises better where predictions are already good (stochastic weight averaging, Izmailov et al. 2018).
        progress: label of the progress bar; empty for none.
        on_update: called after each update, with the teacher as the classifier: averaged weights, but batch norms that
            are behind (:func:`estimate_norms` on a copy gives what training would end with here).

    Raises:
        DivergenceError: a weight has become infinite or NaN.
    """
    classifier.to(memory_format=torch.channels_last)
    optimiser, schedule = new_optimiser(
        classifier, settings.self_lr, settings.weight_decay, settings.self_steps, settle=settle
    )
    teacher = deepcopy(classifier).requires_grad_(False).train()  # with the batch's own statistics, like its pupil
    terms = _TargetTerms(settings, information_weight, restyle, strong, None if even else SHARES_DECAY)
    classifier.train()
    for step in tqdm(range(settings.self_steps), desc=progress, unit="step", disable=not progress, leave=False):
        generator = torch_generator(seed, "target", step)
        images = task.draw_unlabelled(2 * settings.batch_size, generator)
        loss = terms.of(classifier, teacher, images, generator)
        if labelled is not None:
            known, labels = labelled(step)
            with in_precision(settings, known):
                logits = classifier(channels_last(known))
            loss = loss + label_weight * F.cross_entropy(logits.float(), labels)
        if translated is not None and settings.translation_weight > 0.0:
            loss = loss + settings.translation_weight * _confirmed(classifier, teacher, translated(step), settings)
        update(loss, optimiser, schedule)
        _follow(teacher, classifier, min(TEACHER_DECAY, (step + 1.0) / (step + 10.0)))
        if on_update is not None:
            on_update(step + 1, loss.detach(), teacher)
    classifier.load_state_dict(teacher.state_dict())
    estimate_norms(classifier, task.target_images)
    return trained(classifier, "self_lr")


def translated_views(task: Task, settings: FitSettings, seed: int, translator: Translator) -> ViewsOf:
    """Gives translations of source images under fresh styles, each changed lightly and strongly.

    Args:
        task: labelled source.
        settings: batch size, precision.
        seed: of images, styles and changes.
        translator: source -> target, on the images' device.
    """
    translate = in_fresh_styles(translator)

    def views(step: int) -> LabelledViews:
        generator = torch_generator(seed, "known", step)
        images, labels = task.draw_labelled(settings.batch_size, generator)
        with torch.no_grad(), in_precision(settings, images):
            translations = translate(images, generator).float()
        return LabelledViews(WEAK(translations, generator), STRONG(translations, generator), labels)

    return views


def _confirmed(classifier: nn.Module, teacher: nn.Module, views: LabelledViews, settings: FitSettings) -> Tensor:
    """Gives the loss of labels that the teacher confirms; like other labelled batches these pass by themselves."""
    with in_precision(settings, views.weak):
        logits = classifier(channels_last(views.strong))
        with torch.no_grad():
            known = teacher(channels_last(views.weak))
    return confirmed_label_loss(known, logits, views.labels, settings.threshold)


class _TargetTerms:
    """The weighted terms of target batches; views that have no weight are not made."""

    def __init__(
        self,
        settings: FitSettings,
        information_weight: float,
        restyle: Translate | None,
        strong: ClassicAugmentation,
        shares_decay: float | None,
    ) -> None:
        self.settings = settings
        self.information_weight = information_weight
        self.restyle = restyle if settings.restyle_weight > 0.0 else None
        self.strong = strong
        self.shares_decay = shares_decay
        self.shares: Tensor | None = None

    def of(self, classifier: nn.Module, teacher: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Gives their sum for one batch."""
        settings = self.settings
        views, weights = [WEAK(images, generator)], [0.0]
        if settings.consistency_weight > 0.0:
            views.append(self.strong(images, generator))
            weights.append(settings.consistency_weight)
        if self.restyle is not None:
            with torch.no_grad(), in_precision(settings, images):
                restyled = self.restyle(images, generator)
            views.append(self.strong(restyled, generator))
            weights.append(settings.restyle_weight)
        with in_precision(settings, images):
            logits = classifier(channels_last(torch.cat(views))).split(len(images))
        known = None
        if len(views) > 1 or (self.shares_decay is not None and self.information_weight > 0.0):
            with torch.no_grad(), in_precision(settings, images):
                known = teacher(channels_last(views[0]))
            self._follow_shares(known)
        loss = self.information_weight * information_maximisation(logits[0], self.shares)
        for weight, view in zip(weights[1:], logits[1:], strict=True):
            assert known is not None
            loss = loss + weight * view_consistency(known, view, settings.threshold)
        return loss

    def _follow_shares(self, known: Tensor) -> None:
        if self.shares_decay is not None:
            now = known.float().softmax(dim=1).mean(dim=0)
            self.shares = now if self.shares is None else self.shares.lerp(now, 1.0 - self.shares_decay)


@torch.no_grad()
def _follow(teacher: nn.Module, classifier: nn.Module, decay: float) -> None:
    """Moves the teacher's weights towards the classifier's; at first fast, so that the start is soon forgotten."""
    for slow, fast in zip(teacher.parameters(), classifier.parameters(), strict=True):
        slow.lerp_(fast, 1.0 - decay)


@torch.no_grad()
def estimate_norms(classifier: nn.Module, images: Tensor) -> nn.Module:
    """Gives the classifier with the batch norms' statistics of these images; in evaluation mode.

    AdaBN (Li et al., Pattern Recognition 2018). Weights stay as they are; so does a classifier without batch norm.

    Args:
        classifier: changed in place.
        images: N x C x H x W in [-1, 1] in random order (``Task.shuffled``), taken in batches whose statistics are
            averaged with equal weight.
    """
    norms = [module for module in classifier.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
    classifier.eval()  # nothing else may behave as in training: dropout would widen what the norms see
    for norm in norms:
        norm.train()
    if norms:
        for part in images.tensor_split(max(1, len(images) // SCORE_BATCH)):
            classifier(channels_last(part))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return classifier.eval()
