"""Two ways to train a classifier: on labels, and on what an unlabelled target tells.

Every batch is a function of (seed, step), so a run repeats exactly.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import SMALL
from munitaug.adaptation.objectives import information_maximisation
from munitaug.adaptation.task import Task
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from munitaug.translator import Translator


@dataclass(frozen=True)
class FitSettings:
    """How every classifier of a table is trained; equal for all conditions.

    Args:
        classifier: "lenet" or a timm model name.
        steps: updates of supervised training.
        self_steps: updates of self-training that follow.
        batch_size: images per update and kind (source, styled, target).
        lr: peak learning rate of the one-cycle schedule of supervised training.
        self_lr: peak learning rate of self-training.
        self_label_weight: of the cross-entropy on styled images during the self-training of "adapt"; 0 leaves
            it out, because where translations bend labels it holds the classifier back (docs/results.md).
        weight_decay: decoupled weight decay (AdamW).

    Raises:
        ValueError: a number outside its range.
    """

    classifier: str = SMALL
    steps: int = 1200
    self_steps: int = 500
    batch_size: int = 64
    lr: float = 2e-3
    self_lr: float = 5e-4
    self_label_weight: float = 0.0
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("steps", "self_steps", "batch_size"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
        for name in ("lr", "self_lr"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not self.self_label_weight >= 0.0:
            raise ValueError(f"self_label_weight must be >= 0, got {self.self_label_weight}")


BatchOf = Callable[[int], tuple[Tensor, Tensor]]
"""step -> (images N x C x H x W in [-1, 1], N int64 labels)."""


def source_batches(task: Task, settings: FitSettings, seed: int, augmentation: ClassicAugmentation | None) -> BatchOf:
    """Gives batches of source images, changed by classic augmentation if there is one."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed, "source", step)
        index = torch.randint(len(task.source_images), (settings.batch_size,), generator=generator)
        images, labels = task.source_images[index], task.source_labels[index]
        return (images if augmentation is None else augmentation(images, generator)), labels

    return batch


def styled_batches(
    task: Task,
    settings: FitSettings,
    seed: int,
    augmentation: ClassicAugmentation,
    translator: Translator,
    with_source: bool = True,
) -> BatchOf:
    """Gives translations of source images under fresh styles, by default beside the images they came from.

    Images and translations bear the same labels and are both changed by classic augmentation.
    """
    styles = PriorStyles(translator.style_dim)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed, "styled", step)
        index = torch.randint(len(task.source_images), (settings.batch_size,), generator=generator)
        images, labels = task.source_images[index], task.source_labels[index]
        with torch.no_grad():
            styled = translator.translate(images, styles.sample(len(images), 1, generator)).squeeze(1)
        if not with_source:
            return augmentation(styled, generator), labels
        return augmentation(torch.cat([images, styled]), generator), torch.cat([labels, labels])

    return batch


def fit(classifier: nn.Module, batch: BatchOf, settings: FitSettings, progress: str = "") -> nn.Module:
    """Trains a classifier on labelled batches; gives it back, in evaluation mode.

    Args:
        classifier: changed in place.
        batch: step -> images and labels.
        settings: steps and learning rate.
        progress: label of the progress bar; empty for none.
    """
    optimiser, schedule = _optimiser(classifier, settings.lr, settings.weight_decay, settings.steps)
    classifier.train()
    for step in tqdm(range(settings.steps), desc=progress, unit="step", disable=not progress, leave=False):
        images, labels = batch(step)
        _update(F.cross_entropy(classifier(images), labels), optimiser, schedule)
    return classifier.eval()


def self_train(
    classifier: nn.Module,
    task: Task,
    settings: FitSettings,
    seed: int,
    augmentation: ClassicAugmentation,
    labelled: BatchOf | None = None,
    progress: str = "",
) -> nn.Module:
    """Trains a classifier further on unlabelled target images; gives it back, in evaluation mode.

    Minimises information maximisation (SHOT-IM) on augmented target batches, of twice the supervised size
    so that the mean prediction is a fair estimate of the classes' shares. With ``labelled`` batches their
    cross-entropy is added at ``settings.self_label_weight``, so that what the target alone cannot tell apart
    stays tied to labels.

    Args:
        classifier: already trained on the source; changed in place.
        task: its target images are used, nothing else.
        settings: steps and learning rate.
        seed: of batches and augmentation.
        augmentation: change of the target images.
        labelled: step -> images and labels to keep hold of, or None.
        progress: label of the progress bar; empty for none.
    """
    optimiser, schedule = _optimiser(classifier, settings.self_lr, settings.weight_decay, settings.self_steps)
    classifier.train()
    for step in tqdm(range(settings.self_steps), desc=progress, unit="step", disable=not progress, leave=False):
        generator = torch_generator(seed, "target", step)
        index = torch.randint(len(task.target_images), (2 * settings.batch_size,), generator=generator)
        images = augmentation(task.target_images[index], generator)
        loss = information_maximisation(classifier(images))
        if labelled is not None and settings.self_label_weight > 0.0:
            styled, labels = labelled(step)
            loss = loss + settings.self_label_weight * F.cross_entropy(classifier(styled), labels)
        _update(loss, optimiser, schedule)
    return classifier.eval()


def _optimiser(
    classifier: nn.Module, lr: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)


def _update(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    schedule.step()
