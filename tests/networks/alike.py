"""What every faster way of a convolution is tested with: its numbers and gradients are those of the plain one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def assert_alike(given: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Compares two results, and the gradients that both send to the inputs."""
    torch.testing.assert_close(given, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, weights)
    for gradient, right in zip(torch.autograd.grad(given, inputs, weights), wanted, strict=True):
        torch.testing.assert_close(gradient, right)
