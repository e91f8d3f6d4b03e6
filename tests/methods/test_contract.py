"""What every method promises, on tiny configurations of each; a new method needs one line in ``CASES``."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from munitaug.method import Method, OptimiserSettings
from munitaug.methods import METHODS, Munit, SemanticConsistency
from munitaug.training import TrainConfig
from munitaug.types import DomainKey
from tests.oracles import trainable
from tests.tiny import CLASSES, TINY, TINY_TRAINING, tiny_pair, tiny_trainer

MakeMethod = Callable[[int, int], Method]
"""(seed, channels) -> method."""
NO_DECAY = replace(TINY, optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0))
SIZES = [(17, 30), (16, 16), (28, 28), (33, 64)]
DIRECTIONS: list[tuple[DomainKey, DomainKey]] = [("a", "b"), ("b", "a")]


def tiny_classifier(channels: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
        )


CASES: dict[str, MakeMethod] = {
    "munit": lambda seed, channels: Munit(replace(NO_DECAY, channels=channels), seed=seed),
    "munit-all-terms": lambda seed, channels: Munit(
        replace(
            NO_DECAY,
            channels=channels,
            spectral_norm=True,
            gan_loss="nsgan",  # under "hinge" real and fake cancel in the last bias until a score passes the margin
            weight_cycle=1.0,
            weight_mode_seeking=0.1,
            weight_r1=1.0,
            detach_content=True,
            discriminator_lr_scale=2.0,
        ),
        seed=seed,
    ),
    "semantic": lambda seed, channels: SemanticConsistency(
        Munit(replace(NO_DECAY, channels=channels), seed=seed), tiny_classifier(channels)
    ),
}


@pytest.fixture(params=CASES)
def make(request: pytest.FixtureRequest) -> MakeMethod:
    return CASES[request.param]


def without_effect(method: Method) -> set[str]:
    """Gives the parameters whose gradient is zero by mathematics: biases that an instance norm takes off at once.

    These are the biases of the content encoder's convolutions and of those before an AdaIN;
    ``test_parameters_said_to_have_no_effect_have_none`` holds the claim against the networks.
    """
    encoder = [name for name in trainable(method) if ".content_encoder." in name and name.endswith(".bias")]
    blocks = [name for name in trainable(method) if ".decoder.blocks." in name and name.endswith(".bias")]
    return {*encoder, *blocks}


def train(make: MakeMethod, folder: Path, seed: int = 0, steps: int = 1) -> Method:
    config = replace(TINY_TRAINING, max_steps=steps, seed=seed)
    return tiny_trainer(folder, config, make(seed, 3)).run(progress=False)


def test_every_registered_method_is_in_the_grid() -> None:
    assert {case(0, 3).core.name for case in CASES.values()} == METHODS.keys()


def test_phases_cover_each_trainable_weight_exactly_once(make: MakeMethod) -> None:
    method = make(0, 3)
    covered = Counter(id(p) for phase in method.phases() for module in phase.modules for p in module.parameters())
    assert covered == Counter(id(parameter) for parameter in method.parameters())
    assert set(covered.values()) == {1}


def test_phases_have_names_of_their_own(make: MakeMethod) -> None:
    names = [phase.name for phase in make(0, 3).phases()]
    assert len(set(names)) == len(names)


def test_a_phase_gives_weighted_finite_scalars(make: MakeMethod) -> None:
    for phase in make(0, 3).phases():
        for value in phase.loss(tiny_pair()).values():
            assert value.shape == ()
            assert value.dtype == torch.float32
            assert value.isfinite()


def test_one_step_moves_every_weight_that_has_an_effect(make: MakeMethod, tmp_path: Path) -> None:
    before = {name: value.detach().clone() for name, value in trainable(make(0, 3)).items()}
    trained = train(make, tmp_path)
    still = {name for name, value in trainable(trained).items() if torch.equal(value, before[name])}
    assert still <= without_effect(trained)


def test_parameters_said_to_have_no_effect_have_none(make: MakeMethod) -> None:
    method = make(0, 3)
    core = method.core
    dead = without_effect(method)
    assert len(dead) == 2 * (3 + 2 + 2)  # per domain: three strided or edge units, a residual block, an AdaIN block
    pair = tiny_pair()
    before = [core.translator(*direction).translate(pair.a, torch.ones(2, 1, 3)) for direction in DIRECTIONS]
    with torch.no_grad():
        for name, parameter in trainable(method).items():
            if name in dead:
                parameter.add_(torch.randn(parameter.shape))
    after = [core.translator(*direction).translate(pair.a, torch.ones(2, 1, 3)) for direction in DIRECTIONS]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


def test_a_seed_repeats_and_another_seed_differs(make: MakeMethod, tmp_path: Path) -> None:
    first = train(make, tmp_path / "1", steps=3).state_dict()
    torch.manual_seed(123)
    second = train(make, tmp_path / "2", steps=3).state_dict()
    other = train(make, tmp_path / "3", seed=1, steps=3).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_resume_is_exact(make: MakeMethod, tmp_path: Path) -> None:
    whole = train(make, tmp_path / "whole", steps=4).state_dict()
    train(make, tmp_path / "parts", steps=2)
    config = replace(TINY_TRAINING, max_steps=4)
    resumed = tiny_trainer(tmp_path / "parts", config, make(9, 3)).run(resume=True, progress=False).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_training_leaves_the_global_generator_alone(make: MakeMethod, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train(make, tmp_path, steps=2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_translator_keeps_shape_and_range(make: MakeMethod, size: tuple[int, int], channels: int) -> None:
    method = make(0, channels)
    x = torch.rand(2, channels, *size) * 2 - 1
    for direction in DIRECTIONS:
        translator = method.translator(*direction)
        out = translator.translate(x, torch.randn(2, 3, translator.style_dim))
        assert out.shape == (2, 3, channels, *size)
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert out.abs().max() <= 1
        assert translator.encode_style(x).shape == (2, translator.style_dim)


def test_a_translator_is_pure(make: MakeMethod) -> None:
    method = make(0, 3)
    translator = method.translator("a", "b")
    x, style = tiny_pair().a, torch.randn(2, 2, 3)
    kept_x, kept_style = x.clone(), style.clone()
    weights = {name: value.clone() for name, value in method.state_dict().items()}
    state = torch.get_rng_state()
    first = translator.translate(x, style)
    torch.rand(5)
    second = translator.train(not translator.training).translate(x, style)
    torch.set_rng_state(state)
    translator.translate(x, style)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert torch.equal(x, kept_x)
    assert torch.equal(style, kept_style)
    assert all(torch.equal(value, weights[name]) for name, value in method.state_dict().items())


def test_an_image_is_translated_alike_in_any_batch(make: MakeMethod) -> None:
    translator, x, style = make(0, 3).translator("a", "b"), tiny_pair(count=3).a, torch.randn(3, 2, 3)
    together = translator.translate(x, style)
    alone = torch.cat([translator.translate(x[i : i + 1], style[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_styles_reach_the_image(make: MakeMethod) -> None:
    out = make(0, 3).translator("a", "b").translate(tiny_pair().a, torch.tensor([[[-1.0, 0, 2], [2.0, 1, 0]]] * 2))
    assert (out[:, 0] - out[:, 1]).abs().mean() > 1e-3


def test_a_translator_shares_the_methods_weights(make: MakeMethod) -> None:
    method = make(0, 3)
    wanted = {id(parameter) for parameter in method.parameters()}
    assert {id(parameter) for parameter in method.translator("a", "b").parameters()} < wanted


@pytest.mark.parametrize(
    "copy", [deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"]
)
def test_a_translator_survives_copying(make: MakeMethod, copy: Callable[[object], object]) -> None:
    method = make(0, 3)
    method.core.style_banks["b"] = torch.randn(4, 3)
    translator = method.translator("a", "b")
    twin = copy(translator)
    assert isinstance(twin, type(translator))
    x, style = tiny_pair().a, torch.randn(2, 2, 3)
    assert torch.equal(twin.translate(x, style), translator.translate(x, style))
    assert torch.equal(twin.style_bank, method.core.style_banks["b"])
    assert not {id(parameter) for parameter in twin.parameters()} & {id(parameter) for parameter in method.parameters()}


def test_a_method_survives_deepcopy(make: MakeMethod) -> None:
    method = make(0, 3)
    twin = deepcopy(method)
    first, second = ([phase.loss(tiny_pair()) for phase in each.phases()] for each in (method, twin))
    for losses, copies in zip(first, second, strict=True):
        assert {name: value.item() for name, value in losses.items()} == {n: v.item() for n, v in copies.items()}


@pytest.mark.parametrize("config", [TrainConfig(precision="bfloat16", device="cpu"), TINY_TRAINING])
def test_a_method_trains_in_either_precision(make: MakeMethod, config: TrainConfig, tmp_path: Path) -> None:
    config = replace(TINY_TRAINING, precision=config.precision, max_steps=2)
    terms: list[dict[str, float]] = []
    tiny_trainer(tmp_path, config, make(0, 3)).run(on_step=lambda _, values: terms.append(values), progress=False)
    assert len(terms) == 2
    assert all(torch.tensor(list(values.values())).isfinite().all() for values in terms)


def semantic_pair_losses(method: Method) -> dict[str, Tensor]:
    return {name: value for phase in method.phases() for name, value in phase.loss(tiny_pair()).items()}


@pytest.mark.parametrize("inner", [name for name in CASES if name != "semantic"])
def test_semantic_consistency_adds_one_term_to_any_method(inner: str) -> None:
    method = CASES[inner](0, 3)
    wrapped = SemanticConsistency(method, tiny_classifier(3))
    assert [phase.name for phase in wrapped.phases()] == [phase.name for phase in method.phases()]
    assert [phase.modules for phase in wrapped.phases()] == [phase.modules for phase in method.phases()]
    method.eval()  # spectral norm moves its vectors at every forward pass in training
    assert semantic_pair_losses(wrapped).keys() - semantic_pair_losses(method).keys() == {"semantic"}
    assert wrapped.core is method
