"""Metrics: closed forms, slow loops and figures worked out by hand."""

from __future__ import annotations

import math
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from munitaug.metrics import (
    Features,
    coverage_and_density,
    extract_features,
    frechet_distance,
    inception_scores,
    kernel_distance,
    style_diversity,
)


def random_features(count: int, size: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) + shift


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


class TestFrechet:
    def test_of_independent_gaussians_is_the_closed_form(self) -> None:
        """|difference of means|^2 + sum (deviation - deviation)^2 for diagonal covariances."""
        base = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        base = (base - base.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(base.T))).T  # exactly white
        deviations, means = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -2.0])
        distance = frechet_distance(Features((base * deviations + means).float(), base.float(), "identity"))
        assert distance.value == pytest.approx(5.0 + (0.0 + 1.0 + 0.25), rel=1e-3)

    def test_of_equal_sets_is_0(self) -> None:
        features = random_features(100, 4, seed=1)
        assert frechet_distance(Features(features, features, "identity")).value == pytest.approx(0.0, abs=1e-6)


def kernel_by_loop(fake: Tensor, real: Tensor) -> float:
    def kernel(x: Tensor, y: Tensor) -> float:
        return float((torch.dot(x.double(), y.double()) / len(x) + 1.0) ** 3)

    n = len(fake)
    within = sum(kernel(group[i], group[j]) for group in (fake, real) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(x, y) for x in fake for y in real)
    return within / (n * (n - 1)) - 2.0 * across / n**2


