"""What every method promises, on tiny configurations of each; a new method adds its own to ``cases.py``."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from munitaug.adaptation import build_classifier
from munitaug.checkpoint import load_method, save_method
from munitaug.data.loader import UnpairedLoader
from munitaug.images import pad_to_multiple
from munitaug.method import Loss, Method
from munitaug.methods import METHODS, SemanticConsistency
from munitaug.training import TrainConfig, Trainer
from munitaug.translator import Translator
from munitaug.types import Pair
from tests.methods.cases import CASES, Case, MakeMethod
from tests.oracles import trainable
from tests.tiny import CLASSES, TINY_TRAINING, tiny_classifier, tiny_domain, tiny_pair, tiny_trainer

SIZES = [(17, 30), (16, 16), (28, 28), (33, 64)]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def make(case: Case) -> MakeMethod:
    return case.make


def translators(method: Method) -> list[Translator]:
    """Gives the translators of the method's directions."""
    return [method.core.translator(*direction) for direction in method.core.directions]


def some_styles(translator: Translator, count: int, variants: int) -> Tensor:
    """Gives N x K x S random codes; S may be 0."""
    return torch.randn(count, variants, translator.style_dim)


def train(make: MakeMethod, folder: Path, seed: int = 0, steps: int = 1) -> Method:
    config = replace(TINY_TRAINING, max_steps=steps, seed=seed)
    return tiny_trainer(folder, config, make(seed, 3)).run(progress=False)


def test_a_direction_that_there_is_not_is_refused(make: MakeMethod) -> None:
    core = make(0, 3).core
    one_sided = {("b", "a")} - set(core.directions) if ("a", "b") in core.directions else set()
    for source, target in (("a", "a"), ("a", "c"), ("c", "b"), *one_sided):
        with pytest.raises(ValueError, match=f"a2b.* got ({source}2{target}|.+:.+)"):
            core.translator(source, target)


def test_weights_of_nothing_may_be_whole_numbers_and_negative_ones_are_refused(make: MakeMethod) -> None:
    config: Any = make(0, 3).core.config
    weights = [name for name in vars(config) if name.startswith("weight_")]
    assert weights
    for name in weights:
        assert getattr(replace(config, **{name: 0}), name) == 0
        for number in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"^{name} must be at least 0, got"):
                replace(config, **{name: number})


def test_every_registered_method_is_in_the_grid() -> None:
    assert {case.make(0, 3).core.name for case in CASES.values()} == METHODS.keys()


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


def test_one_step_moves_every_weight_that_has_an_effect(case: Case, tmp_path: Path) -> None:
    before = {name: value.detach().clone() for name, value in trainable(case.make(0, 3)).items()}
    trained = train(case.make, tmp_path)
    still = {name for name, value in trainable(trained).items() if torch.equal(value, before[name])}
    assert still <= case.without_effect(trained)


def test_parameters_said_to_have_no_effect_have_none(case: Case) -> None:
    method = case.make(0, 3).eval()
    dead = case.without_effect(method)
    pair = tiny_pair()
    styles = [some_styles(translator, 2, 1) for translator in translators(method)]
    before = [each.translate(pair.a, style) for each, style in zip(translators(method), styles, strict=True)]
    with torch.no_grad():
        for name, parameter in trainable(method).items():
            if name in dead:
                parameter.add_(torch.randn(parameter.shape))
    after = [each.translate(pair.a, style) for each, style in zip(translators(method), styles, strict=True)]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


