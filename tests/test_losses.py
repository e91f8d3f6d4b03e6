"""Losses against numbers worked out by hand and by loops."""

from __future__ import annotations

import math

import pytest
import torch

from munitaug.losses import (
    GanLoss,
    discriminator_loss,
    domain_invariant_perceptual_loss,
    generator_adversarial_loss,
    gradient_penalty_r1,
    mean_absolute_difference,
    mode_seeking_loss,
)
from tests.oracles import mean_over_patches, normalised

KINDS: tuple[GanLoss, ...] = ("lsgan", "nsgan", "hinge")


def test_the_mean_absolute_difference_is_a_mean_and_not_a_sum() -> None:
    assert mean_absolute_difference(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 1.0]])).item() == 2.0
    assert mean_absolute_difference(torch.ones(3), torch.ones(3)).item() == 0.0


def test_half_precision_is_compared_in_float32() -> None:
    assert mean_absolute_difference(torch.ones(3).bfloat16(), torch.zeros(3)).dtype == torch.float32


def test_lsgan_has_no_factor_one_half_and_sums_over_scales() -> None:
    real, fake = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 0.5)
    assert discriminator_loss([real], [fake], "lsgan").item() == 4.25
    assert discriminator_loss([real, real], [fake, fake], "lsgan").item() == 8.5
    assert generator_adversarial_loss([fake, fake], "lsgan").item() == 0.5


def test_an_undecided_discriminator_pays_log_two_for_each() -> None:
    zero = torch.zeros(2, 1, 3, 3)
    assert discriminator_loss([zero], [zero], "nsgan").item() == pytest.approx(2 * math.log(2))
    assert generator_adversarial_loss([zero], "nsgan").item() == pytest.approx(math.log(2))


def test_hinge_pays_nothing_beyond_the_margin() -> None:
    good = torch.full((1, 1, 2, 2), 1.5)
    assert discriminator_loss([good], [-good], "hinge").item() == 0.0
    assert generator_adversarial_loss([good], "hinge").item() == -1.5


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_losses_equal_loops_over_patches(kind: GanLoss) -> None:
    generator = torch.Generator().manual_seed(0)
    real = [torch.randn(3, 1, side, side, generator=generator) for side in (4, 2)]
    fake = [torch.randn(3, 1, side, side, generator=generator) for side in (4, 2)]
    expected = mean_over_patches(real, kind, "real") + mean_over_patches(fake, kind, "fake")
    assert discriminator_loss(real, fake, kind).item() == pytest.approx(expected, rel=1e-5)
    assert generator_adversarial_loss(fake, kind).item() == pytest.approx(
        mean_over_patches(fake, kind, "generator"), rel=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_better_score_lowers_the_generators_loss(kind: GanLoss) -> None:
    low, high = (generator_adversarial_loss([torch.full((1, 1, 1, 1), s)], kind).item() for s in (-0.5, 0.5))
    assert high < low


def test_scales_must_come_in_equal_number() -> None:
    with pytest.raises(ValueError, match="zip"):
        discriminator_loss([torch.zeros(1, 1, 1, 1)], [], "lsgan")


def test_r1_of_a_linear_discriminator_is_half_its_squared_slope() -> None:
    slope = torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1)
    images = torch.randn(4, 3, 1, 1, requires_grad=True)
    scores = (images * slope).sum(dim=1, keepdim=True)
    assert gradient_penalty_r1(images, [scores]).item() == pytest.approx(0.5 * (1 + 4 + 0.25))
    assert gradient_penalty_r1(images, [scores, scores]).item() == pytest.approx(0.5 * 4 * (1 + 4 + 0.25))


def test_r1_can_be_minimised() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    images = torch.ones(2, 1, 1, 1, requires_grad=True)
    gradient_penalty_r1(images, [images * weight]).backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(3.0)


def test_the_perceptual_term_equals_numpy() -> None:
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    squares = [
        ((normalised(one.double().numpy()) - normalised(other.double().numpy())) ** 2).mean()
        for one, other in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True)
    ]
    assert domain_invariant_perceptual_loss(x, y).item() == pytest.approx(sum(squares) / len(squares), rel=1e-4)


def test_the_perceptual_term_does_not_see_brightness_and_contrast() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert domain_invariant_perceptual_loss(5 * x + 3, x).item() == pytest.approx(0.0, abs=1e-6)


def test_mode_seeking_is_the_ratio_of_distances() -> None:
    image, style = torch.zeros(2, 3, 4, 4), torch.zeros(2, 5)
    assert mode_seeking_loss(image, image + 0.5, style, style + 2).item() == pytest.approx(2 / 0.50001)
    assert mode_seeking_loss(image, image, style, style + 2).item() == pytest.approx(2e5)
