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


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_pool_that_is_filling_gives_the_fresh_images() -> None:
    pool = ImagePool(5)
    assert numbers(pool.exchange(numbered(1, 2, 3), generator())) == [1, 2, 3]
    assert numbers(pool.images) == [1, 2, 3]


def test_a_full_pool_gives_an_old_image_for_every_one_it_takes() -> None:
    pool, seen = ImagePool(10), []
    pool.exchange(numbered(*range(10)), generator())
    for step in range(100):
        given = pool.exchange(numbered(100 + step), generator(step))
        seen += numbers(given)
    everything = [*range(10), *range(100, 200)]
    assert sorted(seen + numbers(pool.images)) == everything


def test_half_of_what_a_full_pool_gives_is_old() -> None:
    pool = ImagePool(50)
    pool.exchange(numbered(*range(50)), generator())
    fresh = [step for step in range(1000) if numbers(pool.exchange(numbered(step), generator(step))) == [step]]
    assert 450 <= len(fresh) <= 550


def test_every_place_of_the_pool_is_used() -> None:
    pool = ImagePool(4)
    pool.exchange(numbered(0, 0, 0, 0), generator())
    for step in range(60):
        pool.exchange(numbered(step + 1), generator(step))
    assert 0 not in numbers(pool.images)


def test_images_are_drawn_one_after_the_other() -> None:
    """An image may leave the pool again with the batch it came in with; nothing is lost or doubled."""
    pool = ImagePool(2)
    given = numbers(pool.exchange(numbered(*range(40)), generator()))
    assert sorted([*given[2:], *numbers(pool.images)]) == list(range(40))


def test_the_generator_decides() -> None:
    first, second, other = (ImagePool(3) for _ in range(3))
    for pool, seed in ((first, 1), (second, 1), (other, 2)):
        for step in range(20):
            pool.exchange(numbered(2 * step, 2 * step + 1), torch_generator(seed, step))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, other.images)


def test_parts_in_order_are_exchanged_like_the_whole_batch() -> None:
    whole, cut = ImagePool(3), ImagePool(3)
    for step in range(10):
        images = numbered(*range(6 * step, 6 * step + 6))
        given = whole.exchange(images, torch_generator(step))
        parts = [cut.exchange(images[at : at + 2], torch_generator(step), at, 6) for at in (0, 2, 4)]
        assert numbers(torch.cat(parts)) == numbers(given)
    assert numbers(cut.images) == numbers(whole.images)


def test_a_pool_of_0_gives_what_it_gets() -> None:
    fresh = numbered(1, 2)
    assert ImagePool(0).exchange(fresh, generator()) is fresh


def test_the_pool_holds_no_graph() -> None:
    fresh = numbered(1, 2).requires_grad_()
    pool = ImagePool(3)
    assert not pool.exchange(2 * fresh, generator()).requires_grad
    assert not pool.images.requires_grad


@pytest.mark.parametrize("filled", [0, 2, 3])
def test_its_state_is_one_tensor_that_another_pool_takes(filled: int) -> None:
    pool, other = ImagePool(3), ImagePool(3)
    if filled:
        pool.exchange(numbered(*range(filled)), generator())
    state = pool.state_dict()
    assert list(state) == ["_extra_state"]
    other.load_state_dict(state)
    assert torch.equal(pool.exchange(numbered(7, 8), generator(1)), other.exchange(numbered(7, 8), generator(1)))
    assert torch.equal(pool.images, other.images)


def test_it_moves_with_its_method() -> None:
    pool = ImagePool(3)
    pool.exchange(numbered(1), generator())
    assert pool.double().images.dtype == torch.float64


def test_images_of_another_size_are_refused() -> None:
    pool = ImagePool(3)
    pool.exchange(torch.zeros(1, 3, 16, 16), generator())
    with pytest.raises(ValueError, match="3 x 16 x 16, but got 3 x 32 x 32"):
        pool.exchange(torch.zeros(1, 3, 32, 32), generator())


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="pool_size must be >= 0"):
        ImagePool(-1)
