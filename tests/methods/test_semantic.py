"""The label term by itself: what it sees, what it moves, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from munitaug.method import Phase
from munitaug.methods import MultiDomain, MultiDomainConfig, Munit, SemanticConsistency
from munitaug.random import torch_generator
from munitaug.types import LabelMissingError, Pair
from tests.methods.cases import CASES
from tests.tiny import CLASSES, TINY, TINY_TRAINING, tiny_classifier, tiny_pair, tiny_trainer


class ConstantLogits(nn.Module):
    """Gives the same logits for every image and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 1.0, 3.0]))
        self.dropout = nn.Dropout(0.9)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        out: Tensor = self.dropout(self.logits.expand(len(x), -1)) + 0 * x.mean(dim=(1, 2, 3))[:, None]
        return out


class NeedsPreparation(Munit):
    """Remembers that it was prepared."""

    prepared = False

    def prepare(self, pairs: Iterable[Pair]) -> None:
        self.prepared = next(iter(pairs)).seed == 5


def test_the_term_is_the_cross_entropy_of_the_true_labels() -> None:
    method = SemanticConsistency(Munit(TINY), ConstantLogits(), weight=2.0)
    total = sum(math.exp(logit) for logit in (0, 1, 3))
    expected = -(math.log(math.exp(0) / total) + math.log(math.exp(1) / total)) / 2
    assert method.semantic_loss(tiny_pair()).item() == pytest.approx(expected)
    terms = method.phases()[-1].loss(tiny_pair())
    assert terms["semantic"].item() == pytest.approx(2 * expected)


def test_the_classifier_sees_translations_of_a_with_prior_styles() -> None:
    inner, classifier, pair = Munit(TINY), ConstantLogits(), tiny_pair()
    method = SemanticConsistency(inner, classifier)
    method.semantic_loss(pair)
    style = torch.randn(2, 1, 3, generator=torch_generator(pair.seed, "style", "semantic"))
    with torch.no_grad():
        expected = inner.translator("a", "b").translate(pair.a, style)[:, 0]
    (asked,) = method.hidden_networks()
    assert isinstance(asked, ConstantLogits)
    assert torch.equal(asked.seen[0], expected)


def test_the_term_moves_the_translator_and_never_the_classifier(tmp_path: Path) -> None:
    classifier = tiny_classifier(3)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    method = SemanticConsistency(Munit(TINY), classifier)
    method.semantic_loss(tiny_pair()).backward()
    moved = [p.grad is not None and bool(p.grad.any()) for p in method.translator("a", "b").parameters()]
    assert any(moved)
    (asked,) = method.hidden_networks()
    assert asked is not None
    assert all(parameter.grad is None for parameter in asked.parameters())
    tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=2), method).run(progress=False)
    assert all(torch.equal(value, before[name]) for name, value in asked.state_dict().items())
    assert not asked.training


def test_the_classifier_stays_in_evaluation_mode_when_the_method_trains() -> None:
    method = SemanticConsistency(Munit(TINY), ConstantLogits().train()).train()
    (asked,) = method.hidden_networks()
    assert isinstance(asked, ConstantLogits)
    assert not asked.training
    assert not asked.dropout.training


def test_the_callers_classifier_may_be_trained_on() -> None:
    classifier = tiny_classifier(3).train()
    for parameter in classifier.parameters():
        parameter.requires_grad_(True)
    SemanticConsistency(Munit(TINY), classifier)
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_the_classifier_is_not_saved_but_moves_with_the_weights() -> None:
    method = SemanticConsistency(Munit(TINY), tiny_classifier(3))
    (classifier,) = method.hidden_networks()
    assert classifier is not None
    assert method.state_dict().keys() == {f"method.{name}" for name in Munit(TINY).state_dict()}
    assert method.to("meta") is method
    assert {parameter.device.type for parameter in classifier.parameters()} == {"meta"}


def test_the_inner_method_is_prepared() -> None:
    inner = NeedsPreparation(TINY)
    SemanticConsistency(inner, ConstantLogits()).prepare(iter([tiny_pair()]))
    assert inner.prepared


def test_settings_and_translators_are_those_of_the_inner_method() -> None:
    inner = Munit(TINY)
    method = SemanticConsistency(inner, ConstantLogits())
    assert method.config is inner.config
    assert method.optimiser is inner.optimiser
    assert method.core is inner
    assert type(method.translator("b", "a")) is type(inner.translator("b", "a"))
    assert method.style_banks is inner.style_banks


def test_what_a_method_says_of_itself_is_said_of_it_inside() -> None:
    inner = MultiDomain(MultiDomainConfig(domains=("x", "y"), width=2, discriminator_width=2, mlp_width=4))
    method = SemanticConsistency(inner, ConstantLogits())
    assert method.directions == inner.directions == (("x", "y"), ("y", "x"))
    assert method.domain_key("a") == "x"
    assert type(method.restyler("y")) is type(inner.restyler("y"))
    slow = CASES["transgaga"].make(0, 3)
    assert not SemanticConsistency(slow, ConstantLogits()).translates()
    with pytest.raises(ValueError, match="warm-up"):
        SemanticConsistency(slow, ConstantLogits()).check_length(0)


def test_a_weight_of_zero_leaves_the_term_out_and_needs_no_labels() -> None:
    method = SemanticConsistency(Munit(TINY), ConstantLogits(), weight=0.0)
    assert "semantic" not in method.phases()[-1].loss(replace(tiny_pair(), label_a=None))


@pytest.mark.parametrize("labels", [None, torch.tensor([1, -1])])
def test_missing_labels_are_refused(labels: Tensor | None) -> None:
    method = SemanticConsistency(Munit(TINY), tiny_classifier(3))
    with pytest.raises(LabelMissingError, match="semantic consistency needs labels of the source images"):
        method.semantic_loss(replace(tiny_pair(), label_a=labels))


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_negative_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be >= 0"):
        SemanticConsistency(Munit(TINY), ConstantLogits(), weight)


def test_a_method_that_never_trains_its_translator_is_refused() -> None:
    class DiscriminatorOnly(Munit):
        def phases(self) -> tuple[Phase, ...]:
            return super().phases()[:1]

    with pytest.raises(ValueError, match="munit has no phase that trains its translator"):
        SemanticConsistency(DiscriminatorOnly(TINY), tiny_classifier(CLASSES))


def test_the_classifier_sees_no_padding_of_what_losses_share() -> None:
    for inner in (Munit(TINY), CASES["cut"].make(0, 3)):
        method, pair = SemanticConsistency(inner, ConstantLogits()), tiny_pair(side=18)
        (classifier,) = method.hidden_networks()
        assert isinstance(classifier, ConstantLogits)
        method.semantic_loss(pair)
        method.semantic_loss(replace(pair, shared=method.shared(pair)))
        alone, shared = classifier.seen
        assert shared.shape == pair.a.shape
        torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("label", [10, -2])
def test_labels_that_the_classifier_does_not_know_are_named(label: int) -> None:
    method = SemanticConsistency(Munit(TINY), tiny_classifier(3))
    pair = replace(tiny_pair(), label_a=torch.tensor([0, label]))
    with pytest.raises(ValueError, match=f"knows classes 0 to .*, but the source has labels .*{label}"):
        method.semantic_loss(pair)
