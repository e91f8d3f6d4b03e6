"""K variants of every item of a data set, each a function of (seed, item, variant), and the ``collate_fn`` for them.

Floor 6: imports images, random, settings, types, variants and what it imports.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate
from torchvision import tv_tensors

from munitaug.default_device import on_cpu_by_default
from munitaug.images import array_to_tensor, check_pil_mode, check_pixels
from munitaug.random import seed_of, torch_generator
from munitaug.settings import is_whole_number, whole_number
from munitaug.transforms.arguments import Strength, check_keep_original, check_variants
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.samples import IMAGE_KEYS, find_class, find_images, repeat_rows
from munitaug.transforms.variants import Direction, Draw, Style, VariantMaker, refuse_styles_per_call
from munitaug.translator import Translator
from munitaug.types import UNLABELLED

ImageItem = PIL.Image.Image | Tensor | npt.NDArray[np.generic]
PIL_MODES = ("L", "RGB")


class Source(Protocol):
    """What a data set must have: a length and numbered items."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class VariantDataset(Dataset[Any]):
    """K styled variants of every item of a data set; item i is (images K x C x H x W, label).

    The style of variant k of item i is a function of (seed, i, k) alone, and the same as in a file that
    ``munitaug.generate`` wrote with that seed and style. Order, batch size and number of workers change nothing but
    the rounding of sums; what is read twice is equal. ``set_epoch`` gives every epoch styles of its own.

    Items may be tuples or lists that begin with the image, mappings, or bare images. In a mapping the image is what
    stands under the key "image", "images", "img", "imgs" or "pixel_values", else the one PIL image or
    tv_tensors.Image, else the one tensor or array that may be an image. Images may be PIL (L or RGB), tensors C x H x W
    or arrays H x W (x C), uint8 in [0, 255] or floating in [0, 1]. The image becomes a tv_tensors.Image K x C x H x W
    of the same dtype, on which later transforms of torchvision work; all else in the item stays. ``variant_collate``
    makes flat batches of these items. A DataLoader asks for whole batches (``__getitems__``): images of one size are
    then translated together.

    Args:
        dataset: has a length and items; may have ``__getitems__``.
        checkpoint: path of a checkpoint, or a translator.
        variants: K.
        seed: of the styles, a 64-bit signed number.
        style: "prior", "bank", "mixture", a StyleSource (one that goes by class needs the class as the second part of
            items, or under the key "label", "labels", "target" or "targets", or one with "label" in its name: a whole
            number, or weights that sum to 1), or exemplar images.
        direction: "a2b", "b2a", or a mix such as {"a2b": 0.7, "b2a": 0.3}, drawn for each variant.
        device: where the generator runs; on CUDA only in the main process or in workers that are spawned.
        keep_original: puts the image itself before its variants, so that there are K + 1.
        truncation: see :class:`~munitaug.transforms.MUNITTransform`.
        strength: see :class:`~munitaug.transforms.MUNITTransform`.
        guard: turns away variants whose predicted label is not that of the item. With a guard or a mix of directions
            variants are translated one by one, so that each still depends on (seed, i, k) alone.
        transform: applied to each image alone, variants and original, and must then give tensors of one shape.

    Raises:
        TypeError: an argument of a wrong type, or a data set without a length or without items by number.
        ValueError: an argument is outside its range, or means nothing beside the others.
        CheckpointError: the checkpoint cannot be read.
    """

    @on_cpu_by_default
    def __init__(
        self,
        dataset: Source,
        checkpoint: str | Path | Translator,
        *,
        variants: int = 4,
        seed: int = 0,
        style: Style = "prior",
        direction: Direction = "a2b",
        device: str | torch.device = "cpu",
        keep_original: bool = False,
        truncation: float | None = None,
        strength: Strength = 1.0,
        guard: LabelGuard | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        refuse_styles_per_call(style)
        self.dataset = _check_items(dataset)
        self.seed = _check_seed(seed)
        self.variants = check_variants(variants, "variants")
        self.keep_original = check_keep_original(keep_original)
        self.transform = transform
        self._maker = VariantMaker(
            checkpoint,
            style=style,
            direction=direction,
            device=device,
            seed=None,  # every draw here brings its own generator
            truncation=truncation,
            strength=strength,
            guard=guard,
        )
        self._maker.refuse_many_of_one(self.variants)
        # In shared memory, because workers that persist hold a copy of this object from before the next set_epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a pickle or a deep copy; its epoch is its own, and reaches its own workers."""
        self.__dict__.update(state)
        self._epoch.share_memory_()  # nothing for a worker that is spawned: there it is shared with the main process

    @property
    def epoch(self) -> int:
        """The epoch whose styles are drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Makes the styles those of (seed, epoch, i, k); epoch 0 has those of ``munitaug.generate``.

        Call it before the loop over a loader begins; it reaches workers that persist, too.

        Raises:
            TypeError: it is no whole number.
            ValueError: epoch below 0.
        """
        if (number := whole_number("epoch", epoch)) < 0:
            raise ValueError(f"epoch must be at least 0, got {number}")
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Gives the item with the K variants of its image in place of it; negative numbers count from the end.

        Raises:
            IndexError: there is no such item.
            TypeError, ValueError: the item holds no image of a known form, or no label where one is needed.
        """
        return self.__getitems__([index])[0]

    @on_cpu_by_default
    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Gives several items; images of one size are translated together.

        Raises:
            IndexError, TypeError, ValueError: see ``__getitem__``.
        """
        numbers = [self._number(index) for index in indices]
        parts = [self._take(item, number) for number, item in zip(numbers, self._items(numbers), strict=True)]
        results: dict[int, Tensor] = {}
        for places in _group([part.image for part in parts]):
            images = torch.stack([parts[place].image for place in places])
            variants = self._translate(images, [parts[place] for place in places], [numbers[place] for place in places])
            results.update(zip(places, variants, strict=True))
        return [part.put_together(self._finish(part.image, results[place])) for place, part in enumerate(parts)]

    @on_cpu_by_default
    def styles(self, index: int) -> Tensor:
        """Gives the K x style_dim codes of one item's variants; the item is read for its label.

        Raises:
            IndexError, TypeError, ValueError: see ``__getitem__``.
        """
        number = self._number(index)
        part = self._take(self._items([number])[0], number)
        return _merge([self._draws(number, part.label)]).styles[0]

    def _number(self, index: int) -> int:
        length, index = len(self), operator.index(index)  # a sampler may give NumPy's numbers
        if not -length <= index < length:
            raise IndexError(f"item {index} was asked for, but there are {length}")
        return index % length

    def _items(self, numbers: list[int]) -> list[Any]:
        several = getattr(self.dataset, "__getitems__", None)
        return [self.dataset[number] for number in numbers] if several is None else list(several(numbers))

    def _take(self, item: Any, number: int) -> _Parts:
        return _take_apart(item, number, self._maker.needs_classes)

    def _draws(self, number: int, label: int | None) -> list[Draw]:
        """Gives one draw of one variant for each of the K; the generators are those of ``offline.generate``."""
        seed = self.seed if self.epoch == 0 else seed_of(self.seed, "epoch", self.epoch)
        known = None if label is None else torch.tensor([label])
        generators = (torch_generator(seed, "style", number, variant) for variant in range(self.variants))
        return [self._maker.draw(1, 1, generator=generator, labels=known) for generator in generators]

    def _translate(self, images: Tensor, parts: list[_Parts], numbers: list[int]) -> Tensor:
        draws = [self._draws(number, part.label) for number, part in zip(numbers, parts, strict=True)]
        labels = _labels_of(parts)
        if self._maker.guard is None and len(self._maker.directions) == 1:
            return self._maker.translate(images, _merge(draws), labels=labels)
        rows = [
            torch.cat([self._maker.translate(image, draw, labels=label) for draw in row], dim=1)
            for image, label, row in zip(images.split(1), _split(labels, len(parts)), draws, strict=True)
        ]
        return torch.cat(rows)

    def _finish(self, image: Tensor, variants: Tensor) -> Tensor:
        stacked = torch.cat([image.unsqueeze(0), variants]) if self.keep_original else variants
        if self.transform is None:
            image_stack: Tensor = tv_tensors.Image(stacked)
            return image_stack
        changed: list[Tensor] = [self.transform(tv_tensors.Image(variant)) for variant in stacked]
        return torch.stack(changed)


def variant_collate(samples: list[Any]) -> Any:
    """Gives one flat batch of samples that hold K variants each: a ``collate_fn`` for ``VariantDataset``.

    Row i * K + k is variant k of sample i, the order of ``MUNITBatchTransform`` and of ``munitaug.generate``; labels,
    and all else that has one value per sample, stand beside each of its variants. Also for other data sets whose
    images went through a ``MUNITTransform`` with several variants.

    Args:
        samples: tuples, lists, mappings or bare tensors with images K x C x H x W, K the same in all of them.

    Returns:
        The samples collated as ``default_collate`` does, with images B * K x C x H x W and labels B * K.

    Raises:
        TypeError: a part that cannot be collated or repeated; PIL images among them.
        ValueError: no samples, no images K x C x H x W, or rows that do not fit the samples.
    """
    if len(samples) == 0:
        raise ValueError("there are no samples to make a batch of")
    try:
        batch = default_collate(samples)
    except RuntimeError as error:  # torch.stack's: shapes differ
        raise ValueError(f"samples do not fit one another, so that no batch can be made of them: {error}") from error
    images = find_images(batch, None, ndim=5)
    count, copies = images[0].shape[:2]
    return repeat_rows(batch, count, copies, {id(image): image.flatten(0, 1) for image in images})


class _Parts(NamedTuple):
    """An item, where its image stands in it, that image as a tensor C x H x W, and its class where it has one.

    ``place`` is a position, a key, or None where the item is the image.
    """

    item: Any
    place: Any
    image: Tensor
    label: int | None

    def put_together(self, images: Tensor) -> Any:
        """Gives the item with images in place of its image."""
        if self.place is None:
            return images
        if isinstance(self.item, Mapping):
            return {**self.item, self.place: images}
        parts = [images if at == self.place else part for at, part in enumerate(self.item)]
        if hasattr(self.item, "_fields"):
            return type(self.item)(*parts)
        return parts if isinstance(self.item, list) else tuple(parts)


def _check_items(dataset: Source) -> Source:
    items = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not items or isinstance(dataset, IterableDataset | Mapping | str):
        raise TypeError(
            f"dataset must have a length and items by number, got {type(dataset).__name__}; put what comes in a stream "
            "through MUNITTransform, or through MUNITBatchTransform after the loader"
        )
    return dataset


def _check_seed(seed: int) -> int:
    if not is_whole_number(seed):
        raise TypeError(f"seed must be an integer, got {seed!r}; set_epoch() gives other styles in every epoch")
    number = operator.index(seed)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"seed must be a 64-bit signed number, got {number}")
    return number


