"""Validators against closed forms, slow loops and counts by hand; what they refuse; how snapshots are chosen."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import validators
from munitaug.adaptation.classifier import SmallClassifier, build_classifier
from munitaug.adaptation.validators import (
    VALIDATORS,
    Evidence,
    collect_evidence,
    controlled_risk,
    density_ratios,
    select,
    selection_regret,
    weighted_risk,
)

NEED_SKLEARN = ("class-ami", "iwv", "dev")
SURE = 1000.0


@pytest.fixture
def evidence() -> Evidence:
    """60 source and 50 target images of 3 classes, 5 features; a shifted target, a third of the source wrong."""
    labels = torch.arange(60) % 3
    corners = 2.0 * torch.eye(3, 5)
    source = corners[labels] + torch.randn(60, 5)
    target = corners[torch.arange(50) % 3] + torch.randn(50, 5) + 0.3
    return Evidence(source[:, :3].clone(), labels, source, target[:, :3].clone(), target)


def sure(classes: Sequence[int], count: int) -> Tensor:
    """Gives logits of certainty for the given classes."""
    return SURE * torch.eye(count)[torch.tensor(classes)]


def with_target(evidence: Evidence, logits: Tensor, features: Tensor | None = None) -> Evidence:
    """Gives evidence with another target; where the classes differ in number, the source's are cut or filled up."""
    if features is None:
        features = torch.randn(len(logits), evidence.target_features.shape[1])
    classes = logits.shape[1]
    source = nn.functional.pad(evidence.source_logits, (0, classes - evidence.classes))
    labels = evidence.source_labels.clamp(max=classes - 1)
    return Evidence(source, labels, evidence.source_features, logits, features)


def entropy(chances: Sequence[float]) -> float:
    return -math.fsum(chance * math.log(chance) for chance in chances if chance > 0.0)


