"""The albumentations front end, for albumentations 2.0.8 and for AlbumentationsX under the same import name.

Floor 6: imports images and the transforms' variants; albumentations, which is optional.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from munitaug.default_device import on_cpu_by_default
from munitaug.images import array_to_tensor, check_pixels, tensor_to_array
from munitaug.transforms.arguments import (
    Strength,
    check_keep_original,
    check_probability,
    check_variants,
    plain_strength,
)
from munitaug.transforms.exemplars import CallStyles
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.variants import PER_CALL, Direction, Draw, Style, VariantMaker, refuse_class_styles
from munitaug.translator import Translator

try:
    import albumentations as A
    from albumentations.core.type_definitions import Targets
except ImportError as error:
    raise ImportError(
        'munitaug.transforms.albumentations needs albumentations: pip install "munitaug[albumentations]"'
    ) from error

ImageArray = npt.NDArray[np.generic]
DrawRecord = dict[str, int | list[float] | list[int] | list[list[float]]]
NO_DRAW: DrawRecord = {"styles": [], "strength": [], "direction": [], "retry_seed": 0}

# AlbumentationsX refuses, when the class is made, the hook that albumentations 2.0.8 calls; so only one is defined.
_HAS_SAMPLING = hasattr(A.BasicTransform, "sample_parameters")
if _HAS_SAMPLING:
    from albumentations.core.transform_params import SampledParams


class MUNITTransform(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Translates ``image``, ``images``, ``volume`` and ``volumes`` into the other domain; masks, boxes, keypoints stay.

    Images are H x W, H x W x 1 or H x W x C arrays, uint8 in [0, 255] or float32 in [0, 1], and come back in the
    same shape and dtype; grey images go through RGB generators and come back grey. ``images`` are translated in
    one batch, each in a style of its own. Volumes are D x H x W or D x H x W x C, and the D slices of one have one
    style: ``volume`` that of ``image``, each of ``volumes`` its own; a guard judges, and redraws, slices. Additional
    targets of type ``image`` or ``volume`` share the style of ``image``, too, as all parameters of albumentations.

    The stream of random numbers is the transform's own: ``Compose(seed=...)`` and its per-transform seeds do not
    reach it, because they repeat in every DataLoader worker. With ``seed=None`` it follows torch's global generator,
    which torch seeds for every worker and epoch.

    With ``style="exemplar"`` every call brings target images whose style is taken, as with FDA and HistogramMatching:
    ``transform(image=image, munit_metadata=[array, ...])``. One of them is drawn for each image.

    Built from a checkpoint path and a named style, it can be saved, loaded and replayed (``to_dict``, JSON, YAML,
    ReplayCompose); replaying reads the checkpoint from a process-wide cache, and needs no exemplars.

    Args:
        checkpoint: path of a checkpoint, or a Translator in evaluation mode (otherwise a copy is made).
        num_variants: 1; Compose cannot carry several images in ``image``, repeat them in ``images``.
        style: "prior", "bank", "mixture", a StyleSource, exemplar images of the target domain, or "exemplar", which
            takes them with each call. Styles by class are refused, since the label of an image is not known here.
        direction: "a2b" or "b2a"; ignored for a Translator, which has its direction. Of a checkpoint also a mix such
            as {"a2b": 0.7, "b2a": 0.3}: one is drawn for every image.
        p: probability of translation, drawn once per call.
        seed: None, or an integer for a private reproducible stream; it is part of ``to_dict``.
        device: where the generator runs.
        keep_original: False; the input is at hand where the transform is called.
        truncation: keeps prior and mixture styles near the middle, or pulls bank styles towards their mean.
        strength: share of the drawn style in the style that is used, the rest being that of the image itself; one
            number in [0, 1], or (lowest, highest) to draw one for every image.
        guard: turns away variants whose predicted label is not that of the image, and has them drawn again.
        metadata_key: under which a call brings its exemplar images, for style="exemplar".

    Raises:
        TypeError: checkpoint, style, seed or guard is of a wrong type.
        ValueError: an argument is outside its range, or means nothing beside the others.
        CheckpointError: the checkpoint cannot be read.
    """

    _targets = (Targets.IMAGE, Targets.VOLUME)

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
        metadata_key: str = "munit_metadata",
    ) -> None:
        super().__init__(p=check_probability(p))
        _check_one_image(num_variants, keep_original)
        refuse_class_styles(style)
        self.metadata_key = metadata_key
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

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """The keys that are translated, and how."""
        return {
            "image": self.apply,
            "images": self.apply_to_images,
            "volume": self.apply_to_volume,
            "volumes": self.apply_to_volumes,
        }

    @property
    def available_keys(self) -> set[str]:
        """The keys that Compose(strict=True) lets pass; not those that must be there, so that a replay needs none."""
        keys: set[str] = super().available_keys
        return keys | {self.metadata_key} if self._takes_exemplars else keys

    @property
    def _takes_exemplars(self) -> bool:
        return isinstance(self._maker.style, str) and self._maker.style == PER_CALL

    if _HAS_SAMPLING:

        def sample_parameters(self, params: Any, data: dict[str, Any], targets: Any, sampling: Any) -> Any:
            """Draws the styles of one call (the hook of AlbumentationsX)."""
            return SampledParams(params=self._draw(data))

        def _should_apply_in_invocation(self, invocation: Any, *, force_apply: bool) -> bool:
            """Draws as ``should_apply`` below; a private hook, without which AlbumentationsX draws for itself."""
            return self._applies(force_apply)

    else:

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            """Draws the styles of one call (the hook of albumentations 2.0.8)."""
            return self._draw(data)

        def should_apply(self, force_apply: bool = False) -> bool:
            """Draws whether to translate from the transform's own stream; the base class repeats in workers."""
            return self._applies(force_apply)

    def _applies(self, force_apply: bool) -> bool:
        return self.p > 0.0 and (force_apply or self._maker.happens(self.p))

    @on_cpu_by_default
    def _draw(self, data: dict[str, Any]) -> dict[str, DrawRecord]:
        """Gives JSON types, because ReplayCompose stores the parameters."""
        source = CallStyles(self._maker.translator, self._exemplars(data)) if self._takes_exemplars else None
        counts = {"image": 1, "images": 0 if data.get("images") is None else len(data["images"])}
        if "volumes" in data:
            counts["volumes"] = len(data["volumes"])
        return {
            f"{key}_draw": _draw_to_json(self._maker.draw(count, 1, source=source)) for key, count in counts.items()
        }

    def _exemplars(self, data: dict[str, Any]) -> list[Tensor]:
        given = data.get(self.metadata_key)
        if not isinstance(given, Sequence) or not given or not all(isinstance(image, np.ndarray) for image in given):
            found = "missing" if given is None else f"of type {type(given).__name__}"
            raise ValueError(
                'style="exemplar" needs a list of target images (H x W or H x W x C arrays), at least one, with each '
                f"call, but {self.metadata_key} is {found}; call transform(image=image, {self.metadata_key}=[array, "
                "...])"
            )
        return [_array_to_image(image) for image in given]

    def apply(self, img: ImageArray, image_draw: DrawRecord, **params: Any) -> ImageArray:
        """Gives one image in one style; same shape and dtype."""
        return self._translate([img], _draw_from_json(image_draw))[0]

    def apply_to_images(
        self, images: ImageArray | Sequence[ImageArray], images_draw: DrawRecord, **params: Any
    ) -> ImageArray | list[ImageArray]:
        """Gives all images, each in its style, from one forward pass.

        Raises:
            ValueError: styles were drawn for another number of images.
        """
        draw = _draw_of(images_draw, images, "images")
        if len(images) == 0:
            return images if isinstance(images, np.ndarray) else list(images)
        translated = self._translate(images, draw)
        return np.stack(translated) if isinstance(images, np.ndarray) else translated

    def apply_to_volume(self, volume: ImageArray, image_draw: DrawRecord, **params: Any) -> ImageArray:
        """Gives all slices in the style of ``image``; same shape and dtype."""
        return self._translate_volumes(np.expand_dims(volume, 0), _draw_from_json(image_draw)).squeeze(0)

    def apply_to_volumes(self, volumes: ImageArray, volumes_draw: DrawRecord = NO_DRAW, **params: Any) -> ImageArray:
        """Gives all volumes, each in its style; same shape and dtype.

        Raises:
            ValueError: styles were drawn for another number of volumes.
        """
        return self._translate_volumes(volumes, _draw_of(volumes_draw, volumes, "volumes"))

    def _translate_volumes(self, volumes: ImageArray, draw: Draw) -> ImageArray:
        """Gives N x D x H x W (x C), each volume in its style."""
        if volumes.ndim not in (4, 5):
            raise ValueError(f"a volume must be D x H x W or D x H x W x C, got shape {volumes.shape[1:]}")
        slices = self._translate(volumes.reshape(-1, *volumes.shape[2:]), draw.repeat(volumes.shape[1]))
        translated: ImageArray = np.stack(slices).reshape(volumes.shape)
        return translated

    @on_cpu_by_default
    def _translate(self, images: Sequence[ImageArray] | ImageArray, draw: Draw) -> list[ImageArray]:
        batch = torch.stack([_array_to_image(image) for image in images])
        variants = self._maker.translate(batch, draw).squeeze(1)
        return [tensor_to_array(variant).reshape(image.shape) for variant, image in zip(variants, images, strict=True)]

    def get_transform_init_args(self) -> dict[str, Any]:
        """Gives the constructor's arguments; what is no JSON type is replaced by its class name."""
        maker = self._maker
        return {
            "checkpoint": type(maker.translator).__name__ if maker.path is None else maker.path,
            "style": maker.style if isinstance(maker.style, str) else type(maker.style).__name__,
            "direction": maker.direction,
            "seed": maker.stream.seed,
            "device": str(maker.device),
            "truncation": maker.truncation,
            "strength": plain_strength(maker.strength),
            "metadata_key": self.metadata_key,
        }

    def to_dict_private(self) -> dict[str, Any]:
        """Gives the transform as JSON types.

        Raises:
            NotImplementedError: it was built from a Translator object, with styles that have no name, or a guard.
        """
        if self._maker.path is None:
            raise NotImplementedError(
                "a MUNITTransform built from a Translator object cannot be written down (nor used in ReplayCompose); "
                "save it with munitaug.save and give the path of the checkpoint"
            )
        if not isinstance(self._maker.style, str):
            raise NotImplementedError(
                "a MUNITTransform with exemplars or a StyleSource cannot be written down (nor used in ReplayCompose); "
                'give style="prior", "bank", "mixture", or "exemplar" and the images with each call'
            )
        if self._maker.guard is not None:
            raise NotImplementedError(
                "a MUNITTransform with a guard cannot be written down (nor used in ReplayCompose), because its "
                "classifier is no part of a checkpoint; give guard=None, and the guard again after loading"
            )
        state: dict[str, Any] = super().to_dict_private()
        return state


