"""Whole batches at once: in a ``collate_fn``, after the loader, or on the GPU; and the worst of K by a given loss.

Floor 6: imports images, networks, random, variants and what it imports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from munitaug.default_device import on_cpu_by_default
from munitaug.images import check_pixels
from munitaug.networks.modes import evaluation_mode
from munitaug.random import on_device
from munitaug.transforms.arguments import Strength, check_keep_original, check_probability, check_variants
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.samples import (
    LabelsGetter,
    Sample,
    find_images,
    find_labels,
    labels_to_classes,
    repeat_rows,
    wrap_like,
)
from munitaug.transforms.variants import Direction, Draw, Style, VariantMaker, refuse_styles_per_call
from munitaug.translator import Translator

Collate = Callable[[list[Any]], Any]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(B x classes scores, B labels) -> B losses."""


class BatchDraw(NamedTuple):
    """All that chance decides about one batch.

    Args:
        chosen: B booleans, which images are translated.
        variants: one draw of K variants for each image tensor of the batch.
    """

    chosen: Tensor
    variants: tuple[Draw, ...]


class MUNITBatchTransform(nn.Module):
    """Translates a whole batch: B images and their labels in, B * K images and labels out.

    Stands where torchvision's MixUp and CutMix stand: after a DataLoader, or in its ``collate_fn`` (``as_collate``).
    Takes ``(images, labels)``, as two arguments or as one tuple, a mapping, or a single image tensor. The images are
    all tv_tensors.Image in the batch, or else its first plain uint8 or floating tensor B x C x H x W. Everything else
    that has one row per image is repeated with them: tensors, arrays and lists such as names of files. What has
    another length is refused; strings, numbers and 0-dimensional tensors belong to the whole batch and stay.

    Row i * K + k is variant k of image i; with ``keep_original`` there are K + 1 rows per image and the first is the
    image itself. This is the order in which ``munitaug.generate`` writes and ``variant_collate`` gives. Images keep
    dtype, range, size and device. Inputs are not changed.

    The weights are held outside of ``parameters()`` and ``state_dict()``; ``.to()`` does not move them.

    Args:
        checkpoint: path of a checkpoint, or a translator.
        num_variants: K, variants per image.
        style: "prior", "bank", "mixture", a StyleSource (one that goes by class gets the labels), or exemplar images.
        direction: "a2b", "b2a", or a mix such as {"a2b": 0.7, "b2a": 0.3}, drawn for each image.
        p: chance of each image to be translated; one that is not comes K times as it is.
        seed: see :class:`~munitaug.transforms.MUNITTransform`.
        device: where the generator runs; images elsewhere are copied there and back.
        keep_original: puts each image before its variants.
        truncation: see :class:`~munitaug.transforms.MUNITTransform`.
        strength: see :class:`~munitaug.transforms.MUNITTransform`.
        guard: turns away variants whose predicted label is not that of the image, and has them drawn again.
        labels_getter: "default" finds labels as MixUp does (second item of a tuple, or under the key "label",
            "labels", "target" or "targets", or one with "label" in its name); a function of the batch gives them;
            None says that there are none. Labels are B classes or B x classes weights. Where styles or a guard need
            a class, it is the greatest weight, and classes may also be B x 1 and whole floating numbers.

    Raises:
        TypeError: checkpoint, style, seed, guard or labels_getter is of a wrong type.
        ValueError: an argument is outside its range, or means nothing beside the others.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        checkpoint: str | Path | Translator,
        *,
        num_variants: int = 1,
        style: Style = "prior",
        direction: Direction = "a2b",
        p: float = 1.0,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        keep_original: bool = False,
        truncation: float | None = None,
        strength: Strength = 1.0,
        guard: LabelGuard | None = None,
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__()
        self.num_variants = check_variants(num_variants)
        self.p = check_probability(p)
        self.keep_original = check_keep_original(keep_original)
        self.labels_getter = _check_getter(labels_getter)
        refuse_styles_per_call(style)
        self._maker = VariantMaker(
            checkpoint,
            style=style,
            direction=direction,
            device=device,
            seed=seed,
            truncation=truncation,
            strength=strength,
            guard=guard,
        )
        self._maker.refuse_many_of_one(self.num_variants)

    @property
    def device(self) -> torch.device:
        """Where the generator runs."""
        return self._maker.device

    def forward(self, *inputs: Any) -> Any:
        """Gives the batch with B * K images (B * (K + 1) with ``keep_original``) in the form it came in.

        Raises:
            TypeError: PIL images, boxes, masks, videos, a dtype images cannot have, labels that are no tensor.
            ValueError: no images, values of another range, no labels where they are looked for, labels that are no
                classes where classes are needed, or rows that do not fit the images.
            RuntimeError: on CUDA in a forked worker.
        """
        sample = inputs[0] if len(inputs) == 1 else inputs
        return self.translate(sample, self.draw(sample))

    @on_cpu_by_default
    def draw(self, sample: object) -> BatchDraw:
        """Draws all that is random about one batch; only here are random numbers used.

        Raises:
            TypeError, ValueError: see ``forward``.
        """
        return self._draw(*self._find(sample))

    @on_cpu_by_default
    def translate(self, sample: Sample, drawn: BatchDraw) -> Sample:
        """Gives the batch with what ``draw`` decided for it applied; equal arguments give equal results.

        Raises:
            TypeError, ValueError, RuntimeError: see ``forward``.
        """
        images, labels = self._find(sample)
        results = {
            id(image): wrap_like(self._variants(image, labels, drawn.chosen, draw).flatten(0, 1), image)
            for image, draw in zip(images, drawn.variants, strict=True)
        }
        return repeat_rows(sample, len(drawn.chosen), self.num_variants + self.keep_original, results)

    def as_collate(self, collate: Collate = default_collate) -> Collate:
        """Gives a ``collate_fn``: samples -> ``collate`` -> this transform.

        The transform then runs in the workers, where styles differ by worker and epoch. The result can be pickled, for
        workers that are spawned, if ``collate`` can.

        Args:
            collate: list of samples -> batch.
        """
        return _CollateThenTransform(self, collate)

    @on_cpu_by_default
    def worst_of(
        self,
        images: Tensor,
        labels: Tensor,
        classifier: nn.Module | Callable[[Tensor], Tensor],
        *,
        loss: Loss | None = None,
        preprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gives for each image the variant that the classifier finds hardest, and its label.

        This is the worst of K of model-based robust training (MRT, Robey et al. 2020, arXiv 2005.10247): call it
        before each step with the network that is being trained. No gradient is kept. A module is asked in evaluation
        mode, so that its batch statistics do not move, and put back as it was. With ``keep_original`` the image
        itself is one of the candidates. Of equal losses the first is kept.

        Args:
            images: B x C x H x W, uint8 in [0, 255] or floating in [0, 1].
            labels: B classes or B x classes weights.
            classifier: (preprocessed) images -> scores; a module, or any function.
            loss: (scores, labels) -> B losses; None is cross-entropy.
            preprocess: applied to a batch of variants before the classifier, for instance a normalisation.

        Returns:
            images: B x C x H x W, one variant of each; and labels, the same object.

        Raises:
            TypeError, ValueError, RuntimeError: see ``forward``.
            ValueError: loss does not give one number per image.
        """
        find_images(images, find_labels((images, labels), lambda pair: pair[1]))
        drawn = self._draw([images], labels)
        variants = self._variants(images, labels, drawn.chosen, drawn.variants[0])
        score = _Scorer(classifier, loss or _cross_entropies, preprocess)
        with torch.no_grad(), evaluation_mode(classifier):
            losses = [score.losses(candidates, labels) for candidates in variants.unbind(1)]
        worst = torch.stack(losses, dim=1).argmax(dim=1).to(variants.device)
        rows = torch.arange(len(images), device=variants.device)
        return wrap_like(variants[rows, worst], images), labels

    def extra_repr(self) -> str:
        """Gives the arguments in one line, without the network."""
        own = f"num_variants={self.num_variants}, p={self.p}, keep_original={self.keep_original}"
        return f"{self._maker.described()}, {own}, labels_getter={self.labels_getter!r}"

    def _find(self, sample: object) -> tuple[list[Tensor], Tensor | None]:
        labels = find_labels(sample, self.labels_getter)
        return find_images(sample, labels), labels

    def _classes(self, labels: Tensor | None) -> Tensor | None:
        """Gives B classes where styles or a guard need them."""
        return None if labels is None or not self._maker.needs_classes else labels_to_classes(labels)

    def _draw(self, images: list[Tensor], labels: Tensor | None) -> BatchDraw:
        count = _count_rows(images, labels)
        for image in images:
            check_pixels(image)
        chances = torch.rand(count, generator=self._maker.stream.generator(), dtype=torch.float64)
        classes = self._classes(labels)
        draws = [self._maker.draw(count, self.num_variants, labels=classes) for _ in images]
        return BatchDraw(chances < self.p, tuple(draws))

    def _variants(self, images: Tensor, labels: Tensor | None, chosen: Tensor, draw: Draw) -> Tensor:
        """Gives B x K x C x H x W, or K + 1 with the image first; rows that were not chosen hold the image."""
        plain, classes = images.as_subclass(Tensor).detach(), self._classes(labels)
        if bool(chosen.all()):
            variants = self._maker.translate(plain, draw, labels=classes)
        else:
            variants = plain.unsqueeze(1).repeat(1, self.num_variants, 1, 1, 1)
            rows = chosen.nonzero().flatten()
            there = on_device(rows, plain.device)
            known = None if classes is None else classes[on_device(rows, classes.device)]
            variants[there] = self._maker.translate(plain[there], _draw_of(draw, rows), labels=known)
        return torch.cat([plain.unsqueeze(1), variants], dim=1) if self.keep_original else variants


