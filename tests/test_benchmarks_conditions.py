"""Conditions of the digit benchmark beside ours: each trains, repeats, and sees no target labels; some by hand."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import munitaug
from benchmarks.conditions import joint
from benchmarks.conditions.adabn import adabn, exact_norms
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.coral import coral
from benchmarks.conditions.dann import DomainHead, dann, reversal_strength
from benchmarks.conditions.plain import classic
from benchmarks.conditions.references import (
    FDA_BETA,
    adapted_pool,
    fda,
    histogram,
    match_pixels,
    pixel_distribution,
    pooled_batches,
    through_albumentations,
)
from benchmarks.conditions.self_training import consistency_alone, in_turn, information_alone, self_training
from benchmarks.conditions.subspace import aligned_head, subspace
from munitaug.adaptation import FitSettings, SmallClassifier, Task, self_train
from munitaug.random import torch_generator
from tests.runs import toy_accuracy, toy_task

QUICK = FitSettings(steps=30, self_steps=2, starts=2, start_steps=2, refine_steps=2, batch_size=16, lr=5e-3)
NEEDS: dict[str, tuple[ConditionFunction, str]] = {
    "fda": (fda, "albumentations"),
    "histogram": (histogram, "albumentations"),
    "pixel-distribution": (pixel_distribution, "torch"),
    "adabn": (adabn, "torch"),
    "subspace": (subspace, "skada"),
    "dann": (dann, "skada.deep"),
    "coral": (coral, "skada.deep"),
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")


def no_translator(method: str, weight: float) -> munitaug.Translator:
    raise AssertionError(f"{method} with weight {weight} was asked for")


def cell(folder: Path, task: Task | None = None, settings: FitSettings = QUICK, seed: int = 0) -> Cell:
    notes: list[tuple[str, int]] = []
    task = task or toy_task()
    return Cell(
        pair="toy",
        task=task,
        oracle_task=None,
        settings=settings,
        seed=seed,
        folder=folder,
        translator_of=no_translator,
        restyler_of=no_translator,
        on_snapshot=lambda stage, step, net: notes.append((stage, step)),
    )


def needed(name: str) -> ConditionFunction:
    condition, package = NEEDS[name]
    pytest.importorskip(package)
    return condition


@pytest.mark.parametrize("name", NEEDS)
def test_a_condition_trains_and_tells_the_targets_classes_apart(name: str, tmp_path: Path) -> None:
    classifier = needed(name)(cell(tmp_path))
    assert not classifier.training
    assert toy_accuracy(classifier, 0.5) > 0.9  # a guess has 0.33


@pytest.mark.parametrize("name", NEEDS)
def test_a_condition_repeats_with_its_seed_alone(name: str, tmp_path: Path) -> None:
    condition, quick = needed(name), replace(QUICK, steps=4)
    torch.manual_seed(1)
    first = condition(cell(tmp_path / "a", settings=quick)).state_dict()
    torch.manual_seed(2)  # what is drawn elsewhere must not matter
    again = condition(cell(tmp_path / "b", settings=quick)).state_dict()
    other = condition(cell(tmp_path / "c", settings=quick, seed=1)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NEEDS)
def test_a_condition_uses_the_targets_images(name: str, tmp_path: Path) -> None:
    condition, quick, task = needed(name), replace(QUICK, steps=4), toy_task()
    first = condition(cell(tmp_path / "a", task, quick)).state_dict()
    other = replace(task, target_images=-task.target_images)
    changed = condition(cell(tmp_path / "b", other, quick)).state_dict()
    assert any(not torch.equal(first[key], changed[key]) for key in first)


@pytest.mark.parametrize("name", NEEDS)
def test_a_condition_fits_any_classifier_of_its_architecture(name: str, tmp_path: Path) -> None:
    here = cell(tmp_path, settings=replace(QUICK, steps=3))
    model = here.new_classifier()
    model.load_state_dict(needed(name)(here).state_dict())


@pytest.mark.parametrize("name", ["dann", "coral", "subspace", "fda", "histogram"])
def test_a_missing_package_says_what_to_install(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    condition, package = NEEDS[name]
    extra = "albumentations" if package == "albumentations" else "peers"
    hide(monkeypatch, package.split(".")[0])
    with pytest.raises(ImportError, match=rf'pip install "munitaug\[{extra}\]"'):
        condition(cell(tmp_path))


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Makes a package seem to be missing."""
    real = builtins.__import__

    def hiding(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> object:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return real(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", hiding)


class Normed(nn.Module):
    """A pixel's weighted value, normed, rectified, weighted and normed again: small enough to reckon with."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.BatchNorm2d(1, eps=0.0)
        self.first = nn.BatchNorm2d(1, eps=0.0)  # out of order on purpose
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.weight * torch.relu(self.first(x)))
        return result


def test_exact_norms_are_those_reckoned_by_hand() -> None:
    values = torch.tensor([0.0, 2.0, 4.0, 10.0]).view(4, 1, 1, 1)
    net = Normed()
    exact_norms(net, values)
    assert net.first.running_mean is not None
    assert net.second.running_var is not None
    assert float(net.first.running_mean) == pytest.approx(4.0)
    assert float(net.first.running_var) == pytest.approx((16 + 4 + 0 + 36) / 4)  # type: ignore[arg-type]
    rectified = [0.0, 0.0, 0.0, 3.0 * 6.0 / math.sqrt(14.0)]
    mean = sum(rectified) / 4
    assert float(net.second.running_mean) == pytest.approx(mean)  # type: ignore[arg-type]
    assert float(net.second.running_var) == pytest.approx(sum((v - mean) ** 2 for v in rectified) / 4)


def test_exact_norms_are_those_of_all_images_as_one_training_batch() -> None:
    torch.manual_seed(0)
    classifier, images = SmallClassifier(1, 3, width=4), torch.randn(37, 1, 16, 16)
    whole = SmallClassifier(1, 3, width=4)
    whole.load_state_dict(classifier.state_dict())
    with torch.no_grad():
        expected = whole.train()(images)
        found = exact_norms(classifier, images)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_exact_norms_depend_neither_on_order_nor_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    classifier, images = SmallClassifier(1, 3, width=4), torch.randn(37, 1, 16, 16)
    first = {key: value.clone() for key, value in exact_norms(classifier, images).state_dict().items()}
    monkeypatch.setattr(sys.modules["benchmarks.conditions.adabn"], "IMAGES_AT_ONCE", 5)
    again = exact_norms(classifier, images.flip(0)).state_dict()
    for key, value in first.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-6)
        assert "running" in key or torch.equal(again[key], value)


def test_adabn_changes_nothing_but_the_statistics(tmp_path: Path) -> None:
    before = classic(cell(tmp_path)).state_dict()
    after = adabn(cell(tmp_path)).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.endswith(("running_mean", "running_var"))}


def test_a_pool_pairs_source_labels_with_source_images_and_brings_target_values() -> None:
    task = toy_task()
    task = replace(task, source_images=task.source_labels.view(-1, 1, 1, 1).expand(-1, 1, 16, 16) / 127.5 - 1.0)
    task = replace(task, target_images=torch.full((5, 1, 16, 16), 200.0) / 127.5 - 1.0)
    images, labels = adapted_pool(task, lambda image, reference: image + reference, 50, seed=0)
    assert images.shape == (50, 1, 16, 16)
    levels = (images + 1.0) * 127.5
    torch.testing.assert_close(levels, (200.0 + labels).view(-1, 1, 1, 1).expand(-1, 1, 16, 16), rtol=0, atol=1e-3)


def test_a_pool_is_not_larger_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["benchmarks.conditions.references"], "POOL_IMAGES", 7)
    images, labels = adapted_pool(toy_task(), lambda image, reference: reference, 50, seed=0)
    assert (len(images), len(labels)) == (7, 7)


def test_batches_are_half_as_they_are_and_half_of_the_pool() -> None:
    task = toy_task()
    pool = torch.full((4, 1, 16, 16), 0.9), torch.tensor([0, 1, 2, 0])
    images, labels = pooled_batches(task, pool, QUICK, seed=0)(0)
    assert (len(images), len(labels)) == (2 * QUICK.batch_size, 2 * QUICK.batch_size)
    darkest = images.flatten(1).min(dim=1).values
    assert bool((darkest[: QUICK.batch_size] < 0.0).all())
    assert bool((darkest[QUICK.batch_size :] > 0.4).all())


@pytest.mark.parametrize(("name", "least"), [("FDA", 0.15), ("HistogramMatching", 0.5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_transforms_bring_the_targets_brightness(name: str, least: float, channels: int) -> None:
    """Dark images under bright references: so much of the way does the mean go, for FDA with its half of idle draws."""
    pytest.importorskip("albumentations")
    generator = torch_generator(0)
    dark = torch.rand(60, channels, 16, 16, generator=generator) * 0.6 - 1.0
    bright = torch.rand(60, channels, 16, 16, generator=generator) * 0.6 + 0.4
    task = Task(dark, torch.zeros(60, dtype=torch.int64), bright, 1)
    key = {"FDA": "fda_metadata", "HistogramMatching": "hm_metadata"}[name]
    adapt = through_albumentations(name, key, 0, {"beta_limit": FDA_BETA} if name == "FDA" else {})
    images, _ = adapted_pool(task, adapt, 60, seed=0)
    assert images.shape == dark.shape
    way = float((images.mean() - dark.mean()) / (bright.mean() - dark.mean()))
    assert least < way < 1.05


def test_matched_pixels_have_the_references_mean_and_deviation() -> None:
    image = np.array([[[10, 0], [30, 0]]], dtype=np.uint8)  # 1 x 2 pixels of two channels, the second constant
    reference = np.array([[[100, 50], [160, 90]]], dtype=np.uint8)
    assert match_pixels(image, reference, 1.0).tolist() == [[[100, 70], [160, 70]]]
    assert match_pixels(image, reference, 0.5).tolist() == [[[55, 35], [95, 35]]]
    assert match_pixels(image, reference, 0.0).tolist() == image.tolist()


def test_matched_pixels_stay_in_range() -> None:
    image = np.array([[[0]] * 9 + [[90]]], dtype=np.uint8)
    reference = np.array([[[0]] * 5 + [[255]] * 5], dtype=np.uint8)
    assert match_pixels(image, reference, 1.0).max() == 255


def test_albumentations_own_pixel_distribution_is_why_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright references ought to make dark images brighter. If this fails, albumentations has mended it."""
    albumentations = pytest.importorskip("albumentations")
    transform = albumentations.PixelDistributionAdaptation(transform_type="standard", blend_ratio=(1.0, 1.0), p=1.0)
    dark = np.full((16, 16, 1), 60, dtype=np.uint8)
    dark[:8] = 80
    assert transform(image=dark, pda_metadata=[dark + 150])["image"].max() <= 1


def test_target_batches_hold_target_images_alone_and_repeat() -> None:
    task = replace(toy_task(), source_images=torch.full((30, 1, 16, 16), -1.0), target_images=torch.ones(30, 1, 16, 16))
    batches = joint.target_batches(task, QUICK, 0)
    assert batches(3).shape == (QUICK.batch_size, 1, 16, 16)
    assert float(batches(3).mean()) > 0.7  # noise and contrast take a little
    assert torch.equal(batches(3), batches(3))
    assert not torch.equal(batches(3), batches(4))


def test_features_are_what_the_last_layer_is_given() -> None:
    torch.manual_seed(0)
    classifier, images = SmallClassifier(1, 3, width=4).eval(), torch.randn(7, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(joint.features_of(classifier, images), classifier.features(images))
    with pytest.raises(TypeError, match="must end in a linear layer, but ends in NoneType"):
        joint.head_of(nn.Sequential(nn.ReLU()))


def test_skada_gets_each_step_the_batch_of_both_domains_and_none_of_the_targets_labels(tmp_path: Path) -> None:
    task = replace(toy_task(), source_images=torch.full((30, 1, 16, 16), -1.0), target_images=torch.ones(30, 1, 16, 16))
    seen: list[tuple[str, int]] = []
    here = replace(cell(tmp_path, task), on_snapshot=lambda stage, step, net: seen.append((stage, step)))
    batches = list(joint.domain_batches(here, here.new_classifier(), "dann", None))
    assert len(batches) == QUICK.steps
    assert seen == [("dann", step) for step in (6, 12, 18, 24, 30)]
    for parts, labels in batches:
        source, target = parts["X"].split(QUICK.batch_size)
        assert float(source.mean()) < -0.7
        assert float(target.mean()) > 0.7
        assert parts["sample_domain"].tolist() == [1] * QUICK.batch_size + [-2] * QUICK.batch_size
        assert labels[QUICK.batch_size :].tolist() == [-1] * QUICK.batch_size
        assert set(labels[: QUICK.batch_size].tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.1, 0.46211716), (1.0, 0.9999092)])
def test_the_reversal_grows_as_in_the_paper(progress: float, strength: float) -> None:
    assert reversal_strength(progress) == pytest.approx(strength, abs=1e-7)  # tanh(5 x progress)


def test_a_domain_head_hands_the_gradient_back_reversed_and_learns_itself() -> None:
    torch.manual_seed(0)
    head = DomainHead(5).eval()
    gradients = []
    for strength in (-1.0, 0.25):  # -1 is no reversal at all
        head.strength.fill_(strength)
        features = torch.linspace(-1.0, 1.0, 20).view(4, 5).requires_grad_()
        chances = head(features)
        assert chances.shape == (4,)
        assert bool(((chances > 0.0) & (chances < 1.0)).all())
        head.zero_grad()
        chances.sum().backward()
        assert features.grad is not None
        gradients.append(features.grad)
    torch.testing.assert_close(gradients[1], -0.25 * gradients[0])
    assert all(
        weight.grad is not None and float(weight.grad.abs().sum()) > 0.0 for weight in head.layers[2].parameters()
    )


def test_skadas_own_domain_classifier_is_why_there_is_another() -> None:
    """If this fails skada has mended it, and DomainHead can go."""
    modules = pytest.importorskip("skada.deep.modules")
    features = torch.randn(6, 8, requires_grad=True)
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
        chances = modules.DomainClassifier(num_features=8)(features)
    chances.sum().backward()
    assert chances.tolist() == [1.0] * 6
    assert features.grad is not None
    assert float(features.grad.abs().max()) == 0.0


def distance_of_covariances(classifier: nn.Module, task: Task) -> float:
    with torch.no_grad():
        both = [classifier(images).numpy() for images in (task.source_images, task.target_images)]
    first, second = (np.cov(logits, rowvar=False) for logits in both)
    return float(np.square(first - second).sum() / np.square(first).sum())


def test_coral_brings_the_covariances_of_logits_together(tmp_path: Path) -> None:
    condition, task = needed("coral"), toy_task(contrast=0.3)
    settings = replace(QUICK, steps=80)
    alone = distance_of_covariances(classic(cell(tmp_path, task, settings)), task)
    together = distance_of_covariances(condition(cell(tmp_path, task, settings)), task)
    assert together < 0.8 * alone


def told_apart(folder: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> float:
    """How much surer DANN's own domain classifier is of target images than of source images, in the end; 1 at most."""
    heads: list[DomainHead] = []

    class Noted(DomainHead):
        def __init__(self, features: int) -> None:
            super().__init__(features)
            heads.append(self)

    monkeypatch.setattr(sys.modules["benchmarks.conditions.dann"], "DomainHead", Noted)
    classifier = dann(cell(folder, task, replace(QUICK, steps=100, lr=2e-3))).train()  # as it was trained: apart
    with torch.no_grad():
        source, target = (
            heads[0](joint.with_features(classifier, images)[0]) for images in (task.source_images, task.target_images)
        )
    return float(target.mean() - source.mean())


def test_dann_leaves_features_that_do_not_tell_the_domains_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the target images bear a bright square where no class has one; only the reversal keeps it out."""
    pytest.importorskip("skada.deep")
    task = toy_task(60, contrast=1.0)
    task.target_images[::2, :, 10:15, 10:15] = 1.0
    reversed_ = told_apart(tmp_path, task, monkeypatch)
    monkeypatch.setattr(sys.modules["benchmarks.conditions.dann"], "reversal_strength", lambda progress: 0.0)
    without = told_apart(tmp_path, task, monkeypatch)
    assert without > 0.05
    assert abs(reversed_) < 0.5 * without


def test_the_domains_pass_batch_norm_apart() -> None:
    """One half of dark, one of bright images: with common statistics the halves' mean features would differ."""
    torch.manual_seed(0)
    classifier = SmallClassifier(1, 3, width=4)
    images = torch.randn(8, 1, 16, 16)
    observed = joint.Observed(classifier, QUICK).train()
    logits = observed(torch.cat([images, 0.1 * images + 0.5]))
    alone = classifier(images)
    assert logits.shape == (16, 3)
    torch.testing.assert_close(logits[:8], alone, rtol=1e-4, atol=1e-5)


def test_an_aligned_head_undoes_a_turned_and_shifted_target() -> None:
    """Three clusters on distinct axes; the target is the source turned and moved, so alignment can be exact."""
    pytest.importorskip("skada")
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = np.array([[9.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])
    source = (centres[labels] + generator.normal(0.0, 0.1, (300, 4))).astype(np.float32)
    angle = 0.6
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    target = (source @ turn.T + 7.0).astype(np.float32)
    weight, bias = aligned_head(source, labels, target, 4)
    logits = torch.from_numpy(target) @ weight.T + bias
    assert weight.shape == (4, 4)
    assert float((logits.argmax(dim=1).numpy() == labels).mean()) > 0.98
    assert bool((logits[:, 3] < logits[:, :3].min(dim=1).values).all())  # a class without source images


def test_an_aligned_head_of_two_classes_has_two_outputs() -> None:
    pytest.importorskip("skada")
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    source = (labels[:, None] * 4.0 + generator.normal(0.0, 0.5, (60, 3))).astype(np.float32)
    weight, bias = aligned_head(source, labels, source, 2)
    logits = torch.from_numpy(source) @ weight.T + bias
    assert logits.argmax(dim=1).tolist() == labels.tolist()


@pytest.mark.parametrize("condition", [information_alone, consistency_alone, in_turn, self_training])
def test_the_last_snapshot_of_self_training_is_its_result(condition: ConditionFunction, tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def keep(stage: str, step: int, net: nn.Module) -> None:
        seen.append({name: value.clone() for name, value in net.state_dict().items()})

    result = condition(replace(cell(tmp_path, settings=replace(QUICK, self_steps=5)), on_snapshot=keep)).state_dict()
    assert seen[-1].keys() == result.keys()
    for name, value in seen[-1].items():
        torch.testing.assert_close(value, result[name], rtol=0.0, atol=0.0)


def test_looking_at_a_classifier_does_not_change_its_training(tmp_path: Path) -> None:
    settings = replace(QUICK, self_steps=5)
    seen: list[int] = []

    def look(stage: str, step: int, net: nn.Module) -> None:
        seen.append(step)

    looked = self_training(replace(cell(tmp_path / "a", settings=settings), on_snapshot=look))
    blind = self_train(classic(cell(tmp_path / "b", settings=settings)), toy_task(), settings, 0)
    assert seen == [0, 1, 2, 3, 4, 5]
    for first, second in zip(looked.state_dict().values(), blind.state_dict().values(), strict=True):
        assert torch.equal(first, second)
