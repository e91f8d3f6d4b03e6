"""Weight initialisation by name, seeded, without touching the global generator.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Initialisation = Literal["kaiming", "gaussian"]
GAUSSIAN_DEVIATION = 0.02


@torch.no_grad()
def initialise_weights(module: nn.Module, kind: Initialisation, generator: torch.Generator) -> None:
    """Draws the weights of every convolution and linear layer; biases become 0.

    ``kaiming`` is N(0, 2 / fan_in) (He et al. 2015), ``gaussian`` is N(0, 0.02), as NVlabs/MUNIT utils.py
    sets them for generators and discriminators.

    Args:
        module: its convolutions, linear layers and layer norms are changed in place.
        kind: which distribution.
        generator: source of randomness, on the CPU.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            deviation = (2.0 / fan_in) ** 0.5 if kind == "kaiming" else GAUSSIAN_DEVIATION
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * deviation)
            if layer.bias is not None:
                layer.bias.zero_()
        elif type(layer).__name__ == "MunitLayerNorm":
            gain = layer.gain
            assert isinstance(gain, nn.Parameter)
            gain.copy_(torch.rand(gain.shape, generator=generator))
