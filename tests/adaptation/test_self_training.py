"""Self-training on unlabelled target images: its terms, what it may see, and batch norms of the target."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import (
    ClassicAugmentation,
    FitSettings,
    SmallClassifier,
    Task,
    estimate_norms,
    fit,
    in_fresh_styles,
    predict,
    self_train,
    self_training,
    source_batches,
)
from munitaug.adaptation.fit import update as plain_update
from munitaug.adaptation.objectives import information_maximisation, view_consistency
from munitaug.adaptation.self_training import STRONG, WEAK, LabelledViews, ViewsOf, translated_views
from munitaug.images import uint8_to_model
from munitaug.methods import Munit
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from tests.runs import TINY_GREY, toy_accuracy, toy_images, toy_task

QUICK = FitSettings(steps=40, self_steps=15, batch_size=16)


def small(seed: int = 0) -> SmallClassifier:
    torch.manual_seed(seed)
    return SmallClassifier(1, 3, width=4)


def test_self_training_lowers_its_objective_and_keeps_the_classes() -> None:
    task = toy_task(contrast=0.25)
    classifier = fit(small(), source_batches(task, QUICK, 0, None), QUICK)
    with torch.no_grad():
        before = float(information_maximisation(classifier(task.target_images)))
    known = toy_accuracy(classifier, contrast=0.25)
    self_train(classifier, task, QUICK, 0)
    with torch.no_grad():
        after = float(information_maximisation(classifier(task.target_images)))
    assert after < before - 0.02
    assert all(parameter.is_contiguous() for parameter in classifier.parameters())
    assert toy_accuracy(classifier, contrast=0.25) >= known
    assert not classifier.training


def test_self_training_does_not_look_at_the_source() -> None:
    task = toy_task()
    other = dataclasses.replace(task, source_images=-task.source_images, source_labels=2 - task.source_labels)
    first, again = (self_train(small(), t, QUICK, 0).state_dict() for t in (task, other))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_self_training_keeps_hold_of_labels_that_it_is_given() -> None:
    """The labels of two classes are exchanged: a free run keeps the old classes, a tied one follows the labels."""
    task, tied = toy_task(), dataclasses.replace(QUICK, self_steps=150, self_lr=2e-3)
    swapped = dataclasses.replace(task, source_labels=torch.tensor([1, 0, 2])[task.source_labels])
    labelled = source_batches(swapped, QUICK, 0, None)
    images, labels = toy_images(90, 7)
    exchanged = torch.tensor([1, 0, 2])[labels]
    shares = {}
    for name, batches in (("free", None), ("tied", labelled)):
        classifier = fit(small(), source_batches(task, QUICK, 0, None), QUICK)
        self_train(classifier, task, tied, 0, labelled=batches, label_weight=20.0)
        shares[name] = float((predict(classifier, uint8_to_model(images)) == exchanged).float().mean())
    assert shares["free"] < 0.5
    assert shares["tied"] > 0.9


def test_a_label_weight_of_nothing_is_self_training_alone() -> None:
    task = toy_task()
    labelled = source_batches(task, QUICK, 0, None)
    first = self_train(small(), task, QUICK, 0, labelled=labelled, label_weight=0.0).state_dict()
    again = self_train(small(), task, QUICK, 0).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("term", ["consistency_weight", "restyle_weight", "information"])
def test_each_term_changes_the_result(term: str) -> None:
    task = toy_task(contrast=0.25)
    base = dataclasses.replace(QUICK, restyle_weight=1.0, threshold=0.3)
    information = 0.0 if term == "information" else 1.0
    changed = base if term == "information" else dataclasses.replace(base, **{term: 0.0})  # type: ignore[arg-type]
    whole, without = (
        self_train(small(), task, settings, 0, restyle=upside_down, information_weight=weight).state_dict()
        for settings, weight in ((base, 1.0), (changed, information))
    )
    assert not torch.equal(whole["head.weight"], without["head.weight"])


@pytest.mark.parametrize("even", [True, False])
def test_classes_are_wanted_evenly_or_as_often_as_the_teacher_uses_them(
    even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[Tensor | None] = []
    used: list[Tensor] = []

    def noted_shares(logits: Tensor, shares: Tensor | None) -> Tensor:
        wanted.append(shares)
        return information_maximisation(logits, shares)

    def noted_use(known: Tensor, view: Tensor, threshold: float) -> Tensor:
        used.append(known.softmax(dim=1).mean(dim=0))
        return view_consistency(known, view, threshold)

    monkeypatch.setattr(self_training, "information_maximisation", noted_shares)
    monkeypatch.setattr(self_training, "view_consistency", noted_use)
    self_train(small(), toy_task(), QUICK, 0, even=even)
    assert len(wanted) == len(used) == 15
    expected = used[0]
    for shares, now in zip(wanted, used, strict=True):
        assert even == (shares is None)
        expected = 0.98 * expected + 0.02 * now
        if shares is not None:
            torch.testing.assert_close(shares, expected)


def test_strong_views_are_changed_as_asked_for() -> None:
    calls: list[int] = []

    class Counting(ClassicAugmentation):
        def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
            calls.append(len(images))
            return super().__call__(images, generator)

    self_train(small(), toy_task(), QUICK, 0, strong=Counting())
    assert calls == [32] * 15


def upside_down(images: Tensor, generator: torch.Generator) -> Tensor:
    del generator
    return images.flip(2)


def test_restyled_views_are_taught_the_labels_of_the_images_they_come_from() -> None:
    """Classes look otherwise upside down; with restyled views the classifier learns them in both forms."""
    task = toy_task()
    settings = dataclasses.replace(QUICK, self_steps=80, restyle_weight=2.0, threshold=0.5, self_lr=5e-3)
    images, _ = toy_images(90, 7)
    agreed = {}
    for name, restyle in (("with", upside_down), ("without", None)):
        classifier = fit(small(), source_batches(task, QUICK, 0, None), QUICK)
        self_train(classifier, task, settings, 0, restyle=restyle)
        x = uint8_to_model(images)
        agreed[name] = float((predict(classifier, x) == predict(classifier, x.flip(2))).float().mean())
    assert agreed["with"] > 0.95
    assert agreed["with"] > agreed["without"] + 0.2


def as_taught(task: Task, labels: torch.Tensor) -> ViewsOf:
    """Gives source images as they are, with these labels."""

    def views(step: int) -> LabelledViews:
        index = torch.randint(len(labels), (32,), generator=torch_generator("views", step))
        images = task.source_images[index]
        return LabelledViews(images, images.flip(2), labels[index])

    return views


def test_translations_teach_labels_that_the_teacher_confirms() -> None:
    """Strong views are upside down, where classes look otherwise: right labels are learnt for them, wrong ones not."""
    task = toy_task()
    settings = dataclasses.replace(QUICK, self_steps=80, translation_weight=3.0, threshold=0.5, self_lr=5e-3)
    images, labels = toy_images(90, 7)
    right, wrong = as_taught(task, task.source_labels), as_taught(task, (task.source_labels + 1) % 3)
    known = {}
    for name, views in (("right", right), ("wrong", wrong), ("none", None)):
        classifier = fit(small(), source_batches(task, QUICK, 0, None), QUICK)
        self_train(classifier, task, settings, 0, translated=views)
        known[name] = float((predict(classifier, uint8_to_model(images).flip(2)) == labels).float().mean())
    assert known["right"] > 0.9
    assert known["wrong"] == known["none"] < 0.7


def test_translations_without_weight_are_not_made() -> None:
    def refuse(step: int) -> LabelledViews:
        raise AssertionError("made")

    unweighted = dataclasses.replace(QUICK, translation_weight=0.0)
    self_train(small(), toy_task(), unweighted, 0, translated=refuse)
    with pytest.raises(AssertionError, match="made"):
        self_train(small(), toy_task(), QUICK, 0, translated=refuse)


def test_translated_views_are_source_images_in_fresh_styles_with_their_labels() -> None:
    task = toy_task()
    translator = Munit(TINY_GREY, seed=1).eval().requires_grad_(False).translator("a", "b")
    views = translated_views(task, QUICK, 3, translator)
    first, again, other = views(0), views(0), views(1)
    assert first.weak.shape == first.strong.shape == (QUICK.batch_size, 1, 16, 16)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.weak, other.weak)
    assert not torch.equal(first.weak, first.strong)
    generator = torch_generator(3, "known", 0)
    images, labels = task.draw_labelled(QUICK.batch_size, generator)
    assert torch.equal(first.labels, labels)
    plain = translator.translate(images, PriorStyles(translator.style_dim).sample(len(images), 1, generator)).squeeze(1)
    assert float((first.weak - plain).abs().mean()) < float((first.weak - images).abs().mean())


def test_steps_are_told_and_telling_changes_nothing() -> None:
    told: list[int] = []

    def note(step: int, loss: Tensor, classifier: nn.Module) -> None:
        told.append(step)
        assert not loss.requires_grad
        assert not any(parameter.requires_grad for parameter in classifier.parameters())

    listened = self_train(small(), toy_task(), QUICK, 0, on_update=note).state_dict()
    alone = self_train(small(), toy_task(), QUICK, 0).state_dict()
    assert told == list(range(1, 16))
    assert all(torch.equal(listened[name], alone[name]) for name in alone)


def test_norms_are_the_moments_of_the_images_in_any_order() -> None:
    """One norm alone: its statistics must be the images' own mean and variance."""
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(37, 2, 3, 3, generator=generator) * 2.0 + 1.0
    estimate_norms(network, images)
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, images.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, images.transpose(0, 1).flatten(1).var(dim=1))
    assert norm.momentum == 0.1
    mean = norm.running_mean.clone()
    estimate_norms(network, images.flip(0))
    torch.testing.assert_close(norm.running_mean, mean)
    assert not network.training


