"""Seeds are functions of their parts."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from munitaug.random import (
    numpy_generator,
    on_device,
    random_permutation,
    seed_global,
    seed_of,
    seeded,
    torch_generator,
)


def test_a_seed_is_the_blake2b_of_its_named_parts() -> None:
    digest = hashlib.blake2b(b"int:3\x1fstr:style\x1fint:-1", digest_size=8).digest()
    assert seed_of(3, "style", -1) == int.from_bytes(digest, "little") // 2


def test_numpys_integers_make_the_seeds_of_pythons() -> None:
    three, minus_one = (cast(int, number) for number in (np.int64(3), np.int8(-1)))
    assert seed_of(three, "style", minus_one) == seed_of(3, "style", -1)
    with pytest.raises(TypeError):
        seed_of(1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "others"),
    [((1, 2), (2, 1)), ((1,), ("1",)), ((12,), (1, 2)), (("ab",), ("a", "b")), ((0,), (2**64,)), ((), ("",))],
)
def test_seeds_of_different_parts_differ(parts: tuple[int | str, ...], others: tuple[int | str, ...]) -> None:
    assert seed_of(*parts) != seed_of(*others)


def test_seeds_fit_63_bits() -> None:
    assert all(0 <= seed_of("x", number) < 2**63 for number in range(1000))


def test_seeds_of_consecutive_steps_do_not_collide() -> None:
    assert len({seed_of(0, "step", step) for step in range(20_000)}) == 20_000


def test_generators_repeat_and_leave_the_global_ones_alone() -> None:
    torch_state = torch.get_rng_state()
    np.random.seed(3)  # noqa: NPY002 (the global generator is what must not change)
    expected = np.random.RandomState(3).rand()
    first, second = (torch.randn(4, generator=torch_generator(1, "x")) for _ in range(2))
    assert torch.equal(first, second)
    assert np.array_equal(numpy_generator(1, "x").normal(size=4), numpy_generator(1, "x").normal(size=4))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.rand() == expected  # noqa: NPY002


def test_a_seeded_block_repeats_and_leaves_the_generators_outside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("GPUs that take no part are seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    state = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(7):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeding_the_cpu_seeds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded_gpus.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded_gpus.append)
    with torch.random.fork_rng(devices=[]):
        seed_global(7)
        first = torch.rand(3)
        seed_global(7, torch.device("cpu"))
        assert torch.equal(torch.rand(3), first)
    assert seeded_gpus == []


def test_generators_of_other_parts_draw_other_numbers() -> None:
    assert not torch.equal(
        torch.randn(4, generator=torch_generator(1, "x")), torch.randn(4, generator=torch_generator(2, "x"))
    )


def test_a_permutation_holds_every_index_once_and_repeats() -> None:
    order = random_permutation(50, 3, "order")
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    assert torch.equal(order, random_permutation(50, 3, "order"))
    assert not torch.equal(order, random_permutation(50, 4, "order"))


@pytest.mark.parametrize(
    ("count", "device", "expected"),
    [(16_384, "cuda", []), (16_385, "cuda", ["pinned"]), (16_385, "cpu", []), (16_385, "mps", [])],
)
def test_what_a_gpu_would_have_to_be_waited_for_goes_by_pinned_memory(
    monkeypatch: pytest.MonkeyPatch, count: int, device: str, expected: list[str]
) -> None:
    calls: list[str] = []

    def pin_memory(drawn: Tensor) -> Tensor:
        calls.append("pinned")
        return drawn

    def to(drawn: Tensor, where: torch.device, non_blocking: bool) -> Tensor:
        calls.append(f"{where}, {'not waited for' if non_blocking else 'waited for'}")
        return drawn

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(Tensor, "to", to)
    on_device(torch.zeros(count), torch.device(device))
    assert calls == [*expected, f"{device}, {'waited for' if device == 'mps' else 'not waited for'}"]
