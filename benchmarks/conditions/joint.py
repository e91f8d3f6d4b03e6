"""What conditions share that train on both domains at once: target batches, a classifier's features, skada's loop.

skada brings the losses and the loop of updates; the classifier, the batches (as many of each domain as "classic" has
of the source, under the same classic augmentation), the optimiser and its schedule are those of all conditions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypedDict

import torch
from torch import Tensor, nn

from benchmarks.conditions.base import Cell
from munitaug.adaptation import BatchOf, ClassicAugmentation, FitSettings, Task, source_batches
from munitaug.random import torch_generator

IMAGES_AT_ONCE = 500
SNAPSHOTS = 5
SOURCE, TARGET = 1, -2
"""How skada marks domains: a source is positive, a target negative."""
MASKED = -1
"""skada's label of an image without one."""


class DomainBatch(TypedDict):
    """What skada's module is called with: source images, then target images; and the domain of each."""

    X: Tensor
    sample_domain: Tensor


MakeNet = Callable[..., object]
"""skada's DANN or DeepCoral with everything but module, layer and what belongs to skorch."""


def target_batches(task: Task, settings: FitSettings, seed: int) -> Callable[[int], Tensor]:
    """Gives step -> as many target images as a source batch has, under classic augmentation."""
    augmentation = ClassicAugmentation()

    def batch(step: int) -> Tensor:
        generator = torch_generator(seed, "target", step)
        index = torch.randint(len(task.target_images), (settings.batch_size,), generator=generator)
        return augmentation(task.target_images[index], generator)

    return batch


def head_of(classifier: nn.Module) -> nn.Linear:
    """Gives the layer that turns features into logits.

    Raises:
        TypeError: it is not a linear one.
    """
    ask = getattr(classifier, "get_classifier", None)  # timm's models
    head = ask() if callable(ask) else getattr(classifier, "head", None)
    if not isinstance(head, nn.Linear):
        raise TypeError(f"the classifier must end in a linear layer, but ends in {type(head).__name__}")
    return head


def with_features(classifier: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Gives N x F features, which the last layer is given, and N x classes logits of images N x C x H x W."""
    seen: list[Tensor] = []
    handle = head_of(classifier).register_forward_pre_hook(lambda head, given: seen.append(given[0]))
    try:
        logits: Tensor = classifier(images)
    finally:
        handle.remove()
    return seen[0], logits


@torch.no_grad()
def features_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """Gives N x F features of images N x C x H x W, in evaluation mode and on the CPU."""
    classifier.eval()
    return torch.cat([with_features(classifier, part)[0].cpu() for part in images.split(IMAGES_AT_ONCE)])


class Observed(nn.Module):
    """A classifier in skada's loop: skada listens to the outputs of its layers "features" and "logits".

    skada sends both domains through a network as one batch. Here the halves pass apart, each under its own batch norm
    statistics, as in self-ensembling (French, Mackiewicz & Fisher, ICLR 2018) and in pytorch-adapt: with common ones
    DANN drove our classifier's features of the domains further apart than it had found them.

    Args:
        classifier: trained in place.
        settings: its precision is kept.
    """

    def __init__(self, classifier: nn.Module, settings: FitSettings) -> None:
        super().__init__()
        self.classifier = classifier.to(memory_format=torch.channels_last)
        self.features, self.logits = nn.Identity(), nn.Identity()
        self._bfloat16 = settings.precision == "bfloat16"

    def forward(self, x: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Gives 2N x classes logits of N source and N target images; skada's weights of images do not come here."""
        assert sample_weight is None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bfloat16):
            halves = [
                with_features(self.classifier, half.contiguous(memory_format=torch.channels_last))
                for half in x.chunk(2)
            ]
        self.features(torch.cat([features for features, _ in halves]).float())
        logits: Tensor = self.logits(torch.cat([logits for _, logits in halves]).float())
        return logits


def train_through_skada(
    cell: Cell, make: MakeNet, layer: str, stage: str, before_step: Callable[[int], None] | None = None
) -> nn.Module:
    """Trains a new classifier on batches of both domains through a network of ``skada.deep``.

    Args:
        cell: data, settings and seed.
        make: skada's function.
        layer: "features" or "logits", which skada's loss shall see.
        stage: name of the snapshots.
        before_step: called with the number of finished steps before each update.
    """
    from skada.deep.base import DeepDADataset
    from skorch.callbacks import LRScheduler

    settings = cell.settings
    observed = Observed(cell.new_classifier(), settings)
    device = cell.task.source_images.device
    schedule = LRScheduler(
        policy=torch.optim.lr_scheduler.OneCycleLR,
        step_every="batch",
        max_lr=settings.lr,
        total_steps=settings.steps,
    )
    net = make(
        module=observed,
        layer_name=layer,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=settings.weight_decay,
        lr=settings.lr,
        max_epochs=1,  # of as many batches as there are steps
        train_split=None,
        callbacks=[schedule],
        verbose=0,
        device=str(device),
    )
    batches = domain_batches(cell, observed.classifier, stage, before_step)
    net.set_params(iterator_train=lambda dataset, batch_size: batches)  # type: ignore[attr-defined]
    nothing = DeepDADataset(torch.zeros(2, 1), torch.zeros(2), torch.tensor([SOURCE, TARGET]))  # batches hold it all
    net.fit(nothing, None)  # type: ignore[attr-defined]
    return observed.classifier.eval()


def domain_batches(
    cell: Cell, classifier: nn.Module, stage: str, before_step: Callable[[int], None] | None = None
) -> Iterator[tuple[DomainBatch, Tensor]]:
    """Gives one batch per step in skada's form, and snapshots of the classifier on the way."""
    settings, task = cell.settings, cell.task
    labelled: BatchOf = source_batches(task, settings, cell.seed, ClassicAugmentation())
    unlabelled = target_batches(task, settings, cell.seed)
    every = max(1, settings.steps // SNAPSHOTS)
    domains = torch.tensor([SOURCE, TARGET], device=task.source_images.device).repeat_interleave(settings.batch_size)
    for step in range(settings.steps):
        if before_step is not None:
            before_step(step)
        images, labels = labelled(step)
        target = unlabelled(step)
        yield (
            {"X": torch.cat([images, target]), "sample_domain": domains},
            torch.cat([labels, torch.full_like(labels, MASKED)]),
        )
        if (step + 1) % every == 0:
            cell.on_snapshot(stage, step + 1, classifier)


def check_skada(condition: str) -> None:
    """Checks that skada and what its deep part needs can be imported.

    Raises:
        ImportError: not so.
    """
    os.environ.setdefault("POT_BACKEND_DISABLE_TENSORFLOW", "1")  # POT imports TensorFlow where there is one
    try:
        import skada.deep  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{condition} runs through skada: pip install "munitaug[peers]" ({error})') from error
