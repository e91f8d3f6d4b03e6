"""Batches and samples: where images and labels stand in one, and how everything in a batch is repeated.

A batch is a tensor, or any nesting of tuples, lists and mappings around tensors, as ``default_collate`` makes it.

Floor 6: imports images, torch and torchvision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sized
from numbers import Number
from typing import Any, Literal, TypeVar

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from munitaug.images import check_dtype

LabelsGetter = Literal["default"] | Callable[[Any], object] | None
Sample = TypeVar("Sample")

IMAGE_KEYS = ("image", "images", "img", "imgs", "pixel_values")
LABEL_KEYS = (("label", "labels"), ("target", "targets"))
SMALL_SHARE = 1e-2
"""How far from 1 the sum of weights may be, as bfloat16 rounds them."""
REFUSED = {
    PIL.Image.Image: "PIL images cannot be batched; convert them with torchvision.transforms.v2.PILToTensor() first",
    tv_tensors.Video: "videos are for MUNITTransform, which gives every frame of a clip one style",
    tv_tensors.BoundingBoxes: "boxes cannot be repeated with their images; use MUNITTransform on single samples",
    tv_tensors.KeyPoints: "keypoints cannot be repeated with their images; use MUNITTransform on single samples",
    tv_tensors.Mask: "masks are repeated as plain tensors of one mask per image: give mask.as_subclass(torch.Tensor)",
}


def find_images(sample: object, labels: Tensor | None, ndim: int = 4) -> list[Tensor]:
    """Gives the images of a batch: every tv_tensors.Image, or else one plain image tensor.

    That is what a mapping has under one of IMAGE_KEYS, else the first of a tuple or list, or the only one of a mapping.

    Args:
        sample: the batch.
        labels: what was found as labels; never taken for images.
        ndim: 4 for B x C x H x W, 5 for B x K x C x H x W.

    Raises:
        TypeError: an image that is neither uint8 nor floating, or something that has no batched form.
        ValueError: there is no image, one with another number of dimensions, or a mapping with several tensors that may
            be the images.
    """
    leaves = list(_leaves(sample))
    for _, leaf in leaves:
        _refuse_unbatched(leaf)
    tensors = [(key, leaf) for key, leaf in leaves if isinstance(leaf, Tensor) and leaf is not labels]
    images = [tensor for _, tensor in tensors if isinstance(tensor, tv_tensors.Image)]
    if not images:
        images = [_plain_image(tensors, ndim)]
    for image in images:
        _check_image(image, ndim)
    return images


def find_labels(sample: object, getter: LabelsGetter) -> Tensor | None:
    """Gives the labels of a batch where torchvision's MixUp and CutMix find them.

    "default" takes the second item of a tuple or list, or of a mapping (which may be that second item) what stands
    under its :func:`label_key`. A batch that is one tensor has no labels.

    Raises:
        TypeError: what was found is not a tensor.
        ValueError: "default" finds nothing, or the labels are neither classes (B) nor weights (B x classes).
    """
    if getter is None:
        return None
    labels = _labels_by_default(sample) if getter == "default" else getter(sample)
    if labels is None:
        return None
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}; without labels give labels_getter=None")
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"labels must be classes of shape (B,) or weights of shape (B, classes), got {tuple(labels.shape)}; other "
            "targets are repeated just as well with labels_getter=None"
        )
    return labels


def find_class(sample: object, name: str) -> int | None:
    """Gives the class of one sample, from where :func:`find_labels` takes those of a batch; None without a label.

    A class is a whole number, or the greatest of weights that sum to 1. As the second item of a sample, only numbers
    count as a label: what else stands there, the name of a file for example, is none.

    Args:
        sample: in the form a data set gives it.
        name: what the error calls it.

    Raises:
        ValueError: there is a label, but it is no class.
    """
    label = _label_of(sample)
    if label is None:
        return None
    found = _class_of(label)
    if found is None:
        words = " ".join(repr(label).split())
        raise ValueError(
            f"the label of {name} is {words:.80}, which is no class, but a guard and styles by class need one; give "
            "a whole number (-1 where it is not known), or one weight for each class, with a sum of 1"
        )
    return found


def label_key(sample: Mapping[Any, Any], is_label: Callable[[object], bool]) -> Any:
    """Gives the key of the labels in a mapping, or None; upper and lower case are the same.

    It is "label" or "labels", else "target" or "targets", else the first that contains "label" and has one.

    Args:
        sample: has labels under a key.
        is_label: tells whether a value can be one.
    """
    names = {key: key.lower() for key in sample if isinstance(key, str)}
    for exact in LABEL_KEYS:
        for key, name in names.items():
            if name in exact:
                return key
    return next((key for key, name in names.items() if "label" in name and is_label(sample[key])), None)


def labels_to_classes(labels: Tensor) -> Tensor:
    """Gives B int64 classes of B or B x 1 whole numbers, or of the greatest weights of B x classes, which sum to 1.

    Raises:
        ValueError: these are neither.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not _are_weights(labels):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} must be weights for a guard or styles by class, at least 0 and "
                "with a sum of 1 in each row; give integers (classes), weights, or labels_getter=None"
            )
        return (labels.byte() if labels.dtype == torch.bool else labels).argmax(dim=1)
    is_whole = labels.dtype != torch.bool and not labels.dtype.is_complex
    if is_whole and labels.dtype.is_floating_point:
        is_whole = bool((labels.frac() == 0.0).all())
    if not is_whole:
        raise ValueError(
            f"labels must be whole numbers (classes) for a guard or styles by class, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; give integers, weights of shape (B, classes), or labels_getter=None"
        )
    return labels.flatten().to(torch.int64)


