"""What each condition learns from; above all, who sees the target's labels."""

from __future__ import annotations

import dataclasses
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import CONDITIONS, Bench, Condition, Scorer, evaluate_conditions, make_oracle_task, make_task
from munitaug.adaptation.conditions import CHAINS, run_chain
from munitaug.data.domain import ArrayDomain
from munitaug.methods import Munit
from tests.runs import TINY_FIT, TINY_GREY, toy_domain, toy_images

Weights = dict[str, Tensor]


class RecordingScorer(Scorer):
    """Keeps the weights of every classifier that it is asked to score."""

    def __init__(self, domain: ArrayDomain) -> None:
        super().__init__(domain)
        self.seen: list[Weights] = []

    def accuracy_percent(self, classifier: nn.Module) -> float:
        self.seen.append({name: value.clone() for name, value in classifier.state_dict().items()})
        return super().accuracy_percent(classifier)


def make_bench(target_labels: Tensor | None = None) -> Bench:
    images, labels = toy_images(15, 1, 0.5)
    target = ArrayDomain("target", images, labels if target_labels is None else target_labels)
    method = Munit(TINY_GREY, seed=1).eval()
    translator, restyler = method.translator("a", "b"), method.restyler("b")
    task = make_task(toy_domain("source", 15), target)
    return Bench(task, make_oracle_task(target), translator, TINY_FIT, restyler)


def weights_of_all(bench: Bench, test_labels: Tensor | None = None) -> dict[str, Weights]:
    """Gives the scored weights of every condition under seed 0."""
    images, labels = toy_images(9, 2)
    scorer = RecordingScorer(ArrayDomain("test", images, labels if test_labels is None else test_labels))
    evaluate_conditions(bench, scorer, seeds=1, processes=1, progress=False)
    return dict(zip(chain.from_iterable(CHAINS), scorer.seen, strict=True))


def equal(first: Weights, second: Weights) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def expected() -> dict[str, Weights]:
    return weights_of_all(make_bench())


def test_chains_hold_every_condition_once() -> None:
    assert sorted(chain.from_iterable(CHAINS)) == sorted(CONDITIONS)


def test_no_classifier_depends_on_the_labels_of_the_test_set(expected: dict[str, Weights]) -> None:
    shuffled = weights_of_all(make_bench(), test_labels=torch.tensor([2, 2, 0, 1, 0, 2, 1, 1, 0]))
    assert {name for name in CONDITIONS if not equal(expected[name], shuffled[name])} == set()


def test_training_labels_of_the_target_reach_the_oracle_alone(expected: dict[str, Weights]) -> None:
    shuffled = weights_of_all(make_bench(target_labels=2 - torch.arange(15) % 3))
    assert {name for name in CONDITIONS if not equal(expected[name], shuffled[name])} == {"oracle"}


def test_all_conditions_give_different_classifiers(expected: dict[str, Weights]) -> None:
    assert len({float(weights["head.weight"].double().sum()) for weights in expected.values()}) == len(CONDITIONS)


def test_adapt_goes_on_from_self_training() -> None:
    """With one start and no time to refine nothing is left of it but self-training."""
    still = dataclasses.replace(TINY_FIT, starts=1, self_lr=1e-30, weight_decay=0.0)
    plain = dataclasses.replace(make_bench(), restyler=None, translator=None, settings=still)
    ((_, adapted),) = run_chain(plain, ("adapt",), seed=2)
    *_, (_, trained) = run_chain(plain, ("classic", "self-training"), seed=2)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(adapted.state_dict()[name], value)


def test_adapt_starts_from_translations_where_nothing_restyles() -> None:
    bench = make_bench()
    ((_, restyled),) = run_chain(bench, ("adapt",), seed=2)
    ((_, styled),) = run_chain(dataclasses.replace(bench, restyler=None), ("adapt",), seed=2)
    unweighted = dataclasses.replace(TINY_FIT, restyle_weight=0.0)
    ((_, same),) = run_chain(dataclasses.replace(bench, settings=unweighted), ("adapt",), seed=2)
    assert equal(styled.state_dict(), same.state_dict())
    assert not equal(styled.state_dict(), restyled.state_dict())


def test_conditions_begin_with_equal_weights() -> None:
    tiny_steps = dataclasses.replace(TINY_FIT, starts=1, lr=1e-30, weight_decay=0.0, self_lr=1e-30)
    bench = dataclasses.replace(make_bench(), settings=tiny_steps)
    firsts = [next(run_chain(bench, links, seed=4))[1] for links in CHAINS]
    for other in firsts[1:]:
        assert torch.equal(other.get_parameter("head.weight"), firsts[0].get_parameter("head.weight"))


def test_self_training_goes_on_from_the_classifier_before_it() -> None:
    results = run_chain(make_bench(), ("classic", "self-training"), seed=0)
    first, classifier = next(results)
    before = classifier.get_parameter("head.weight").detach().clone()
    second, same = next(results)
    assert (first, second) == ("classic", "self-training")
    assert same is classifier
    assert not torch.equal(before, classifier.get_parameter("head.weight"))


@pytest.mark.parametrize("condition", ["munit", "adapt"])
def test_translating_conditions_need_a_translator(condition: Condition) -> None:
    bench = dataclasses.replace(make_bench(), translator=None)
    assert bench.missing_for(condition) == "a trained translator (--checkpoint)"
    assert make_bench().missing_for(condition) == ""


def test_the_oracle_needs_labels() -> None:
    bench = dataclasses.replace(make_bench(), oracle_task=None)
    assert bench.missing_for("oracle") == "labels of the target's training images"
    assert bench.missing_for("source") == ""
