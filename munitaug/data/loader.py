"""The endless stream of unpaired batches, every one a function of (seed, step).

Floor 2: imports types, random, images, stopping and data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, count

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from munitaug.data.domain import ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.images import uint8_to_model
from munitaug.random import random_permutation, seed_of, torch_generator
from munitaug.stopping import leave_group
from munitaug.types import MIN_SIDE, DomainError, DomainKey, Pair

_KEPT_PERMUTATIONS = 4


class PairLoader(ABC):
    """An endless stream of pairs, each a function of its step.

    Args:
        batch_size: images of each domain in a batch.
        seed: of the run.
        workers: processes that decode ahead; 0 reads in this one. Their number does not change a pair.

    Raises:
        ValueError: batch_size below 1, or workers below 0.
    """

    def __init__(self, batch_size: int, seed: int, workers: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if workers < 0:
            raise ValueError(f"workers must be 0 or more, got {workers}")
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    @abstractmethod
    def pair_at(self, step: int, rows: Tensor | None = None) -> Pair:
        """Gives the pair of one step; images are N x C x H x W in [-1, 1].

        Args:
            step: from 0.
            rows: which of the batch's images are wanted, for a process that trains on a part of it; None takes all.
        """

    def from_step(self, step: int, rows: Tensor | None = None) -> Iterator[Pair]:
        """Gives the pairs of ``step``, ``step + 1``, ... without end; ``rows`` as in :meth:`pair_at`.

        Raises:
            ValueError: step is negative.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        if self.workers == 0:
            return (self.pair_at(number, rows) for number in count(step))
        batches = DataLoader(
            _Pairs(self, rows),
            batch_size=None,
            sampler=_StepsFrom(step),
            num_workers=self.workers,
            generator=torch.Generator(),
            worker_init_fn=_start_worker,
        )
        return iter(batches)


class UnpairedLoader(PairLoader):
    """Batches of two domains in no correspondence; nothing depends on what was read before.

    Draw ``step * batch_size + i`` of a domain is entry ``draw % len`` of the permutation of epoch
    ``draw // len``: every image comes once an epoch, and batches run across the border of epochs, so all are full.
    The labels of ``domain_b`` are never looked at.

    Args:
        domain_a: source of ``Pair.a`` and ``Pair.label_a``.
        domain_b: source of ``Pair.b``.
        batch_size: images of each domain in a batch.
        seed: of the run.
        flip: mirror each image left to right with probability 1/2; wrong for digits and writing.
        crop: side in pixels of the square cut from a random place of each image; ``None`` takes whole images.
        workers: processes that decode ahead; 0 reads in this one. Their number does not change a pair.

    Raises:
        DomainError: the domains differ in channels or size, or the images are smaller than 16 px or the crop.
        ValueError: batch_size below 1, or workers below 0.
    """

    def __init__(
        self,
        domain_a: ImageDomain,
        domain_b: ImageDomain,
        *,
        batch_size: int,
        seed: int,
        flip: bool = False,
        crop: int | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size, seed, workers)
        check_compatible(domain_a, domain_b, crop)
        self._labels_a = domain_a.checked_labels()
        self._stream_a = _DomainStream(domain_a, "a", batch_size, seed, flip, crop)
        self._stream_b = _DomainStream(domain_b, "b", batch_size, seed, flip, crop)

    def pair_at(self, step: int, rows: Tensor | None = None) -> Pair:
        """Gives the pair of one step, or these rows of it; images are N x C x H x W in [-1, 1]."""
        rows = torch.arange(self.batch_size) if rows is None else rows
        order_a = self._stream_a.order(step)[rows]
        return Pair(
            a=self._stream_a.images(step, order_a, rows),
            b=self._stream_b.images(step, self._stream_b.order(step)[rows], rows),
            label_a=None if self._labels_a is None else self._labels_a[order_a],
            seed=seed_of(self.seed, "pair", step),
        )


class MultiDomainLoader(PairLoader):
    """Pairs of several domains: step by step another two of them, all twos equally often.

    The order of the twos is shuffled anew for every round; the domain that comes first in ``domains`` is ``Pair.a``.
    Labels are those of the first domain alone, the source: what others have is for tests.

    Args:
        domains: at least two, by name, alike in channels and size.
        batch_size: images of each of the two domains in a batch.
        seed: of the run.
        flip: see :class:`UnpairedLoader`.
        crop: see :class:`UnpairedLoader`.
        workers: processes that decode ahead.

    Raises:
        DomainError: domains differ in channels or size, or are too small.
        ValueError: fewer than two domains, batch_size below 1, or workers below 0.
    """

    def __init__(
        self,
        domains: Mapping[str, ImageDomain],
        *,
        batch_size: int,
        seed: int,
        flip: bool = False,
        crop: int | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size, seed, workers)
        if len(domains) < 2:
            raise ValueError(f"at least two domains are needed, got {len(domains)}")
        self._source = next(iter(domains))
        self._loaders = {
            (first, second): UnpairedLoader(
                domains[first],
                domains[second],
                batch_size=batch_size,
                seed=seed_of(seed, first, second),
                flip=flip,
                crop=crop,
            )
            for first, second in combinations(domains, 2)
        }

    def pair_at(self, step: int, rows: Tensor | None = None) -> Pair:
        """Gives the pair of one step, or these rows of it; its ``domains`` say which two it is of."""
        turn, place = divmod(step, len(self._loaders))
        order = random_permutation(len(self._loaders), self.seed, "domains", turn)
        names = list(self._loaders)[int(order[place])]
        pair = self._loaders[names].pair_at(turn, rows)
        labels = pair.label_a if names[0] == self._source else None
        return replace(pair, label_a=labels, seed=seed_of(self.seed, "pair", step), domains=names)


