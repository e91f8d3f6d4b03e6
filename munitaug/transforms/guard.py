"""Label safety: a frozen classifier that turns away variants which lost the label of their image.

Floor 6: imports images, random and types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor, nn

from munitaug.images import images_to_model, match_channels
from munitaug.networks.modes import device_of
from munitaug.networks.precision import full_precision
from munitaug.settings import whole_number
from munitaug.transforms.frozen import frozen_network
from munitaug.types import UNLABELLED

Fallback = Literal["original", "last"]
Redraw = Callable[[Tensor], Tensor]
"""M int64 positions among N * K variants -> M x C x H x W, each translated anew in another style."""


class GuardCounts(NamedTuple):
    """How many variants kept their label at once, kept it after a redraw, and were given up."""

    accepted: int = 0
    redrawn: int = 0
    given_up: int = 0

    def __str__(self) -> str:
        total = sum(self)
        if total == 0:
            return "no variant was judged yet"
        kept, redrawn, given_up = (f"{count} ({count / total:.1%})" for count in self)
        return f"of {total} variants {kept} kept their label, {redrawn} after a redraw, {given_up} were given up"


class GuardState(TypedDict):
    """What a pickle of a guard carries."""

    classifier: nn.Module
    channels: int | None
    tries: int
    fallback: Fallback
    counts: GuardCounts


class LabelGuard:
    """Rejects variants whose predicted label is not that of their image, and has them drawn again.

    The label of an image is the one that is passed with it; where none is (or -1), it is what the classifier
    predicts for the image. A rejected variant is translated again in another style, up to ``tries`` times; the
    others are not computed again. What is asked of the classifier is only that it knows the source images; one that
    errs on the target domain turns away good variants, which the counts show. Where style changes nothing (strength 0,
    one exemplar, a translator without styles), a redraw is the same image again.

    The classifier is held outside of the transform's modules, so that it is neither trained nor saved with them. One
    that is in training mode or wants gradients is copied, and so it is for another device.

    ``counts`` tells what happened since the last ``reset_counts``. A pickle, a deep copy and each DataLoader worker
    counts for itself: what workers counted is not seen in the main process.

    Args:
        classifier: N x C x H x W in [-1, 1] -> N x classes logits.
        tries: how often a rejected variant is drawn again, >= 0.
        fallback: what stands in for a variant that was rejected every time: "original", the image itself, or
            "last", the last translation.
        channels: image channels that the classifier takes; None for those of the translator.

    Raises:
        TypeError: classifier is no module, or tries or channels no whole number.
        ValueError: tries below 0, channels not 1 to 4, or an unknown fallback.
    """

    def __init__(
        self, classifier: nn.Module, *, tries: int = 4, fallback: Fallback = "original", channels: int | None = None
    ) -> None:
        if not isinstance(classifier, nn.Module):
            raise TypeError(
                f"classifier must be an nn.Module that gives logits of images in [-1, 1], got "
                f"{type(classifier).__name__}"
            )
        tries = whole_number("tries", tries)
        if channels is not None and not 1 <= whole_number("channels", channels) <= 4:
            raise ValueError(f"channels must be 1 to 4, or None for the translator's, got {channels}")
        if tries < 0:
            raise ValueError(f"tries must be at least 0, got {tries}")
        if fallback not in get_args(Fallback):
            raise ValueError(f'fallback must be "original" or "last", got {fallback!r}')
        self.classifier = frozen_network(classifier, device_of(classifier))
        self.channels = channels
        self.tries = tries
        self.fallback: Fallback = fallback
        self._counts = GuardCounts()
        self._copies: dict[torch.device, nn.Module] = {}

    @property
    def counts(self) -> GuardCounts:
        """The counts of this process since the last reset."""
        return self._counts

    def reset_counts(self) -> GuardCounts:
        """Starts counting anew; gives the counts until now."""
        before, self._counts = self._counts, GuardCounts()
        return before

    def protect(
        self,
        images: Tensor,
        variants: Tensor,
        labels: Tensor | None,
        redraw: Redraw,
        *,
        channels: int,
        device: torch.device,
    ) -> Tensor:
        """Gives the variants, those that lost their label redrawn or replaced.

        Args:
            images: N x C x H x W, uint8 in [0, 255] or floating in [0, 1].
            variants: N x K x C x H x W like images.
            labels: N integers, -1 where unknown, or None.
            redraw: translates variants anew.
            channels: of the translator; for a guard that names none.
            device: where the classifier is to run.

        Raises:
            TypeError: labels are no integers.
            ValueError: labels or logits that do not fit.
        """
        judge = _Judge(self._on(device), self.channels or channels, device)
        count, per_image = variants.shape[:2]
        if count * per_image == 0:
            return variants
        wanted = judge.labels_of(images, labels).repeat_interleave(per_image)
        kept = variants.flatten(0, 1).clone()
        lost = judge.lost(kept, wanted).nonzero().flatten()
        at_once = len(kept) - len(lost)
        for _ in range(self.tries):
            if len(lost) == 0:
                break
            again = redraw(lost)
            kept[lost.to(kept.device)] = again
            lost = lost[judge.lost(again, wanted[lost])]
        if self.fallback == "original":
            kept[lost.to(kept.device)] = images[(lost // per_image).to(images.device)]
        before = self._counts
        self._counts = GuardCounts(
            before.accepted + at_once,
            before.redrawn + len(kept) - at_once - len(lost),
            before.given_up + len(lost),
        )
        return kept.view_as(variants)

    def prepare(self, device: torch.device) -> None:
        """Copies the classifier to a device, if it is elsewhere; a forked process could not take it from a GPU."""
        self._on(device)

    def _on(self, device: torch.device) -> nn.Module:
        if device not in self._copies:
            self._copies[device] = frozen_network(self.classifier, device)
        return self._copies[device]

    def __repr__(self) -> str:
        return f"LabelGuard({type(self.classifier).__name__}, tries={self.tries}, fallback={self.fallback!r})"

    def __str__(self) -> str:
        return f"{self!r}: {self._counts}"

    def __getstate__(self) -> GuardState:
        return {
            "classifier": self.classifier,
            "channels": self.channels,
            "tries": self.tries,
            "fallback": self.fallback,
            "counts": self._counts,
        }

    def __setstate__(self, state: GuardState) -> None:
        self.classifier, self.channels = state["classifier"], state["channels"]
        self.tries, self.fallback = state["tries"], state["fallback"]
        self._counts = state["counts"]
        self._copies = {}

    def __deepcopy__(self, memo: dict[int, object]) -> LabelGuard:
        """Gives a guard with counts of its own; the frozen classifier is shared."""
        twin = LabelGuard.__new__(LabelGuard)
        twin.__setstate__(self.__getstate__())
        twin._copies = dict(self._copies)
        return twin


class _Judge(NamedTuple):
    """The classifier as one call needs it: positions and labels stay on the CPU."""

    classifier: nn.Module
    channels: int
    device: torch.device

    def labels_of(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Gives N int64 labels: those given, and predictions where there are none."""
        if labels is None:
            return self._logits(images).argmax(dim=1).cpu()
        given = _check_labels(labels, len(images)).cpu()
        unknown = given == UNLABELLED
        if bool(unknown.any()):
            rows = unknown.to(images.device)
            given = given.clone()
            given[unknown] = self._logits(images[rows]).argmax(dim=1).cpu()
        return given

    def lost(self, variants: Tensor, wanted: Tensor) -> Tensor:
        """Gives M booleans: which of M variants are predicted to be another class than wanted."""
        logits = self._logits(variants)
        if int(wanted.max()) >= logits.shape[1] or int(wanted.min()) < 0:
            raise ValueError(
                f"labels reach from {int(wanted.min())} to {int(wanted.max())}, but the guard's classifier knows "
                f"{logits.shape[1]} classes: 0 to {logits.shape[1] - 1}; give labels of the same numbering"
            )
        return logits.argmax(dim=1).cpu() != wanted

    def _logits(self, images: Tensor) -> Tensor:
        model_images = match_channels(images_to_model(images.to(self.device, non_blocking=True)), self.channels)
        with torch.no_grad(), full_precision(self.device):
            logits: Tensor = self.classifier(model_images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"the guard's classifier must give {len(images)} x classes logits, got {shape}")
        return logits


def _check_labels(labels: Tensor, count: int) -> Tensor:
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers (class indices), got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(f"labels must be one integer for each of {count} images, got shape {tuple(labels.shape)}")
    return labels.to(torch.int64)