def _check_one_image(num_variants: int, keep_original: bool) -> None:
    if check_variants(num_variants) != 1:
        raise ValueError(
            f"num_variants must be 1 here, got {num_variants}: albumentations carries one image in image=; call with "
            f"images=np.repeat(image[None], {num_variants}, axis=0), or use the torchvision munitaug.MUNITTransform"
        )
    if check_keep_original(keep_original):
        raise ValueError(
            "keep_original must be False here: albumentations carries one image in image=; keep the array that you "
            "pass in (it is not changed), or use the torchvision munitaug.MUNITTransform"
        )


def _array_to_image(array: ImageArray) -> Tensor:
    if array.ndim not in (2, 3):
        raise ValueError(f"image must be H x W or H x W x C, got shape {array.shape}")
    image = array_to_tensor(array if array.flags.writeable else array.copy())
    check_pixels(image, "image")
    return image


def _draw_to_json(draw: Draw) -> DrawRecord:
    """Gives what was drawn for one variant of each image."""
    return {
        "styles": draw.styles.squeeze(1).tolist(),
        "strength": draw.strength.squeeze(1).tolist(),
        "direction": draw.direction.tolist(),
        "retry_seed": draw.retry_seed,
    }


def _draw_of(record: DrawRecord, given: Sequence[object] | ImageArray, what: str) -> Draw:
    """Gives what was drawn for as many things as are given now."""
    draw = _draw_from_json(record)
    if len(given) != len(draw.styles):
        raise ValueError(
            f"styles were drawn for {len(draw.styles)} {what}, but {len(given)} came; replay a call on as many {what} "
            f"as were recorded, and give {what} under that key (additional targets of that type have no styles)"
        )
    return draw


def _draw_from_json(record: dict[str, Any]) -> Draw:
    count = len(record["styles"])
    return Draw(
        torch.tensor(record["styles"], dtype=torch.float32).reshape(count, 1, -1 if count else 0),
        torch.tensor(record["strength"], dtype=torch.float32).reshape(count, 1),
        torch.tensor(record["direction"], dtype=torch.int64),
        record["retry_seed"],
    )
