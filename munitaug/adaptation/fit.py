"""How a classifier is trained on labels.

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
from munitaug.adaptation.task import Task
from munitaug.random import on_device, torch_generator
from munitaug.settings import POSITIVE, Limits, check_settings
from munitaug.styles import PriorStyles
from munitaug.translator import Precision, Translator
from munitaug.types import DivergenceError


@dataclass(frozen=True)
class FitSettings:
    """How every classifier of a table is trained; equal for all conditions.

    Args:
        classifier: "lenet" or a timm model name.
        steps: updates of supervised training.
        self_steps: updates of self-training by itself, after supervised training; "adapt" has numbers of its own.
        starts: classifiers that "adapt" begins with, from different initial weights; the one that is surest and uses
            the classes most evenly on the target is trained further.
        start_steps: updates of self-training of each of them.
        refine_steps: updates of the chosen one in "adapt", with restyled views.
        batch_size: images per update and kind (source, styled); of the target there are twice as many.
        lr: peak learning rate of the one-cycle schedule of supervised training.
        self_lr: peak learning rate of self-training.
        consistency_weight: of the agreement between views of a target image in self-training; 0 leaves it out.
        restyle_weight: of the same agreement with views restyled by the translator, when "adapt" refines; with 0, or a
            translator that cannot restyle, "adapt" starts from styled training instead.
        translation_weight: of the source's labels in fresh translations whose label the averaged classifier gives too,
            and surely, when "adapt" refines with restyled views; 0 leaves them out.
        threshold: a view's label counts only from this chance on, at least 0 and below 1.
        weight_decay: decoupled weight decay (AdamW).
        precision: "float32", or "bfloat16" for convolutions and products in bfloat16 with float32 weights, norms and
            losses: half the time on a GPU, and on a CPU that has AVX-512 BF16 or AMX; slower on others.

    Raises:
        ValueError: a number outside its range.
    """

    classifier: str = SMALL
    steps: int = 1200
    self_steps: int = 600
    starts: int = 3
    start_steps: int = 300
    refine_steps: int = 600
    batch_size: int = 64
    lr: float = 2e-3
    self_lr: float = 5e-4
    consistency_weight: float = 1.0
    restyle_weight: float = 0.5
    translation_weight: float = 0.5
    threshold: float = 0.9
    weight_decay: float = 1e-2
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        two = Limits(2)
        check_settings(
            self,
            steps=two,
            self_steps=two,
            start_steps=two,
            refine_steps=two,
            batch_size=two,
            lr=POSITIVE,
            self_lr=POSITIVE,
            threshold=Limits(0, below=1),
        )


BatchOf = Callable[[int], tuple[Tensor, Tensor]]
"""step -> (images N x C x H x W in [-1, 1], N int64 labels)."""
Translate = Callable[[Tensor, torch.Generator], Tensor]
"""(images N x C x H x W in [-1, 1], generator on the CPU) -> the same contents in other styles, of the same shape."""

OnUpdate = Callable[[int, Tensor, nn.Module], None]
"""(finished updates, loss, the classifier): for logs and snapshots; must not change the classifier."""


def source_batches(task: Task, settings: FitSettings, seed: int, augmentation: ClassicAugmentation | None) -> BatchOf:
    """Gives batches of source images, changed by classic augmentation if there is one.

    Args:
        task: N x C x H x W source images in [-1, 1] and their labels, drawn with replacement.
        settings: ``batch_size`` images in a batch.
        seed: a batch is a function of (seed, step) alone.
        augmentation: of the images; None for none.
    """

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed, "source", step)
        images, labels = task.draw_labelled(settings.batch_size, generator)
        return (images if augmentation is None else augmentation(images, generator)), labels

    return batch


def in_fresh_styles(translator: Translator) -> Translate:
    """Gives what translates each image under a style of its own, drawn from the prior.

    Args:
        translator: on the images' device; one from the target to the target (``Method.restyler``) restyles.
    """
    styles = PriorStyles(translator.style_dim)

    def translate(images: Tensor, generator: torch.Generator) -> Tensor:
        codes = on_device(styles.sample(len(images), 1, generator), images.device)
        return translator.translate(images, codes).squeeze(1)

    return translate


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

    Args:
        task: N x C x H x W source images in [-1, 1] and their labels, drawn with replacement.
        settings: ``batch_size`` source images in a batch, and the precision of their translation.
        seed: a batch is a function of (seed, step) alone.
        augmentation: of images and translations.
        translator: from the source to the target, on the task's device, in evaluation mode.
        with_source: give the source images before their translations, 2 x batch_size in all; or translations alone.
    """
    translate = in_fresh_styles(translator)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed, "styled", step)
        images, labels = task.draw_labelled(settings.batch_size, generator)
        with torch.no_grad(), in_precision(settings, images):
            styled = translate(images, generator)
        if not with_source:
            return augmentation(styled, generator), labels
        return augmentation(torch.cat([images, styled]), generator), torch.cat([labels, labels])

    return batch