def check_compatible(domain_a: ImageDomain, domain_b: ImageDomain, crop: int | None = None) -> None:
    """Checks that one network can take both domains.

    Raises:
        DomainError: they differ in channels, or in size where nothing is cropped, or are too small.
    """
    if domain_a.channels != domain_b.channels:
        raise DomainError(
            f"{domain_a.name} has {domain_a.channels} channels and {domain_b.name} has {domain_b.channels}; "
            "give one count for both, for example --channels 3"
        )
    sizes_a, sizes_b = _sizes(domain_a), _sizes(domain_b)
    for domain, sizes in ((domain_a, sizes_a), (domain_b, sizes_b)):
        _check_sizes(domain, sizes, crop)
    if crop is None and sizes_a != sizes_b:
        (height_a, width_a), (height_b, width_b) = sizes_a[0], sizes_b[0]
        raise DomainError(
            f"{domain_a.name} is {height_a} x {width_a} px and {domain_b.name} is {height_b} x {width_b} px; "
            "give one size for both, for example --size 64"
        )


def _sizes(domain: ImageDomain) -> Sequence[tuple[int, int]]:
    """Gives the different (height, width) of a domain; domains other than folders have one."""
    if isinstance(domain, FolderDomain):
        return domain.sizes
    image = domain.checked_image(0)
    return ((image.shape[1], image.shape[2]),)


def _check_sizes(domain: ImageDomain, sizes: Sequence[tuple[int, int]], crop: int | None) -> None:
    if crop is None and len(sizes) > 1:
        raise DomainError(
            f"{domain.name} holds images of different sizes ({sizes[0]} and {sizes[1]} px and perhaps more); "
            "give a size, for example --size 64, or a crop"
        )
    smallest = min(min(size) for size in sizes)
    if crop is not None and not MIN_SIDE <= crop <= smallest:
        raise DomainError(
            f"crop is {crop} px, but must lie between {MIN_SIDE} px and the smallest side in {domain.name}, "
            f"{smallest} px; crop less, or give a size, for example --size 64"
        )
    if smallest < MIN_SIDE:
        raise DomainError(
            f"{domain.name} has sides of {smallest} px, but networks need at least {MIN_SIDE} px; "
            f"give a size, for example --size {MIN_SIDE}"
        )


class _DomainStream:
    """The order and the augmentation of one domain."""

    def __init__(
        self, domain: ImageDomain, key: DomainKey, batch_size: int, seed: int, flip: bool, crop: int | None
    ) -> None:
        self.domain = domain
        self.key = key
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.crop = crop
        self._permutations: dict[int, Tensor] = {}

    def order(self, step: int) -> Tensor:
        """Gives the N indices of a step."""
        draws = range(step * self.batch_size, (step + 1) * self.batch_size)
        length = len(self.domain)
        return torch.tensor([int(self._permutation(draw // length)[draw % length]) for draw in draws])

    def images(self, step: int, order: Tensor, rows: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of these indices, flipped and cropped as drawn for these rows of the step."""
        generator = torch_generator(self.seed, "augment", step, self.key)
        mirrored = (torch.rand(self.batch_size, generator=generator) < 0.5)[rows]
        corners = torch.rand(self.batch_size, 2, generator=generator, dtype=torch.float64)[rows]
        if self.crop is None:
            images = self.domain.images(order)
        else:
            items = (self.domain.checked_image(int(index)) for index in order)
            images = torch.stack([_cut(item, corner, self.crop) for item, corner in zip(items, corners, strict=True)])
        if self.flip:
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return uint8_to_model(images)

    def _permutation(self, epoch: int) -> Tensor:
        """Gives the order of an epoch; the last few are kept, for speed only."""
        found = self._permutations.get(epoch)
        if found is None:
            found = random_permutation(len(self.domain), self.seed, "order", self.key, epoch)
            last = list(self._permutations.items())[1 - _KEPT_PERMUTATIONS :]
            self._permutations = {**dict(last), epoch: found}  # a new one: another thread may be reading the old one
        return found


def _cut(image: Tensor, corner: Tensor, side: int) -> Tensor:
    """Gives C x side x side at a corner given as two fractions of the room there is."""
    top, left = (
        int(fraction * (extent - side + 1)) for fraction, extent in zip(corner.tolist(), image.shape[1:], strict=True)
    )
    return image[:, top : top + side, left : left + side]


def _start_worker(number: int) -> None:
    """Begins a process that decodes: a signal to stop is for the training, which finishes its step and saves."""
    del number
    leave_group()


class _Pairs(Dataset[Pair]):
    """Item ``step`` is the batch of that step, so workers need no shared state."""

    def __init__(self, loader: PairLoader, rows: Tensor | None) -> None:
        self._loader = loader
        self._rows = rows

    def __getitem__(self, step: int) -> Pair:
        return self._loader.pair_at(step, self._rows)


class _StepsFrom(Sampler[int]):
    """Counts steps without end."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return count(self._start)
