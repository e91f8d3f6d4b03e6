"""Decoded images that are kept in memory."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from munitaug.data import ArrayDomain, FolderDomain, UnpairedLoader
from munitaug.data.domain import ImageDomain
from munitaug.data.kept import KeptDomain, keep_decoded
from munitaug.recipes import train
from munitaug.training import TrainConfig
from tests.tiny import TINY

COUNT, SIDE = 12, 16
BYTES = COUNT * (3 * SIDE * SIDE + 1)


class Counted(ImageDomain):
    """Image i is full of i; counts how often each is decoded."""

    def __init__(self) -> None:
        super().__init__("counted", 3, ("even", "odd"))
        self.decoded = [0] * COUNT

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.decoded[index] += 1
        return torch.full((3, SIDE, SIDE), index, dtype=torch.uint8), index % 2

    @property
    def labels(self) -> Tensor:
        return torch.arange(COUNT) % 2


def test_each_image_is_decoded_once_and_stays_the_same() -> None:
    inner = Counted()
    kept = keep_decoded(inner, BYTES)
    inner.decoded = [0] * COUNT  # the first was looked at for its size
    for _ in range(3):
        assert [int(kept[index][0].float().mean()) for index in range(COUNT)] == list(range(COUNT))
        assert [kept[index][1] for index in range(COUNT)] == [0, 1] * (COUNT // 2)
    assert inner.decoded == [1] * COUNT
    assert kept.images([3, 5]).shape == (2, 3, SIDE, SIDE)
    assert kept.class_names == ("even", "odd")


def test_what_a_caller_does_with_an_image_stays_with_the_caller() -> None:
    kept = KeptDomain(Counted(), (3, SIDE, SIDE))
    kept[4][0].zero_()
    assert int(kept[4][0].min()) == 4


def test_a_domain_that_does_not_fit_is_left_as_it_is() -> None:
    inner = Counted()
    assert keep_decoded(inner, BYTES - 1) is inner


def test_images_in_memory_or_of_several_sizes_are_left_as_they_are(tmp_path: Path) -> None:
    there = ArrayDomain("there", torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8))
    assert keep_decoded(there, 10**9) is there
    for side in (20, 24):
        Image.new("L", (side, side)).save(tmp_path / f"{side}.png")
    mixed = FolderDomain(tmp_path)
    assert keep_decoded(mixed, 10**9) is mixed


def test_what_is_no_bytes_is_not_made_bytes() -> None:
    class Floating(Counted):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.full((3, SIDE, SIDE), float("nan")), 0

    image, _ = KeptDomain(Floating(), (3, SIDE, SIDE))[2]
    assert image.isnan().all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_what_a_forked_process_decodes_is_there_for_all() -> None:
    inner = Counted()
    kept = KeptDomain(inner, (3, SIDE, SIDE))
    child = os.fork()
    if child == 0:
        kept.images(range(6))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(kept.images(range(COUNT))[:, 0, 0, 0], torch.arange(COUNT, dtype=torch.uint8))
    assert inner.decoded == [0] * 6 + [1] * 6


def test_a_process_that_begins_anew_decodes_by_itself() -> None:
    kept = pickle.loads(pickle.dumps(KeptDomain(Counted(), (3, SIDE, SIDE))))
    assert int(kept[7][0].min()) == int(kept[7][0].max()) == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_pairs_with_and_without(workers: int) -> None:
    plain, kept = (
        UnpairedLoader(domain, domain, batch_size=4, seed=3, workers=workers)
        for domain in (Counted(), KeptDomain(Counted(), (3, SIDE, SIDE)))
    )
    for (first, second), _ in zip(zip(plain.from_step(0), kept.from_step(0), strict=False), range(6), strict=False):
        assert torch.equal(first.a, second.a)
        assert torch.equal(first.b, second.b)


@pytest.mark.parametrize(("keep_mib", "times"), [(1, 1), (0, 4)])
def test_training_decodes_each_image_once_where_it_fits(tmp_path: Path, keep_mib: int, times: int) -> None:
    source = Counted()
    training = TrainConfig(
        max_steps=12, batch_size=4, device="cpu", keep_mib=keep_mib, sample_every_steps=0
    )  # 48 draws of 12 images
    train(source, source, tmp_path / "run", config=TINY, training=training, progress=False)
    of_style_banks = 2  # one per domain
    assert source.decoded[1:-1] == [2 * times + of_style_banks] * (COUNT - 2)  # the first and the last tell a domain