def _take_apart(item: Any, number: int, needs_class: bool) -> _Parts:
    place = _place_of_image(item, number)
    image = item if place is None else item[place]
    if not _is_image(image):
        raise TypeError(
            f"item {number} holds no image where one is looked for: it must be an image, a tuple that begins with one, "
            "or a mapping with one; images are PIL images, C x H x W tensors and H x W (x C) arrays, but this is "
            f"{_describe(item)}"
        )
    label = find_class(item, f"item {number}") if needs_class else None
    return _Parts(item, place, _image_to_tensor(image, number), label)


def _place_of_image(item: Any, number: int) -> Any:
    if isinstance(item, list | tuple) and item and _is_image(item[0]):
        return 0
    if not isinstance(item, Mapping):
        return None
    found = {key: part for key, part in item.items() if _is_image(part)}
    named = [key for key in found if str(key).lower() in IMAGE_KEYS]
    typed = [key for key, part in found.items() if isinstance(part, PIL.Image.Image | tv_tensors.Image)]
    for keys in (named, typed, list(found)):
        if len(keys) == 1:
            return keys[0]
    if found:
        raise ValueError(
            f"item {number} has several parts that may be its image: {', '.join(map(repr, found))}; put the image "
            'under the key "image", or make masks tv_tensors.Mask'
        )
    return None


