"""Networks that a transform holds: shared where they are frozen already, copied where they are not."""

from __future__ import annotations

import torch
from torch import nn

from munitaug.networks.modes import device_of
from munitaug.transforms.frozen import frozen_network

CPU = torch.device("cpu")


def test_a_frozen_network_is_shared() -> None:
    network = nn.Linear(2, 2).eval().requires_grad_(False)
    assert frozen_network(network, CPU) is network


def test_a_network_in_training_is_copied_and_left_as_it_is() -> None:
    network = nn.Linear(2, 2)
    held = frozen_network(network, CPU)
    assert network.training
    assert network.weight.requires_grad
    assert not any(module.training for module in held.modules())
    assert not any(weight.requires_grad for weight in held.parameters())
    assert torch.equal(held.weight, network.weight)


def test_one_inner_part_in_training_is_enough_for_a_copy() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Dropout()).eval()
    network[1].train()
    assert frozen_network(network, CPU) is not network


def test_a_network_elsewhere_is_copied_to_the_device() -> None:
    network = nn.Linear(2, 2).eval().requires_grad_(False)
    held = frozen_network(network, torch.device("meta"))
    assert device_of(held) == torch.device("meta")
    assert device_of(network) == CPU