def repeat_rows(sample: Sample, count: int, copies: int, images: Mapping[int, Tensor]) -> Sample:
    """Gives the batch with its images replaced, and everything else that has one row per image repeated row by row.

    Row i becomes rows i * copies to i * copies + copies - 1 of every tensor and array, and of every list that holds
    no tensors (names of files, for example). Strings, numbers and 0-dimensional tensors belong to the whole batch and
    stay, and so does everything else when ``copies`` is 1.

    Args:
        sample: the batch; it is not changed.
        count: B.
        copies: of each row.
        images: what stands in for the object with that identity.

    Raises:
        ValueError: a tensor, array or list that does not have B rows.
        TypeError: a container of another kind, whose rows cannot be told.
    """
    repeated: Sample = _repeat(sample, count, copies, images, "the batch")
    return repeated


def batch_to_device(sample: Sample, device: torch.device, prepare: Callable[[Tensor], Tensor] | None = None) -> Sample:
    """Gives the batch with its tensors on the device, copied without waiting where the device allows that.

    Args:
        sample: the batch; it is not changed.
        device: where the tensors go.
        prepare: applied to each tensor before, for instance to pin its memory.
    """

    def move(tensor: Tensor) -> Tensor:
        return (tensor if prepare is None else prepare(tensor)).to(device, non_blocking=True)

    moved: Sample = map_tensors(sample, move)
    return moved


