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

    Its images are part of the training state (as extra state, because their size is not known beforehand), not of
    checkpoints.

    Args:
        size: images it holds; 0 gives every image back at once. 50 in CycleGAN.

    Raises:
        ValueError: size is negative.
    """

    images: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"pool_size must be >= 0, got {size}")
        self.size = size
        self.register_buffer("images", torch.zeros(0), persistent=False)

    def exchange(
        self, fresh: Tensor, generator: torch.Generator, start: int = 0, batch_size: int | None = None
    ) -> Tensor:
        """Gives N images: each fresh one, or with chance 1/2 one from the pool, whose place the fresh one takes.

        While the pool is filling, every fresh image is stored and given back.

        Args:
            fresh: N x C x H x W; in one training all of one size.
            generator: decides; on the CPU. It is asked for the same numbers whatever the pool holds.
            start: where in their batch these images stand, if they are a part of it; parts come in order.
            batch_size: images of the whole batch; None means that it is whole.

        Raises:
            ValueError: images of another size than the pool's.
        """
        size, part = len(fresh) if batch_size is None else batch_size, slice(start, start + len(fresh))
        chances = torch.rand(size, generator=generator)[part].tolist()
        places = torch.randint(max(self.size, 1), (size,), generator=generator)[part].tolist()
        if self.size == 0:
            return fresh
        stored = self._stored_like(fresh)
        given = []
        for image, chance, place in zip(fresh.detach(), chances, places, strict=True):
            if len(stored) < self.size:
                stored.append(image)
                given.append(image)
            elif chance < CHANCE_OF_OLD:
                given.append(stored[place])
                stored[place] = image
            else:
                given.append(image)
        self.images = torch.stack(stored)
        return torch.stack(given)

    def _stored_like(self, fresh: Tensor) -> list[Tensor]:
        if len(self.images) > 0 and self.images.shape[1:] != fresh.shape[1:]:
            raise ValueError(
                f"the pool holds images of {' x '.join(map(str, self.images.shape[1:]))}, but got "
                f"{' x '.join(map(str, fresh.shape[1:]))}; train with one image size, or with pool_size=0"
            )
        return list(self.images.to(fresh))

    def get_extra_state(self) -> Tensor:
        """Gives the images it holds."""
        return self.images

    def set_extra_state(self, state: Tensor) -> None:
        """Takes images that :meth:`get_extra_state` gave."""
        self.images = state.to(self.images)