def softmax(row: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


def test_the_table_of_validators_is_complete() -> None:
    assert list(VALIDATORS) == ["source-accuracy", "im", "snd", "class-ami", "iwv", "dev"]


def test_evidence_has_no_place_for_target_labels() -> None:
    names = [field.name for field in fields(Evidence)]
    assert names == ["source_logits", "source_labels", "source_features", "target_logits", "target_features"]


class TestSourceAccuracy:
    def test_is_the_share_of_right_answers_in_percent(self, evidence: Evidence) -> None:
        labels = torch.tensor([0, 1, 2, 2])
        logits = sure([0, 1, 2, 0], 3)
        assert VALIDATORS["source-accuracy"](
            replace(evidence, source_logits=logits, source_labels=labels, source_features=torch.randn(4, 5))
        ) == pytest.approx(75.0)

    def test_sees_nothing_of_the_target(self, evidence: Evidence) -> None:
        other = with_target(evidence, torch.randn(7, 3))
        assert VALIDATORS["source-accuracy"](other) == VALIDATORS["source-accuracy"](evidence)


class TestInformation:
    def test_is_entropy_of_the_mean_minus_mean_entropy(self, evidence: Evidence) -> None:
        rows = [softmax(row) for row in evidence.target_logits.tolist()]
        mean = [math.fsum(row[label] for row in rows) / 50 for label in range(3)]
        expected = entropy(mean) - math.fsum(entropy(row) for row in rows) / 50
        assert VALIDATORS["im"](evidence) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize(
        ("logits", "expected"),
        [
            (sure([0, 1, 2, 3] * 5, 4), math.log(4)),
            (sure([0, 1] * 5, 4), math.log(2)),  # two classes are never predicted
            (sure([0, 0, 0, 1], 4), math.log(4) - 0.75 * math.log(3)),
            (sure([2] * 5, 4), 0.0),
            (torch.zeros(6, 4), 0.0),
            (torch.randn(1, 4), 0.0),  # the mean of one prediction is that prediction
        ],
    )
    def test_closed_forms(self, evidence: Evidence, logits: Tensor, expected: float) -> None:
        assert VALIDATORS["im"](with_target(evidence, logits)) == pytest.approx(expected, abs=1e-5)


class TestNeighbourhoodDensity:
    def test_is_the_entropy_of_a_slow_loop(self, evidence: Evidence) -> None:
        chances = [softmax(row) for row in evidence.target_logits.tolist()]
        lengths = [math.sqrt(math.fsum(chance**2 for chance in row)) for row in chances]
        total = 0.0
        for i in range(50):
            similar = [
                math.fsum(a * b for a, b in zip(chances[i], chances[j], strict=True)) / lengths[i] / lengths[j] / 0.05
                for j in range(50)
                if j != i
            ]
            total += entropy(softmax(similar))
        assert VALIDATORS["snd"](evidence) == pytest.approx(total / 50, abs=1e-9)

    @pytest.mark.parametrize("each", [1, 4, 30])
    def test_of_two_perfect_classes(self, evidence: Evidence, each: int) -> None:
        """Similarity 1 to each - 1 others of the same class, 0 to those of the other class, over 0.05."""
        mass = (each - 1) * math.exp(20.0) + each
        same, other = math.exp(20.0) / mass, 1.0 / mass
        expected = -(each - 1) * same * math.log(same) - each * other * math.log(other)
        found = VALIDATORS["snd"](with_target(evidence, sure([0, 1] * each, 2)))
        assert found == pytest.approx(expected, abs=1e-9)
        if each > 1:
            assert found == pytest.approx(math.log(each - 1), abs=1e-5)

    @pytest.mark.parametrize("logits", [sure([1] * 12, 3), torch.zeros(12, 3), torch.randn(1, 3).repeat(12, 1)])
    def test_of_equal_predictions_is_the_maximum(self, evidence: Evidence, logits: Tensor) -> None:
        assert VALIDATORS["snd"](with_target(evidence, logits)) == pytest.approx(math.log(11), abs=1e-9)

    def test_does_not_depend_on_the_rows_compared_at_once(
        self, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = VALIDATORS["snd"](evidence)
        monkeypatch.setattr(validators, "SND_ROWS", 7)
        assert VALIDATORS["snd"](evidence) == pytest.approx(whole, abs=1e-12)

    def test_of_one_image_is_refused(self, evidence: Evidence) -> None:
        with pytest.raises(ValueError, match="compares target images with one another and got one"):
            VALIDATORS["snd"](with_target(evidence, torch.randn(1, 3)))


def mutual_information(first: Sequence[int], second: Sequence[int]) -> float:
    count = len(first)
    total = 0.0
    for a, b in set(zip(first, second, strict=True)):
        both = sum((x, y) == (a, b) for x, y in zip(first, second, strict=True)) / count
        total += both * math.log(both / (first.count(a) / count) / (second.count(b) / count))
    return total


def adjusted(first: Sequence[int], second: Sequence[int]) -> float:
    """Gives adjusted mutual information, with chance as the mean over all orders of the second list."""
    orders = list(itertools.permutations(second))
    chance = math.fsum(mutual_information(first, order) for order in orders) / len(orders)
    most = (mutual_information(first, first) + mutual_information(second, second)) / 2
    return (mutual_information(first, second) - chance) / (most - chance)


class TestClassAMI:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self) -> None:
        pytest.importorskip("sklearn")

    @pytest.mark.parametrize("names", [[0, 1, 2], [2, 0, 1]])
    def test_of_predictions_that_follow_the_clusters_is_1(self, evidence: Evidence, names: list[int]) -> None:
        cluster = torch.arange(40) % 3
        features = 10.0 * torch.eye(3, 5)[cluster] + 0.1 * torch.randn(40, 5)
        logits = sure([names[number] for number in cluster.tolist()], 3)
        assert VALIDATORS["class-ami"](with_target(evidence, logits, features)) == pytest.approx(1.0)

    @pytest.mark.parametrize(
        "predicted",
        [
            [0, 0, 1, 1, 2, 1],  # one that strays
            [0, 0, 1, 1, 1, 1],  # a class that is never predicted
            [0, 1, 2, 0, 1, 2],  # nothing to do with the clusters
        ],
    )
    def test_is_adjusted_by_the_mean_over_all_orders(self, evidence: Evidence, predicted: list[int]) -> None:
        cluster = [0, 0, 1, 1, 2, 2]
        features = 10.0 * torch.eye(3, 5)[cluster] + 0.1 * torch.randn(6, 5)
        found = VALIDATORS["class-ami"](with_target(evidence, sure(predicted, 3), features))
        assert found == pytest.approx(adjusted(cluster, predicted), abs=1e-9)

    def test_of_predictions_by_chance_is_about_0(self, evidence: Evidence) -> None:
        assert abs(VALIDATORS["class-ami"](with_target(evidence, torch.randn(600, 3)))) < 0.02

    @pytest.mark.parametrize("features", [torch.ones(9, 5), torch.zeros(9, 5), torch.randn(9, 5)])
    def test_of_one_predicted_class_is_0(self, evidence: Evidence, features: Tensor) -> None:
        assert VALIDATORS["class-ami"](with_target(evidence, sure([1] * 9, 3), features)) == 0.0

    def test_of_equal_features_is_0(self, evidence: Evidence) -> None:
        found = VALIDATORS["class-ami"](with_target(evidence, sure([0, 1, 2] * 3, 3), torch.ones(9, 5)))
        assert found == pytest.approx(0.0, abs=1e-9)

    def test_makes_as_many_clusters_as_there_are_distinct_features(self, evidence: Evidence) -> None:
        features = torch.eye(2, 5)[torch.tensor([0, 1] * 5)]
        assert VALIDATORS["class-ami"](with_target(evidence, sure([2, 0] * 5, 3), features)) == pytest.approx(1.0)

    def test_equal_features_count_as_often_as_they_come(self, evidence: Evidence) -> None:
        """At 0, 29 and 60 degrees: alone, the first two are the nearer pair; thirty at 0 keep to themselves."""
        degrees = torch.tensor([0.0] * 30 + [29.0, 60.0])
        features = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=1)
        flat = replace(evidence, source_features=torch.randn(60, 2), target_features=torch.randn(50, 2))
        found = VALIDATORS["class-ami"](with_target(flat, sure([0] * 30 + [1, 1], 2), features))
        assert found == pytest.approx(1.0)

    def test_the_order_of_images_without_clusters_does_not_matter(self, evidence: Evidence) -> None:
        logits, features = torch.randn(150, 8), torch.randn(150, 5)
        found = {
            round(VALIDATORS["class-ami"](with_target(evidence, logits[order], features[order])), 12)
            for order in (torch.randperm(150) for _ in range(4))
        }
        assert len(found) == 1

    def test_looks_at_directions_of_features(self, evidence: Evidence) -> None:
        """Two directions at lengths from 1 to 100: clusters by place would go by length."""
        features = torch.eye(2, 5)[torch.tensor([0, 1] * 20)] * torch.logspace(0, 2, 40)[:, None]
        assert VALIDATORS["class-ami"](with_target(evidence, sure([0, 1] * 20, 2), features)) == pytest.approx(1.0)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_of_no_more_images_than_classes_is_refused(self, evidence: Evidence, count: int) -> None:
        with pytest.raises(ValueError, match=f"into 3 clusters and needs more than that, got {count}"):
            VALIDATORS["class-ami"](with_target(evidence, torch.randn(count, 3)))


