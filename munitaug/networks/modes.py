"""Running a network as in use, whatever mode it is in: batch norm must neither see nor change the batch.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Puts a network and all inside it into evaluation mode while the block runs, then back module by module."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
