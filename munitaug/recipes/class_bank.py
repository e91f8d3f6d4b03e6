"""A bank of styles by class, made of the images of a domain.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import torch
from torch import nn

from munitaug.adaptation.task import predict
from munitaug.data.domain import ImageDomain
from munitaug.default_device import on_cpu_by_default
from munitaug.images import images_to_model, match_channels
from munitaug.kernel import images_to_styles
from munitaug.styles import ClassBankStyles
from munitaug.translator import Translator
from munitaug.types import LabelMissingError


@on_cpu_by_default
def class_bank(
    translator: Translator,
    domain: ImageDomain,
    *,
    classifier: nn.Module | None = None,
    truncation: float | None = None,
    batch_size: int = 250,
) -> ClassBankStyles:
    """Gives the styles of a domain's images, by class.

    Classes are the domain's labels, or what a classifier says of the images; with a classifier, labels are not read,
    so an unlabelled target does. Give target *training* images: labels of test images do not belong here.

    Args:
        translator: into the domain; has a style encoder.
        domain: images of the target domain.
        classifier: N x C x H x W in [-1, 1], with the translator's channels -> N x classes logits; None reads labels.
        truncation: see :class:`munitaug.styles.ClassBankStyles`.
        batch_size: images read at once.

    Raises:
        LabelMissingError: there is no classifier, and the domain has no labels.
        ValueError: the translator has no styles, or images that it cannot take.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if classifier is None and domain.labels is None:
        raise LabelMissingError(
            f"{domain.name} has no labels; give classifier=, for example of munitaug.train_classifier on the source, "
            "to go by its predictions"
        )
    codes, labels = [], []
    for places in torch.arange(len(domain)).split(batch_size):
        images = domain.images(places)
        codes.append(images_to_styles(translator, images, batch_size))
        if classifier is not None:
            labels.append(predict(classifier, match_channels(images_to_model(images), translator.channels)))
    known = domain.require_labels() if classifier is None else torch.cat(labels)
    return ClassBankStyles(torch.cat(codes), known, truncation)