def test_norms_of_many_images_are_averaged_over_equal_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_training, "SCORE_BATCH", 10)
    norm = nn.BatchNorm2d(1)
    images = torch.arange(40.0).reshape(40, 1, 1, 1)
    estimate_norms(nn.Sequential(norm, nn.Flatten()), images)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx(19.5)
    wanted = sum(images[at : at + 10].var().item() for at in range(0, 40, 10)) / 4
    assert norm.running_var.item() == pytest.approx(wanted)


def test_norms_are_estimated_without_dropout() -> None:
    norm = nn.BatchNorm2d(2)
    images = torch.randn(37, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 1.0
    state = torch.get_rng_state()
    estimate_norms(nn.Sequential(nn.Dropout(0.5), norm, nn.Flatten()), images)
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_var, images.transpose(0, 1).flatten(1).var(dim=1))
    assert torch.equal(torch.get_rng_state(), state)  # and nothing is drawn


def test_a_classifier_without_norms_stays_as_it_is() -> None:
    head = nn.Linear(4, 2)
    before = head.weight.clone()
    estimate_norms(nn.Sequential(nn.Flatten(), head), torch.randn(3, 1, 2, 2))
    assert torch.equal(head.weight, before)


def test_restyled_images_are_contents_in_fresh_styles() -> None:
    restyler = Munit(TINY_GREY, seed=1).eval().restyler("b")
    images = toy_task().target_images[:4]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        found = in_fresh_styles(restyler)(images, generator)
        codes = torch.randn(4, 1, TINY_GREY.style_dim, generator=torch.Generator().manual_seed(3))
        wanted = torch.cat([restyler.translate(x[None], s[None])[0] for x, s in zip(images, codes, strict=True)])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("consistency_weight", -1.0), ("restyle_weight", -0.5), ("translation_weight", -0.1), ("threshold", 1.0)],
)
def test_numbers_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        FitSettings(**{name: value})  # type: ignore[arg-type]


