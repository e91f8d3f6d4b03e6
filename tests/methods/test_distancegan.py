"""DistanceGAN: distances against slow loops, statistics by hand, presets and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from munitaug.losses import half_distances, mean_absolute_difference, pairwise_distances
from munitaug.method import OptimiserSettings
from munitaug.methods import DistanceGan, DistanceGanConfig
from munitaug.types import Pair
from tests.methods.cases import TINY_DISTANCE
from tests.oracles import SIDES, squares
from tests.tiny import tiny_pair


def distance_by_loop(x: Tensor, y: Tensor) -> float:
    total = 0.0
    for first, second in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True):
        total += abs(first - second)
    return total / x.numel()


def test_distances_are_those_of_a_slow_loop_over_all_pairs() -> None:
    images = tiny_pair(count=4).a
    wanted = [distance_by_loop(images[i], images[j]) for i in range(4) for j in range(i + 1, 4)]
    assert pairwise_distances(images).tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_distance_of_two_images_is_not_that_of_their_means() -> None:
    """The digit code published with the paper measured |mean(A) - mean(B)|, which is 0 here."""
    first = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    assert pairwise_distances(torch.stack([first, -first]).unsqueeze(1)).item() == pytest.approx(2.0)


def test_half_distances_compare_the_upper_with_the_lower_half() -> None:
    image = torch.cat([torch.full((1, 1, 2, 3), 0.5), torch.zeros(1, 1, 1, 3), torch.full((1, 1, 2, 3), -0.25)], dim=2)
    assert half_distances(image).tolist() == pytest.approx([0.75])


def loss_by_loop(method: DistanceGan, images: Tensor, fakes: Tensor) -> float:
    (mean_a, deviation_a), (mean_b, deviation_b) = method.statistics.tolist()
    terms: list[float] = []
    for i in range(len(images)):
        for j in range(i + 1, len(images)):
            before = (distance_by_loop(images[i], images[j]) - mean_a) / deviation_a
            after = (distance_by_loop(fakes[i], fakes[j]) - mean_b) / deviation_b
            terms.append(abs(before - after))
    return sum(terms) / len(terms)


def test_the_loss_is_that_of_a_slow_loop() -> None:
    method = DistanceGan(TINY_DISTANCE)
    method.statistics.copy_(torch.tensor([[0.5, 0.1], [0.7, 0.3]]))
    pair = tiny_pair(count=3)
    loss = method.distance_loss(pair.a, pair.b, "a", "b")
    assert loss.item() == pytest.approx(loss_by_loop(method, pair.a, pair.b), rel=1e-4)


def test_without_normalisation_equal_distances_cost_nothing() -> None:
    method = DistanceGan(replace(TINY_DISTANCE, normalised=False))
    images = tiny_pair(count=3).a
    assert method.distance_loss(images, -images, "a", "b").item() == pytest.approx(0.0, abs=1e-6)
    assert method.distance_loss(images, 0.5 * images, "a", "b").item() == pytest.approx(
        0.5 * pairwise_distances(images).mean().item(), rel=1e-5
    )


def test_one_image_alone_has_no_pair() -> None:
    images = tiny_pair(count=1).a
    assert DistanceGan(TINY_DISTANCE).distance_loss(images, images, "a", "b").item() == 0.0


def endless(count: int) -> Iterator[Pair]:
    seed = 0
    while True:
        yield tiny_pair(count=count, seed=seed)
        seed += 1


def test_statistics_are_of_single_images_and_of_as_many_as_asked_for() -> None:
    """The published digit code took the distances of whole batches, whose deviation is too small."""
    method = DistanceGan(replace(TINY_DISTANCE, statistics_images=6))
    method.prepare(endless(count=2))
    images = torch.cat([tiny_pair(count=2, seed=seed).a for seed in range(3)])
    distances = torch.tensor([distance_by_loop(images[i], images[j]) for i in range(6) for j in range(i + 1, 6)])
    assert method.statistics[0].tolist() == pytest.approx(
        [distances.mean().item(), distances.std(correction=0).item()], rel=1e-4
    )
    assert method.statistics[1].tolist() != pytest.approx(method.statistics[0].tolist())


def test_equal_images_are_refused_as_nothing_to_divide_by() -> None:
    black = torch.full((4, 3, 16, 16), -1.0)
    with pytest.raises(ValueError, match=r"images of domain a are all alike.*or set normalised to false"):
        DistanceGan(TINY_DISTANCE).prepare(iter([Pair(black, black)]))


def test_one_image_of_each_domain_is_refused_where_images_are_compared() -> None:
    with pytest.raises(ValueError, match='take batch_size 2 or more, or distance "self"'):
        DistanceGan(TINY_DISTANCE).check(tiny_pair(count=1))
    for changes in ({"distance": "self"}, {"weight_distance": 0.0}):
        DistanceGan(replace(TINY_DISTANCE, **changes)).check(tiny_pair(count=1))


def test_without_normalisation_nothing_is_read() -> None:
    method = DistanceGan(replace(TINY_DISTANCE, normalised=False))
    method.prepare(iter([]))
    assert method.statistics.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_a_weight_of_0_leaves_a_term_out() -> None:
    method = DistanceGan(replace(TINY_DISTANCE, weight_distance=0.0))
    names = {name for phase in method.phases() for name in phase.loss(tiny_pair())}
    assert names == {"gan_a", "gan_b"}


def test_one_sided_training_has_one_generator() -> None:
    one, two = DistanceGan(replace(TINY_DISTANCE, one_sided=True)), DistanceGan(TINY_DISTANCE)
    assert 2 * sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in two.parameters())


def test_the_digit_preset_has_the_published_generator_and_optimiser() -> None:
    config = DistanceGanConfig.preset("digits", channels=3)
    generator = DistanceGan(config).generators["a"]
    grey_output_less = 2 * 16 * 64  # SVHN -> MNIST gives 1 channel where this gives 3
    assert sum(p.numel() for p in generator.parameters()) == 562_176 + grey_output_less
    assert config.optimiser == OptimiserSettings(lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distance": "triples"}, "distance must be"),
        ({"network": "resnext"}, "network must be one of"),
        ({"statistics_images": 2}, "at least 3"),
        ({"weight_gan": -1.0}, "weight_gan must be at least 0"),
        ({"one_sided": True, "weight_cycle": 1.0}, "needs both directions"),
        ({"channels": 0}, "channels must be 1 to 4"),
        ({"width": 0}, "width must be at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_DISTANCE, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of"):
        DistanceGanConfig.preset("huge")


def test_the_paper_preset_has_the_networks_of_cyclegan() -> None:
    method = DistanceGan(DistanceGanConfig.preset("paper"))
    assert sum(p.numel() for p in method.generators["a"].parameters()) == 11_378_179
    assert sum(p.numel() for p in method.discriminators["b"].parameters()) == 2_764_737


def test_the_pool_is_part_of_the_training_state() -> None:
    method = DistanceGan(replace(TINY_DISTANCE, network="resnet", n_residual=1, pool_size=3))
    assert not any(name.startswith("pools") for name, _ in method.named_parameters())
    before = {name: len(value) for name, value in method.state_dict().items() if "pools" in name}
    (judging,) = [phase for phase in method.phases() if phase.name == "discriminator"]
    judging.loss(tiny_pair())
    after = {name: len(value) for name, value in method.state_dict().items() if "pools" in name}
    assert set(before.values()) == {0}
    assert set(after.values()) == {2}


@torch.no_grad()
def test_every_term_is_its_formula() -> None:
    weights: dict[str, Any] = {"weight_gan": 2.0, "weight_distance": 3.0, "weight_cycle": 5.0, "weight_identity": 7.0}
    method, pair = DistanceGan(replace(TINY_DISTANCE, **weights), seed=3), tiny_pair(count=3)
    for parameter in method.discriminators.parameters():
        parameter.mul_(15.0)  # scores of order 1, so that they weigh
    images, made, judged = {"a": pair.a, "b": pair.b}, {}, {}
    for target, source in SIDES:
        there, back, judge = method.generators[source], method.generators[target], method.discriminators[target]
        real, fake = images[target], there(images[source])
        judged[f"gan_{target}"] = 0.5 * 2.0 * (squares(judge(real), 1.0) + squares(judge(fake), 0.0))
        made[f"gan_{target}"] = 2.0 * squares(judge(fake), 1.0)
        made[f"distance_{target}"] = 3.0 * method.distance_loss(images[source], fake, source, target).item()
        made[f"cycle_{source}"] = 5.0 * mean_absolute_difference(back(fake), images[source]).item()
        made[f"identity_{target}"] = 7.0 * mean_absolute_difference(there(real), real).item()
    for phase, wanted in zip(method.phases(), (judged, made), strict=True):
        terms = {name: value.item() for name, value in phase.loss(pair).items()}
        assert terms == pytest.approx(wanted, rel=1e-4)
