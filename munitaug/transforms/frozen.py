"""Networks as a transform holds them: in evaluation mode, without gradients, on one device.

Floor 6: imports torch only.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_network(network: Network, device: torch.device) -> Network:
    """Gives the network in evaluation mode, without gradients, on the device; a copy unless it is so already.

    The caller's object stays as it is: it may be in training elsewhere.
    """
    if _is_frozen(network) and all(_is_on(device, here) for here in _devices(network)):
        return network
    return copy.deepcopy(network).eval().requires_grad_(False).to(device)


def _devices(network: nn.Module) -> list[torch.device]:
    return [tensor.device for tensor in chain(network.parameters(), network.buffers())]


def _is_on(wanted: torch.device, here: torch.device) -> bool:
    return here.type == wanted.type and wanted.index in (None, here.index)


def _is_frozen(network: nn.Module) -> bool:
    training = any(module.training for module in network.modules())
    return not training and not any(weight.requires_grad for weight in network.parameters())