def test_the_result_has_the_weights_of_the_teacher_and_not_the_last_ones() -> None:
    last: dict[str, Tensor] = {}

    def note(step: int, loss: Tensor, teacher: nn.Module) -> None:
        last.update({name: value.clone() for name, value in teacher.named_parameters()})

    settings = dataclasses.replace(QUICK, self_steps=4)
    result = self_train(small(), toy_task(), settings, 0, on_update=note)
    assert all(torch.equal(value, last[name]) for name, value in result.named_parameters())


def test_the_teacher_is_a_running_average_of_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decays grow as (n + 1) / (n + 10), up to 0.99."""
    lives: list[Tensor] = []
    classifier = small()
    average = classifier.head.weight.detach().clone()

    def noting(loss: Tensor, *rest: object) -> None:
        plain_update(loss, *rest)  # type: ignore[arg-type]
        lives.append(classifier.head.weight.detach().clone())

    monkeypatch.setattr(self_training, "update", noting)
    self_train(classifier, toy_task(), QUICK, 0)
    for step, live in enumerate(lives):
        decay = min(0.99, (step + 1) / (step + 10))
        average = decay * average + (1.0 - decay) * live
    torch.testing.assert_close(classifier.head.weight.detach(), average)
    assert not torch.allclose(lives[-1], average, atol=1e-5)


def test_restyled_views_are_changed_strongly_too() -> None:
    calls: list[int] = []

    class Counting(ClassicAugmentation):
        def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
            calls.append(len(images))
            return super().__call__(images, generator)

    self_train(small(), toy_task(), QUICK, 0, restyle=upside_down, strong=Counting())
    assert calls == [32] * 2 * 15


def test_translated_views_are_changed_lightly_and_strongly() -> None:
    task = toy_task()
    translator = Munit(TINY_GREY, seed=1).eval().requires_grad_(False).translator("a", "b")
    views, generator = translated_views(task, QUICK, 3, translator)(0), torch_generator(3, "known", 0)
    images, _ = task.draw_labelled(QUICK.batch_size, generator)
    plain = translator.translate(images, PriorStyles(translator.style_dim).sample(len(images), 1, generator)).squeeze(1)
    for found, change in ((views.weak, WEAK), (views.strong, STRONG)):
        torch.testing.assert_close(found, change(plain, generator))


@pytest.mark.parametrize("name", ["consistency_weight", "restyle_weight"])
def test_a_weight_multiplies_the_agreement_of_its_view(name: str) -> None:
    task, classifier = toy_task(), small().train()
    teacher, images = deepcopy(classifier), task.target_images[:32]
    losses = []
    for weight in (1.0, 2.0, 4.0):
        changes: dict[str, Any] = {name: weight, "threshold": 0.1}
        settings = dataclasses.replace(QUICK, **changes)
        terms = self_training._TargetTerms(settings, 1.0, upside_down, STRONG, None)
        losses.append(terms.of(classifier, teacher, images, torch_generator(0)).item())
    assert losses[1] - losses[0] > 0.1
    assert losses[2] - losses[1] == pytest.approx(2.0 * (losses[1] - losses[0]), rel=1e-4)


def test_the_norms_of_the_result_are_those_of_the_target() -> None:
    task = toy_task(contrast=0.25)
    result = self_train(small(), task, QUICK, 0)
    wanted = dict(estimate_norms(deepcopy(result), task.target_images).named_buffers())
    for name, value in result.named_buffers():
        torch.testing.assert_close(value, wanted[name])
