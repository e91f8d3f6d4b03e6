"""The pool of earlier translations: filling, exchanging, its state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from munitaug.networks.image_pool import ImagePool
from munitaug.random import torch_generator


def numbered(*numbers: int) -> Tensor:
    """Gives 1 x 1 images whose value is their number."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None]


def numbers(images: Tensor) -> list[int]:
    return [int(value) for value in images.flatten()]


def shown(pool: ImagePool, fresh: Tensor, seed: int = 0) -> Tensor:
    """Gives what a pool gives for fresh images, by a plan drawn with a seed."""
    return pool.exchange(fresh, pool.plan(generator(seed), len(fresh)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_pool_that_is_filling_gives_the_fresh_images() -> None:
    pool = ImagePool(5)
    assert numbers(shown(pool, numbered(1, 2, 3))) == [1, 2, 3]
    assert numbers(pool.images) == [1, 2, 3]


def test_a_full_pool_gives_an_old_image_for_every_one_it_takes() -> None:
    pool, seen = ImagePool(10), []
    shown(pool, numbered(*range(10)))
    for step in range(100):
        given = shown(pool, numbered(100 + step), step)
        seen += numbers(given)
    everything = [*range(10), *range(100, 200)]
    assert sorted(seen + numbers(pool.images)) == everything


def test_half_of_what_a_full_pool_gives_is_old() -> None:
    pool = ImagePool(50)
    shown(pool, numbered(*range(50)))
    fresh = [step for step in range(1000) if numbers(shown(pool, numbered(step), step)) == [step]]
    assert 450 <= len(fresh) <= 550


def test_every_place_of_the_pool_is_used() -> None:
    pool = ImagePool(4)
    shown(pool, numbered(0, 0, 0, 0))
    for step in range(60):
        shown(pool, numbered(step + 1), step)
    assert 0 not in numbers(pool.images)


def test_images_are_drawn_one_after_the_other() -> None:
    """An image may leave the pool again with the batch it came in with; nothing is lost or doubled."""
    pool = ImagePool(2)
    given = numbers(shown(pool, numbered(*range(40))))
    assert sorted([*given[2:], *numbers(pool.images)]) == list(range(40))


def exchanged_by_loops(stored: list[int], fresh: list[int], size: int, generator: torch.Generator) -> list[int]:
    """Gives what comes back when images are exchanged one after the other; changes what is stored."""
    given = []
    chances = torch.rand(len(fresh), generator=generator).tolist()
    places = torch.randint(size, (len(fresh),), generator=generator).tolist()
    for image, chance, place in zip(fresh, chances, places, strict=True):
        if len(stored) < size:
            stored.append(image)
            given.append(image)
        elif chance < 0.5:
            given.append(stored[place])
            stored[place] = image
        else:
            given.append(image)
    return given


@pytest.mark.parametrize(("size", "count"), [(1, 3), (3, 2), (4, 9), (7, 1)])
def test_exchanging_all_at_once_is_exchanging_one_after_the_other(size: int, count: int) -> None:
    pool, stored = ImagePool(size), list[int]()
    for step in range(30):
        fresh = list(range(step * count, (step + 1) * count))
        wanted = exchanged_by_loops(stored, fresh, size, generator(step))
        assert numbers(shown(pool, numbered(*fresh), step)) == wanted
        assert numbers(pool.images) == stored


def test_the_generator_decides() -> None:
    first, second, other = (ImagePool(3) for _ in range(3))
    for pool, seed in ((first, 1), (second, 1), (other, 2)):
        for step in range(20):
            pool.exchange(numbered(2 * step, 2 * step + 1), pool.plan(torch_generator(seed, step), 2))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, other.images)


def test_parts_in_order_are_exchanged_like_the_whole_batch() -> None:
    whole, cut = ImagePool(3), ImagePool(3)
    for step in range(10):
        images = numbered(*range(6 * step, 6 * step + 6))
        given = whole.exchange(images, whole.plan(torch_generator(step), 6))
        plans = [cut.plan(torch_generator(step), 2, at, 6) for at in (0, 2, 4)]
        parts = [cut.exchange(images[at : at + 2], plan) for at, plan in zip((0, 2, 4), plans, strict=True)]
        assert numbers(torch.cat(parts)) == numbers(given)
    assert numbers(cut.images) == numbers(whole.images)


def test_a_pool_of_0_gives_what_it_gets() -> None:
    fresh = numbered(1, 2)
    assert shown(ImagePool(0), fresh) is fresh


def test_the_pool_holds_no_graph() -> None:
    fresh = numbered(1, 2).requires_grad_()
    pool = ImagePool(3)
    assert not shown(pool, 2 * fresh).requires_grad
    assert not pool.images.requires_grad


@pytest.mark.parametrize("filled", [0, 2, 3])
def test_its_state_is_one_tensor_that_another_pool_takes(filled: int) -> None:
    pool, other = ImagePool(3), ImagePool(3)
    if filled:
        shown(pool, numbered(*range(filled)))
    state = pool.state_dict()
    assert list(state) == ["_extra_state"]
    other.load_state_dict(state)
    assert torch.equal(shown(pool, numbered(7, 8), 1), shown(other, numbered(7, 8), 1))
    assert torch.equal(pool.images, other.images)


def test_it_moves_with_its_method() -> None:
    pool = ImagePool(3)
    shown(pool, numbered(1))
    assert pool.double().images.dtype == torch.float64


def test_images_of_another_size_are_refused() -> None:
    pool = ImagePool(3)
    shown(pool, torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="3 x 16 x 16, but got 3 x 32 x 32"):
        shown(pool, torch.zeros(1, 3, 32, 32))


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="pool_size must be >= 0"):
        ImagePool(-1)