class TestDensityRatios:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self) -> None:
        pytest.importorskip("sklearn")

    def test_of_two_gaussians(self) -> None:
        """N(1, 1) over N(0, 1) at x is exp(x - 1/2)."""
        source, target = torch.randn(3000, 1), torch.randn(3000, 1) + 1.0
        found = density_ratios(source, target).log()
        assert (found - (source.squeeze(1).double() - 0.5)).abs().max() < 0.35
        assert (found - (source.squeeze(1).double() - 0.5)).abs().mean() < 0.1

    def test_the_numbers_of_images_do_not_matter(self) -> None:
        ratios = density_ratios(torch.randn(300, 2), torch.randn(2400, 2))
        assert ratios.mean().item() == pytest.approx(1.0, abs=0.05)

    @pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 2), (2, 9), (40, 30)])
    @pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
    def test_of_equal_features_are_1(self, n: int, m: int, value: float) -> None:
        ratios = density_ratios(torch.full((n, 3), value), torch.full((m, 3), value))
        assert ratios.tolist() == pytest.approx([1.0] * n, abs=1e-4)

    def test_images_are_judged_by_regressions_that_have_not_seen_them(self) -> None:
        """80 features tell any 60 images apart that are learnt from: seen ones would weigh next to nothing."""
        ratios = density_ratios(torch.randn(30, 80), torch.randn(30, 80))
        assert 0.7 < ratios.mean() < 1.5

    def test_are_cut_off_at_the_root_of_the_number_of_images(self) -> None:
        source = torch.zeros(100, 1)
        source[37] = 10.0
        ratios = density_ratios(source, torch.full((80, 1), 10.0))
        assert ratios[37].item() == pytest.approx(10.0)
        assert ratios[torch.arange(100) != 37].max() < 0.1

    @pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1)])
    def test_of_one_image_are_refused(self, n: int, m: int) -> None:
        with pytest.raises(ValueError, match=f"at least 2 images of each domain, got {n} of the source and {m}"):
            density_ratios(torch.randn(n, 3), torch.randn(m, 3))


