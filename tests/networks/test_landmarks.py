"""Landmarks: moments of known heatmaps, bumps by hand, the prior's terms by slow loops."""

from __future__ import annotations

import math

import pytest
import torch

from munitaug.networks.landmarks import (
    FullyConnected,
    LandmarkEncoder,
    LatentDiscriminator,
    LatentMapper,
    concentration_loss,
    draw_gaussians,
    heatmaps_to_moments,
    separation_loss,
)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 32)])
def test_heatmaps_have_mass_1_and_half_the_side(height: int, width: int) -> None:
    maps = LandmarkEncoder(3, 4, landmarks=5, n_residual=1)(torch.rand(2, 3, height, width))
    assert maps.shape == (2, 5, height // 2, width // 2)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 5))


def test_all_the_mass_at_one_pixel_is_a_landmark_at_its_centre() -> None:
    maps = torch.zeros(1, 1, 4, 8)
    maps[0, 0, 1, 6] = 1.0
    means, deviations = heatmaps_to_moments(maps)
    assert means[0, 0].tolist() == pytest.approx([1.5 / 4, 6.5 / 8])
    assert deviations.max() < 0.01


def test_two_equal_pixels_have_their_middle_and_half_their_distance() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, 0] = maps[0, 0, 0, 2] = 0.5
    means, deviations = heatmaps_to_moments(maps)
    assert means[0, 0].tolist() == pytest.approx([0.125, 0.375])
    assert deviations[0, 0, 1].item() == pytest.approx(0.25)


def test_a_bump_is_1_at_its_landmark_and_falls_as_a_gaussian() -> None:
    bumps = draw_gaussians(torch.tensor([[[0.125, 0.375]]]), 4, 4, deviation=0.25)
    assert bumps[0, 0, 0, 1].item() == pytest.approx(1.0)
    assert bumps[0, 0, 0, 2].item() == pytest.approx(math.exp(-0.5))
    assert bumps[0, 0, 1, 2].item() == pytest.approx(math.exp(-1.0))


def test_separation_by_a_slow_loop() -> None:
    means = torch.rand(3, 4, 2)
    total = 0.0
    for image in means:
        for i in range(4):
            for j in range(4):
                if i != j:
                    total += math.exp(-float((image[i] - image[j]).square().sum()) / (2 * 0.1**2))
    assert separation_loss(means, 0.1).item() == pytest.approx(total / 3, rel=1e-4)


def test_concentration_is_that_of_a_gaussians_entropy() -> None:
    deviations = torch.tensor([[[0.1, 0.2], [0.3, 0.1]]])
    entropies = [math.log(2 * math.pi * math.e * rows * columns) for rows, columns in deviations[0].tolist()]
    assert concentration_loss(deviations).item() == pytest.approx(sum(math.exp(entropy) for entropy in entropies))


def test_a_mapper_without_change_keeps_the_code() -> None:
    mapper = LatentMapper(3, 5)
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.zero_()
    code = torch.randn(2, 3)
    assert torch.equal(mapper(code), code)


def test_fully_connected_layers_by_hand() -> None:
    network = FullyConnected((1, 1, 1))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (2.0, -1.0, 3.0, 0.5), strict=True):
            parameter.fill_(value)
    assert network(torch.tensor([[2.0], [0.0]])).flatten().tolist() == [3 * 3.0 + 0.5, 0.5]


def test_a_latent_discriminator_gives_one_score_as_a_map() -> None:
    (scores,) = LatentDiscriminator(3, 4)(torch.randn(5, 3))
    assert scores.shape == (5, 1, 1, 1)


def test_moments_stay_in_full_precision_within_autocast() -> None:
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, :, 13:15, 7:9] = 0.25
    with torch.autocast("cpu", torch.bfloat16):
        found = heatmaps_to_moments(maps)
    for mine, plain in zip(found, heatmaps_to_moments(maps), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, plain)
