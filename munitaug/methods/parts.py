"""What losses of several methods ask of a pair, which may be a part of a batch: one for each rank and each turn.

Part ``turn * ranks + rank`` of the batch is that rank's at that turn: the parts of one turn lie side by side.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from munitaug import ranks
from munitaug.images import pad_to_multiple
from munitaug.networks.image_pool import ImagePool
from munitaug.random import on_device, torch_generator
from munitaug.types import DomainKey, DrawFunction, Pair


def turn_of(pair: Pair) -> tuple[int, int]:
    """Gives (turn, turns): which turn of the step this is, from 0, and of how many; (0, 1) for a whole batch."""
    return pair.part // ranks.count(), max(1, pair.parts // ranks.count())


def padded(pair: Pair, multiple: int) -> dict[DomainKey, Tensor]:
    """Gives the images of "a" and of "b", as :func:`munitaug.images.pad_to_multiple` extends them."""
    return {"a": pad_to_multiple(pair.a, multiple)[0], "b": pad_to_multiple(pair.b, multiple)[0]}


def drawn(pair: Pair, draw: DrawFunction, *purpose: int | str) -> Tensor:
    """Gives a random draw for the whole batch, on the images' device: a function of the pair's seed and the purpose.

    A method whose steps can be recorded draws here, so that a recorded step finds each step's draws. There ``draw`` is
    kept, and asked once a step: it must not hold the pair or what was made of it. One purpose stands for one draw.
    """
    if pair.held is not None:
        return pair.held(pair, draw, purpose)
    return on_device(draw(torch_generator(pair.seed, *purpose)), pair.a.device)


def drawn_normal(pair: Pair, shape: Sequence[int], *purpose: int | str) -> Tensor:
    """Gives this part's rows of noise from N(0, 1) for the whole batch, as :func:`drawn`; for maps of many numbers.

    A GPU draws them itself, and other numbers than a CPU would: 50 million, as UNIT's latents of 256 px have in a step
    of 8 images, would keep it waiting for half a second.

    Args:
        shape: of this part's noise, its images first.
    """
    whole = (pair.batch_size, *shape[1:])

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randn(whole, generator=generator, device=generator.device)

    device = pair.a.device
    by = device if device.type == "cuda" else None
    if pair.held is not None:
        return pair.rows(pair.held(pair, draw, purpose, by))
    return pair.rows(on_device(draw(torch_generator(pair.seed, *purpose, device=by)), device))


def exchange(pool: ImagePool, fresh: Tensor, pair: Pair, *purpose: int | str) -> Tensor:
    """Gives what the pool gives for this part's images, N x C x H x W; the pair's seed and the purpose decide.

    Every rank holds the same pool and shows it the images of all ranks, so it is that of the whole batch.
    """
    if pool.size == 0:
        return fresh
    turn, _ = turn_of(pair)
    together = ranks.gather(fresh)
    count, batch_size = len(together), pair.batch_size
    plan = drawn(pair, lambda generator: pool.plan(generator, count, turn * count, batch_size), *purpose)
    return ranks.own_rows(pool.exchange(together, plan))


def scores_of(judge: Callable[[Tensor], Sequence[Tensor]], batches: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gives, for each of several batches of one size, the discriminator's list of maps; they are judged in one pass."""
    maps_of_scales = [maps.unflatten(0, (len(batches), -1)) for maps in judge(torch.cat(list(batches)))]
    return [list(maps) for maps in zip(*maps_of_scales, strict=True)]


def check_feature_channels(channels: int) -> None:
    """Refuses images that a feature network of RGB images cannot take.

    Raises:
        ValueError: they are neither grey nor RGB.
    """
    if channels not in (1, 3):
        raise ValueError(f"a feature network takes images of 1 or 3 channels, got {channels}; leave its term out")


def check_compared(pair: Pair, instead: str) -> None:
    """Refuses a batch whose images cannot be compared with one another.

    Args:
        pair: of a step.
        instead: what to set otherwise, for the message.

    Raises:
        ValueError: the batch has one image of each domain.
    """
    if pair.batch_size < 2:
        raise ValueError(
            f"distances between images need two at a time, but the batch has {pair.batch_size} of each domain; take "
            f"batch_size 2 or more, or {instead}"
        )


def compared(images: Tensor, pair: Pair) -> Tensor:
    """Gives the images that a term compares with one another: those of all ranks at this turn.

    Raises:
        ValueError: gradient accumulation leaves one image alone.
    """
    together = ranks.gather(images)
    if len(together) == 1 and pair.batch_size > 1:
        raise ValueError(
            f"distances between images need two at a time, but a batch of {pair.batch_size} cut into {pair.parts} "
            "parts has one; accumulate less, or take a larger batch"
        )
    return together
