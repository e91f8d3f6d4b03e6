"""CycleGAN: its terms against the formulas on single images, the pool in training, presets and refusals."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from munitaug.checkpoint import load_method, save_method
from munitaug.method import OptimiserSettings
from munitaug.methods import CycleGan, CycleGanConfig
from munitaug.methods.cyclegan import beside_noise, wave_numbers
from munitaug.methods.parts import exchange
from munitaug.networks.image_pool import ImagePool
from munitaug.networks.patchgan import PatchGan
from munitaug.networks.resnet import ResnetGenerator
from tests.methods.cases import TINY_CYCLE
from tests.oracles import SIDES, count_parameters, mean_absolute, mean_over_patches
from tests.tiny import TINY_TRAINING, tiny_pair, tiny_trainer

PAIR = tiny_pair(count=3)
IMAGES = {"a": PAIR.a.double(), "b": PAIR.b.double()}


def terms_of(method: CycleGan, phase: str) -> dict[str, float]:
    losses = {each.name: each.loss for each in method.phases()}
    return {name: value.item() for name, value in losses[phase](PAIR).items()}


def pool_of(method: CycleGan, key: str) -> ImagePool:
    pool = method.pools[key]
    assert isinstance(pool, ImagePool)
    return pool


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@torch.no_grad()
def test_generator_terms_are_the_formulas_image_by_image() -> None:
    method = CycleGan(TINY_CYCLE, seed=3)
    exact = deepcopy(method).double()
    wanted = {}
    for source, target in SIDES:
        there, back = exact.generators[source], exact.generators[target]
        fakes = [there(image[None]).double() for image in IMAGES[source]]
        scores = [exact.discriminators[target](fake) for fake in fakes]
        wanted[f"gan_{target}"] = mean([mean_over_patches(each, "lsgan", "generator") for each in scores])
        cycled = [mean_absolute(back(fake)[0], image) for fake, image in zip(fakes, IMAGES[source], strict=True)]
        wanted[f"cycle_{source}"] = 10.0 * mean(cycled)
        same = [mean_absolute(there(image[None])[0], image) for image in IMAGES[target]]
        wanted[f"identity_{target}"] = 0.5 * 10.0 * mean(same)
    assert terms_of(method, "generator") == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_discriminator_terms_are_half_of_both_prices() -> None:
    method = CycleGan(replace(TINY_CYCLE, pool_size=50), seed=3)
    exact = deepcopy(method).double()
    wanted = {}
    for source, target in SIDES:
        judge, there = exact.discriminators[target], exact.generators[source]
        real = mean([mean_over_patches(judge(image[None]), "lsgan", "real") for image in IMAGES[target]])
        fakes = [there(image[None]).double() for image in IMAGES[source]]
        fake = mean([mean_over_patches(judge(each), "lsgan", "fake") for each in fakes])
        wanted[f"gan_{target}"] = 0.5 * (real + fake)
    assert terms_of(method, "discriminator") == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("off", "prefix"), [("weight_cycle", "cycle"), ("weight_identity", "identity")], ids=["cycle", "identity"]
)
def test_a_weight_of_0_leaves_a_term_out_and_the_others_alone(off: str, prefix: str) -> None:
    everything = terms_of(CycleGan(TINY_CYCLE), "generator")
    less = terms_of(CycleGan(replace(TINY_CYCLE, **{off: 0.0})), "generator")  # type: ignore[arg-type]
    kept = {name: value for name, value in everything.items() if not name.startswith(prefix)}
    assert less == pytest.approx(kept, rel=1e-5)


def test_generators_come_first() -> None:
    assert [phase.name for phase in CycleGan(TINY_CYCLE).phases()] == ["generator", "discriminator"]


@torch.no_grad()
def test_discriminators_see_images_of_the_pool_that_the_pairs_seed_chose() -> None:
    method = CycleGan(TINY_CYCLE, seed=3)
    terms_of(method, "discriminator")  # three images fill the pools
    images = {"a": PAIR.a, "b": PAIR.b}
    shown = {}
    for source, target in SIDES:
        pool = pool_of(method, target)
        pool.images.fill_(0.25)
        fresh = method.generators[source](images[source])
        shown[target] = exchange(deepcopy(pool), fresh, PAIR, "pool", target)
    assert any(bool((image == 0.25).all()) for image in torch.cat(list(shown.values())))
    found = terms_of(method, "discriminator")
    for target, fakes in shown.items():
        judge = method.discriminators[target]
        price = mean_over_patches(judge(images[target]), "lsgan", "real")
        price += mean_over_patches(judge(fakes), "lsgan", "fake")
        assert found[f"gan_{target}"] == pytest.approx(0.5 * price, rel=1e-4)


def test_pools_hold_translations_into_their_domain() -> None:
    method = CycleGan(TINY_CYCLE)
    terms_of(method, "discriminator")
    with torch.no_grad():
        torch.testing.assert_close(pool_of(method, "b").images, method.generators["a"](PAIR.a))
        torch.testing.assert_close(pool_of(method, "a").images, method.generators["b"](PAIR.b))


def test_pools_are_in_the_training_state_and_not_in_checkpoints(tmp_path: Path) -> None:
    trained = tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=2), CycleGan(TINY_CYCLE)).run(progress=False)
    state = load_file(tmp_path / "state" / "state.safetensors")
    assert state["method/pools.a._extra_state"].shape == (3, 3, 16, 16)
    folder = save_method(trained, tmp_path / "checkpoint")
    assert not [name for name in load_file(next(folder.glob("*.safetensors"))) if "pools" in name]
    assert len(load_method(folder).state_dict()["pools.a._extra_state"]) == 0


def test_a_checkpoint_of_one_direction_has_no_way_back(tmp_path: Path) -> None:
    method = CycleGan(TINY_CYCLE)
    method.directions = (("a", "b"),)
    again = load_method(save_method(method, tmp_path / "checkpoint"))
    again.translator("a", "b")
    with pytest.raises(ValueError, match="translates a2b only, got b2a"):
        again.translator("b", "a")


def test_the_paper_preset_has_the_published_networks_weights_and_optimiser() -> None:
    config = CycleGanConfig.preset("paper")
    with torch.device("meta"):
        networks = (ResnetGenerator(config.generator_shape), PatchGan(config.discriminator_shape))
    assert [count_parameters(network) for network in networks] == [11_378_179, 2_764_737]
    assert (config.pool_size, config.weight_gan, config.weight_cycle, config.weight_identity) == (50, 1.0, 10.0, 5.0)
    assert config.optimiser == OptimiserSettings(
        lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, linear_decay_from=0.5, ema_decay=0.0
    )


def test_the_small_preset_judges_images_of_16_px_in_four_patches_without_repeating_edges() -> None:
    config = CycleGanConfig.preset("small", channels=1)
    side = 16
    for _ in range(config.n_discriminator_layers):
        side = (side + 2 - 4) // 2 + 1
    assert (side, side - 1 - 1) == (4, 2)  # of the maps before the two 4 x 4 convolutions without stride, and after
    (scores,) = CycleGan(config).discriminators["b"](torch.rand(1, 1, 16, 16))
    assert scores.shape == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 5}, "channels must be 1 to 4"),
        ({"width": 0}, "width must be at least 1"),
        ({"n_residual": 0}, "n_residual must be at least 1"),
        ({"discriminator_width": 0}, "discriminator_width must be at least 1"),
        ({"n_discriminator_layers": 0}, "n_discriminator_layers must be at least 1"),
        ({"pool_size": -1}, "pool_size must be at least 0"),
        ({"weight_cycle": -1.0}, "weight_cycle must be at least 0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_CYCLE, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of paper, small"):
        CycleGanConfig.preset("huge")


def test_noise_waves_are_slow_ones_first_and_none_is_constant() -> None:
    assert wave_numbers(5) == [(0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]


def test_noise_stands_beside_the_image_as_a_wave_of_each_number() -> None:
    images, noise = torch.zeros(2, 3, 4, 6), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    planes = beside_noise(images, noise)
    assert planes.shape == (2, 5, 4, 6)
    across = torch.tensor([math.cos(math.pi * (column + 0.5) / 6) for column in range(6)])
    down = torch.tensor([math.cos(math.pi * (row + 0.5) / 4) for row in range(4)])
    torch.testing.assert_close(planes[1, 3], 3.0 * across.expand(4, 6))
    torch.testing.assert_close(planes[1, 4], 4.0 * down[:, None].expand(4, 6))


@torch.no_grad()
def test_an_untrained_generator_with_noise_has_variants_and_no_exemplars() -> None:
    method = CycleGan(replace(TINY_CYCLE, noise_dim=2), seed=1)
    translator = method.translator("a", "b")
    assert translator.style_dim == 2
    first, second = translator.translate(PAIR.a[:1], torch.tensor([[[1.0, 0.0], [-1.0, 2.0]]]))[0]
    assert (first - second).abs().max() > 1e-3
    with pytest.raises(ValueError, match="exemplar"):
        translator.encode_style(PAIR.b)
