"""Initial weights: their spread, their seed, what they leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from munitaug.networks.initialise import Initialisation, initialise_weights
from munitaug.networks.norms import MunitLayerNorm


@pytest.mark.parametrize(
    ("kind", "convolution", "linear"),
    [
        ("kaiming", (2 / (16 * 9)) ** 0.5, (2 / 100) ** 0.5),
        ("gaussian", 0.02, 0.02),
        ("xavier", 0.02 * (2 / (16 * 9 + 64 * 9)) ** 0.5, 0.02 * (2 / (100 + 80)) ** 0.5),
    ],
)
def test_weights_have_the_deviation_of_their_kind(kind: Initialisation, convolution: float, linear: float) -> None:
    module = nn.ModuleList([nn.Conv2d(16, 64, 3), nn.Linear(100, 80)])
    initialise_weights(module, kind, torch.Generator().manual_seed(0))
    for layer, deviation in zip(module, (convolution, linear), strict=True):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.1 * deviation)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_the_gain_of_a_layer_norm_is_drawn_from_zero_to_one() -> None:
    norm = MunitLayerNorm(1000)
    with torch.no_grad():
        norm.gain.fill_(7.0)
    initialise_weights(norm, "kaiming", torch.Generator().manual_seed(0))
    assert norm.gain.min() >= 0
    assert norm.gain.max() <= 1
    assert norm.gain.mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_generator_decides_and_the_global_one_is_left_alone() -> None:
    state = torch.get_rng_state()
    layers = [nn.Linear(3, 3, device="meta").to_empty(device="cpu") for _ in range(3)]
    for layer, seed in zip(layers, (1, 1, 2), strict=True):
        initialise_weights(layer, "kaiming", torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)


def test_layers_without_bias_are_taken() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    initialise_weights(layer, "gaussian", torch.Generator().manual_seed(0))
    assert layer.weight.abs().item() < 0.1


def test_weights_under_a_spectral_norm_are_drawn_too_and_start_normalised() -> None:
    layers = [nn.Conv2d(16, 64, 3) for _ in range(2)]
    for layer in layers:
        spectral_norm(layer)
        initialise_weights(layer, "gaussian", torch.Generator().manual_seed(0))
    first, second = (dict(layer.named_parameters())["parametrizations.weight.original"] for layer in layers)
    assert torch.equal(first, second)
    assert first.std().item() == pytest.approx(0.02, rel=0.05)
    largest = torch.linalg.matrix_norm(layers[0].eval().weight.flatten(1), ord=2)
    assert largest.item() == pytest.approx(1.0, abs=0.1)
