"""GcGAN: the turn and its way back by hand, the geometry term by a slow loop, presets and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from munitaug.losses import mean_absolute_difference, pairwise_distances
from munitaug.method import OptimiserSettings
from munitaug.methods import GcGan, GcGanConfig
from munitaug.methods.gcgan import Geometry, geometry_loss, turn, turn_back
from tests.methods.cases import TINY_GEOMETRY
from tests.oracles import SIDES, squares
from tests.tiny import tiny_pair

GEOMETRIES: list[Geometry] = ["rotation", "flip"]


def image(rows: list[list[float]]) -> Tensor:
    return torch.tensor([[rows]])


def test_a_rotation_is_clockwise() -> None:
    assert torch.equal(turn(image([[1, 2], [3, 4]]), "rotation"), image([[3, 1], [4, 2]]))


def test_a_flip_exchanges_top_and_bottom() -> None:
    assert torch.equal(turn(image([[1, 2], [3, 4]]), "flip"), image([[3, 4], [1, 2]]))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_turning_back_gives_the_image_again(geometry: Geometry) -> None:
    images = tiny_pair().a
    assert torch.equal(turn_back(turn(images, geometry), geometry), images)


def test_a_rotation_refuses_images_that_are_not_square() -> None:
    with pytest.raises(ValueError, match=r'needs square images, got 32 x 16 px.*geometry="flip"'):
        turn(torch.zeros(1, 1, 16, 32), "rotation")
    assert turn(torch.zeros(1, 1, 16, 32), "flip").shape == (1, 1, 16, 32)


def test_the_geometry_term_by_a_slow_loop() -> None:
    fake, turned = tiny_pair(side=16).a, tiny_pair(side=16).b
    count, channels, side, _ = fake.shape
    total = 0.0
    for n in range(count):
        for c in range(channels):
            for row in range(side):
                for column in range(side):
                    # clockwise: what was at (row, column) comes to (column, side - 1 - row)
                    other = turned[n, c, column, side - 1 - row].item()
                    total += 2.0 * abs(fake[n, c, row, column].item() - other)
    assert geometry_loss(fake, turned, "rotation").item() == pytest.approx(total / fake.numel(), rel=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_consistent_generator_costs_nothing(geometry: Geometry) -> None:
    fake = tiny_pair().a
    assert geometry_loss(fake, turn(fake, geometry), geometry).item() == 0.0


def test_each_stream_gets_a_gradient_of_its_own() -> None:
    fake, turned = torch.zeros(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 2, 2, requires_grad=True)
    geometry_loss(fake, turned, "flip").backward()
    assert fake.grad is not None
    assert turned.grad is not None
    assert torch.equal(fake.grad, torch.full((1, 1, 2, 2), -0.25))
    assert torch.equal(turned.grad, torch.full((1, 1, 2, 2), 0.25))


def test_a_weight_of_0_leaves_a_term_out() -> None:
    method = GcGan(replace(TINY_GEOMETRY, weight_geometry=0.0))
    names = {name for phase in method.phases() for name in phase.loss(tiny_pair())}
    assert names == {"gan_a", "gan_b", "gan_turned_a", "gan_turned_b"}


def test_each_target_domain_has_two_discriminators_and_one_generator() -> None:
    method = GcGan(replace(TINY_GEOMETRY, one_sided=True))
    assert list(method.generators) == ["a"]
    assert list(method.discriminators) == list(method.turned_discriminators) == ["b"]


def test_the_digit_preset_has_the_published_numbers() -> None:
    config = GcGanConfig.preset("digits", channels=1)
    assert config.weight_geometry == 2.0
    assert config.optimiser == OptimiserSettings(lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0)
    fewer_inputs = 2 * 16 * 64  # SVHN -> MNIST takes 3 channels where this takes 1
    generator = GcGan(config).generators["a"]
    assert sum(p.numel() for p in generator.parameters()) == 562_176 - fewer_inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": "shear"}, "geometry must be"),
        ({"weight_geometry": -1.0}, "weight_geometry must be at least 0"),
        ({"one_sided": True, "weight_cycle": 1.0}, "needs both directions"),
        ({"n_discriminator_layers": 0}, "n_discriminator_layers must be at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_GEOMETRY, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of"):
        GcGanConfig.preset("huge")


def test_the_paper_preset_has_the_networks_of_cyclegan() -> None:
    method = GcGan(GcGanConfig.preset("paper"))
    assert sum(p.numel() for p in method.generators["a"].parameters()) == 11_378_179
    assert sum(p.numel() for p in method.discriminators["b"].parameters()) == 2_764_737


def test_the_pool_is_part_of_the_training_state() -> None:
    method = GcGan(replace(TINY_GEOMETRY, network="resnet", n_residual=1, pool_size=3))
    assert not any(name.startswith("pools") for name, _ in method.named_parameters())
    before = {name: len(value) for name, value in method.state_dict().items() if "pools" in name}
    (judging,) = [phase for phase in method.phases() if phase.name == "discriminator"]
    judging.loss(tiny_pair())
    after = {name: len(value) for name, value in method.state_dict().items() if "pools" in name}
    assert set(before.values()) == {0}
    assert set(after.values()) == {2}


def test_one_image_of_each_domain_has_no_distance_to_keep() -> None:
    GcGan(TINY_GEOMETRY).check(tiny_pair(count=1))
    with pytest.raises(ValueError, match="take batch_size 2 or more, or weight_distance 0"):
        GcGan(replace(TINY_GEOMETRY, weight_distance=1.0)).check(tiny_pair(count=1))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@torch.no_grad()
def test_every_term_is_its_formula(geometry: Geometry) -> None:
    weights: dict[str, Any] = {"weight_gan": 2.0, "weight_geometry": 3.0, "weight_identity": 5.0, "weight_cycle": 7.0}
    method = GcGan(replace(TINY_GEOMETRY, geometry=geometry, weight_distance=11.0, **weights), seed=3)
    for judges in (method.discriminators, method.turned_discriminators):
        for parameter in judges.parameters():
            parameter.mul_(15.0)  # scores of order 1, so that they weigh
    pair = tiny_pair(count=3)
    images, made, judged = {"a": pair.a, "b": pair.b}, {}, {}
    for target, source in SIDES:
        there, back = method.generators[source], method.generators[target]
        upright, turned = method.discriminators[target], method.turned_discriminators[target]
        fake, turned_fake = there(images[source]), there(turn(images[source], geometry))
        real, turned_real = images[target], turn(images[target], geometry)
        judged[f"gan_{target}"] = 0.5 * 2.0 * (squares(upright(real), 1.0) + squares(upright(fake), 0.0))
        judged[f"gan_turned_{target}"] = (
            0.5 * 2.0 * (squares(turned(turned_real), 1.0) + squares(turned(turned_fake), 0.0))
        )
        made[f"gan_{target}"] = 2.0 * squares(upright(fake), 1.0)
        made[f"gan_turned_{target}"] = 2.0 * squares(turned(turned_fake), 1.0)
        made[f"geometry_{target}"] = 3.0 * geometry_loss(fake, turned_fake, geometry).item()
        same = mean_absolute_difference(there(real), real) + mean_absolute_difference(there(turned_real), turned_real)
        made[f"identity_{target}"] = 5.0 * same.item()
        made[f"cycle_{source}"] = 7.0 * mean_absolute_difference(back(fake), images[source]).item()
        before, after = pairwise_distances(images[source]), pairwise_distances(fake)
        made[f"distance_{target}"] = 11.0 * (before - after).abs().mean().item()
    for phase, wanted in zip(method.phases(), (judged, made), strict=True):
        terms = {name: value.item() for name, value in phase.loss(pair).items()}
        assert terms == pytest.approx(wanted, rel=1e-4)
