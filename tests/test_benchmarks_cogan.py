"""CoGAN: its losses by hand, which layers are shared, and a toy pair on which it must work."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.conditions.cogan import (
    CoganSettings,
    CoupledDiscriminators,
    CoupledGenerators,
    TargetClassifier,
    _discriminator_terms,
    _draw,
    _draw_weights,
    cogan,
    discriminator_loss,
    generator_loss,
    pair_distance,
)
from munitaug.adaptation import FitSettings
from tests.cells import toy_cell
from tests.runs import toy_accuracy

TINY = CoganSettings(steps=4, noise=5, width=2)
QUICK = FitSettings(steps=20, self_steps=2, batch_size=8)


def weights(classifier: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in classifier.state_dict().values()])


def logistic(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score))


def test_the_discriminator_is_paid_for_telling_real_from_made() -> None:
    real, made = [0.5, -1.0, 2.0], [0.0, 1.5]
    by_hand = sum(-math.log(logistic(s)) for s in real) / 3 + sum(-math.log(1 - logistic(s)) for s in made) / 2
    assert float(discriminator_loss(torch.tensor(real), torch.tensor(made))) == pytest.approx(by_hand, rel=1e-6)


def test_the_generator_is_paid_for_passing_as_real() -> None:
    made = [0.0, 1.5, -3.0]
    by_hand = sum(-math.log(logistic(s)) for s in made) / 3
    assert float(generator_loss(torch.tensor(made))) == pytest.approx(by_hand, rel=1e-6)


def test_the_distance_of_a_pair_is_that_of_its_features() -> None:
    source, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 3.0]])
    assert float(pair_distance(source, target)) == ((1 + 4) + (0 + 9)) / 2
    assert float(pair_distance(source, source)) == 0.0


def test_generators_share_all_layers_but_the_last() -> None:
    generators = CoupledGenerators(3, 16, 5, 2).eval()
    noise = torch.rand(4, 5)
    before = generators(noise)
    assert before[0].shape == before[1].shape == (4, 3, 16, 16)
    with torch.no_grad():
        next(generators.last["target"].parameters()).mul_(-1.0)
        own = generators(noise)
        next(generators.shared.parameters()).mul_(-1.0)
        shared = generators(noise)
    assert torch.equal(own[0], before[0])
    assert not torch.equal(own[1], before[1])
    assert not torch.equal(shared[0], own[0])
    assert not torch.equal(shared[1], own[1])


@pytest.mark.parametrize(("size", "left"), [(16, 1), (28, 4), (32, 5)])
def test_discriminators_are_lenets_that_share_all_layers_but_the_first(size: int, left: int) -> None:
    discriminators = CoupledDiscriminators(1, size, 10)
    first = 1 * 20 * 25 + 20
    rest = (20 * 50 * 25 + 50) + (50 * left * left * 500 + 500) + 1 + (500 + 1) + (500 * 10 + 10)
    assert sum(value.numel() for value in discriminators.parameters()) == 2 * first + rest
    x = torch.rand(2, 1, size, size)
    assert not torch.equal(discriminators.features(x, "source"), discriminators.features(x, "target"))
    discriminators.first["target"].load_state_dict(discriminators.first["source"].state_dict())
    assert torch.equal(discriminators.features(x, "source"), discriminators.features(x, "target"))


def test_the_classifier_reads_images_through_the_targets_first_layer() -> None:
    discriminators = CoupledDiscriminators(1, 16, 3)
    classifier, x = TargetClassifier(discriminators), torch.rand(2, 1, 16, 16)
    before = classifier(x)
    with torch.no_grad():
        next(discriminators.first["source"].parameters()).zero_()
    assert torch.equal(classifier(x), before)
    with torch.no_grad():
        next(discriminators.first["target"].parameters()).zero_()
    assert not torch.equal(classifier(x), before)


def test_initial_weights_are_xaviers_with_a_gain_of_root_two() -> None:
    """Uniform up to root two times root(6 / (inputs + outputs)); biases 0.1."""
    discriminators = CoupledDiscriminators(1, 28, 10)
    _draw_weights(discriminators)
    bound = math.sqrt(2.0) * math.sqrt(6.0 / (50 * 4 * 4 + 500))
    largest = float(discriminators.hidden.weight.detach().abs().max())
    assert 0.99 * bound < largest <= bound
    assert discriminators.real.bias.tolist() == pytest.approx([0.1])


def test_the_discriminators_step_leaves_the_generators_alone() -> None:
    cell, generators, discriminators = toy_cell(QUICK), CoupledGenerators(1, 16, 5, 2), CoupledDiscriminators(1, 16, 3)
    loss = _discriminator_terms(generators, discriminators, *_draw(cell, TINY, 0), TINY)
    loss.backward()
    assert all(each.grad is None for each in generators.parameters())
    touched = {name for name, each in discriminators.named_parameters() if each.grad is not None}
    assert {"first.source.weight", "first.target.weight", "second.weight", "real.weight"} <= touched


def test_it_repeats_with_the_seed_and_leaves_the_oracles_task_closed() -> None:
    first, again, other = (weights(cogan(toy_cell(QUICK, seed), TINY)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_random_state_around_it_stays_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    cogan(toy_cell(QUICK), TINY)
    assert torch.equal(torch.rand(2), expected)


def test_on_a_toy_pair_the_target_is_classified() -> None:
    classifier = cogan(toy_cell(QUICK), replace(TINY, steps=60, lr=1e-3))
    assert toy_accuracy(classifier, 0.5) > 0.9
    assert not classifier.training


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4 px, got 18"):
        CoupledGenerators(1, 18, 5, 2)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        CoganSettings(steps=0)
    with pytest.raises(ValueError, match="label_weight must be >= 0, got -1"):
        CoganSettings(label_weight=-1.0)