def map_tensors(sample: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Gives the batch with the function applied to each of its tensors; the rest are the same objects."""
    if isinstance(sample, Tensor):
        return function(sample)
    if isinstance(sample, Mapping):
        return _mapping_like(sample, {key: map_tensors(value, function) for key, value in sample.items()})
    if isinstance(sample, list | tuple):
        return _sequence_like(sample, [map_tensors(value, function) for value in sample])
    return sample


def wrap_like(image: Tensor, like: Tensor) -> Tensor:
    """Gives the image as the tv_tensors type of another; as it is where the other is a plain tensor."""
    if not isinstance(like, tv_tensors.TVTensor):
        return image
    wrapped: Tensor = tv_tensors.wrap(image, like=like)
    return wrapped


def _leaves(sample: object, key: object = None) -> Iterator[tuple[object, object]]:
    """Gives every leaf, and the key at which it stands in a mapping."""
    if isinstance(sample, Mapping):
        for name, value in sample.items():
            yield from _leaves(value, name)
    elif isinstance(sample, list | tuple):
        for value in sample:
            yield from _leaves(value)
    else:
        yield key, sample


def _refuse_unbatched(leaf: object) -> None:
    for kind, reason in REFUSED.items():
        if isinstance(leaf, kind):
            raise TypeError(f"a batch transform got {type(leaf).__name__}: {reason}")


def _plain_image(tensors: list[tuple[object, Tensor]], ndim: int) -> Tensor:
    fitting = [(key, tensor) for key, tensor in tensors if tensor.ndim == ndim]
    usual = [(key, tensor) for key, tensor in fitting if tensor.dtype == torch.uint8 or tensor.is_floating_point()]
    candidates = usual or fitting
    if not candidates:
        shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in tensors) or "none"
        raise ValueError(
            f"no images found: a tensor {_shape_words(ndim)} is needed, the tensors of this batch have shapes: "
            f"{shapes}; for single images use MUNITTransform"
        )
    named = [(key, tensor) for key, tensor in candidates if str(key).lower() in IMAGE_KEYS] or candidates
    key, tensor = named[0]
    if key is not None and len(named) > 1:
        raise ValueError(
            f"this batch has several tensors that may be its images: {', '.join(repr(key) for key, _ in named)}; put "
            'the images under the key "image", or make them tv_tensors.Image'
        )
    return tensor


def _check_image(image: Tensor, ndim: int) -> None:
    if image.ndim != ndim:
        raise ValueError(f"images must be {_shape_words(ndim)}, got shape {tuple(image.shape)}")
    check_dtype(image)


def _shape_words(ndim: int) -> str:
    return "B x C x H x W" if ndim == 4 else "B x K x C x H x W"


def _labels_by_default(sample: Any) -> object:
    if isinstance(sample, Tensor):
        return None
    if isinstance(sample, list | tuple):
        if len(sample) == 1:
            return None
        sample = sample[1]
    if isinstance(sample, Tensor) and not isinstance(sample, tv_tensors.TVTensor):
        return sample
    if isinstance(sample, Mapping):
        key = label_key(sample, lambda part: isinstance(part, Tensor))
        if key is not None:
            return sample[key]
    raise ValueError(
        "no labels found: they must be a tensor, and the second item of the batch or under the key "
        '"label" or "target"; pass a function as labels_getter, or labels_getter=None if there are none'
    )


def _label_of(sample: object) -> object:
    if isinstance(sample, list | tuple):
        sample = sample[1] if len(sample) > 1 else None
        if isinstance(sample, Tensor | np.ndarray):
            return sample if sample.ndim < 2 else None
        if isinstance(sample, Number | np.bool_):
            return sample
    if isinstance(sample, Mapping):
        key = label_key(sample, lambda part: _class_of(part) is not None)
        return None if key is None else sample[key]
    return None


def _class_of(label: object) -> int | None:
    if isinstance(label, int | float | np.generic | np.ndarray):
        array = np.array(label)
        label = torch.from_numpy(array) if array.dtype.kind in "biuf" else None
    if not isinstance(label, Tensor) or (label.numel() != 1 and (label.ndim != 1 or not _are_weights(label))):
        return None
    try:
        return int(labels_to_classes(label.reshape(1, -1)))
    except ValueError:
        return None


def _are_weights(values: Tensor) -> bool:
    """Tells whether the rows of B x classes, or classes alone, are at least 0 and sum to 1."""
    if values.dtype.is_complex:
        return False
    shares = values.detach().double()
    return bool((shares >= 0.0).all() & ((shares.sum(dim=-1) - 1.0).abs() < SMALL_SHARE).all())


def _repeat(node: Any, count: int, copies: int, images: Mapping[int, Tensor], place: str) -> Any:
    if id(node) in images:
        return images[id(node)]
    if isinstance(node, Mapping):
        inner = {key: _repeat(value, count, copies, images, f"{place}[{key!r}]") for key, value in node.items()}
        return _mapping_like(node, inner)
    if isinstance(node, list | tuple) and _is_container(node):
        parts = [_repeat(value, count, copies, images, f"{place}[{at}]") for at, value in enumerate(node)]
        return _sequence_like(node, parts)
    if copies == 1 or isinstance(node, str | bytes) or not isinstance(node, Sized) or _is_scalar(node):
        return node
    if not isinstance(node, Tensor | np.ndarray | list | tuple):
        raise TypeError(
            f"{place} is a {type(node).__name__}, whose rows cannot be told; put it into a tensor, list or mapping, or "
            "take it out of the batch"
        )
    if len(node) != count:
        raise ValueError(
            f"{place} has {len(node)} rows, but the batch has {count} images, each of which becomes {copies}; give one "
            "row per image, or take it out of the batch"
        )
    return _repeat_each(node, copies)


def _repeat_each(rows: Any, copies: int) -> Any:
    if isinstance(rows, Tensor):
        return rows.repeat_interleave(copies, dim=0)
    if isinstance(rows, np.ndarray):
        return rows.repeat(copies, axis=0)
    return _sequence_like(rows, [row for row in rows for _ in range(copies)])


def _is_scalar(node: Sized) -> bool:
    return isinstance(node, Tensor | np.ndarray) and node.ndim == 0


def _is_container(parts: list[Any] | tuple[Any, ...]) -> bool:
    # A named tuple has named parts, not rows; an empty list has nothing to repeat.
    return (
        not parts
        or hasattr(parts, "_fields")
        or any(isinstance(part, Tensor | np.ndarray | Mapping | list | tuple) for part in parts)
    )


def _mapping_like(like: Mapping[Any, Any], content: dict[Any, Any]) -> Mapping[Any, Any]:
    if type(like) is dict or not isinstance(like, MutableMapping):
        return content
    twin = copy.copy(like)
    twin.update(content)
    return twin


def _sequence_like(like: list[Any] | tuple[Any, ...], parts: list[Any]) -> list[Any] | tuple[Any, ...]:
    if isinstance(like, list):
        return parts
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