class TestRisks:
    def test_the_weighted_risk_by_hand(self) -> None:
        assert weighted_risk(torch.tensor([2.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])) == 0.75

    def test_the_controlled_risk_by_hand(self) -> None:
        """Weighted losses 0, 0, 4 of mean 4/3; covariance 4, variance 4, so eta is -1, and the weights' mean is 2."""
        found = controlled_risk(torch.tensor([0.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 1.0]))
        assert found == pytest.approx(4.0 / 3.0 - 1.0)

    def test_of_weights_of_mean_1_nothing_is_corrected(self) -> None:
        weights, losses = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0])
        assert controlled_risk(weights, losses) == pytest.approx(weighted_risk(weights, losses))

    @pytest.mark.parametrize("jitter", [0.0, 1e-9, 1e-5])
    def test_of_constant_weights_nothing_is_corrected(self, jitter: float) -> None:
        losses = (torch.arange(50) % 3 == 0).double()
        weights = 1.0 + jitter * (1.0 + torch.randn(50).double())
        assert controlled_risk(weights, losses) == pytest.approx(17 / 50, abs=1e-4)

    def test_of_one_image_nothing_is_corrected(self) -> None:
        assert controlled_risk(torch.tensor([3.0]), torch.tensor([1.0])) == 3.0

    @pytest.mark.parametrize("loss", [0.0, 0.3, 1.0])
    def test_an_equal_loss_is_the_controlled_risk_whatever_the_weights(self, loss: float) -> None:
        assert controlled_risk(torch.rand(40) ** 3, torch.full((40,), loss)) == pytest.approx(loss, abs=1e-6)


class TestImportanceWeighting:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self) -> None:
        pytest.importorskip("sklearn")

    @pytest.mark.parametrize("name", ["iwv", "dev"])
    def test_with_equal_densities_is_minus_the_source_error(self, evidence: Evidence, name: str) -> None:
        same = replace(evidence, source_features=torch.ones(60, 5), target_features=torch.ones(50, 5))
        wrong = int((evidence.source_logits.argmax(dim=1) != evidence.source_labels).sum())
        assert 0 < wrong < 60
        assert VALIDATORS[name](same) == pytest.approx(-wrong / 60, abs=1e-4)

    def test_is_minus_the_mean_of_weights_of_wrong_images(self, evidence: Evidence) -> None:
        ratios = density_ratios(evidence.source_features, evidence.target_features).tolist()
        predicted = evidence.source_logits.argmax(dim=1).tolist()
        wrong = [ratios[i] for i in range(60) if predicted[i] != int(evidence.source_labels[i])]
        assert VALIDATORS["iwv"](evidence) == pytest.approx(-math.fsum(wrong) / 60)

    def test_deep_embedded_by_a_slow_loop(self, evidence: Evidence) -> None:
        ratios = density_ratios(evidence.source_features, evidence.target_features).tolist()
        predicted = evidence.source_logits.argmax(dim=1).tolist()
        products = [ratios[i] * (predicted[i] != int(evidence.source_labels[i])) for i in range(60)]
        mean, product = math.fsum(ratios) / 60, math.fsum(products) / 60
        covariance = math.fsum((products[i] - product) * (ratios[i] - mean) for i in range(60)) / 59
        variance = math.fsum((ratio - mean) ** 2 for ratio in ratios) / 59
        eta = -covariance / variance
        assert abs(eta * (mean - 1.0)) > 1e-4
        assert VALIDATORS["dev"](evidence) == pytest.approx(-(product + eta * mean - eta))

    def test_errors_count_where_the_target_is(self, evidence: Evidence) -> None:
        """Classifiers with as many source errors: one errs where target images lie, the other elsewhere."""
        place = torch.linspace(-2.0, 2.0, 60)[:, None]
        scores: dict[str, dict[bool, float]] = {"iwv": {}, "dev": {}}
        for errs_near_target in (True, False):
            wrong = (place.squeeze(1) > 1.0) if errs_near_target else (place.squeeze(1) < -1.0)
            near = Evidence(
                sure(wrong.long().tolist(), 2),
                torch.zeros(60).long(),
                place,
                torch.zeros(50, 2),
                torch.rand(50, 1) + 0.5,
            )
            for name in scores:
                scores[name][errs_near_target] = VALIDATORS[name](near)
        assert all(pair[True] < pair[False] - 0.1 for pair in scores.values())

    def test_domains_apart_make_weighted_risk_vanish_and_not_the_controlled(self, evidence: Evidence) -> None:
        wrong = (evidence.source_labels + 1) % 3
        apart = replace(
            evidence, source_logits=sure(wrong.tolist(), 3), target_features=evidence.target_features + 100.0
        )
        assert VALIDATORS["source-accuracy"](apart) == 0.0
        assert VALIDATORS["iwv"](apart) > -0.05
        assert VALIDATORS["dev"](apart) == pytest.approx(-1.0)

    @pytest.mark.parametrize("name", ["iwv", "dev"])
    def test_without_source_errors_is_0(self, evidence: Evidence, name: str) -> None:
        right = replace(evidence, source_logits=sure(evidence.source_labels.tolist(), 3))
        assert str(VALIDATORS[name](right)) == "0.0"


