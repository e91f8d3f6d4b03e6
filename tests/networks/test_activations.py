"""Activations in the memory of what came in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from munitaug.networks.activations import Activation, activate, activate_own


@pytest.mark.parametrize("kind", ["none", "relu", "leaky_relu", "tanh"])
def test_both_ways_give_the_same_and_so_do_their_gradients(kind: Activation) -> None:
    x, weight = torch.randn(2, 3, 5, 5, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    expected, given = activate(F.conv2d(x, weight), kind), activate_own(F.conv2d(x, weight), kind)
    assert torch.equal(given, expected)
    wanted = torch.autograd.grad(expected.square().sum(), (x, weight))
    for gradient, right in zip(torch.autograd.grad(given.square().sum(), (x, weight)), wanted, strict=True):
        torch.testing.assert_close(gradient, right)


def test_a_result_is_written_over_what_came_in() -> None:
    x = torch.tensor([-1.0, 2.0])
    assert activate_own(x, "relu").data_ptr() == x.data_ptr()
    assert x.tolist() == [0.0, 2.0]


def test_a_view_that_takes_gradients_stays_as_it_is() -> None:
    own = torch.tensor([[-1.0, 2.0]], requires_grad=True) * 1.0
    assert activate_own(own.T, "relu").flatten().tolist() == [0.0, 2.0]
    assert own.tolist() == [[-1.0, 2.0]]