@final
class _CollateThenTransform:
    """Collates samples and translates the batch; an object and not a closure, so that spawned workers can get it."""

    def __init__(self, transform: MUNITBatchTransform, collate: Collate) -> None:
        self.transform = transform
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        return self.transform(self.collate(samples))


class _Scorer(NamedTuple):
    """How hard a batch of images is for a classifier."""

    classifier: Callable[[Tensor], Tensor]
    loss: Loss
    preprocess: Callable[[Tensor], Tensor] | None

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Gives one loss per image."""
        ready = images if self.preprocess is None else self.preprocess(images)
        losses = self.loss(self.classifier(ready), labels)
        if losses.shape != (len(images),):
            raise ValueError(
                f"loss must give one number for each of {len(images)} images, got shape {tuple(losses.shape)}; "
                'losses of torch do so with reduction="none"'
            )
        return losses


def _cross_entropies(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores, labels, reduction="none")


def _draw_of(draw: Draw, rows: Tensor) -> Draw:
    return Draw(draw.styles[rows], draw.strength[rows], draw.direction[rows], draw.retry_seed)


def _count_rows(images: Sequence[Tensor], labels: Tensor | None) -> int:
    count = len(images[0])
    for what, rows in [*(("images", image) for image in images), ("labels", labels)]:
        if rows is not None and len(rows) != count:
            raise ValueError(f"the batch has {count} images, but {what} with {len(rows)} rows stand beside them")
    return count


def _check_getter(getter: LabelsGetter) -> LabelsGetter:
    if getter is None or getter == "default" or callable(getter):
        return getter
    raise TypeError(f'labels_getter must be "default", a function of the batch, or None, got {getter!r}')
