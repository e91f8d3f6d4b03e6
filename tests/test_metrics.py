"""Metrics: closed forms, slow loops and figures worked out by hand."""

from __future__ import annotations

import math
import sys
import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from munitaug.metrics import (
    FeatureNetwork,
    Features,
    Metric,
    coverage_and_density,
    extract_features,
    frechet_distance,
    inception_scores,
    kernel_distance,
    measure_translation,
    style_diversity,
)
from munitaug.styles import BankStyles
from munitaug.translator import Translator
from munitaug.types import Content


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

    def test_of_correlated_features_is_the_closed_form(self) -> None:
        """In two dimensions tr sqrt(A B) = sqrt(tr(A B) + 2 sqrt(det(A B))), by Cayley and Hamilton."""
        mix = torch.tensor([[1.0, 0.8], [-0.3, 0.5]])
        fake, real = random_features(60, 2, seed=1) @ mix + 0.7, random_features(80, 2, seed=2)
        a, b = (np.cov(features.double().numpy().T) for features in (fake, real))
        root = math.sqrt(np.trace(a @ b) + 2.0 * math.sqrt(np.linalg.det(a @ b)))
        shift = np.square(fake.double().mean(0).numpy() - real.double().mean(0).numpy()).sum()
        expected = shift + np.trace(a) + np.trace(b) - 2.0 * root
        assert frechet_distance(Features(fake, real, "identity")).value == pytest.approx(expected, rel=1e-6)

    def test_of_equal_sets_is_0(self) -> None:
        features = random_features(100, 4, seed=1)
        assert frechet_distance(Features(features, features, "identity")).value == pytest.approx(0.0, abs=1e-6)

    def test_of_no_more_images_than_features_comes_with_a_warning(self) -> None:
        with pytest.warns(UserWarning, match=r"4 features from 4 images .* more than 4 images .* kernel_distance"):
            frechet_distance(Features(random_features(4, 4, seed=1), random_features(9, 4, seed=2), "identity"))

    def test_of_more_images_than_features_comes_without(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frechet_distance(Features(random_features(5, 4, seed=1), random_features(9, 4, seed=2), "identity"))


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
        assert distance.spread is None  # every subset is the whole

    def test_of_halves_of_one_set_is_0_within_its_spread(self) -> None:
        features = random_features(1200, 4, seed=5)
        near = kernel_distance(Features(features[:600], features[600:], "identity"), subset_size=300)
        far = kernel_distance(Features(features[:600] + 0.5, features[600:], "identity"), subset_size=300)
        assert near.spread is not None
        assert abs(near.value) < 3.0 * near.spread
        assert far.value > 10.0 * near.spread

    def test_spread_is_the_deviation_over_the_subsets(self) -> None:
        """Of three images two make a subset, so that there are three subsets on each side."""
        fake, real = random_features(3, 2, seed=1), random_features(3, 2, seed=2)
        pairs = [list(pair) for pair in combinations(range(3), 2)]
        values = [kernel_by_loop(fake[ours], real[theirs]) for ours in pairs for theirs in pairs]
        distance = kernel_distance(Features(fake, real, "identity"), subsets=4000, subset_size=2)
        assert distance.value == pytest.approx(float(np.mean(values)), abs=0.1 * float(np.std(values)))
        assert distance.spread == pytest.approx(float(np.std(values)), rel=0.1)

    def test_says_nothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kernel_distance(Features(random_features(5, 4, seed=1), random_features(9, 4, seed=2), "identity"))

    @pytest.mark.parametrize(("subsets", "size"), [(0, 10), (10, 1)])
    def test_subsets_must_be_there(self, subsets: int, size: int) -> None:
        features = Features(random_features(10, 2, seed=1), random_features(10, 2, seed=2), "identity")
        with pytest.raises(ValueError, match=f"at least 1 subset of at least 2 images is needed, got {subsets} of"):
            kernel_distance(features, subsets=subsets, subset_size=size)

    def test_repeats_and_leaves_the_global_generator_alone(self) -> None:
        features = Features(random_features(150, 3, seed=1), random_features(120, 3, seed=2), "identity")
        state = torch.get_rng_state()
        first, second = (kernel_distance(features, seed=3, subset_size=50) for _ in "12")
        assert torch.equal(torch.get_rng_state(), state)
        assert first == second
        assert first.spread is not None
        assert first.spread > 0.0
        assert first != kernel_distance(features, seed=4, subset_size=50)

    def test_takes_subsets_of_as_many_images_as_there_are(self) -> None:
        features = Features(random_features(150, 3, seed=1), random_features(12, 3, seed=2), "identity")
        assert kernel_distance(features) == kernel_distance(features, subset_size=12)


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

    def test_images_that_stand_there_several_times_have_no_neighbourhood(self) -> None:
        repeated = random_features(40, 30, seed=1).repeat(5, 1) + 100.0
        features = Features(repeated, repeated, "identity")
        assert [metric.value for metric in coverage_and_density(features, neighbours=3)] == [0.0, 0.0]

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

    def test_of_several_layers_is_their_mean(self) -> None:
        """Two variants: at right angles in the first layer (squared distance 2), opposite in the second (4)."""
        first = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        second = torch.tensor([[[2.0, 2.0]], [[-5.0, -5.0]]])  # a map of one channel and two positions
        measured = style_diversity(lambda images: (first, second), torch.zeros(1, 2, 1, 2, 2))
        assert measured.value == pytest.approx((2.0 + 4.0) / 2)

    def test_images_are_resized_and_the_result_says_so(self) -> None:
        seen = []

        def network(batch: Tensor) -> Tensor:
            seen.append(tuple(batch.shape))
            return batch

        assert style_diversity(network, torch.rand(2, 3, 1, 8, 8), size=4).resize == "antialiased bilinear to 4 px"
        assert seen == [(6, 1, 4, 4)]
        assert style_diversity(network, torch.rand(2, 3, 1, 8, 8)).resize == "none"

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

    def test_a_network_is_asked_in_evaluation_mode_and_each_part_put_back(self) -> None:
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.frozen, self.noise = nn.Flatten().eval(), nn.Dropout(0.5)

            def features(self, x: Tensor) -> Tensor:
                found: Tensor = self.noise(self.frozen(x))
                return found

        network, images = Network(), torch.rand(4, 1, 2, 2)
        torch.testing.assert_close(extract_features(network.features, images), images.flatten(1))
        assert [part.training for part in (network, network.frozen, network.noise)] == [True, False, True]

    def test_many_batches_keep_their_order(self) -> None:
        images = torch.arange(600.0).view(600, 1, 1, 1)
        assert extract_features(pixels, images).flatten().tolist() == list(range(600))

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (lambda images: images.mean(dim=(1, 2, 3)), "must give N x D features .* got 3 of 3 images"),
            (lambda images: images[:1].flatten(1), "got 1 x 4 of 3 images"),
            (lambda images: images.flatten(1) / 0.0, "not finite"),
        ],
    )
    def test_outputs_that_are_no_features_are_refused(self, network: FeatureNetwork, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            extract_features(network, torch.rand(3, 1, 2, 2) + 0.1)

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


class Brightens(Translator):
    """Adds the style's number to an image, so that every translation is known."""

    def __init__(self, style_dim: int = 1) -> None:
        super().__init__(channels=1, size_multiple=1, style_dim=style_dim)

    def encode_content(self, x: Tensor) -> Content:
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return content + style.sum(dim=1).view(-1, 1, 1, 1)

    def encode_style(self, y: Tensor) -> Tensor:
        raise NotImplementedError


class TestMeasureTranslation:
    source = random_features(40, 256, seed=1).view(40, 1, 16, 16) * 0.1
    real = random_features(30, 256, seed=2, shift=0.5).view(30, 1, 16, 16) * 0.1

    def measured(self, translator: Translator, **changes: object) -> dict[str, Metric]:
        arguments: dict[str, object] = {"name": "corners", "generator": torch.Generator().manual_seed(3)}
        metrics = measure_translation(translator, self.source, self.real, corners, **(arguments | changes))  # type: ignore[arg-type]
        assert len({metric.name for metric in metrics}) == len(metrics)
        return {metric.name: metric for metric in metrics}

    def test_one_translation_of_each_image_is_compared_with_real_images(self) -> None:
        found = self.measured(Brightens(), styles=BankStyles(torch.tensor([[0.25]])))
        features = Features(corners(self.source + 0.25), corners(self.real), "corners")
        assert found["frechet"] == frechet_distance(features)
        assert found["kernel"] == kernel_distance(features)
        assert (found["coverage"], found["density"]) == coverage_and_density(features)

    def test_variants_of_the_first_images_are_compared_with_one_another(self) -> None:
        found = self.measured(Brightens(), variants=3, varied_images=5, classifier=corners)
        generator = torch.Generator().manual_seed(3)
        torch.randn(40, 1, 1, generator=generator)  # those of the single translations come first
        styles = torch.randn(5, 3, 1, generator=generator)
        varied = self.source[:5, None] + styles.view(5, 3, 1, 1, 1)
        assert found["diversity"].value == pytest.approx(style_diversity(corners, varied).value, rel=1e-5)
        assert found["diversity"].fake_count == 15
        scores = inception_scores(corners, varied)
        assert found["conditional inception score"].value == pytest.approx(scores[0].value, rel=1e-4)
        assert found["inception score"].value == pytest.approx(scores[1].value, rel=1e-4)
        assert found["inception score"].feature_network == "classes of corners"

    def test_one_fixed_style_has_no_diversity(self) -> None:
        assert self.measured(Brightens(), styles=BankStyles(torch.zeros(1, 1)))["diversity"].value == 0.0

    def test_without_a_classifier_there_are_no_scores_and_without_styles_no_variants(self) -> None:
        distances = ["frechet", "kernel", "coverage", "density"]
        assert list(self.measured(Brightens())) == [*distances, "diversity"]
        assert list(self.measured(Brightens(style_dim=0), classifier=corners)) == distances

    @pytest.mark.parametrize("changes", [{"variants": 1}, {"varied_images": 0}])
    def test_too_few_variants_are_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="at least 2 variants of 1 image are needed, got"):
            self.measured(Brightens(), **changes)


def corners(images: Tensor) -> Tensor:
    """Gives three features, so that a few images are enough."""
    return torch.stack([images[:, 0, 0, 0], images[:, 0, 0, -1], images[:, 0, -1].mean(dim=1)], dim=1)
