"""How many variants still show the class of their image, as a frozen classifier sees it.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from munitaug.adaptation.task import predict
from munitaug.data.domain import ImageDomain
from munitaug.images import images_to_model, match_channels
from munitaug.kernel import translate_images
from munitaug.random import torch_generator
from munitaug.styles import StyleSource
from munitaug.translator import Translator


@dataclass(frozen=True)
class Confusion:
    """Counts of images by the class they have and the class that is seen in them.

    Args:
        counts: classes x classes; row: the label, column: what the judge sees.

    Raises:
        ValueError: the counts are not square.
    """

    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.counts) for row in self.counts):
            raise ValueError(f"counts must be square, got rows of {[len(row) for row in self.counts]}")

    @classmethod
    def of(cls, labels: Tensor, seen: Tensor, classes: int) -> Confusion:
        """Gives the counts of N labels and N seen classes, both int64 in 0 .. classes - 1."""
        flat = torch.bincount(labels * classes + seen, minlength=classes * classes)
        return cls(tuple(tuple(row) for row in flat.view(classes, classes).tolist()))

    @property
    def total(self) -> int:
        """Gives the number of images."""
        return sum(map(sum, self.counts))

    @property
    def kept(self) -> int:
        """Gives how many are seen as what they are."""
        return sum(row[label] for label, row in enumerate(self.counts))

    @property
    def percent(self) -> float:
        """Gives the share that is kept, 0 to 100; NaN of no image."""
        return percentage(self.kept, self.total)

    def class_percent(self, label: int) -> float:
        """Gives the share of one class that is kept, 0 to 100; NaN where it has no image."""
        return percentage(self.counts[label][label], sum(self.counts[label]))

    def usual_mistake(self, label: int) -> int | None:
        """Gives the other class that is seen most often in a class (the first of equals), or None."""
        others = [-1 if column == label else count for column, count in enumerate(self.counts[label])]
        most = max(others, default=0)
        return others.index(most) if most > 0 else None


def percentage(part: int, whole: int) -> float:
    """Gives part of whole in percent; NaN of nothing."""
    return 100.0 * part / whole if whole else float("nan")


def classes_seen(classifier: nn.Module, images: Tensor, channels: int) -> Tensor:
    """Gives the N int64 classes that a classifier sees in images: uint8 N x C x H x W.

    Args:
        classifier: N x channels x H x W in [-1, 1] -> N x classes logits.
        images: grey or RGB.
        channels: of the classifier.
    """
    return predict(classifier, match_channels(images_to_model(images), channels))


def classes_seen_in_variants(
    translator: Translator,
    classifier: nn.Module,
    source: ImageDomain,
    *,
    styles: StyleSource,
    variants: int,
    channels: int,
    seed: int,
    batch_size: int = 64,
    progress: str = "",
) -> Tensor:
    """Gives N x K int64 classes that a classifier sees in K variants of every image of a domain.

    Variants are judged as the transform gives them: uint8, in the channels of the source. The styles of image i are a
    function of (seed, i), so the batch size changes nothing but the speed.

    Args:
        translator: in evaluation mode.
        classifier: N x channels x H x W in [-1, 1] -> N x classes logits.
        source: its images; labels are not read.
        styles: where the styles come from.
        variants: K, >= 1.
        channels: of the classifier.
        seed: of the styles.
        batch_size: images translated at once.
        progress: label of the progress bar; empty for none.
    """
    places = torch.arange(len(source)).split(batch_size)
    seen = []
    for part in tqdm(places, desc=progress, unit="batch", disable=not progress, leave=False):
        codes = torch.cat(
            [styles.sample(1, variants, torch_generator(seed, "label preservation", place)) for place in part.tolist()]
        )
        translated = translate_images(translator, source.images(part), codes)
        seen.append(classes_seen(classifier, translated.flatten(0, 1), channels).unflatten(0, (len(part), variants)))
    return torch.cat(seen)
