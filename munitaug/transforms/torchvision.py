"""The torchvision v2 front end: samples of any structure in, the same structure with translated images out.

Floor 6: imports images and the transforms' variants; torchvision and PIL.
"""

from __future__ import annotations

from itertools import cycle
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from munitaug.images import array_to_tensor, tensor_to_pil
from munitaug.transforms.arguments import check_probability, check_variants
from munitaug.transforms.variants import Style, VariantMaker
from munitaug.translator import Translator

PIL_MODES = ("L", "RGB", "RGBA")


def _is_plain_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


class MUNITTransform(Transform):  # type: ignore[misc]  # torchvision has no types
    """Translates the images of a sample into the other domain, each in a style of its own.

    Takes PIL images (L, RGB, RGBA with alpha kept), tensors and tv_tensors.Image ``... x C x H x W`` and
    tv_tensors.Video ``... x T x C x H x W``, uint8 in [0, 255] or floating in [0, 1], with any leading sizes, also
    zero; grey images go through RGB generators and come back grey. As in torchvision, a plain tensor is an image
    only if it is the first one and the sample has no PIL image, Image or Video. All else passes as the same object.

    One variant comes back in the type, mode, shape, dtype, range and device of the input. K variants come back as
    tv_tensors.Image ``... x K x C x H x W`` (Video: ``... x K x T x C x H x W``), of a PIL image as a tuple of K.
    Equal images of a batch get different styles; the frames of one clip share theirs. Inputs are not changed.

    Args:
        checkpoint: path of a checkpoint, or a Translator in evaluation mode (otherwise a copy is made).
        num_variants: K; content is encoded once and decoded K times.
        style: "prior", "bank", "mixture", a StyleSource, or exemplar images of the target domain.
        direction: "a2b" or "b2a"; ignored for a Translator, which has its direction.
        p: probability of translation, drawn once per call. Where it is not translated, the image comes back as it
            was, K times if K were asked for, so that shapes do not depend on chance.
        seed: None follows torch's global generator (DataLoader workers and epochs differ). An integer gives a
            private stream that leaves global generators alone; in DataLoader workers it also depends on the
            worker's seed, so that nothing repeats.
        device: where the generator runs; images come back on their own device.
        keep_original: puts the input image before the K variants, so that K + 1 images come back.
        truncation: keeps prior and mixture styles near the middle, or pulls bank styles towards their mean.

    Raises:
        TypeError: checkpoint, style or seed is of a wrong type.
        ValueError: an argument is outside its range.
        CheckpointError: the checkpoint cannot be read.
    """

    _transformed_types = (PIL.Image.Image, _is_plain_tensor, tv_tensors.Image, tv_tensors.Video)

    def __init__(
        self,
        checkpoint: str | Path | Translator,
        *,
        num_variants: int = 1,
        style: Style = "prior",
        direction: str = "a2b",
        p: float = 1.0,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        keep_original: bool = False,
        truncation: float | None = None,
    ) -> None:
        super().__init__()
        self.num_variants = check_variants(num_variants)
        self.p = check_probability(p)
        self.keep_original = keep_original
        self._maker = VariantMaker(checkpoint, style, direction, device, seed, truncation)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws whether to translate, then K styles for every image; ``styles`` by the identity of the input.

        Raises:
            TypeError: an image of a dtype that is neither uint8 nor floating.
            ValueError: a PIL mode or a tensor shape that is no image.
        """
        for image in flat_inputs:
            _check_image(image)
        translates = self._maker.happens(self.p)
        drawn: dict[int, list[Tensor | None]] = {}
        for image in flat_inputs:
            styles = self._maker.draw_styles(_count_scenes(image), self.num_variants) if translates else None
            drawn.setdefault(id(image), []).append(styles)
        # A cycle, because one object may stand twice in a sample and is to get other styles the second time.
        return {"styles": {key: cycle(blocks) for key, blocks in drawn.items()}}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Gives the variants of one image in the form the class describes."""
        styles: Tensor | None = next(params["styles"][id(inpt)])
        single = self.num_variants == 1 and not self.keep_original
        if styles is None and single:
            return inpt
        batch = _image_to_batch(inpt)
        variants = self._variants(batch, styles, len(batch) // max(_count_scenes(inpt), 1))
        if isinstance(inpt, PIL.Image.Image):
            images = tuple(_tensor_to_pil_like(variant, inpt) for variant in variants[0])
            return images[0] if single else images
        return _variants_like(variants, inpt, single)

    def _variants(self, batch: Tensor, styles: Tensor | None, frames: int) -> Tensor:
        if styles is None:
            return batch.unsqueeze(1).repeat(1, self.num_variants + self.keep_original, 1, 1, 1)
        variants = self._maker.translate(batch, styles.repeat_interleave(frames, dim=0))
        return torch.cat([batch.unsqueeze(1), variants], dim=1) if self.keep_original else variants

    def extra_repr(self) -> str:
        """Gives the arguments in one line, without the network."""
        maker = self._maker
        checkpoint = type(maker.translator).__name__ if maker.path is None else repr(maker.path)
        style = repr(maker.style) if isinstance(maker.style, str) else type(maker.style).__name__
        return (
            f"{checkpoint}, num_variants={self.num_variants}, style={style}, direction={maker.direction!r}, "
            f"p={self.p}, seed={maker.stream.seed}, device={str(maker.device)!r}, keep_original={self.keep_original}, "
            f"truncation={maker.truncation}"
        )


def _check_image(image: PIL.Image.Image | Tensor) -> None:
    if isinstance(image, PIL.Image.Image):
        if image.mode not in PIL_MODES:
            raise ValueError(
                f'PIL image has mode "{image.mode}", but one of {", ".join(PIL_MODES)} is needed; '
                'use image.convert("RGB") first'
            )
        return
    if image.ndim < 3:
        raise ValueError(
            f"image tensor must be ... x C x H x W, got shape {tuple(image.shape)}; if this is a label, put the "
            "image before it in the sample, or make the image a tv_tensors.Image"
        )
    if image.dtype != torch.uint8 and not image.dtype.is_floating_point:
        raise TypeError(
            f"image tensor must be uint8 in [0, 255] or floating in [0, 1], got {image.dtype}; convert first with "
            "torchvision.transforms.v2.ToDtype(torch.uint8, scale=True)"
        )


def _count_scenes(image: PIL.Image.Image | Tensor) -> int:
    """Counts what gets a style of its own: images, or whole clips of a video."""
    if isinstance(image, PIL.Image.Image):
        return 1
    return prod(image.shape[:-4] if isinstance(image, tv_tensors.Video) else image.shape[:-3])


def _image_to_batch(image: PIL.Image.Image | Tensor) -> Tensor:
    if isinstance(image, PIL.Image.Image):
        array = np.array(image)
        return array_to_tensor(array[:, :, :3] if image.mode == "RGBA" else array).unsqueeze(0)
    plain = image.as_subclass(Tensor).detach()
    return plain.reshape(prod(plain.shape[:-3]), *plain.shape[-3:])


def _tensor_to_pil_like(variant: Tensor, like: PIL.Image.Image) -> PIL.Image.Image:
    image = tensor_to_pil(variant)
    if like.mode == "RGBA":
        image.putalpha(like.getchannel("A"))
    return image


def _variants_like(variants: Tensor, like: Tensor, single: bool) -> Tensor:
    """Gives N x K x C x H x W variants the leading sizes and the type of the image they came from."""
    if single:
        return _wrap(variants.reshape(like.shape), like)
    stacked = variants.reshape(*like.shape[:-3], *variants.shape[1:])
    if isinstance(like, tv_tensors.Video):
        stacked = stacked.movedim(-4, -5).contiguous()
    # A plain tensor becomes an Image: of several plain tensors the next transform would touch only the first.
    return _wrap(stacked, like) if isinstance(like, tv_tensors.TVTensor) else tv_tensors.Image(stacked)


def _wrap(image: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, tv_tensors.TVTensor):
        return image
    wrapped: Tensor = tv_tensors.wrap(image, like=like)
    return wrapped
