"""Plain styled training, online and offline: which names there are, and that K variants are K and stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import munitaug
from benchmarks.conditions import styled as module
from benchmarks.conditions.base import Cell
from benchmarks.conditions.styled import STYLED, offline, offline_batches
from munitaug.adaptation import FitSettings
from munitaug.types import Content
from tests.cells import toy_cell
from tests.runs import toy_task

QUICK = FitSettings(steps=4, self_steps=2, batch_size=16)


class Shifting(munitaug.Translator):
    """Adds a bounded function of the style's first number to every pixel."""

    def __init__(self) -> None:
        super().__init__(channels=1, size_multiple=4, style_dim=2)

    def encode_content(self, x: Tensor) -> Content:
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return 0.5 * content + 0.5 * style[:, :1, None, None].tanh()

    def encode_style(self, y: Tensor) -> Tensor:
        return y.new_zeros(len(y), 2)


def styled_cell(seed: int = 0) -> Cell:
    def translator_of(method: str, weight: float) -> munitaug.Translator:
        assert (method, weight) == ("munit", 0.0)
        return Shifting()

    return toy_cell(QUICK, seed, task=toy_task(6), translator_of=translator_of)


@pytest.fixture
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves classic augmentation out, so that batches can be read."""
    monkeypatch.setattr(module, "ClassicAugmentation", lambda: lambda images, generator: images)


def variants_seen(cell: Cell, variants: int, steps: int = 60) -> list[set[int]]:
    """Gives for each source image the levels, 0 to 255, that a certain pixel of its variants has had."""
    batch, seen = offline_batches(cell, Shifting(), variants), [set[int]() for _ in cell.task.source_images]
    for step in range(steps):
        images, labels = batch(step)
        assert torch.equal(labels[:16], labels[16:])
        for image, made, label in zip(images[:16], images[16:], labels, strict=False):
            [place] = [i for i, each in enumerate(cell.task.source_images) if torch.equal(each, image)]
            assert label == cell.task.source_labels[place]
            level = (float(made[0, 0, 0]) + 1.0) * 127.5
            assert level == pytest.approx(round(level), abs=1e-3)
            seen[place].add(round(level))
    return seen


@pytest.mark.usefixtures("_unchanged")
@pytest.mark.parametrize("variants", [1, 3])
def test_every_image_has_k_variants_that_stay_the_same(variants: int) -> None:
    assert [len(levels) for levels in variants_seen(styled_cell(), variants)] == [variants] * 6


@pytest.mark.usefixtures("_unchanged")
def test_a_smaller_k_takes_the_first_of_a_larger_one() -> None:
    one, three = (variants_seen(styled_cell(), variants) for variants in (1, 3))
    assert all(few < many for few, many in zip(one, three, strict=True))


@pytest.mark.usefixtures("_unchanged")
def test_another_seed_has_other_variants() -> None:
    assert variants_seen(styled_cell(0), 1, 10) != variants_seen(styled_cell(1), 1, 10)


def test_offline_training_repeats_and_depends_on_k() -> None:
    first, again, other = (offline("munit", k)(styled_cell()).state_dict() for k in (3, 3, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_every_method_stands_in_the_table_alone_and_with_semantic_consistency() -> None:
    offline_names = {"munit-offline-1", "munit-offline-3", "munit-offline-5", "munit-offline-10"}
    assert set(STYLED) == {*munitaug.METHODS, *(f"{name}-semantic" for name in munitaug.METHODS), *offline_names}
