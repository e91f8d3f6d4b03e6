"""Train one classifier on one labelled domain, with classic augmentation.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from torch import nn

from munitaug.adaptation import ClassicAugmentation, FitSettings, build_classifier, fit, make_task, source_batches
from munitaug.data.domain import ImageDomain
from munitaug.random import seed_of


def train_classifier(
    domain: ImageDomain, *, settings: FitSettings = FitSettings(), seed: int = 0, progress: bool = False
) -> nn.Module:
    """Gives a classifier of a labelled domain, in evaluation mode.

    Args:
        domain: labelled images of one size.
        settings: network, steps, learning rate.
        seed: decides initial weights and batches.
        progress: show a progress bar.

    Returns:
        N x C x H x W in [-1, 1] -> N x classes logits.

    Raises:
        LabelMissingError: the domain has no labels.
        ValueError: unknown classifier.
    """
    task = make_task(domain, domain)
    own_seed = seed_of(seed, "classifier of a domain")
    classifier = build_classifier(settings.classifier, task.channels, task.classes, own_seed)
    batches = source_batches(task, settings, own_seed, ClassicAugmentation())
    return fit(classifier, batches, settings, f"classifier of {domain.name}" if progress else "")
