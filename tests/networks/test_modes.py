"""A network in evaluation mode for a while, then as it was, part by part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from munitaug.networks.modes import device_of, evaluation_mode


def test_every_part_gets_its_own_mode_back() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout())
    network[1].eval()
    with evaluation_mode(network):
        assert [module.training for module in network.modules()] == [False, False, False]
    assert [module.training for module in network.modules()] == [True, True, False]


def test_modes_come_back_after_an_error() -> None:
    network = nn.Dropout()
    with pytest.raises(RuntimeError, match="on purpose"), evaluation_mode(network):
        raise RuntimeError("on purpose")
    assert network.training


def test_batch_norm_does_not_move() -> None:
    norm = nn.BatchNorm2d(1)
    with evaluation_mode(norm):
        norm(torch.full((4, 1, 2, 2), 7.0))
    assert norm.running_mean is not None
    assert norm.running_mean.item() == 0.0


def test_a_method_stands_for_its_module_and_a_function_has_no_mode() -> None:
    network = nn.Dropout()
    with evaluation_mode(network.forward):
        assert not network.training
    assert network.training
    with evaluation_mode(torch.relu):
        pass


def test_a_network_is_where_its_weights_are() -> None:
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm2d(1, affine=False, device="meta")) == torch.device("meta")
    assert device_of(nn.Flatten()) == torch.device("cpu")
