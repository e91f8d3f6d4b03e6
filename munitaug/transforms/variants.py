"""What every front end shares: where the weights, the styles and the random numbers of a transform come from.

Floor 6: imports checkpoint (when a path is given), kernel, styles, translator.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from munitaug.kernel import translate_images
from munitaug.random import on_device, torch_generator
from munitaug.styles import ClassStyles, StyleSource, style_source, truncation_as_float
from munitaug.transforms.arguments import Strength, check_device, check_direction, check_strength, plain_strength
from munitaug.transforms.exemplars import Exemplar, exemplar_styles
from munitaug.transforms.forks import refuse_cuda_after_fork
from munitaug.transforms.frozen import frozen_network
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.streams import RandomStream
from munitaug.translator import NO_STYLES, Translator
from munitaug.types import CheckpointError

Style = str | StyleSource | Exemplar | Sequence[Exemplar]
Direction = str | Mapping[str, float]


class _NamedSource(NamedTuple):
    """What draws the styles of a name, and the bank that it was made of."""

    bank: Tensor
    styles: StyleSource


PER_CALL = "exemplar"
"""The style whose exemplar images come with each call, where a front end can take them."""

_named_sources: WeakKeyDictionary[Translator, dict[tuple[str, float | None], _NamedSource]] = WeakKeyDictionary()
"""Fitting a mixture takes a while, and albumentations builds a transform anew for every replay."""


class Draw(NamedTuple):
    """All that chance decides about K variants of N images; with it, translating is a pure function.

    Args:
        styles: N x K x style_dim, float32, on the CPU.
        strength: N x K in [0, 1], on the CPU.
        direction: N int64, index into the maker's ``directions``; all variants of an image share theirs.
        retry_seed: decides the styles of variants that a guard rejects; 0 without a guard.
    """

    styles: Tensor
    strength: Tensor
    direction: Tensor
    retry_seed: int

    def repeat(self, times: int) -> Draw:
        """Gives every row ``times`` times in a row, as the frames of a clip share what was drawn for the clip."""
        if times == 1:
            return self
        styles, strength, direction = (rows.repeat_interleave(times, dim=0) for rows in self[:3])
        return Draw(styles, strength, direction, self.retry_seed)


class MakerState(TypedDict):
    """What a pickle carries: the weights only when they did not come from a checkpoint.

    A checkpoint travels as its absolute path and the SHA-256 of its weights.
    """

    path: str | None
    sha256: str | None
    translators: tuple[Translator, ...] | None
    style: str | StyleSource
    direction: str | dict[str, float]
    device: torch.device
    truncation: float | None
    strength: tuple[float, float]
    guard: LabelGuard | None
    stream: RandomStream


class VariantMaker:
    """Draws styles and translates images for one transform; a plain object, never a submodule.

    The weights stay out of the modules that hold the transform: a network that has a transform as an attribute
    must not train, save or move the generator. A translator that is in training mode, wants gradients or lives
    elsewhere is copied first, so the caller's object stays as it is.

    Args:
        checkpoint: path of a checkpoint, or a translator.
        style: "prior", "bank", "mixture", a StyleSource, or exemplar images; "exemplar" where every ``draw`` gets
            its source.
        direction: "a2b", "b2a", or both with their weights; a translator already has its direction.
        device: where the translator runs.
        seed: see :class:`~munitaug.transforms.streams.RandomStream`.
        truncation: see :func:`munitaug.styles.style_source`; only for named styles.
        strength: share of the drawn style, the rest being the image's own: one number in [0, 1], or the lowest and
            the highest of a uniform draw for every variant.
        guard: rejects variants that lost their label.

    Raises:
        TypeError: checkpoint, style, seed, truncation, strength or guard is of a wrong type.
        ValueError: unknown direction, style or device, or an option where it means nothing.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        checkpoint: str | Path | Translator,
        *,
        style: Style,
        direction: Direction,
        device: str | torch.device,
        seed: int | None,
        truncation: float | None,
        strength: Strength,
        guard: LabelGuard | None,
    ) -> None:
        self.direction = check_direction(direction)
        self.device = check_device(device)
        self.truncation = truncation_as_float(truncation)
        self.strength = check_strength(strength)
        self.guard = _check_guard(guard)
        if self.guard is not None:
            self.guard.prepare(self.device)
        self.stream = RandomStream(seed)
        self.path = None if isinstance(checkpoint, Translator) else _path_to_text(checkpoint)
        self._absolute_path = None if self.path is None else os.path.abspath(os.path.expanduser(self.path))
        self._sha256: str | None = None
        self._translators: tuple[Translator, ...] | None = None
        if isinstance(checkpoint, Translator):
            _refuse_mix(self.direction)
            self._translators = (frozen_network(checkpoint, self.device),)
        self._owner_pid = os.getpid()
        self.style = style if isinstance(style, str) else self._given_styles(style)
        self._by_class = self.style if isinstance(self.style, ClassStyles) else None
        self._check_together()

    def described(self) -> str:
        """Gives the arguments in one line, without the network."""
        checkpoint = type(self.translator).__name__ if self.path is None else repr(self.path)
        style = repr(self.style) if isinstance(self.style, str) else type(self.style).__name__
        return (
            f"{checkpoint}, style={style}, direction={self.direction!r}, device={str(self.device)!r}, "
            f"seed={self.stream.seed}, truncation={self.truncation}, strength={plain_strength(self.strength)}, "
            f"guard={self.guard!r}"
        )

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that are drawn from; one for a transform without a mix."""
        return (self.direction,) if isinstance(self.direction, str) else tuple(self.direction)

    @property
    def translators(self) -> tuple[Translator, ...]:
        """The frozen translator of each direction; read from the checkpoint at first use in a process.

        Raises:
            CheckpointError: it cannot be read, or is not that of the transform which was pickled.
        """
        if self._translators is None:
            assert self.path is not None
            self._sha256 = _checkpoint_identity(self.path, self._sha256)
            _warn_of_inversion(self.path, self.directions)
            self._translators = tuple(_load_translator(self.path, name, self.device) for name in self.directions)
        return self._translators

    @property
    def translator(self) -> Translator:
        """The frozen translator of the first direction."""
        return self.translators[0]

    @property
    def needs_classes(self) -> bool:
        """Whether the class of an image changes anything: styles by class, or a guard."""
        return self._by_class is not None or self.guard is not None

    def refuse_many_of_one(self, variants: int) -> None:
        """Refuses several variants of a translator that has but one.

        Raises:
            ValueError: more than one variant, and no styles; the message names methods that have them.
        """
        if variants > 1 and self.translator.style_dim == 0:
            raise ValueError(f"{variants} variants were asked for, but {NO_STYLES}")

    def happens(self, p: float) -> bool:
        """Draws whether something of probability p happens; always one number, so that p moves no style."""
        return float(torch.rand((), generator=self.stream.generator(), dtype=torch.float64)) < p

    def draw(
        self,
        n: int,
        k: int,
        *,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        source: StyleSource | None = None,
    ) -> Draw:
        """Draws what k variants of each of n images need.

        Args:
            n: images.
            k: variants of each.
            generator: on the CPU; None for the transform's own stream.
            labels: n integers, for styles that go by the class of the image.
            source: styles of this call, in place of the transform's own.

        Raises:
            ValueError: styles by class without labels, or style="exemplar" without a source.
        """
        stream = self.stream.generator() if generator is None else generator
        direction = self._draw_directions(n, stream)
        styles = self._draw_styles(direction, k, labels, source, stream)
        low, high = self.strength
        strength = torch.full((n, k), low, dtype=torch.float32)
        if low != high:
            strength += (high - low) * torch.rand(n, k, generator=stream, dtype=torch.float32)
        retry_seed = 0 if self.guard is None else int(torch.randint(2**63 - 1, (), generator=stream))
        return Draw(styles, strength, direction, retry_seed)

    def translate(self, images: Tensor, draw: Draw, *, labels: Tensor | None = None) -> Tensor:
        """Gives N x K x C x H x W variants of images; equal images and draws give equal variants.

        Args:
            images: N x C x H x W, uint8 in [0, 255] or floating in [0, 1], on any device.
            draw: of ``draw`` for N images.
            labels: N integers, -1 where unknown, or None; read by the guard, and for the styles of its redraws.

        Raises:
            RuntimeError: on CUDA in a forked process.
            TypeError, ValueError: see :func:`munitaug.kernel.translate_images`.
        """
        refuse_cuda_after_fork(self.device, self._owner_pid)
        variants = self._apply(images, draw)
        if self.guard is None:
            return variants
        generator = torch_generator("redraw", draw.retry_seed)
        variants_of_each = max(draw.styles.shape[1], 1)

        def redraw(lost: Tensor) -> Tensor:
            rows = lost // variants_of_each
            direction = draw.direction[rows]
            known = None if labels is None else labels.cpu()[rows]
            styles = self._draw_styles(direction, 1, known, None, generator)
            strength = draw.strength.flatten()[lost].unsqueeze(1)
            return self._apply(images[on_device(rows, images.device)], Draw(styles, strength, direction, 0)).squeeze(1)

        channels = self.translator.channels
        return self.guard.protect(images, variants, labels, redraw, channels=channels, device=self.device)

    def _apply(self, images: Tensor, draw: Draw) -> Tensor:
        weakened = draw.strength.numel() > 0 and float(draw.strength.min()) < 1.0
        strength = draw.strength if weakened else None
        if len(self.translators) == 1 or len(images) == 0:
            return translate_images(self.translator, images, draw.styles, strength)
        variants = images.new_empty((len(images), draw.styles.shape[1], *images.shape[1:]))
        for index, translator in enumerate(self.translators):
            rows = (draw.direction == index).nonzero().flatten()
            if len(rows):
                there = on_device(rows, images.device)
                blend = None if strength is None else strength[rows]
                variants[there] = translate_images(translator, images[there], draw.styles[rows], blend)
        return variants

    def _draw_directions(self, n: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.direction, str) or len(self.direction) == 1 or n == 0:
            return torch.zeros(n, dtype=torch.int64)
        weights = torch.tensor(list(self.direction.values()), dtype=torch.float64)
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    def _draw_styles(
        self, direction: Tensor, k: int, labels: Tensor | None, source: StyleSource | None, generator: torch.Generator
    ) -> Tensor:
        if self._by_class is not None:
            return _sample_by_class(self._by_class, labels, k, generator)
        if source is not None or len(self.translators) == 1:
            return (source or self._source(0)).sample(len(direction), k, generator)
        styles = torch.empty(len(direction), k, self.translator.style_dim, dtype=torch.float32)
        for index in range(len(self.translators)):
            rows = (direction == index).nonzero().flatten()
            styles[rows] = self._source(index).sample(len(rows), k, generator)
        return styles

    def _source(self, index: int) -> StyleSource:
        """Gives the source of a direction: named ones belong to its translator."""
        if isinstance(self.style, StyleSource):
            return self.style
        if self.style == PER_CALL:
            raise ValueError(
                'style="exemplar" takes its styles from exemplar images of the call, but none came with it'
            )
        translator = self.translators[index]
        sources = _named_sources.setdefault(translator, {})
        key, bank = (self.style, self.truncation), translator.style_bank
        if key not in sources or sources[key].bank is not bank:
            sources[key] = _NamedSource(bank, style_source(self.style, translator.style_dim, bank, self.truncation))
        return sources[key].styles

    def _given_styles(self, style: StyleSource | Exemplar | Sequence[Exemplar]) -> StyleSource:
        if isinstance(style, StyleSource):
            return style
        if len(self.directions) > 1:
            raise ValueError(
                "exemplar images belong to the target of one direction, but direction is a mix; give one direction, "
                'or style="prior", "bank" or "mixture"'
            )
        return exemplar_styles(self.translator, style)

    def _check_together(self) -> None:
        """Refuses what is refused anyway at the first call, or would go unnoticed."""
        if self.truncation is not None and (isinstance(self.style, StyleSource) or self.style == PER_CALL):
            raise ValueError(
                'truncation is for style="prior", "bank" or "mixture"; exemplars have none, and a StyleSource '
                "takes it in its own constructor"
            )
        if self.style == PER_CALL and self.guard is not None:
            raise ValueError(
                'guard needs styles to draw again from, but style="exemplar" has those of one call; give the '
                "exemplar images as style=[...] when the transform is made"
            )
        if len({translator.style_dim for translator in self.translators}) > 1:
            raise ValueError(
                "the directions of this checkpoint have style codes of different lengths; give one of them"
            )
        if self.strength != (1.0, 1.0) and self.translator.style_dim == 0:
            raise ValueError(
                f"strength={self.strength} blends the drawn style with that of the image, but this translator has no "
                "styles (one output per input); leave strength at 1"
            )
        if isinstance(self.style, str) and self.style != PER_CALL:
            for index in range(len(self.translators)):
                self._source(index)

    def __getstate__(self) -> MakerState:
        return {
            "path": self._absolute_path,
            "sha256": self._sha256,
            "translators": self._translators if self.path is None else None,
            "style": self.style,
            "direction": self.direction,
            "device": self.device,
            "truncation": self.truncation,
            "strength": self.strength,
            "guard": self.guard,
            "stream": self.stream,
        }

    def __setstate__(self, state: MakerState) -> None:
        self.path = self._absolute_path = state["path"]
        self._sha256, self._translators = state["sha256"], state["translators"]
        self.style, self.truncation = state["style"], state["truncation"]
        self.direction, self.device = state["direction"], state["device"]
        self.strength, self.guard = state["strength"], state["guard"]
        self._by_class = self.style if isinstance(self.style, ClassStyles) else None
        self.stream = state["stream"]
        self._owner_pid = os.getpid()

    def __deepcopy__(self, memo: dict[int, object]) -> VariantMaker:
        """Gives a maker with a stream and a guard's counts of its own; the frozen weights are shared."""
        twin = copy.copy(self)
        twin.path, twin._translators, twin._owner_pid = self.path, self._translators, self._owner_pid
        twin.stream = copy.deepcopy(self.stream, memo)
        twin.guard = copy.deepcopy(self.guard, memo)
        return twin


