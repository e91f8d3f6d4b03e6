"""CUT's head: which places it takes, and what becomes of the features there."""

from __future__ import annotations

import math

import pytest
import torch

from munitaug.networks.projection import PatchProjection, draw_positions


def test_places_are_different_ones_of_each_map_and_all_of_a_small_one() -> None:
    large, small = draw_positions([6 * 7, 2 * 3], 10, torch.Generator())
    assert len(large) == len(set(large.tolist())) == 10
    assert set(large.tolist()) <= set(range(42))
    assert sorted(small.tolist()) == list(range(6))


def test_the_generator_decides_the_places() -> None:
    first, second, other = (draw_positions([64], 9, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert first.tolist() == second.tolist() != other.tolist()


def test_features_go_through_the_layers_of_their_map_and_come_out_with_length_1() -> None:
    head, features = PatchProjection((3, 2), 4), [torch.randn(2, 3, 5, 6), torch.randn(2, 2, 2, 2)]
    places = [torch.tensor([0, 7, 29]), torch.tensor([3])]
    head.requires_grad_(False)
    vectors = head(features, places)
    assert [tuple(each.shape) for each in vectors] == [(2, 3, 4), (2, 1, 4)]
    for number, (maps, chosen) in enumerate(zip(features, places, strict=True)):
        hidden, out = head.heads[number][0], head.heads[number][2]  # type: ignore[index]
        for image in range(2):
            for index, place in enumerate(chosen.tolist()):
                value = maps[image, :, place // maps.shape[3], place % maps.shape[3]]
                middle = [max(0.0, float(row @ value + b)) for row, b in zip(hidden.weight, hidden.bias, strict=True)]
                end = [float(row @ torch.tensor(middle) + b) for row, b in zip(out.weight, out.bias, strict=True)]
                length = math.sqrt(sum(number**2 for number in end))
                assert vectors[number][image, index].tolist() == pytest.approx([n / length for n in end], abs=1e-5)


def test_features_of_nothing_have_a_finite_gradient() -> None:
    head = PatchProjection((3,), 4)
    torch.nn.init.zeros_(head.heads[0][2].bias)  # type: ignore[index]
    torch.nn.init.zeros_(head.heads[0][0].bias)  # type: ignore[index]
    nothing = torch.zeros(1, 3, 2, 2, requires_grad=True)
    head([nothing], [torch.arange(4)])[0].sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()