def fit(
    classifier: nn.Module,
    batch: BatchOf,
    settings: FitSettings,
    progress: str = "",
    on_update: OnUpdate | None = None,
) -> nn.Module:
    """Trains a classifier on labelled batches; gives it back, in evaluation mode.

    Args:
        classifier: changed in place.
        batch: step -> images and labels.
        settings: steps and learning rate.
        progress: label of the progress bar; empty for none.
        on_update: called after each update.

    Raises:
        DivergenceError: a weight has become infinite or NaN.
    """
    classifier.to(memory_format=torch.channels_last)
    optimiser, schedule = new_optimiser(classifier, settings.lr, settings.weight_decay, settings.steps)
    classifier.train()
    for step in tqdm(range(settings.steps), desc=progress, unit="step", disable=not progress, leave=False):
        images, labels = batch(step)
        with in_precision(settings, images):
            logits = classifier(channels_last(images))
        loss = F.cross_entropy(logits.float(), labels)
        update(loss, optimiser, schedule)
        if on_update is not None:
            on_update(step + 1, loss.detach(), classifier)
    return trained(classifier, "lr")


def trained(classifier: nn.Module, rate: str) -> nn.Module:
    """Gives a classifier after its last update: laid out as files of weights want it, in evaluation mode.

    Args:
        classifier: changed in place.
        rate: name of its learning rate in the settings, for the message.

    Raises:
        DivergenceError: a weight has become infinite or NaN.
    """
    finite = [value.isfinite().all() for value in classifier.state_dict().values()]
    if not bool(torch.stack(finite).all()):
        raise DivergenceError(
            f"training of the classifier diverged: weights are not finite; give a lower {rate} (fit.{rate}), or "
            "float32 in place of bfloat16"
        )
    return classifier.to(memory_format=torch.contiguous_format).eval()


def in_precision(settings: FitSettings, images: Tensor) -> torch.autocast:
    """Gives the context in which networks run on the device of these images."""
    return torch.autocast(images.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")


def channels_last(images: Tensor) -> Tensor:
    """Gives the same images laid out pixel by pixel, in which convolutions take a third less time on a CPU."""
    return images.contiguous(memory_format=torch.channels_last)


def new_optimiser(
    classifier: nn.Module, lr: float, weight_decay: float, steps: int, *, settle: bool = True
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Gives AdamW over a classifier's weights, and the schedule of its learning rate.

    AdamW's beta1 goes the other way, as in torch's one cycle by default: from 0.95 to 0.85 at the peak, and back to
    0.95 at the end, also where the rate stays.

    Args:
        classifier: to train.
        lr: peak learning rate, which is reached after 30% of the steps (10% without ``settle``).
        weight_decay: decoupled weight decay.
        steps: of the run.
        settle: lower the learning rate to zero in the end (one cycle); or stay at the peak.
    """
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    if settle:
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    begin = 25.0  # the peak is so many times the first learning rate; the last is the peak again
    rise = max(0.1, 1.5 / steps)  # torch divides by 0 where the rise is of exactly one step
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=steps, pct_start=rise, div_factor=begin, final_div_factor=1.0 / begin
    )


def update(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR) -> None:
    """Makes one update of the weights and of the learning rate."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    schedule.step()
