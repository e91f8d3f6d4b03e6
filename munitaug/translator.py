"""What *use* needs of a trained model: images of one domain in, K styled images of the other out.

Floor 2: imports types, images.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from munitaug.images import crop_padding, pad_to_multiple
from munitaug.types import MIN_SIDE, Content

NO_STYLES = (
    "this method gives one translation per image and has no styles; for several variants or exemplars train a "
    "multimodal method: munit, dritpp, transgaga or multidomain"
)


PIXELS_AT_ONCE = 2**15
"""Pixels of output decoded at once on a CPU. Beyond a few MB per layer the memory of each is fetched from the system
anew, page by page: at 256 px a batch of 4 x 4 then takes twice the time of its images one by one."""
GPU_PIXELS_AT_ONCE = 2**22
"""The same elsewhere: 64 images of 256 px, whose last layer of 64 maps takes 1 GiB in float32."""


MOST_COMPILED_SIZES = 64
"""Of all translators of a process together; beyond, torch runs them uncompiled and logs a warning."""

Precision = Literal["float32", "bfloat16"]
Encode = Callable[[Tensor], Content]
Decode = Callable[[Content, Tensor], Tensor]


class Translator(nn.Module, ABC):
    """Translates images of one domain into the other; pure: equal inputs give equal outputs.

    Args:
        channels: image channels it takes and gives.
        size_multiple: encode_content needs image sides that are multiples of this, in pixels;
            translate pads and crops by itself.
        style_dim: numbers in a style code; 0 means one output per input.
        style_bank: M x style_dim codes of real target images, or M = 0 when none were kept.
    """

    style_bank: Tensor
    reads_styles: ClassVar[bool] = True
    """Whether encode_style gives codes of images; where not, it refuses."""
    precision: Precision = "float32"
    """Of convolutions and products in ``translate``; weights, norms and results stay float32."""
    compiled: bool = False
    """Whether ``translate`` uses compiled networks; for frozen weights, and where no gradient is asked for."""
    _compiled_halves: tuple[Encode, Decode] | None = None
    _compiling_process: ClassVar[int | None] = None
    """The process that compiled a translator, if one did."""

    def __init__(self, channels: int, size_multiple: int, style_dim: int, style_bank: Tensor | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.size_multiple = size_multiple
        self.style_dim = style_dim
        bank = torch.zeros(0, style_dim) if style_bank is None else style_bank.detach().clone()
        self.register_buffer("style_bank", bank, persistent=False)

    @abstractmethod
    def encode_content(self, x: Tensor) -> Content:
        """Gives the content of x: N x C x H x W in [-1, 1], sides multiples of size_multiple."""

    @abstractmethod
    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N contents and style: N x style_dim."""

    def decode_variants(self, content: Content, style: Tensor) -> Tensor:
        """Gives K N x C x H x W in [-1, 1], K in a row for each of N contents.

        Args:
            content: of N images.
            style: N x K x style_dim.
        """
        return self.decode(repeat_content(content, style.shape[1]), style.flatten(0, 1))

    @abstractmethod
    def encode_style(self, y: Tensor) -> Tensor:
        """Gives N x style_dim codes of target images y: N x C x H x W in [-1, 1].

        Raises:
            ValueError: the method has no style encoder.
        """

    def translate(self, x: Tensor, style: Tensor) -> Tensor:
        """Gives K translations of every image; content is encoded once and decoded K times.

        Args:
            x: N x C x H x W in [-1, 1]; any sides from 16 px up (padded by reflection and cropped back).
            style: N x K x style_dim.

        Returns:
            N x K x C x H x W in [-1, 1], float32.

        Raises:
            ValueError: wrong channel count, image too small, or styles that do not fit.
        """
        self._check(x, style)
        count, variants = style.shape[:2]
        if count == 0 or variants == 0:
            return x.new_zeros((count, variants, *x.shape[1:]))
        padded, padding = pad_to_multiple(x, self.size_multiple)
        filled = power_of_two(count) if self._compiles() else count
        at_once = filled * variants
        if not torch.is_grad_enabled():  # a graph keeps all the memory anyway
            limit = PIXELS_AT_ONCE if x.device.type == "cpu" else GPU_PIXELS_AT_ONCE
            at_once = max(1, limit // (padded.shape[-2] * padded.shape[-1]))
        rows = min(filled, max(1, at_once // variants))
        pieces = list(zip(padded.split(rows), style.split(rows), strict=True))
        if self._compiles():  # few sizes, for each is compiled
            last = len(pieces[-1][0])
            missing = min(rows, power_of_two(last)) - last
            pieces[-1] = (_with_last_repeated(pieces[-1][0], missing), _with_last_repeated(pieces[-1][1], missing))
        lower = torch.autocast(x.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with lower, self._compiling():  # lower precision, or as the caller has it
            made = [self._translate_piece(*piece, at_once) for piece in pieces]
        return crop_padding(torch.cat(made)[:count], padding)

    def _translate_piece(self, x: Tensor, style: Tensor, at_once: int) -> Tensor:
        """Gives N x K x C x H x W; of one image no more than ``at_once`` variants are decoded at a time."""
        encode, decode = self._compile() if self._compiles() else (self.encode_content, self.decode_variants)
        content = encode(x)
        made = [decode(content, codes).unflatten(0, codes.shape[:2]) for codes in style.split(at_once, dim=1)]
        return torch.cat(made, dim=1)

    def _compiles(self) -> bool:
        """Tells whether compiled code runs; in processes forked from one that has compiled it may hang."""
        safe = Translator._compiling_process in (None, os.getpid())
        return self.compiled and safe and not torch.is_grad_enabled()

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Has weights as constants, in the layout that convolutions want, and more sizes than torch's usual 8."""
        if not self._compiles():
            yield
            return
        from torch._dynamo import config as versions  # importing them takes more than a second
        from torch._inductor import config as code

        with code.patch(freezing=True), versions.patch(recompile_limit=MOST_COMPILED_SIZES):
            yield

    def _compile(self) -> tuple[Encode, Decode]:
        """Gives what encodes and what decodes, compiled at their first call for every size."""
        if self._compiled_halves is None:
            encode, decode = self.encode_content, self.decode_variants
            self._compiled_halves = torch.compile(encode, dynamic=False), torch.compile(decode, dynamic=False)
            Translator._compiling_process = os.getpid()
        return self._compiled_halves

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled_halves": None}  # made anew where it goes

    def _check(self, x: Tensor, style: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"images must be N x {self.channels} x H x W, got {' x '.join(map(str, x.shape))}")
        if min(x.shape[-2:]) < MIN_SIDE:
            raise ValueError(
                f"image is {x.shape[-1]} x {x.shape[-2]} px, but sides of at least {MIN_SIDE} px are needed; "
                "resize first"
            )
        if style.ndim != 3 or style.shape[0] != x.shape[0] or style.shape[2] != self.style_dim:
            raise ValueError(
                f"styles must be {x.shape[0]} x K x {self.style_dim}, got {' x '.join(map(str, style.shape))}"
            )


class ContentNetwork(Protocol):
    """A generator in two halves, so that content can be kept: image -> features -> image."""

    def encode(self, x: Tensor) -> Tensor:
        """Gives features of N x C x H x W images in [-1, 1]."""
        ...

    def decode(self, features: Tensor) -> Tensor:
        """Gives N x C x H x W images in [-1, 1], float32."""
        ...


class OneToOneTranslator(Translator):
    """A generator without styles: every image has one translation, and style codes have no numbers.

    Args:
        generator: a module with ``encode`` and ``decode``.
        channels: image channels.
        size_multiple: that its image sides must be multiples of, in pixels.
    """

    reads_styles: ClassVar[bool] = False

    def __init__(self, generator: nn.Module, channels: int, size_multiple: int) -> None:
        super().__init__(channels, size_multiple, style_dim=0)
        self.generator = generator

    def encode_content(self, x: Tensor) -> Content:
        """Gives the generator's inner features of x: N x C x H x W in [-1, 1]."""
        return self._halves().encode(x)

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1]; style, N x 0, holds nothing."""
        assert isinstance(content, Tensor)
        return self._halves().decode(content)

    def encode_style(self, y: Tensor) -> Tensor:
        """Refuses: there are no styles.

        Raises:
            ValueError: always; the message names methods that have styles.
        """
        raise ValueError(NO_STYLES)

    def _halves(self) -> ContentNetwork:
        return cast(ContentNetwork, self.generator)


def power_of_two(count: int) -> int:
    """Gives the smallest power of two that is at least ``count``, from 1 up."""
    return 1 << (count - 1).bit_length()


def _with_last_repeated(x: Tensor, times: int) -> Tensor:
    return torch.cat([x, x[-1:].expand(times, *x.shape[1:])])


def repeat_content(content: Content, variants: int) -> Content:
    """Gives every content ``variants`` times in a row, so that it stands beside its K styles."""
    if isinstance(content, tuple):
        return tuple(part.repeat_interleave(variants, dim=0) for part in content)
    return content.repeat_interleave(variants, dim=0)
