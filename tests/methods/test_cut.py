"""CUT: the contrastive term against loops over patches, flips, presets and refusals."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from munitaug.method import OptimiserSettings
from munitaug.methods import Cut, CutConfig
from munitaug.methods.cut import patch_nce_loss
from munitaug.networks.patchgan import PatchGan
from munitaug.networks.projection import draw_positions
from munitaug.networks.resnet import ResnetGenerator
from munitaug.random import torch_generator
from munitaug.types import Pair
from tests.methods.cases import TINY_CONTRAST
from tests.oracles import count_parameters, mean_over_patches
from tests.tiny import tiny_pair

PAIR = tiny_pair(count=2)
FAST = replace(TINY_CONTRAST, flip_equivariance=True, weight_nce=10.0, weight_identity_nce=0.0)


def nce_by_loops(queries: Tensor, keys: Tensor, temperature: float) -> float:
    """Gives the mean over patches of -log of the share of the positive among positive and negatives."""
    losses = []
    for image in range(len(queries)):
        for place in range(queries.shape[1]):
            similar = [float(queries[image, place] @ key) / temperature for key in keys[image]]
            negatives = [math.exp(value) for other, value in enumerate(similar) if other != place]
            positive = math.exp(similar[place])
            losses.append(-math.log(positive / (positive + sum(negatives))))
    return sum(losses) / len(losses)


def unit_vectors(*shape: int, seed: int) -> Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_the_contrastive_loss_is_that_of_a_slow_loop_over_patches() -> None:
    queries, keys = unit_vectors(3, 5, 4, seed=1), unit_vectors(3, 5, 4, seed=2)
    assert patch_nce_loss(queries, keys, 0.07).item() == pytest.approx(nce_by_loops(queries, keys, 0.07), rel=1e-5)


def test_similarities_stay_in_full_precision_within_autocast() -> None:
    queries, keys = unit_vectors(3, 5, 4, seed=1).float(), unit_vectors(3, 5, 4, seed=2).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = patch_nce_loss(queries, keys, 0.07).item()
    assert found == pytest.approx(nce_by_loops(queries, keys, 0.07), rel=1e-4)


def test_patches_that_cannot_be_told_apart_cost_the_log_of_their_number() -> None:
    same = unit_vectors(1, 1, 4, seed=1).expand(2, 9, 4)
    assert patch_nce_loss(same, same, 0.07).item() == pytest.approx(math.log(9))


def test_other_images_of_the_batch_are_no_negatives() -> None:
    queries, keys = unit_vectors(2, 5, 4, seed=1), unit_vectors(2, 5, 4, seed=2)
    both = patch_nce_loss(queries, keys, 0.1).item()
    alone = [patch_nce_loss(queries[i : i + 1], keys[i : i + 1], 0.1).item() for i in range(2)]
    assert both == pytest.approx(sum(alone) / 2)


def terms_of(method: Cut, phase: str, pair: Pair = PAIR) -> dict[str, float]:
    losses = {each.name: each.loss for each in method.phases()}
    return {name: value.item() for name, value in losses[phase](pair).items()}


def nce_of(method: Cut, translated: Tensor, sources: Tensor, name: str, seed: int, mirrored: bool = False) -> float:
    """Gives the term by the formula: maps of both, vectors at the drawn places, loops over them, mean over maps."""
    blocks = method.config.feature_blocks
    queries, keys = method.generator.features(translated, blocks), method.generator.features(sources, blocks)
    if mirrored:
        queries = [torch.flip(features, (3,)) for features in queries]
    sizes = [features.shape[2] * features.shape[3] for features in keys]
    places = draw_positions(sizes, method.config.n_patches, torch_generator(seed, "patches", name))
    vectors = zip(method.projection(queries, places), method.projection(keys, places), strict=True)
    values = [nce_by_loops(query, key, method.config.temperature) for query, key in vectors]
    assert len(values) == 3 + len(blocks)
    return sum(values) / len(values)


@torch.no_grad()
def test_generator_terms_are_the_formulas() -> None:
    method = Cut(TINY_CONTRAST, seed=3)
    fake, same = method.generator(PAIR.a), method.generator(PAIR.b)
    wanted = {
        "gan_b": mean_over_patches(method.discriminator(fake), "lsgan", "generator"),
        "nce": 0.5 * nce_of(method, fake, PAIR.a, "nce", PAIR.seed),
        "identity_nce": 0.5 * nce_of(method, same, PAIR.b, "identity_nce", PAIR.seed),
    }
    assert terms_of(method, "generator") == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_the_discriminator_term_is_half_of_both_prices() -> None:
    method = Cut(TINY_CONTRAST, seed=3)
    real = mean_over_patches(method.discriminator(PAIR.b), "lsgan", "real")
    fake = mean_over_patches(method.discriminator(method.generator(PAIR.a)), "lsgan", "fake")
    assert terms_of(method, "discriminator") == pytest.approx({"gan_b": 0.5 * (real + fake)}, rel=1e-4)


@torch.no_grad()
def test_fastcut_translates_half_of_the_batches_mirrored() -> None:
    method = Cut(replace(FAST, initialisation="kaiming"), seed=3)
    kinds = []
    for seed in range(40):
        pair = replace(PAIR, seed=seed)
        found = terms_of(method, "generator", pair)
        plain, turned = method.generator(PAIR.a), method.generator(PAIR.a.flip(3))
        wanted = [
            {
                "gan_b": mean_over_patches(method.discriminator(fake), "lsgan", "generator"),
                "nce": 10.0 * nce_of(method, fake, PAIR.a, "nce", seed, mirrored),
            }
            for mirrored, fake in ((False, plain), (True, turned))
        ]
        kinds.append(wanted.index(next(terms for terms in wanted if found == pytest.approx(terms, rel=1e-4))))
        if len(set(kinds)) == 2 and seed >= 7:
            break
    assert set(kinds) == {0, 1}


@torch.no_grad()
def test_both_phases_mirror_the_same_batches() -> None:
    method, kinds = Cut(replace(FAST, initialisation="kaiming"), seed=3), []  # translations with contrast
    fakes = (method.generator(PAIR.a), method.generator(PAIR.a.flip(3)))
    judged = [method.discriminator(fake) for fake in fakes]
    shown = [mean_over_patches(scores, "lsgan", "generator") for scores in judged]
    real = mean_over_patches(method.discriminator(PAIR.b), "lsgan", "real")
    wanted = [0.5 * (real + mean_over_patches(scores, "lsgan", "fake")) for scores in judged]
    assert shown[0] != pytest.approx(shown[1], rel=1e-3)
    assert wanted[0] != pytest.approx(wanted[1], rel=1e-3)
    for seed in range(8):
        pair = replace(PAIR, seed=seed)
        kinds.append(0 if terms_of(method, "generator", pair)["gan_b"] == pytest.approx(shown[0], rel=1e-4) else 1)
        assert terms_of(method, "discriminator", pair)["gan_b"] == pytest.approx(wanted[kinds[-1]], rel=1e-4)
    assert set(kinds) == {0, 1}


def test_no_gradient_flows_through_the_keys() -> None:
    method = Cut(TINY_CONTRAST)
    maps = method.generator.features(PAIR.a, (1,))
    queries = [features.detach().clone().requires_grad_() for features in maps]
    keys = [features.detach().clone().requires_grad_() for features in maps]
    method.contrastive_loss(queries, keys, [torch.arange(4) for _ in maps]).backward()
    assert all(query.grad is not None and bool(query.grad.any()) for query in queries)
    assert all(key.grad is None for key in keys)


@pytest.mark.parametrize(
    ("off", "kept"),
    [
        (("weight_nce",), {"gan_b", "identity_nce"}),
        (("weight_identity_nce",), {"gan_b", "nce"}),
        (("weight_nce", "weight_identity_nce"), {"gan_b"}),
    ],
)
def test_a_weight_of_0_leaves_a_term_out_and_the_others_alone(off: tuple[str, ...], kept: set[str]) -> None:
    everything = terms_of(Cut(TINY_CONTRAST), "generator")
    less = terms_of(Cut(replace(TINY_CONTRAST, **dict.fromkeys(off, 0.0))), "generator")  # type: ignore[arg-type]
    assert less == pytest.approx({name: everything[name] for name in kept}, rel=1e-5)


def test_head_and_generator_are_trained_together() -> None:
    method = Cut(TINY_CONTRAST)
    phases = {phase.name: phase.modules for phase in method.phases()}
    assert phases == {"discriminator": (method.discriminator,), "generator": (method.generator, method.projection)}


def test_the_way_back_is_refused() -> None:
    method = deepcopy(Cut(TINY_CONTRAST))
    with pytest.raises(ValueError, match="a2b only, got b2a; exchange the domains"):
        method.translator("b", "a")


def test_the_paper_preset_has_the_published_networks_weights_and_optimiser() -> None:
    config = CutConfig.preset("paper")
    with torch.device("meta"):
        networks = (ResnetGenerator(config.generator_shape), PatchGan(config.discriminator_shape))
    assert [count_parameters(network) for network in networks] == [11_378_179, 2_764_737]
    assert config.generator_shape.feature_widths(config.feature_blocks) == (3, 128, 256, 256, 256)
    assert (config.n_patches, config.projection_width, config.temperature) == (256, 256, 0.07)
    assert (config.weight_gan, config.weight_nce, config.weight_identity_nce) == (1.0, 0.5, 0.5)
    assert not config.flip_equivariance
    assert config.optimiser == OptimiserSettings(
        lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, linear_decay_from=200 / (200 + 200)
    )


def test_the_head_has_as_many_parameters_as_its_layers_say() -> None:
    inputs = 3 + 128 + 256 + 256 + 256
    assert count_parameters(Cut(CutConfig.preset("paper")).projection) == 256 * inputs + 5 * (256 + 256 * 256 + 256)


def test_the_fast_preset_is_fastcut() -> None:
    config = CutConfig.preset("fast")
    assert (config.weight_nce, config.weight_identity_nce, config.flip_equivariance) == (10.0, 0.0, True)
    assert config.optimiser.linear_decay_from == 150 / (150 + 50)
    paper = CutConfig.preset("paper")
    same = {
        name: getattr(paper, name) for name in ("weight_nce", "weight_identity_nce", "flip_equivariance", "optimiser")
    }
    assert replace(config, **same) == paper


def test_weights_are_drawn_with_a_gain_of_2_hundredths() -> None:
    generator = Cut(replace(CutConfig.preset("small", channels=1), initialisation="xavier")).generator
    weight = generator.get_parameter("blocks.0.first.conv.weight")
    fan_in = fan_out = 9 * 4 * 24
    assert weight.std().item() == pytest.approx(0.02 * math.sqrt(2 / (fan_in + fan_out)), rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels must be 1 to 4"),
        ({"n_residual": 0}, "n_residual must be at least 1"),
        ({"feature_blocks": (1, 3)}, r"rising numbers from 1 to n_residual \(2\), got \[1, 3\]"),
        ({"feature_blocks": (2, 1)}, "rising numbers"),
        ({"feature_blocks": (0,)}, "rising numbers"),
        ({"initialisation": "zeros"}, "initialisation must be one of kaiming, gaussian, xavier, got 'zeros'"),
        ({"n_patches": 1}, "n_patches must be at least 2, .* got 1"),
        ({"projection_width": 0}, "projection_width must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weight_nce": -1.0}, "weight_nce must be at least 0"),
        ({"n_discriminator_layers": 0}, "n_discriminator_layers must be at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_CONTRAST, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of paper, fast, small"):
        CutConfig.preset("huge")