def refuse_styles_per_call(style: Style) -> None:
    """Refuses style="exemplar", whose images come with each call of an albumentations transform.

    Raises:
        ValueError: it is that style.
    """
    if isinstance(style, str) and style == PER_CALL:
        raise ValueError(
            'style="exemplar" needs images: give the exemplar images themselves, style=[image, ...]; only '
            "munitaug.transforms.albumentations takes them with each call"
        )


def refuse_class_styles(style: Style) -> None:
    """Refuses styles by class, for a front end that does not know the label of an image.

    Raises:
        ValueError: the style goes by the class of the image.
    """
    if isinstance(style, ClassStyles):
        raise ValueError(
            f"{type(style).__name__} goes by the class of the image, which a transform of single samples does not "
            "know; use munitaug.MUNITBatchTransform or munitaug.VariantDataset, which take labels"
        )


def _sample_by_class(source: ClassStyles, labels: Tensor | None, k: int, generator: torch.Generator) -> Tensor:
    if labels is None:
        raise ValueError(
            "styles by class need the labels of the images, but there are none; make the class the second part of a "
            'sample, or put it under the key "label", or use styles that need none'
        )
    return source.sample_for(labels.cpu(), k, generator)


def _check_guard(guard: LabelGuard | None) -> LabelGuard | None:
    if guard is None or isinstance(guard, LabelGuard):
        return guard
    raise TypeError(f"guard must be a munitaug LabelGuard or None, got {type(guard).__name__}")