class TestAll:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self) -> None:
        pytest.importorskip("sklearn")

    @pytest.mark.parametrize("name", VALIDATORS)
    def test_the_order_of_images_does_not_matter(self, evidence: Evidence, name: str) -> None:
        source, target = torch.randperm(60), torch.randperm(50)
        shuffled = Evidence(
            evidence.source_logits[source],
            evidence.source_labels[source],
            evidence.source_features[source],
            evidence.target_logits[target],
            evidence.target_features[target],
        )
        assert VALIDATORS[name](shuffled) == pytest.approx(VALIDATORS[name](evidence), abs=1e-6)

    @pytest.mark.parametrize("name", VALIDATORS)
    def test_the_names_of_classes_do_not_matter(self, evidence: Evidence, name: str) -> None:
        order = torch.tensor([2, 0, 1])  # old class in each new column
        renamed = replace(
            evidence,
            source_logits=evidence.source_logits[:, order],
            source_labels=order.argsort()[evidence.source_labels],
            target_logits=evidence.target_logits[:, order],
        )
        assert VALIDATORS[name](renamed) == pytest.approx(VALIDATORS[name](evidence), abs=1e-6)

    @pytest.mark.parametrize("name", NEED_SKLEARN)
    def test_the_scale_of_features_does_not_matter(self, evidence: Evidence, name: str) -> None:
        larger = replace(
            evidence,
            source_features=1e3 * evidence.source_features,
            target_features=1e3 * evidence.target_features,
        )
        assert VALIDATORS[name](larger) == pytest.approx(VALIDATORS[name](evidence), abs=1e-5)

    @pytest.mark.parametrize("name", VALIDATORS)
    def test_the_same_evidence_gives_the_same_score(self, evidence: Evidence, name: str) -> None:
        torch.manual_seed(1)
        first = VALIDATORS[name](evidence)
        torch.manual_seed(2)
        assert VALIDATORS[name](evidence) == first

    @pytest.mark.parametrize("name", VALIDATORS)
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_snapshot_that_diverged_has_no_score(self, evidence: Evidence, name: str, bad: float) -> None:
        spoilt = {
            field.name: getattr(evidence, field.name).clone()
            for field in fields(Evidence)
            if field.name != "source_labels"
        }
        for values in spoilt.values():
            values[3, 1] = bad
        score = VALIDATORS[name](replace(evidence, **spoilt))
        assert math.isnan(score)

    @pytest.mark.parametrize("name", ["source-accuracy", "im", "snd"])
    def test_spoilt_features_do_not_trouble_those_that_read_logits(self, evidence: Evidence, name: str) -> None:
        spoilt = replace(evidence, target_features=evidence.target_features * math.nan)
        assert VALIDATORS[name](spoilt) == VALIDATORS[name](evidence)

    @pytest.mark.parametrize(
        ("name", "module"), [("class-ami", "sklearn.cluster"), ("iwv", "sklearn.linear_model"), ("dev", "sklearn")]
    )
    def test_a_missing_scikit_learn_is_said_with_the_remedy(
        self, evidence: Evidence, name: str, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.linear_model" if module == "sklearn" else module, None)
        with pytest.raises(ImportError, match=r'pip install "munitaug\[benchmarks\]"'):
            VALIDATORS[name](evidence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_logits": torch.randn(60)}, r"source_logits must be images x numbers.*shape \(60,\)"),
        ({"target_features": torch.zeros(0, 5)}, r"target_features must be .* not empty, got .*shape \(0, 5\)"),
        ({"target_logits": torch.zeros(50, 3).long()}, "target_logits must be .*floating point.* got torch.int64"),
        ({"source_features": torch.randn(59, 5)}, "source_logits and source_features .* many rows, got 60 and 59"),
        ({"target_logits": torch.randn(49, 3)}, "target_logits and target_features .* many rows, got 49 and 50"),
        ({"target_logits": torch.randn(50, 4)}, "source_logits and target_logits .* many columns, got 3 and 4"),
        ({"target_features": torch.randn(50, 6)}, "source_features and target_features .* columns, got 5 and 6"),
        ({"source_labels": torch.zeros(59).long()}, r"60 int64 classes, .*shape \(59,\)"),
        ({"source_labels": torch.zeros(60)}, "60 int64 classes, .*got torch.float32"),
        ({"source_labels": torch.arange(60)}, r"must lie in 0 .. 2, .*got 0 .. 59"),
        ({"source_labels": torch.full((60,), -1)}, r"must lie in 0 .. 2, .*got -1 .. -1"),
        ({"source_logits": torch.randn(60, 1), "target_logits": torch.randn(50, 1)}, "2 classes or more, got 1"),
    ],
)
def test_evidence_that_does_not_fit_is_refused(evidence: Evidence, changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(evidence, **changes)


class TimmLike(nn.Module):
    """Offers features as timm's networks do; ``features`` are maps, which are not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 6, 3)
        self.classifier = nn.Linear(6, 3)

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        flat = maps.mean(dim=(2, 3))
        return flat if pre_logits else self.classifier(flat)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Headless(nn.Module):
    """Offers features, and what follows them has another name than head."""

    def __init__(self, flat: bool = True) -> None:
        super().__init__()
        self.flat = flat
        self.last = nn.Linear(4, 3)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] if self.flat else images

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(images))
        return logits


class TestCollecting:
    @pytest.mark.parametrize("kind", ["small", "timm-like", "headless"])
    def test_evidence_is_what_the_classifier_says(self, kind: str) -> None:
        model: nn.Module = {"small": SmallClassifier(1, 3, 4), "timm-like": TimmLike(), "headless": Headless()}[kind]
        source, labels, target = torch.rand(7, 1, 16, 16), torch.arange(7) % 3, torch.rand(5, 1, 16, 16)
        found = collect_evidence(model, source, labels, target)
        with torch.no_grad():
            model.eval()
            assert torch.allclose(found.source_logits, model(source), atol=1e-6)
            assert torch.allclose(found.target_logits, model(target), atol=1e-6)
            if isinstance(model, SmallClassifier):
                assert torch.allclose(found.target_features, model.features(target), atol=1e-6)
            elif isinstance(model, TimmLike):
                assert torch.allclose(found.target_features, model.features(target).mean(dim=(2, 3)), atol=1e-6)
            else:
                assert torch.equal(found.target_features, target.flatten(1)[:, :4])
        assert torch.equal(found.source_labels, labels)
        assert not found.source_logits.requires_grad

    def test_a_network_of_timm_gives_its_pooled_features(self) -> None:
        pytest.importorskip("timm")
        model = build_classifier("test_resnet", 1, 3, 0).eval()
        images = torch.rand(3, 1, 32, 32)
        found = collect_evidence(model, images, torch.arange(3), images)
        assert isinstance(model.fc, nn.Linear)
        with torch.no_grad():
            assert torch.allclose(found.source_logits, model(images), atol=1e-6)
            assert torch.allclose(model.fc(found.source_features), found.source_logits, atol=1e-6)

    @pytest.mark.parametrize("training", [True, False])
    def test_the_classifier_is_left_as_it_was(self, training: bool) -> None:
        model = SmallClassifier(1, 3, 4).train(training)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        collect_evidence(model, torch.rand(6, 1, 16, 16), torch.arange(6) % 3, torch.rand(6, 1, 16, 16))
        assert model.training is training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_batches_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = SmallClassifier(1, 3, 4)
        images, labels = torch.rand(9, 1, 16, 16), torch.arange(9) % 3
        whole = collect_evidence(model, images, labels, images)
        monkeypatch.setattr(validators, "SCORE_BATCH", 4)
        parts = collect_evidence(model, images, labels, images)
        assert torch.allclose(whole.target_features, parts.target_features, atol=1e-6)
        assert torch.allclose(whole.source_logits, parts.source_logits, atol=1e-6)

    def test_a_classifier_without_features_is_refused(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
        images = torch.rand(4, 1, 16, 16)
        with pytest.raises(TypeError, match="offers features, got Sequential; give it a method features"):
            collect_evidence(model, images, torch.zeros(4).long(), images)

    def test_features_that_are_maps_are_refused_and_the_mode_is_kept(self) -> None:
        model = Headless(flat=False).train()
        images = torch.rand(4, 1, 16, 16)
        with pytest.raises(ValueError, match=r"features of Headless must be N x D .*got \(4, 1, 16, 16\)"):
            collect_evidence(model, images, torch.zeros(4).long(), images)
        assert model.training

    @pytest.mark.parametrize("empty", ["source", "target"])
    def test_no_image_is_refused(self, empty: str) -> None:
        source = torch.rand(0 if empty == "source" else 4, 1, 16, 16)
        target = torch.rand(0 if empty == "target" else 4, 1, 16, 16)
        with pytest.raises(ValueError, match=f"{empty}_logits must be .* not empty"):
            collect_evidence(SmallClassifier(1, 3, 4), source, torch.zeros(len(source)).long(), target)


class TestSelecting:
    @pytest.mark.parametrize(
        ("scores", "place"),
        [
            ([0.1, 0.7, 0.3], 1),
            ([-3.0], 0),
            ([0.5, 0.9, 0.9, 0.2], 2),  # the later of equals
            ([math.nan, -5.0, math.nan], 1),
            ([math.nan, -math.inf], 1),
            ([math.inf, 2.0, math.nan], 0),
        ],
    )
    def test_takes_the_highest_that_is_a_number(self, scores: list[float], place: int) -> None:
        assert select(scores) == place

    @pytest.mark.parametrize("scores", [[], [math.nan], [math.nan, math.nan]])
    def test_of_nothing_is_refused(self, scores: list[float]) -> None:
        with pytest.raises(ValueError, match="must be a score that is not NaN"):
            select(scores)

    @pytest.mark.parametrize(
        ("scores", "accuracies", "regret"),
        [
            ([1.0, 2.0, 3.0], [90.0, 97.5, 95.0], 2.5),
            ([1.0, 9.0, 3.0], [90.0, 97.5, 95.0], 0.0),
            ([1.0, math.nan, 3.0], [90.0, 97.5, 95.0], 2.5),  # the oracle may choose what has no score
            ([0.0, 0.0], [80.0, 70.0], 10.0),
        ],
    )
    def test_regret_by_hand(self, scores: list[float], accuracies: list[float], regret: float) -> None:
        assert selection_regret(scores, accuracies) == pytest.approx(regret)

    def test_regret_of_lists_that_do_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="of the same snapshots, got 2 and 3"):
            selection_regret([1.0, 2.0], [90.0, 91.0, 92.0])

    @pytest.mark.parametrize("accuracy", [-0.1, 100.1, math.nan])
    def test_regret_of_what_is_no_percentage_is_refused(self, accuracy: float) -> None:
        with pytest.raises(ValueError, match="must be percentages"):
            selection_regret([1.0, 2.0], [90.0, accuracy])
