"""DTN: its losses by hand, what is fixed and what is trained, and a toy pair on which it must work."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.conditions.dtn import (
    DtnSettings,
    FeatureTranslator,
    FixedFeatures,
    discriminator_loss,
    dtn,
    feature_constancy,
    generator_loss,
    target_identity,
    ternary_discriminator,
    train_translator,
)
from munitaug.adaptation import FitSettings
from tests.cells import toy_cell
from tests.runs import toy_accuracy, toy_task

TINY = DtnSettings(steps=3, width=2)
QUICK = FitSettings(steps=12, self_steps=2, batch_size=8)


class Telling(nn.Module):
    """Gives the numbers that stand in the first three pixels of an image as logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]


def images_of(*logits: tuple[float, float, float]) -> Tensor:
    return torch.tensor([[*row, 0.0] for row in logits]).reshape(-1, 1, 2, 2)


def minus_log_chance(logits: tuple[float, ...], answer: int) -> float:
    return -math.log(math.exp(logits[answer]) / sum(math.exp(each) for each in logits))


def test_the_discriminator_has_three_answers() -> None:
    first, second, third, fourth = (1.0, 2.0, 0.5), (0.0, 0.0, 3.0), (2.0, -1.0, 0.0), (0.3, 0.2, 0.1)
    loss = discriminator_loss(Telling(), images_of(first, second), images_of(third), images_of(fourth))
    by_hand = (
        (minus_log_chance(first, 0) + minus_log_chance(second, 0)) / 2
        + minus_log_chance(third, 1)
        + minus_log_chance(fourth, 2)
    )
    assert float(loss) == pytest.approx(by_hand, rel=1e-6)


def test_both_kinds_of_translation_shall_pass_for_real() -> None:
    first, second = (1.0, 2.0, 0.5), (2.0, -1.0, 0.0)
    loss = generator_loss(Telling(), images_of(first), images_of(second))
    assert float(loss) == pytest.approx(minus_log_chance(first, 2) + minus_log_chance(second, 2), rel=1e-6)


@pytest.mark.parametrize("distance", [feature_constancy, target_identity])
def test_constancy_and_identity_are_mean_squares(distance: Any) -> None:
    before, after = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert float(distance(before, after)) == (0 + 4 + 9 + 0) / 4
    assert float(distance(before, before)) == 0.0


def test_f_is_four_convolutions_and_128_numbers() -> None:
    fixed = FixedFeatures(3, 10)
    convolutions = sum(9 * inside * out + out for inside, out in ((3, 64), (64, 128), (128, 256), (256, 128)))
    assert sum(each.numel() for each in fixed.parameters()) == convolutions + 128 * 10 + 10
    for size in (16, 28, 32):
        assert fixed.features(torch.rand(2, 3, size, size)).shape == (2, 128)


@pytest.mark.parametrize("size", [16, 28, 32])
def test_translations_have_the_size_of_images_and_the_discriminator_three_logits(size: int) -> None:
    translator = FeatureTranslator(FixedFeatures(3, 10), 3, size, 2).eval()
    x = torch.rand(2, 3, size, size) * 2.0 - 1.0
    made = translator.translate(x, torch.zeros(2, 1, 0))
    assert made.shape == (2, 1, 3, size, size)
    assert made.abs().max() <= 1.0
    assert ternary_discriminator(3, 2)(x).shape == (2, 3)


def test_f_is_trained_on_the_source_and_then_fixed() -> None:
    short, long = (train_translator(toy_cell(QUICK), replace(TINY, steps=steps)) for steps in (1, 3))
    kept = zip(short.fixed.parameters(), long.fixed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in kept)
    moved = zip(short.generator.parameters(), long.generator.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)
    assert not any(each.requires_grad for each in long.fixed.parameters())
    fresh = train_translator(toy_cell(replace(QUICK, steps=2)), TINY)
    assert not torch.equal(fresh.fixed.head.weight, long.fixed.head.weight)


def test_constancy_keeps_what_f_sees_and_identity_keeps_target_images() -> None:
    """Each term pulls its own distance down, compared with a translator trained without it."""
    task, settings = toy_task(contrast=0.5), DtnSettings(steps=25, width=4, lr=5e-3)
    styles = torch.zeros(len(task.target_images), 1, 0)

    def distances(trained: DtnSettings) -> tuple[float, float]:
        translator = train_translator(toy_cell(QUICK), trained)
        with torch.no_grad():
            of_source = translator.translate(task.source_images, styles).squeeze(1)
            of_target = translator.translate(task.target_images, styles).squeeze(1)
            seen, again = (translator.fixed.features(x) for x in (task.source_images, of_source))
        return float((seen - again).square().mean()), float((of_target - task.target_images).square().mean())

    both = distances(settings)
    assert both[0] < 0.5 * distances(replace(settings, constancy_weight=0.0))[0]
    assert both[1] < 0.5 * distances(replace(settings, identity_weight=0.0))[1]


def test_it_repeats_with_the_seed_and_leaves_the_oracles_task_closed() -> None:
    first, again, other = (dtn(toy_cell(QUICK, seed), TINY).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_on_a_toy_pair_the_target_is_classified() -> None:
    cell = toy_cell(replace(QUICK, steps=25))
    classifier = dtn(cell, DtnSettings(steps=40, width=4, lr=5e-3))
    assert toy_accuracy(classifier, 0.5) > 0.9
    assert not classifier.training


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4 px, got 18"):
        FeatureTranslator(FixedFeatures(1, 3), 1, 18, 2)
    with pytest.raises(ValueError, match="has no styles"):
        FeatureTranslator(FixedFeatures(1, 3), 1, 16, 2).encode_style(torch.rand(1, 1, 16, 16))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        DtnSettings(width=0)
    with pytest.raises(ValueError, match="identity_weight must be >= 0, got -1"):
        DtnSettings(identity_weight=-1.0)
