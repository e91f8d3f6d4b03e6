"""The torchvision v2 front end: samples of any structure in, the same structure with translated images out.

Floor 6: imports images and the transforms' variants; torchvision and PIL.
"""

from __future__ import annotations

import warnings
from itertools import cycle
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform, has_any

from munitaug.default_device import on_cpu_by_default
from munitaug.images import array_to_tensor, check_pil_mode, check_pixels, tensor_to_pil
from munitaug.transforms.arguments import (
    Strength,
    check_keep_original,
    check_probability,
    check_variants,
)
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.samples import wrap_like
from munitaug.transforms.variants import (
    Direction,
    Draw,
    Style,
    VariantMaker,
    refuse_class_styles,
    refuse_styles_per_call,
)
from munitaug.translator import Translator

PIL_MODES = ("L", "RGB", "RGBA")


def _is_plain_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


def _is_array_image(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] in (1, 3, 4)


class MUNITTransform(Transform):  # type: ignore[misc]  # torchvision has no types
    """Translates the images of a sample into the other domain, each in a style of its own.

    Takes PIL images (L, RGB, RGBA with alpha kept), tensors and tv_tensors.Image ``... x C x H x W`` and
    tv_tensors.Video ``... x T x C x H x W``, uint8 in [0, 255] or floating in [0, 1], with any leading sizes, also
    zero; grey images go through RGB generators and come back grey. As in torchvision, a plain tensor is an image
    only if it is the first one and the sample has no PIL image, Image or Video. All else passes as the same object;
    so do arrays, with one warning where there is nothing else to translate.

    One variant comes back in the type, mode, shape, dtype, range and device of the input. K variants come back as
    tv_tensors.Image ``... x K x C x H x W`` (Video: ``... x K x T x C x H x W``), of a PIL image as a tuple of K.
    Equal images of a batch get different styles; the frames of one clip share theirs. Inputs are not changed.

    Args:
        checkpoint: path of a checkpoint, or a Translator in evaluation mode (otherwise a copy is made).
        num_variants: K; content is encoded once and decoded K times.
        style: "prior", "bank", "mixture", a StyleSource, or exemplar images of the target domain. Styles by class
            are refused, since a transform does not know which part of a sample is the label.
        direction: "a2b" or "b2a"; ignored for a Translator, which has its direction. Of a checkpoint also a mix such
            as {"a2b": 0.7, "b2a": 0.3}: one is drawn for every image, and all its variants share it.
        p: probability of translation, drawn once per call. Where it is not translated, the image comes back as it
            was, K times if K were asked for, so that shapes do not depend on chance.
        seed: None follows torch's global generator (DataLoader workers and epochs differ). An integer gives a
            private stream that leaves global generators alone; in DataLoader workers it also depends on the
            worker's seed, so that nothing repeats.
        device: where the generator runs; images come back on their own device.
        keep_original: puts the input image before the K variants, so that K + 1 images come back.
        truncation: keeps prior and mixture styles near the middle, or pulls bank styles towards their mean.
        strength: share of the drawn style in the style that is used, the rest being that of the image itself; one
            number in [0, 1], or (lowest, highest) to draw one for every variant.
        guard: turns away variants whose predicted label is not that of the image, and has them drawn again.

    Raises:
        TypeError: checkpoint, style, seed or guard is of a wrong type.
        ValueError: an argument is outside its range, or means nothing beside the others.
        CheckpointError: the checkpoint cannot be read.
    """

    _transformed_types = (PIL.Image.Image, _is_plain_tensor, tv_tensors.Image, tv_tensors.Video)

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
    ) -> None:
        super().__init__()
        self.num_variants = check_variants(num_variants)
        self.p = check_probability(p)
        self.keep_original = check_keep_original(keep_original)
        refuse_styles_per_call(style)
        refuse_class_styles(style)
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
        self._has_warned = False

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Warns, once, of a sample whose only image is an array, which passes as all else does."""
        arrays = [part.shape for part in flat_inputs if _is_array_image(part)]
        if self._has_warned or not arrays or has_any(flat_inputs, *self._transformed_types):
            return
        self._has_warned = True
        warnings.warn(
            f"a sample holds no image that MUNITTransform takes, but an array of shape {arrays[0]}, which is left "
            "as it is; put torchvision.transforms.v2.ToImage() before the transform, or use "
            "munitaug.transforms.albumentations.MUNITTransform",
            stacklevel=5,
        )

    @on_cpu_by_default
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws whether to translate, then K variants of every image; ``draws`` by the identity of the input.

        Raises:
            TypeError: an image of a dtype that is neither uint8 nor floating.
            ValueError: a PIL mode, a tensor shape or a range of values that is no image's, or a video with a guard.
        """
        for image in flat_inputs:
            _check_image(image)
            self._check_guarded(image)
        translates = self._maker.happens(self.p)
        drawn: dict[int, list[Draw | None]] = {}
        for image in flat_inputs:
            draw = self._maker.draw(_count_scenes(image), self.num_variants) if translates else None
            drawn.setdefault(id(image), []).append(draw)
        # A cycle, because one object may stand twice in a sample and is to get other styles the second time.
        return {"draws": {key: cycle(blocks) for key, blocks in drawn.items()}}

    @on_cpu_by_default
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Gives the variants of one image in the form the class describes."""
        draw: Draw | None = next(params["draws"][id(inpt)])
        single = self.num_variants == 1 and not self.keep_original
        if draw is None and single:
            return inpt
        batch = _image_to_batch(inpt, with_alpha=self._maker.translator.channels == 4)
        variants = self._variants(batch, draw, len(batch) // max(_count_scenes(inpt), 1))
        if isinstance(inpt, PIL.Image.Image):
            images = tuple(_tensor_to_pil_like(variant, inpt) for variant in variants[0])
            return images[0] if single else images
        return _variants_like(variants, inpt, single)

    def _variants(self, batch: Tensor, draw: Draw | None, frames: int) -> Tensor:
        if draw is None:
            return batch.unsqueeze(1).repeat(1, self.num_variants + self.keep_original, 1, 1, 1)
        variants = self._maker.translate(batch, draw.repeat(frames))
        return torch.cat([batch.unsqueeze(1), variants], dim=1) if self.keep_original else variants

    def _check_guarded(self, image: PIL.Image.Image | Tensor) -> None:
        if self._maker.guard is not None and isinstance(image, tv_tensors.Video):
            raise ValueError(
                "a guard judges images one by one and would tear the frames of a clip apart, but the sample has a "
                "tv_tensors.Video; make it a tv_tensors.Image, or give guard=None"
            )

    def extra_repr(self) -> str:
        """Gives the arguments in one line, without the network."""
        own = f"num_variants={self.num_variants}, p={self.p}, keep_original={self.keep_original}"
        return f"{self._maker.described()}, {own}"


def _check_image(image: PIL.Image.Image | Tensor) -> None:
    if isinstance(image, PIL.Image.Image):
        return check_pil_mode(image, PIL_MODES, "PIL image")
    if image.ndim < 3:
        raise ValueError(
            f"image tensor must be ... x C x H x W, got shape {tuple(image.shape)}; if this is a label, put the "
            "image before it in the sample, or make the image a tv_tensors.Image"
        )
    check_pixels(image, "image tensor")


def _count_scenes(image: PIL.Image.Image | Tensor) -> int:
    """Counts what gets a style of its own: images, or whole clips of a video."""
    if isinstance(image, PIL.Image.Image):
        return 1
    return prod(image.shape[:-4] if isinstance(image, tv_tensors.Video) else image.shape[:-3])


def _image_to_batch(image: PIL.Image.Image | Tensor, with_alpha: bool) -> Tensor:
    if isinstance(image, PIL.Image.Image):
        array = np.array(image)
        return array_to_tensor(array[:, :, :3] if image.mode == "RGBA" and not with_alpha else array).unsqueeze(0)
    plain = image.as_subclass(Tensor).detach()
    return plain.reshape(prod(plain.shape[:-3]), *plain.shape[-3:])


def _tensor_to_pil_like(variant: Tensor, like: PIL.Image.Image) -> PIL.Image.Image:
    image = tensor_to_pil(variant)
    if like.mode == "RGBA" and image.mode != "RGBA":
        image.putalpha(like.getchannel("A"))
    return image


def _variants_like(variants: Tensor, like: Tensor, single: bool) -> Tensor:
    """Gives N x K x C x H x W variants the leading sizes and the type of the image they came from."""
    if single:
        return wrap_like(variants.reshape(like.shape), like)
    stacked = variants.reshape(*like.shape[:-3], *variants.shape[1:])
    if isinstance(like, tv_tensors.Video):
        stacked = stacked.movedim(-4, -5).contiguous()
    # A plain tensor becomes an Image: of several plain tensors the next transform would touch only the first.
    return wrap_like(stacked, like) if isinstance(like, tv_tensors.TVTensor) else tv_tensors.Image(stacked)
