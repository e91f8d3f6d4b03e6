"""The digit networks of DistanceGAN and GcGAN: published sizes, and sizes they were not made for."""

from __future__ import annotations

import pytest
import torch

from munitaug.networks.digit import DigitDiscriminator, DigitGenerator


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_generator_has_the_published_number_of_parameters() -> None:
    assert count(DigitGenerator(3, 1)) == 562_176


def test_the_discriminator_has_as_many_parameters_as_its_layers_say() -> None:
    convolutions = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 1)
    assert count(DigitDiscriminator(1)) == convolutions + 2 * (128 + 256)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (28, 44)])
def test_the_generator_keeps_the_size_and_the_range(height: int, width: int) -> None:
    out = DigitGenerator(3, 1, width=4)(torch.rand(2, 3, height, width) * 2 - 1)
    assert out.shape == (2, 1, height, width)
    assert out.abs().max() <= 1.0


@pytest.mark.parametrize(("side", "scores"), [(16, 1), (32, 1), (64, 5)])
def test_the_discriminator_scores_images_of_any_size(side: int, scores: int) -> None:
    (out,) = DigitDiscriminator(1, width=4)(torch.rand(2, 1, side, side))
    assert out.shape == (2, 1, scores, scores)


def test_the_first_layer_of_the_discriminator_is_not_normalised() -> None:
    assert [type(norm).__name__ for norm in DigitDiscriminator(1).norms] == ["Identity", "BatchNorm2d", "BatchNorm2d"]