class TestKernel:
    def test_is_that_of_a_slow_loop(self) -> None:
        fake, real = random_features(20, 3, seed=1, shift=0.5), random_features(20, 3, seed=2)
        distance = kernel_distance(Features(fake, real, "identity"))
        assert distance.value == pytest.approx(kernel_by_loop(fake, real), rel=1e-6)
        assert distance.spread == pytest.approx(0.0, abs=1e-9)  # every subset is the whole

    def test_repeats_and_leaves_the_global_generator_alone(self) -> None:
        features = Features(random_features(1500, 3, seed=1), random_features(1200, 3, seed=2), "identity")
        state = torch.get_rng_state()
        first, second = kernel_distance(features, seed=3), kernel_distance(features, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        assert first == second
        assert first.spread is not None
        assert first.spread > 0.0
        assert first != kernel_distance(features, seed=4)


def coverage_and_density_by_loop(fake: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    radii = []
    for i, x in enumerate(real):
        others = sorted(float((x - y).norm()) for j, y in enumerate(real) if j != i)
        radii.append(others[k - 1])
    hits = [[float((x - y).norm()) < radius for y in fake] for x, radius in zip(real, radii, strict=True)]
    return sum(map(any, hits)) / len(real), sum(map(sum, hits)) / (k * len(fake))


class TestCoverageAndDensity:
    @pytest.mark.parametrize("k", [1, 3])
    def test_are_those_of_a_slow_loop(self, k: int) -> None:
        fake, real = random_features(15, 2, seed=1, shift=0.3), random_features(12, 2, seed=2)
        coverage, density = coverage_and_density(Features(fake, real, "identity"), neighbours=k)
        assert (coverage.value, density.value) == pytest.approx(coverage_and_density_by_loop(fake, real, k))

    def test_translations_far_away_cover_nothing(self) -> None:
        features = Features(random_features(10, 2, seed=1, shift=100.0), random_features(10, 2, seed=2), "identity")
        assert [metric.value for metric in coverage_and_density(features)] == [0.0, 0.0]

    @pytest.mark.parametrize("k", [0, 10])
    def test_neighbours_must_be_there(self, k: int) -> None:
        features = Features(random_features(10, 2, seed=1), random_features(10, 2, seed=2), "identity")
        with pytest.raises(ValueError, match="neighbours must be 1 to 9"):
            coverage_and_density(features, neighbours=k)


class TestDiversity:
    def test_is_that_of_a_slow_loop(self) -> None:
        variants = torch.rand(2, 3, 2, 4, 4) * 2 - 1
        total = []
        for image in variants:
            for first, second in combinations(image, 2):
                distances = []
                for row in range(4):
                    for column in range(4):
                        x, y = first[:, row, column], second[:, row, column]
                        distances.append(float((x / x.norm() - y / y.norm()).square().sum()))
                total.append(sum(distances) / len(distances))
        measured = style_diversity(lambda images: images, variants)
        assert measured.value == pytest.approx(sum(total) / len(total), rel=1e-4)
        assert (measured.fake_count, measured.real_count) == (6, 0)

    def test_of_opposite_vectors_is_4(self) -> None:
        image = torch.rand(1, 1, 1, 2, 2) + 0.1
        assert style_diversity(pixels, torch.cat([image, -image], dim=1)).value == pytest.approx(4.0, rel=1e-5)

    def test_of_equal_variants_is_0(self) -> None:
        assert style_diversity(pixels, torch.rand(2, 1, 1, 2, 2).expand(2, 3, 1, 2, 2)).value == 0.0

    def test_one_variant_has_no_diversity(self) -> None:
        with pytest.raises(ValueError, match="at least 2 variants, got 2 x 1 x 1 x 4 x 4"):
            style_diversity(pixels, torch.rand(2, 1, 1, 4, 4))


def as_variants(probabilities: list[list[list[float]]]) -> Tensor:
    """Gives N x K x C x 1 x 1 "images" whose channels are log-probabilities, so that ``pixels`` is their classifier."""
    return torch.tensor(probabilities).log()[..., None, None]


class TestInceptionScores:
    def test_by_hand(self) -> None:
        variants = as_variants([[[0.9, 0.1], [0.1, 0.9]], [[0.5, 0.5], [0.5, 0.5]]])
        conditional, unconditional = inception_scores(pixels, variants)
        one = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
        assert conditional.value == pytest.approx((one + one + 0.0 + 0.0) / 4, rel=1e-5)
        assert unconditional.value == pytest.approx(conditional.value, rel=1e-5)  # the mean over all is 0.5, 0.5 too

    def test_images_that_differ_but_have_one_variant_each_in_effect(self) -> None:
        variants = as_variants([[[0.8, 0.2]] * 2, [[0.4, 0.6]] * 2])
        conditional, unconditional = inception_scores(pixels, variants)
        divergences = [0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)]
        divergences += [0.4 * math.log(0.4 / 0.6) + 0.6 * math.log(0.6 / 0.4)]
        assert conditional.value == pytest.approx(0.0, abs=1e-9)
        assert unconditional.value == pytest.approx(float(np.mean(divergences)), rel=1e-5)


class TestFeatures:
    def test_maps_are_averaged_and_images_are_resized(self) -> None:
        images = (torch.rand(3, 2, 1, 1) * 2 - 1).expand(3, 2, 8, 8)
        seen = []

        def network(batch: Tensor) -> Tensor:
            seen.append(tuple(batch.shape[-2:]))
            return batch

        features = extract_features(network, images, size=4)
        assert seen == [(4, 4)]
        torch.testing.assert_close(features, images.mean(dim=(2, 3)), atol=1e-5, rtol=0)

    def test_results_say_what_they_depend_on(self) -> None:
        fake, real = torch.rand(6, 1, 4, 4), torch.rand(5, 1, 4, 4)
        result = frechet_distance(Features.of(nn.Flatten(), fake, real, name="pixels", size=2))
        assert (result.name, result.feature_network) == ("frechet", "pixels")
        assert (result.real_count, result.fake_count) == (5, 6)
        assert result.resize == "antialiased bilinear to 2 px"
        assert Features.of(nn.Flatten(), fake, real, name="pixels").resize == "none"

    def test_no_gradient_is_kept(self) -> None:
        assert not extract_features(nn.Linear(3, 2), torch.rand(2, 3)).requires_grad

    @pytest.mark.parametrize(
        ("fake", "real", "message"),
        [
            ((3, 2), (3, 4), "got 3 x 2 and 3 x 4"),
            ((3, 2, 2), (3, 2, 2), "average feature maps"),
            ((1, 2), (3, 2), "at least 2 images"),
        ],
    )
    def test_features_that_do_not_fit_are_refused(
        self, fake: tuple[int, ...], real: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Features(torch.rand(fake), torch.rand(real), "identity")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    features = Features(random_features(10, 2, seed=1), random_features(10, 2, seed=2), "identity")
    with pytest.raises(ImportError, match=r"munitaug\[metrics\]"):
        frechet_distance(features)