def _refuse_mix(direction: str | dict[str, float]) -> None:
    if not isinstance(direction, str) and len(direction) > 1:
        raise ValueError(
            f"direction is a mix of {', '.join(direction)}, but a Translator has one direction; give the path of a "
            "checkpoint"
        )


def _load_translator(path: str, direction: str, device: torch.device) -> Translator:
    # Here and not above: reading checkpoints brings every method along, and a given translator needs none of them.
    from munitaug.checkpoint import shared_translator

    return shared_translator(path, direction, device)


def _checkpoint_identity(path: str, expected: str | None) -> str:
    """Gives the SHA-256 of what a checkpoint says of itself, which must be the one that a pickle brought, if any."""
    from munitaug.checkpoint import identity_sha256

    found = identity_sha256(path)
    if expected not in (None, found):
        raise CheckpointError(
            f"{path} was replaced after this transform was pickled: it has SHA-256 {found[:16]}..., not "
            f"{expected[:16]}...; put the old checkpoint back, or make the transform anew"
        )
    return found


def _warn_of_inversion(path: str, directions: Sequence[str]) -> None:
    """Warns of a checkpoint whose images were inverted when they were opened, which a transform's are not."""
    from munitaug.checkpoint import inverted_directions

    inverted = inverted_directions(path, directions)
    if inverted:
        warnings.warn(
            f"{path} was trained on images with dark and light exchanged (munitaug train --invert-source or "
            f"--invert-target), so {' and '.join(inverted)} expects them so: put v2.RandomInvert(p=1) before this "
            "transform, or A.InvertImg(p=1); if it is there, all is well",
            stacklevel=2,
        )


def _path_to_text(checkpoint: str | Path) -> str:
    if isinstance(checkpoint, str | os.PathLike):
        return os.fspath(checkpoint)
    raise TypeError(
        f"checkpoint must be the path of a checkpoint or a Translator, got {type(checkpoint).__name__}; "
        'of a Method, give method.translator("a", "b")'
    )
