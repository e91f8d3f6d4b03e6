"""What every front end shares: where the weights, the styles and the random numbers of a transform come from.

Floor 6: imports checkpoint (when a path is given), kernel, styles, translator.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from munitaug.kernel import translate_images, translator_device
from munitaug.styles import StyleSource, style_source
from munitaug.transforms.exemplars import Exemplar, exemplar_styles
from munitaug.transforms.forks import refuse_cuda_after_fork
from munitaug.transforms.streams import RandomStream
from munitaug.translator import Translator
from munitaug.types import split_direction

Style = str | StyleSource | Exemplar | Sequence[Exemplar]

_named_sources: WeakKeyDictionary[Translator, dict[tuple[str, float | None], StyleSource]] = WeakKeyDictionary()
"""Fitting a mixture takes a while, and albumentations builds a transform anew for every replay."""


class MakerState(TypedDict):
    """What a pickle carries: the weights only when they did not come from a checkpoint."""

    path: str | None
    translator: Translator | None
    style: str | StyleSource
    direction: str
    device: torch.device
    truncation: float | None
    stream: RandomStream


class VariantMaker:
    """Draws styles and translates images for one transform; a plain object, never a submodule.

    The weights stay out of the modules that hold the transform: a network that has a transform as an attribute
    must not train, save or move the generator. A translator that is in training mode, wants gradients or lives
    elsewhere is copied first, so the caller's object stays as it is.

    Args:
        checkpoint: path of a checkpoint, or a translator.
        style: "prior", "bank", "mixture", a StyleSource, or exemplar images.
        direction: "a2b" or "b2a"; a translator already has its direction.
        device: where the translator runs.
        seed: see :class:`~munitaug.transforms.streams.RandomStream`.
        truncation: see :func:`munitaug.styles.style_source`; only for named styles.

    Raises:
        TypeError: checkpoint, style or seed is of a wrong type.
        ValueError: unknown direction or style, or truncation where it means nothing.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        checkpoint: str | Path | Translator,
        style: Style,
        direction: str,
        device: str | torch.device,
        seed: int | None,
        truncation: float | None,
    ) -> None:
        split_direction(direction)
        self.direction = direction
        self.device = torch.device(device)
        self.truncation = truncation
        self.stream = RandomStream(seed)
        self.path: str | None = None
        self._translator: Translator | None
        if isinstance(checkpoint, Translator):
            self._translator = ready_translator(checkpoint, self.device)
        else:
            self.path = _path_to_text(checkpoint)
            self._translator = _load_translator(self.path, direction, self.device)
        self._owner_pid = os.getpid()
        self.style = style if isinstance(style, str) else self._given_styles(style)
        if isinstance(self.style, str):
            self._named_source(self.style)

    def happens(self, p: float) -> bool:
        """Draws whether something of probability p happens; always one number, so that p moves no style."""
        return float(torch.rand((), generator=self.stream.generator(), dtype=torch.float64)) < p

    def draw_styles(self, n: int, k: int) -> Tensor:
        """Gives n x k x style_dim codes, k for each of n images."""
        source = self.style if isinstance(self.style, StyleSource) else self._named_source(self.style)
        return source.sample(n, k, self.stream.generator())

    def translate(self, images: Tensor, styles: Tensor) -> Tensor:
        """Gives N x K x C x H x W variants of images: N x C x H x W, styles: N x K x style_dim.

        Raises:
            RuntimeError: on CUDA in a forked process.
            TypeError, ValueError: see :func:`munitaug.kernel.translate_images`.
        """
        refuse_cuda_after_fork(self.device, self._owner_pid)
        return translate_images(self.translator, images, styles)

    @property
    def translator(self) -> Translator:
        """The frozen translator; read from the checkpoint at first use in a process."""
        if self._translator is None:
            assert self.path is not None
            self._translator = _load_translator(self.path, self.direction, self.device)
        return self._translator

    def _named_source(self, name: str) -> StyleSource:
        translator = self.translator
        sources = _named_sources.setdefault(translator, {})
        key = (name, self.truncation)
        if key not in sources:
            sources[key] = style_source(name, translator.style_dim, translator.style_bank, self.truncation)
        return sources[key]

    def _given_styles(self, style: StyleSource | Exemplar | Sequence[Exemplar]) -> StyleSource:
        if self.truncation is not None:
            raise ValueError(
                'truncation is for style="prior", "bank" or "mixture"; exemplars have none, and a StyleSource '
                "takes it in its own constructor"
            )
        return style if isinstance(style, StyleSource) else exemplar_styles(self.translator, style)

    def __getstate__(self) -> MakerState:
        return {
            "path": self.path,
            "translator": self._translator if self.path is None else None,
            "style": self.style,
            "direction": self.direction,
            "device": self.device,
            "truncation": self.truncation,
            "stream": self.stream,
        }

    def __setstate__(self, state: MakerState) -> None:
        self.path, self._translator = state["path"], state["translator"]
        self.style, self.truncation = state["style"], state["truncation"]
        self.direction, self.device = state["direction"], state["device"]
        self.stream = state["stream"]
        self._owner_pid = os.getpid()

    def __deepcopy__(self, memo: dict[int, object]) -> VariantMaker:
        """Gives a maker with a stream of its own at the same position; the frozen weights are shared."""
        twin = copy.copy(self)
        twin._translator, twin._owner_pid = self._translator, self._owner_pid
        twin.stream = copy.deepcopy(self.stream, memo)
        return twin


def ready_translator(translator: Translator, device: torch.device) -> Translator:
    """Gives the translator in evaluation mode, without gradients, on the device; a copy unless it is so already."""
    if _is_ready(translator, device):
        return translator
    return copy.deepcopy(translator).eval().requires_grad_(False).to(device)


def _is_ready(translator: Translator, device: torch.device) -> bool:
    here = translator_device(translator)
    in_place = here.type == device.type and device.index in (None, here.index)
    training = any(module.training for module in translator.modules())
    return in_place and not training and not any(weight.requires_grad for weight in translator.parameters())


def _load_translator(path: str, direction: str, device: torch.device) -> Translator:
    # Here and not above: reading checkpoints brings every method along, and a given translator needs none of them.
    from munitaug.checkpoint import shared_translator

    return shared_translator(path, direction, device)


def _path_to_text(checkpoint: str | Path) -> str:
    if isinstance(checkpoint, str | os.PathLike):
        return os.fspath(checkpoint)
    raise TypeError(
        f"checkpoint must be the path of a checkpoint or a Translator, got {type(checkpoint).__name__}; "
        'of a Method, give method.translator("a", "b")'
    )
