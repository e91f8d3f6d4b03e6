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

from munitaug.images import array_to_tensor, tensor_to_array
from munitaug.transforms.arguments import check_probability, check_variants
from munitaug.transforms.variants import Style, VariantMaker
from munitaug.translator import Translator

try:
    import albumentations as A
    from albumentations.core.type_definitions import Targets
except ImportError as error:
    raise ImportError(
        'munitaug.transforms.albumentations needs albumentations: pip install "munitaug[albumentations]"'
    ) from error

ImageArray = npt.NDArray[np.generic]

# AlbumentationsX refuses, when the class is made, the hook that albumentations 2.0.8 calls; so only one is defined.
_HAS_SAMPLING = hasattr(A.BasicTransform, "sample_parameters")
if _HAS_SAMPLING:
    from albumentations.core.transform_params import SampledParams


class MUNITTransform(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Translates ``image`` and ``images`` into the other domain; masks, boxes and keypoints stay.

    Images are H x W, H x W x 1 or H x W x C arrays, uint8 in [0, 255] or float32 in [0, 1], and come back in the
    same shape and dtype; grey images go through RGB generators and come back grey. ``images`` are translated in
    one batch, each in a style of its own. Additional targets of type ``image`` share the style of ``image``, as all
    parameters of albumentations.

    The stream of random numbers is the transform's own: ``Compose(seed=...)`` and its per-transform seeds do not
    reach it, because they repeat in every DataLoader worker. With ``seed=None`` it follows torch's global generator,
    which torch seeds for every worker and epoch.

    Built from a checkpoint path and a named style, it can be saved, loaded and replayed (``to_dict``, JSON, YAML,
    ReplayCompose); replaying reads the checkpoint from a process-wide cache.

    Args:
        checkpoint: path of a checkpoint, or a Translator in evaluation mode (otherwise a copy is made).
        num_variants: 1; Compose cannot carry several images in ``image``, repeat them in ``images``.
        style: "prior", "bank", "mixture", a StyleSource, or exemplar images of the target domain.
        direction: "a2b" or "b2a"; ignored for a Translator, which has its direction.
        p: probability of translation, drawn once per call.
        seed: None, or an integer for a private reproducible stream; it is part of ``to_dict``.
        device: where the generator runs.
        keep_original: False; the input is at hand where the transform is called.
        truncation: keeps prior and mixture styles near the middle, or pulls bank styles towards their mean.

    Raises:
        TypeError: checkpoint, style or seed is of a wrong type.
        ValueError: an argument is outside its range.
        CheckpointError: the checkpoint cannot be read.
    """

    _targets = (Targets.IMAGE,)

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
        super().__init__(p=check_probability(p))
        _check_one_image(num_variants, keep_original)
        self._maker = VariantMaker(checkpoint, style, direction, device, seed, truncation)

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """The keys that are translated, and how."""
        return {"image": self.apply, "images": self.apply_to_images}

    if _HAS_SAMPLING:

        def sample_parameters(self, params: Any, data: dict[str, Any], targets: Any, sampling: Any) -> Any:
            """Draws the styles of one call (the hook of AlbumentationsX)."""
            return SampledParams(params=self._draw(data))

    else:

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            """Draws the styles of one call (the hook of albumentations 2.0.8)."""
            return self._draw(data)

        def should_apply(self, force_apply: bool = False) -> bool:
            """Draws whether to translate from the transform's own stream; the base class repeats in workers."""
            return self.p > 0.0 and (force_apply or self._maker.happens(self.p))

    def _draw(self, data: dict[str, Any]) -> dict[str, list[list[float]]]:
        """Gives JSON types, because ReplayCompose stores the parameters."""
        images = data.get("images")
        styles = self._maker.draw_styles(1 + (0 if images is None else len(images)), 1).squeeze(1).tolist()
        return {"image_style": styles[:1], "images_styles": styles[1:]}

    def apply(self, img: ImageArray, image_style: list[list[float]], **params: Any) -> ImageArray:
        """Gives one image in one style; same shape and dtype."""
        return self._translate([img], image_style)[0]

    def apply_to_images(
        self, images: ImageArray | Sequence[ImageArray], images_styles: list[list[float]], **params: Any
    ) -> ImageArray | list[ImageArray]:
        """Gives all images, each in its style, from one forward pass.

        Raises:
            ValueError: a replay has styles for another number of images.
        """
        if len(images) != len(images_styles):
            raise ValueError(
                f"the replayed call had {len(images_styles)} images, this one has {len(images)}; replay it on as "
                "many images as were recorded"
            )
        if len(images) == 0:
            return images if isinstance(images, np.ndarray) else list(images)
        translated = self._translate(images, images_styles)
        return np.stack(translated) if isinstance(images, np.ndarray) else translated

    def _translate(self, images: Sequence[ImageArray] | ImageArray, styles: list[list[float]]) -> list[ImageArray]:
        batch = torch.stack([_array_to_image(image) for image in images])
        codes = torch.tensor(styles, dtype=torch.float32).unsqueeze(1)
        variants = self._maker.translate(batch, codes).squeeze(1)
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
        }

    def to_dict_private(self) -> dict[str, Any]:
        """Gives the transform as JSON types.

        Raises:
            NotImplementedError: it was built from a Translator object, or with styles that have no name.
        """
        if self._maker.path is None:
            raise NotImplementedError(
                "a MUNITTransform built from a Translator object cannot be written down (nor used in ReplayCompose); "
                "save it with munitaug.save and give the path of the checkpoint"
            )
        if not isinstance(self._maker.style, str):
            raise NotImplementedError(
                "a MUNITTransform with exemplars or a StyleSource cannot be written down (nor used in ReplayCompose); "
                'give style="prior", "bank" or "mixture"'
            )
        state: dict[str, Any] = super().to_dict_private()
        return state


def _check_one_image(num_variants: int, keep_original: bool) -> None:
    if check_variants(num_variants) != 1:
        raise ValueError(
            f"num_variants must be 1 here, got {num_variants}: albumentations carries one image in image=; call with "
            f"images=np.repeat(image[None], {num_variants}, axis=0), or use the torchvision munitaug.MUNITTransform"
        )
    if keep_original:
        raise ValueError(
            "keep_original must be False here: albumentations carries one image in image=; keep the array that you "
            "pass in (it is not changed), or use the torchvision munitaug.MUNITTransform"
        )


def _array_to_image(array: ImageArray) -> Tensor:
    if array.ndim not in (2, 3):
        raise ValueError(f"image must be H x W or H x W x C, got shape {array.shape}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"image must be uint8 in [0, 255] or float32 in [0, 1], got {array.dtype}; convert it first, for example "
            "with albumentations.ToFloat(max_value=...)"
        )
    return array_to_tensor(array if array.flags.writeable else array.copy())
