"""AdaBN (Li et al., Pattern Recognition 2018): "classic" with the batch norm statistics of the target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.conditions.base import Cell
from benchmarks.conditions.plain import classic

IMAGES_AT_ONCE = 500


def adabn(cell: Cell) -> nn.Module:
    """Gives the classifier "classic" with its batch norms' statistics taken from the unlabelled target images."""
    return exact_norms(classic(cell), cell.task.target_images)


@torch.no_grad()
def exact_norms(classifier: nn.Module, images: Tensor) -> nn.Module:
    """Gives the classifier with the mean and variance of all images in each batch norm; in evaluation mode.

    Exact: afterwards the classifier gives in evaluation mode what it would give in training mode if all images were one
    batch. Batches are only how they are read, so neither their size nor the images' order matters (but for rounding in
    float64). For that, norms are set one after another, in the order in which images pass them, each by one more pass
    over the images: averages over batches, as ``munitaug.adaptation.estimate_norms`` takes them in a single pass, are
    close to this and cheaper. Weights stay as they are; so does a classifier without batch norm.

    Args:
        classifier: changed in place; a norm that is passed twice counts all that passes it.
        images: N x C x H x W in [-1, 1].
    """
    classifier.eval()
    for norm in _norms_in_order(classifier, images[:1]):
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for part in images.split(IMAGES_AT_ONCE):
            for values in _inputs_of(norm, classifier, part):
                columns = values.double().movedim(1, 0).flatten(1)  # channels x everything else
                count += columns.shape[1]
                total = total.to(columns) + columns.sum(dim=1)
                squares = squares.to(columns) + columns.square().sum(dim=1)
        mean = total / count
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares / count - mean.square()).clamp_min(0.0))
    return classifier


def _norms_in_order(classifier: nn.Module, image: Tensor) -> list[_BatchNorm]:
    """Gives the batch norms that keep statistics, each once, in the order in which an image passes them."""
    passed: dict[_BatchNorm, None] = {}
    norms = [m for m in classifier.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    handles = [norm.register_forward_pre_hook(lambda module, given: passed.setdefault(module)) for norm in norms]
    with _removed(*handles):
        classifier(image)
    return list(passed)


def _inputs_of(norm: _BatchNorm, classifier: nn.Module, images: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []
    with _removed(norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))):
        classifier(images)
    return seen


@contextmanager
def _removed(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
