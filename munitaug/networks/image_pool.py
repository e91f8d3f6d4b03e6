"""A pool of earlier translations, so that discriminators do not forget them.

Shrivastava et al. 2017, section 2.3; as CycleGAN uses it (Zhu et al. 2017, section 4).

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANCE_OF_OLD = 0.5


class ImagePool(nn.Module):
    """Up to ``size`` images; what is asked for is half fresh, half old, once the pool is full.

    What goes where is drawn first (:meth:`plan`), as numbers of images, and done afterwards (:meth:`exchange`) without
    a look at any number, so that it can be part of a recorded step.

    Its images are part of the training state (as extra state, because their size is not known beforehand), not of
    checkpoints.

    Args:
        size: images it holds; 0 gives every image back at once. 50 in CycleGAN.

    Raises:
        ValueError: size is negative.
    """

    room: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"pool_size must be >= 0, got {size}")
        self.size = size
        self.filled = 0
        self.register_buffer("room", torch.zeros(0), persistent=False)

    @property
    def images(self) -> Tensor:
        """Gives the images it holds, up to ``size`` x C x H x W; those planned for, but not yet given, are zeros."""
        return self.room[: self.filled]

    def plan(self, generator: torch.Generator, count: int, start: int = 0, batch_size: int | None = None) -> Tensor:
        """Draws what becomes of the next fresh images: each is given back, or with chance 1/2 one from the pool.

        While the pool is filling, every fresh image is stored and given back. The place of an old image that is given
        is taken by the fresh one. Each plan must be carried out once, in the order in which they were made.

        Args:
            generator: decides; on the CPU. It is asked for the same numbers whatever the pool holds.
            count: fresh images.
            start: where in their batch they stand, if they are a part of it; parts come in order.
            batch_size: images of the whole batch; None means that it is whole.

        Returns:
            3 x count int64: a place in the pool; the image to give and the image to keep there, as places among the
            count images that those places held before, with the count fresh ones behind.
        """
        size, part = count if batch_size is None else batch_size, slice(start, start + count)
        chances = torch.rand(size, generator=generator)[part].tolist()
        drawn = torch.randint(max(self.size, 1), (size,), generator=generator)[part].tolist()
        places: list[int] = []
        given: list[int] = []
        held: dict[int, int] = {}  # what a place holds after the images so far
        for number, (chance, place) in enumerate(zip(chances, drawn, strict=True)):
            fresh = count + number
            if self.filled < self.size:
                place = self.filled
                self.filled += 1
                held[place] = fresh
                given.append(fresh)
            elif chance < CHANCE_OF_OLD:
                given.append(held.get(place, number))
                held[place] = fresh
            else:
                given.append(fresh)
            places.append(place)
        kept = [held.get(place, number) for number, place in enumerate(places)]  # places alike keep the same
        return torch.tensor([places, given, kept])

    def exchange(self, fresh: Tensor, plan: Tensor) -> Tensor:
        """Gives N images, fresh ones and old ones, and keeps others, as planned; without a graph.

        Args:
            fresh: N x C x H x W; in one training all of one size.
            plan: of :meth:`plan`, for N images; on the device of the images.

        Raises:
            ValueError: images of another size than the pool's.
        """
        if self.size == 0:
            return fresh
        self._make_room(fresh)
        places, given, kept = plan.unbind()
        both = torch.cat([self.room[places], fresh.detach()])
        self.room.index_copy_(0, places, both[kept])
        return both[given]

    def _make_room(self, fresh: Tensor) -> None:
        """Gives the pool its full size at first, in the images' type and on their device."""
        held = self.room
        if len(held) > 0 and held.shape[1:] != fresh.shape[1:]:
            raise ValueError(
                f"the pool holds images of {' x '.join(map(str, held.shape[1:]))}, but got "
                f"{' x '.join(map(str, fresh.shape[1:]))}; train with one image size, or with pool_size=0"
            )
        if len(held) == self.size and held.dtype == fresh.dtype and held.device == fresh.device:
            return
        self.room = fresh.new_zeros((self.size, *fresh.shape[1:]))
        if len(held) > 0:
            self.room[: len(held)] = held.to(fresh)

    def get_extra_state(self) -> Tensor:
        """Gives the images it holds."""
        return self.images.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Takes images that :meth:`get_extra_state` gave."""
        self.room, self.filled = state.to(self.room), len(state)