def test_a_seed_repeats_and_another_seed_differs(make: MakeMethod, tmp_path: Path) -> None:
    first = train(make, tmp_path / "1", steps=3).state_dict()
    torch.manual_seed(123)
    second = train(make, tmp_path / "2", steps=3).state_dict()
    other = train(make, tmp_path / "3", seed=1, steps=3).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_what_losses_share_is_made_once_and_changes_no_term(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    given: list[bool] = []
    shared = type(case.make(0, 3)).shared

    def counted(method: Method, pair: Pair) -> dict[str, Any]:
        calls.append(shared(method, pair))
        return calls[-1]

    def noted(loss: Loss) -> Loss:
        def noting(pair: Pair) -> dict[str, Tensor]:
            given.append(bool(pair.shared))
            return loss(pair)

        return noting

    def terms(folder: Path) -> list[dict[str, float]]:
        method, seen = case.make(0, 3), list[dict[str, float]]()
        monkeypatch.setattr(type(method), "shared", counted)
        trainer = tiny_trainer(folder, replace(TINY_TRAINING, max_steps=3), method)
        trainer.losses = {name: noted(loss) for name, loss in trainer.losses.items()}
        trainer.run(on_step=lambda step, terms: seen.append(terms), progress=False)
        return seen

    together = terms(tmp_path / "together")
    if any(phase.every > 1 for phase in case.make(0, 3).phases()):
        assert len(calls) <= 3
    else:
        assert len(calls) == 3
        assert set(given) == {bool(calls[0])}
    monkeypatch.setattr(Trainer, "_with_shared", lambda trainer, step, turns: turns)
    for mine, theirs in zip(terms(tmp_path / "apart"), together, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-4)


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
    method = make(0, channels).eval()
    x = torch.rand(2, channels, *size) * 2 - 1
    for translator in translators(method):
        out = translator.translate(x, some_styles(translator, 2, 3))
        assert out.shape == (2, 3, channels, *size)
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert out.abs().max() <= 1


def test_a_translator_encodes_styles_or_names_the_methods_that_do(make: MakeMethod) -> None:
    for translator in translators(make(0, 3).eval()):
        if translator.reads_styles:
            assert translator.encode_style(tiny_pair().b).shape == (2, translator.style_dim)
        else:
            with pytest.raises(ValueError, match="munit"):
                translator.encode_style(tiny_pair().b)


def test_methods_with_content_and_style_restyle_a_domain(make: MakeMethod) -> None:
    method = make(0, 3).eval().core
    restyler = method.restyler(method.directions[0][1])
    assert (restyler is not None) == (method.name in ("munit", "dritpp", "multidomain"))
    if restyler is None:
        return
    x = tiny_pair().b
    out = restyler.translate(x, some_styles(restyler, len(x), 2))
    assert out.shape == (len(x), 2, *x.shape[1:])
    assert (out[:, 0] - out[:, 1]).abs().mean() > 1e-3


def test_a_translator_is_pure(make: MakeMethod) -> None:
    method = make(0, 3).eval()
    translator = translators(method)[0]
    x, style = tiny_pair().a, some_styles(translator, 2, 2)
    kept_x, kept_style = x.clone(), style.clone()
    weights = {name: value.clone() for name, value in method.state_dict().items()}
    state = torch.get_rng_state()
    first = translator.translate(x, style)
    torch.rand(5)
    second = translator.translate(x, style)
    torch.set_rng_state(state)
    translator.translate(x, style)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert torch.equal(x, kept_x)
    assert torch.equal(style, kept_style)
    assert all(torch.equal(value, weights[name]) for name, value in method.state_dict().items())


def test_an_image_is_translated_alike_in_any_batch(make: MakeMethod) -> None:
    translator, x = translators(make(0, 3).eval())[0], tiny_pair(count=3).a
    style = some_styles(translator, 3, 2)
    together = translator.translate(x, style)
    alone = torch.cat([translator.translate(x[i : i + 1], style[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_styles_reach_the_image(make: MakeMethod) -> None:
    translator = translators(make(0, 3).eval())[0]
    if translator.style_dim == 0:
        return
    style = torch.stack([torch.full((translator.style_dim,), -1.0), torch.linspace(2, 0, translator.style_dim)])
    out = translator.translate(tiny_pair().a, style.expand(2, -1, -1))
    assert (out[:, 0] - out[:, 1]).abs().mean() > 1e-3


def test_a_translator_shares_the_methods_weights(make: MakeMethod) -> None:
    method = make(0, 3)
    wanted = {id(parameter) for parameter in method.parameters()}
    for translator in translators(method):
        assert {id(parameter) for parameter in translator.parameters()} < wanted


@pytest.mark.parametrize(
    "copy", [deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"]
)
def test_a_translator_survives_copying(make: MakeMethod, copy: Callable[[object], object]) -> None:
    method = make(0, 3).eval()
    bank = torch.randn(4, translators(method)[0].style_dim)
    method.core.style_banks["b"] = bank
    translator = method.translator("a", "b")
    twin = copy(translator)
    assert isinstance(twin, type(translator))
    x, style = tiny_pair().a, some_styles(translator, 2, 2)
    assert torch.equal(twin.translate(x, style), translator.translate(x, style))
    assert torch.equal(twin.style_bank, bank if translator.style_dim else translator.style_bank)
    assert not {id(parameter) for parameter in twin.parameters()} & {id(parameter) for parameter in method.parameters()}


def test_a_checkpoint_gives_the_same_translations(make: MakeMethod, tmp_path: Path) -> None:
    method = make(0, 3).eval()
    again = load_method(save_method(method, tmp_path / "checkpoint"))
    assert again.config == method.core.config
    assert again.directions == method.core.directions
    for first, second in zip(translators(method), translators(again), strict=True):
        style = some_styles(first, 2, 2)
        assert torch.equal(first.translate(tiny_pair().a, style), second.translate(tiny_pair().a, style))


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_what_adapt_trains_trains_in_bfloat16(name: str, channels: int, tmp_path: Path) -> None:
    """As tiny networks take other ways: the preset of small images, with the label term of a real classifier."""
    config = replace(TINY_TRAINING, precision="bfloat16", channels_last=True, max_steps=2)
    kind = METHODS[name]
    inner = kind(kind.config_class.preset("small", channels=channels))
    method = SemanticConsistency(inner, build_classifier("lenet", channels, CLASSES, 0).eval())
    a, b = (tiny_domain(key, number, channels, side=28) for number, key in enumerate("ab"))
    loader = UnpairedLoader(a, b, batch_size=2, seed=0)
    terms: list[dict[str, float]] = []
    Trainer(method, loader, config, tmp_path).run(on_step=lambda _, values: terms.append(values), progress=False)
    assert all(torch.tensor(list(values.values())).isfinite().all() for values in terms)


def semantic_pair_losses(method: Method) -> dict[str, Tensor]:
    return {name: value for phase in method.phases() for name, value in phase.loss(tiny_pair()).items()}


@pytest.mark.parametrize("inner", [name for name in CASES if name != "semantic"])
def test_semantic_consistency_adds_one_term_to_any_method(inner: str) -> None:
    method = CASES[inner].make(0, 3)
    wrapped = SemanticConsistency(method, tiny_classifier(3))
    assert [phase.name for phase in wrapped.phases()] == [phase.name for phase in method.phases()]
    assert [phase.modules for phase in wrapped.phases()] == [phase.modules for phase in method.phases()]
    method.eval()  # spectral norm moves its vectors at every forward pass in training
    if not method.translates():
        method.get_buffer("finished_steps").fill_(99)  # after the warm-up
    assert semantic_pair_losses(wrapped).keys() - semantic_pair_losses(method).keys() == {"semantic"}
    assert wrapped.core is method


@pytest.mark.parametrize("name", CASES)
def test_styles_are_of_images_padded_as_in_training(name: str) -> None:
    image = torch.rand(2, 3, 17, 30) * 2 - 1
    for translator in translators(CASES[name].make(0, 3).eval()):
        if translator.reads_styles:
            padded = pad_to_multiple(image, translator.size_multiple)[0]
            assert torch.equal(translator.encode_style(image), translator.encode_style(padded))
