"""Weight initialisation by name, seeded, without touching the global generator.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from munitaug.networks.norms import MunitLayerNorm

Initialisation = Literal["kaiming", "gaussian", "xavier"]
GAUSSIAN_DEVIATION = 0.02
XAVIER_GAIN = 0.02
POWER_ITERATIONS = 15
"""As many as torch takes when it sets up a spectral norm."""


@torch.no_grad()
def initialise_weights(module: nn.Module, kind: Initialisation, generator: torch.Generator) -> None:
    """Draws the weights of every convolution and linear layer; biases become 0.

    ``kaiming`` is N(0, 2 / fan_in) (He et al. 2015), ``gaussian`` is N(0, 0.02), as NVlabs/MUNIT utils.py
    sets them for generators and discriminators. ``xavier`` is N(0, 0.02^2 * 2 / (fan_in + fan_out)) (Glorot & Bengio
    2010), as CUT and GcGAN's photographs have them with their gain of 0.02.

    Args:
        module: its convolutions, linear layers and layer norms are changed in place.
        kind: which distribution.
        generator: source of randomness, on the CPU.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            weight = _stored_weight(layer)
            weight.copy_(torch.randn(weight.shape, generator=generator) * _deviation(weight, kind))
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, MunitLayerNorm):
            layer.gain.copy_(torch.rand(layer.gain.shape, generator=generator))
    _follow_spectral_norms(module)


def _deviation(weight: Tensor, kind: Initialisation) -> float:
    if kind == "gaussian":
        return GAUSSIAN_DEVIATION
    fan_in = weight[0].numel()
    if kind == "kaiming":
        return float((2.0 / fan_in) ** 0.5)
    fan_out = weight[:, 0].numel()  # of a transposed convolution these two are exchanged, their sum is the same
    return float(XAVIER_GAIN * (2.0 / (fan_in + fan_out)) ** 0.5)


def _stored_weight(layer: nn.Module) -> Tensor:
    """Gives the parameter behind a layer's weight, which spectral norm computes anew at every access."""
    stored = dict(layer.named_parameters())
    return stored["parametrizations.weight.original" if is_parametrized(layer, "weight") else "weight"]


def _follow_spectral_norms(module: nn.Module) -> None:
    """Lets the singular vectors of spectral norms catch up with new weights; each access is one power iteration."""
    for layer in module.modules():
        if is_parametrized(layer, "weight"):
            for _ in range(POWER_ITERATIONS):
                _ = layer.weight