def _is_image(part: object) -> bool:
    if isinstance(part, Tensor):
        return part.ndim == 3 and (isinstance(part, tv_tensors.Image) or not isinstance(part, tv_tensors.TVTensor))
    return isinstance(part, PIL.Image.Image) or (isinstance(part, np.ndarray) and part.ndim in (2, 3))


def _image_to_tensor(image: ImageItem, number: int) -> Tensor:
    what = f"the image of item {number}"
    if isinstance(image, PIL.Image.Image):
        check_pil_mode(image, PIL_MODES, what)
    tensor = image.as_subclass(Tensor).detach() if isinstance(image, Tensor) else array_to_tensor(np.array(image))
    check_pixels(tensor, what)
    return tensor


def _labels_of(parts: list[_Parts]) -> Tensor | None:
    if all(part.label is None for part in parts):
        return None
    return torch.tensor([UNLABELLED if part.label is None else part.label for part in parts])


def _split(labels: Tensor | None, count: int) -> Iterable[Tensor | None]:
    return repeat(None, count) if labels is None else labels.split(1)


def _group(images: list[Tensor]) -> Iterable[list[int]]:
    """Gives the positions of images that can be stacked, group by group."""
    groups: dict[object, list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype, image.device), []).append(place)
    return groups.values()


def _merge(draws: list[list[Draw]]) -> Draw:
    """Gives one draw of K variants of N images of N x K draws of one variant of one image, all in one direction."""
    rows = [
        (torch.cat([draw.styles for draw in row], dim=1), torch.cat([draw.strength for draw in row], dim=1))
        for row in draws
    ]
    styles, strength = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return Draw(styles, strength, torch.zeros(len(draws), dtype=torch.int64), 0)


def _describe(item: object) -> str:
    if isinstance(item, Tensor | np.ndarray):
        return f"{type(item).__name__} of shape {tuple(item.shape)}"
    if isinstance(item, Mapping):
        return f"a mapping of {', '.join(f'{key!r}: {_describe(part)}' for key, part in item.items())}"
    if isinstance(item, list | tuple):
        return f"{type(item).__name__} of {', '.join(_describe(part) for part in item) or 'nothing'}"
    return type(item).__name__
