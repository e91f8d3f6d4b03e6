"""Both ways of training a classifier, on classes that can be told apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from munitaug.adaptation import (
    ClassicAugmentation,
    FitSettings,
    SmallClassifier,
    fit,
    self_train,
    source_batches,
    styled_batches,
)
from munitaug.adaptation.fit import new_optimiser
from munitaug.methods import Munit
from munitaug.types import DivergenceError
from tests.runs import TINY_GREY, toy_accuracy, toy_task

QUICK = FitSettings(steps=40, self_steps=15, batch_size=16)


def small(seed: int = 0) -> SmallClassifier:
    torch.manual_seed(seed)
    return SmallClassifier(1, 3, width=4)


def test_fit_learns_classes_that_can_be_told_apart() -> None:
    classifier = fit(small(), source_batches(toy_task(), QUICK, 0, None), QUICK)
    assert toy_accuracy(classifier) > 0.9
    assert not classifier.training
    assert all(parameter.is_contiguous() for parameter in classifier.parameters())


def test_fit_repeats() -> None:
    first, again = (
        fit(small(), source_batches(toy_task(), QUICK, 3, ClassicAugmentation()), QUICK).state_dict() for _ in "ab"
    )
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_styled_batches_can_leave_the_source_out() -> None:
    task, still = toy_task(), ClassicAugmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    translator = Munit(TINY_GREY).translator("a", "b").eval()
    both, labels = styled_batches(task, QUICK, 0, still, translator)(3)
    styled, styled_labels = styled_batches(task, QUICK, 0, still, translator, with_source=False)(3)
    assert torch.equal(styled, both[16:])
    assert torch.equal(styled_labels, labels[:16])


def test_source_batches_are_source_images_with_their_own_labels() -> None:
    task = toy_task()
    images, labels = source_batches(task, QUICK, 0, None)(5)
    assert images.shape == (16, 1, 16, 16)
    for image, label in zip(images, labels.tolist(), strict=True):
        places = [index for index, source in enumerate(task.source_images) if torch.equal(source, image)]
        assert [int(task.source_labels[place]) for place in places] == [label]


def test_batches_are_a_function_of_seed_and_step() -> None:
    task = toy_task()
    batch = source_batches(task, QUICK, 0, ClassicAugmentation())
    assert torch.equal(batch(4)[0], batch(4)[0])
    assert not torch.equal(batch(4)[0], batch(5)[0])
    assert not torch.equal(batch(4)[0], source_batches(task, QUICK, 1, ClassicAugmentation())(4)[0])


def test_styled_batches_put_translations_with_equal_labels_beside_the_images() -> None:
    task, still = toy_task(), ClassicAugmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    translator = Munit(TINY_GREY, seed=1).eval().translator("a", "b")
    batch = styled_batches(task, QUICK, 0, still, translator)
    images, labels = batch(0)
    assert images.shape == (32, 1, 16, 16)
    assert torch.equal(labels[:16], labels[16:])
    assert {int(label) for label in labels} == {0, 1, 2}
    for image, label in zip(images[:16], labels.tolist(), strict=False):
        nearest = (task.source_images - image).abs().flatten(1).amax(1)
        assert float(nearest.min()) < 1e-4
        assert int(task.source_labels[int(nearest.argmin())]) == label
    assert not torch.allclose(images[:16], images[16:], atol=0.1)
    assert not images.requires_grad
    assert not torch.allclose(batch(1)[0][16:], images[16:], atol=0.01)


@pytest.mark.parametrize("name", ["steps", "self_steps", "start_steps", "refine_steps", "batch_size"])
def test_too_few_of_anything_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 2, got 1"):
        FitSettings(**{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["lr", "self_lr"])
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_learning_rate_of_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        FitSettings(**{name: value})  # type: ignore[arg-type]


def test_bf16_runs_networks_in_it_and_keeps_weights_and_losses_in_float32() -> None:
    settings = dataclasses.replace(QUICK, precision="bfloat16")
    seen: set[torch.dtype] = set()
    classifier = small()
    classifier.head.register_forward_hook(lambda module, given, out: seen.add(out.dtype))
    fit(classifier, source_batches(toy_task(), settings, 0, None), settings)
    self_train(classifier, toy_task(), settings, 0)
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}
    assert toy_accuracy(classifier) > 0.8


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'fp16'"):
        FitSettings(precision="fp16")  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", range(2, 13))
@pytest.mark.parametrize("settle", [True, False])
def test_the_shortest_runs_have_a_schedule(settle: bool, steps: int) -> None:
    optimiser, schedule = new_optimiser(nn.Linear(2, 2), 0.01, 0.0, steps, settle=settle)
    for _ in range(steps - 1):
        optimiser.step()
        schedule.step()
        assert 0.0 <= optimiser.param_groups[0]["lr"] <= 0.01 + 1e-9


@pytest.mark.parametrize(("settle", "last"), [(True, 0.0), (False, 0.01)])
def test_the_learning_rate_falls_to_zero_or_stays_at_its_peak(settle: bool, last: float) -> None:
    optimiser, schedule = new_optimiser(nn.Linear(2, 2), 0.01, 0.0, 50, settle=settle)
    rates = []
    for _ in range(50):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(rates) < 50:
            schedule.step()
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(last, abs=1e-6)


def test_weights_that_are_not_finite_are_no_result() -> None:
    task, settings = toy_task(), dataclasses.replace(QUICK, steps=3, self_steps=3, lr=1e38, self_lr=1e38)
    batches = source_batches(task, settings, 0, None)
    with pytest.raises(DivergenceError, match=r"not finite; give a lower lr \(fit\.lr\)"):
        fit(small(), batches, settings)
    with pytest.raises(DivergenceError, match=r"not finite; give a lower self_lr \(fit\.self_lr\)"):
        self_train(small(), task, settings, 0)


def test_the_rate_peaks_after_three_tenths_and_ends_at_nothing_or_after_one_tenth_and_stays() -> None:
    for settle, peak, end in ((True, 29, 0.0), (False, 9, 0.02)):
        optimiser, schedule = new_optimiser(nn.Linear(2, 2), 0.02, 0.25, 100, settle=settle)
        rates = []
        for _ in range(99):
            rates.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        rates.append(optimiser.param_groups[0]["lr"])
        assert rates[peak] == pytest.approx(0.02)
        assert max(rates[:peak]) < rates[peak]
        assert rates[-1] == pytest.approx(end, abs=1e-6)
        assert [group["weight_decay"] for group in optimiser.param_groups] == [0.25]
