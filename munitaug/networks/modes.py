"""Modes that must not be left to chance: a network in use as in use, and gradients where something is trained.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def evaluation_mode(network: object) -> Iterator[None]:
    """Puts a network and all inside it into evaluation mode while the block runs, then back module by module.

    Args:
        network: a module, or a method of one, which stands for its module; any other function has no mode.
    """
    owner = network if isinstance(network, nn.Module) else getattr(network, "__self__", None)
    modes = [(module, module.training) for module in owner.modules()] if isinstance(owner, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


def with_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """Gives the function with gradients on and inference mode off while it runs, whatever they are outside."""
    return torch.inference_mode(False)(torch.enable_grad()(function))


def device_of(network: nn.Module) -> torch.device:
    """Gives the device of a network's first weight or else buffer; the CPU for a network without either."""
    return next((tensor.device for tensor in chain(network.parameters(), network.buffers())), torch.device("cpu"))
