"""TransGaGa: the PCA of positions against numpy, stages, the divergence in closed form, presets and refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import munitaug
from munitaug.losses import divergence_from_normal, mean_absolute_difference
from munitaug.methods import SemanticConsistency, TransGaga, TransGagaConfig
from munitaug.methods.transgaga import PositionCode, TransGagaTranslator, bump_maps
from munitaug.networks.landmarks import concentration_loss, heatmaps_to_moments, separation_loss
from munitaug.networks.texture import gram_matrices
from munitaug.random import torch_generator
from tests.methods.cases import TINY_LANDMARKS
from tests.oracles import SIDES, squares
from tests.runs import TINY_TRAINING, toy_domain
from tests.tiny import tiny_classifier, tiny_pair, tiny_trainer


def fitted(positions: torch.Tensor, size: int) -> PositionCode:
    code = PositionCode(positions.shape[1], size)
    code.follow(positions, momentum=0.0)
    code.fit()
    return code


def test_position_codes_are_a_whitened_pca() -> None:
    positions = torch.rand(200, 3, 2) * torch.tensor([0.1, 0.4])
    code = fitted(positions, size=4)
    flat = positions.flatten(1).double().numpy()
    values = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    np.testing.assert_allclose(code.scale.double().numpy() ** 2, values[:4], rtol=1e-3)
    codes = code.encode(positions)
    torch.testing.assert_close(codes.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.T @ codes / 200, torch.eye(4), atol=2e-2, rtol=0)


def test_a_code_of_all_axes_loses_nothing() -> None:
    positions = torch.rand(50, 3, 2)
    code = fitted(positions, size=6)
    torch.testing.assert_close(code.decode(code.encode(positions)), positions, atol=1e-4, rtol=1e-3)


def test_few_axes_take_off_the_noise_of_single_landmarks() -> None:
    movement = torch.randn(500, 1, 1) * torch.ones(1, 4, 2) * 0.1
    noisy = 0.5 + movement + 0.005 * torch.randn(500, 4, 2)
    code = fitted(noisy, size=1)
    clean = code.decode(code.encode(noisy))
    assert (clean - 0.5 - movement).abs().mean() < 0.6 * (noisy - 0.5 - movement).abs().mean()


def test_divergence_of_the_normal_itself_is_0_and_of_another_in_closed_form() -> None:
    assert divergence_from_normal(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0.0
    by_hand = 0.5 * (0.3**2 + math.exp(0.4) - 1 - 0.4) + 0.5 * (1.0 + math.exp(-1.0) - 1 + 1.0)
    divergence = divergence_from_normal(torch.tensor([[0.3, 1.0]]), torch.tensor([[0.4, -1.0]]))
    assert divergence.item() == pytest.approx(by_hand, rel=1e-5)


def term_names(method: TransGaga, name: str = "generator") -> set[str]:
    (phase,) = [phase for phase in method.phases() if phase.name == name]
    return set(phase.loss(tiny_pair()))


def test_nothing_is_carried_over_before_the_warm_up_is_over() -> None:
    method = TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2))
    own = {f"{name}_{key}" for name in ("image", "kl", "separation", "concentration") for key in "ab"}
    assert term_names(method) == own
    axes = method.positions["a"].get_buffer("axes").clone()
    assert term_names(method) == own
    assert not torch.equal(method.positions["a"].get_buffer("axes"), axes)  # fitted at the end of the warm-up
    fixed = method.positions["a"].get_buffer("axes").clone()
    assert term_names(method) > own
    assert torch.equal(method.positions["a"].get_buffer("axes"), fixed)


def test_discriminators_rest_until_something_is_carried_over() -> None:
    method = TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2))
    judged, made = [], []
    for _ in range(4):  # a step has the discriminators first
        judged.append(bool(term_names(method, "discriminator")))
        made.append("gan_a2b" in term_names(method))
    assert judged == made == [False, False, True, True]


def test_a_run_trains_no_discriminator_in_the_warm_up(tmp_path: Path) -> None:
    method = TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2))
    before = {name: weight.clone() for name, weight in method.discriminators.state_dict().items()}
    config = replace(TINY_TRAINING, max_steps=2, log_every_steps=1)
    tiny_trainer(tmp_path / "short", config, method).run(progress=False)
    assert all(torch.equal(weight, before[name]) for name, weight in method.discriminators.state_dict().items())
    method = TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2))
    tiny_trainer(tmp_path / "long", replace(config, max_steps=3), method).run(progress=False)
    assert not any(
        torch.equal(weight, before[name])
        for name, weight in method.discriminators.state_dict().items()
        if name.endswith("weight")
    )
    lines = [json.loads(line) for line in (tmp_path / "long" / "log.jsonl").read_text().splitlines()]
    assert [any(name.startswith("discriminator/") for name in line) for line in lines] == [False, False, True]


def test_a_run_that_would_end_in_the_warm_up_is_refused(tmp_path: Path) -> None:
    config = replace(TINY_LANDMARKS, warm_up_steps=3)
    with pytest.raises(ValueError, match=r"nothing over in its first 3 steps \(warm_up_steps\), so 3 steps would"):
        munitaug.train(
            toy_domain("a"),
            toy_domain("b", seed=1),
            tmp_path / "run",
            method="transgaga",
            config=replace(config, channels=1),
            training=replace(TINY_TRAINING, max_steps=3),
        )
    assert not (tmp_path / "run").exists()


def test_evaluation_does_not_count_steps() -> None:
    method = TransGaga(TINY_LANDMARKS).eval()
    term_names(method)
    assert method.finished_steps.item() == 0


def test_preparing_fits_the_axes_to_both_domains() -> None:
    method = TransGaga(TINY_LANDMARKS)
    before = method.positions["a"].get_buffer("axes").clone()
    method.prepare(iter([tiny_pair(count=8, seed=1), tiny_pair(count=8, seed=2)]))
    assert not torch.equal(method.positions["a"].get_buffer("axes"), before)
    axes = method.positions["b"].get_buffer("axes")
    torch.testing.assert_close(axes @ axes.T, torch.eye(4), atol=1e-5, rtol=0)


def test_geometry_can_be_interpolated_and_decoded() -> None:
    translator = TransGaga(TINY_LANDMARKS).eval().translator("a", "b")
    assert isinstance(translator, TransGagaTranslator)
    x = tiny_pair().a
    positions = translator.landmarks(x)
    assert positions.shape == (2, 3, 2)
    middle = bump_maps((0.5 * positions[:1] + 0.5 * positions[1:]), 16, 16, translator.landmark_deviation)
    assert translator.decode(middle, torch.zeros(1, 3)).shape == (1, 3, 16, 16)
    content = translator.encode_content(x)
    assert isinstance(content, torch.Tensor)
    torch.testing.assert_close(bump_maps(positions, 16, 16, 0.1), content)


def test_an_images_own_appearance_can_be_carried_over() -> None:
    translator = TransGaga(TINY_LANDMARKS).eval().translator("a", "b")
    assert isinstance(translator, TransGagaTranslator)
    codes = translator.carried_style(tiny_pair(side=18).a)
    assert codes.shape == (2, 3)
    assert not torch.equal(codes[0], codes[1])


def test_given_features_of_four_channels_are_refused_before_the_warm_up() -> None:
    config = replace(TINY_LANDMARKS, appearance_features="given", channels=4, warm_up_steps=2)
    with pytest.raises(ValueError, match="a feature network takes images of 1 or 3 channels, got 4"):
        TransGaga(config, features=nn.Flatten()).phases()


def test_the_label_term_waits_for_the_end_of_the_warm_up() -> None:
    """What a mapper learns before is in a basis that is then replaced."""
    method = SemanticConsistency(TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2)), tiny_classifier(3))
    (generator,) = [phase for phase in method.phases() if phase.name == "generator"]
    assert ["semantic" in generator.loss(tiny_pair()) for _ in range(3)] == [False, False, True]


def test_given_features_are_needed_and_used() -> None:
    config = replace(TINY_LANDMARKS, appearance_features="given")
    with pytest.raises(ValueError, match=r'needs a feature network.*"random"'):
        TransGaga(config).phases()
    with_features = TransGaga(config, features=nn.Conv2d(3, 2, 1).requires_grad_(False))
    assert "appearance_a2b" in term_names(with_features)
    assert not any(name.startswith("_features") for name in with_features.state_dict())
    assert TransGaga(replace(config, weight_appearance=0.0)).phases()


def test_the_paper_preset_has_30_landmarks_and_needs_vgg() -> None:
    config = TransGagaConfig.preset("paper")
    assert config.landmarks == 30
    assert config.appearance_features == "given"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 5}, "channels must be 1 to 4"),
        ({"landmarks": 1}, "landmarks must be at least 2"),
        ({"pca_dim": 7}, r"pca_dim must be at most twice the landmarks \(6\)"),
        ({"weight_cycle": -1.0}, "weight_cycle must be at least 0"),
        ({"landmark_deviation": 0.0}, "landmark_deviation must be above 0"),
        ({"edge_kernel": 4}, "edge_kernel must be odd"),
        ({"appearance_features": "vgg"}, "appearance_features must be"),
        ({"warm_up_steps": -1}, "warm_up_steps must be at least 0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_LANDMARKS, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of"):
        TransGagaConfig.preset("huge")


WEIGHTS = {
    "weight_image": 2.0, "weight_kl": 3.0, "weight_separation": 5.0, "weight_concentration": 7.0, "weight_gan": 11.0,
    "weight_code_gan": 13.0, "weight_code_cycle": 17.0, "weight_cycle": 19.0, "weight_appearance": 23.0,
}  # fmt: skip


class Oracle:
    """The parts of a TransGaGa, put together by hand."""

    def __init__(self, method: TransGaga) -> None:
        self.method, self.pair = method, tiny_pair()
        self.images = {"a": self.pair.a, "b": self.pair.b}
        self.parts = {key: self.apart(key, image) for key, image in self.images.items()}

    def apart(self, key: str, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        coder = self.method._coder(key)
        means, deviations = heatmaps_to_moments(coder.landmark_encoder(image))
        return means, deviations, *coder.appearance_encoder(image)

    def code(self, key: str, means: Tensor) -> Tensor:
        return cast(PositionCode, self.method.positions[key]).encode(means)

    def carried(self, source: str, target: str, means: Tensor, appearance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.method.mappers[f"geometry_{source}"](self.code(source, means))
        positions = cast(PositionCode, self.method.positions[target]).decode(code)
        return code, positions, self.method.mappers[f"appearance_{source}"](appearance)

    def image(self, key: str, means: Tensor, appearance: Tensor) -> Tensor:
        return self.method._coder(key).decode(bump_maps(means, 16, 16, 0.1), appearance)

    def drawn(self, phase: str, key: str) -> Tensor:
        return torch.randn(2, 3, generator=torch_generator(self.pair.seed, "style", phase, key))

    def squares(self, judge: str, x: Tensor, wanted: float) -> float:
        return squares(self.method.discriminators[judge](x), wanted)

    def fakes(self, phase: str, source: str, target: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        means, _, appearance, _ = self.parts[source]
        code, positions, carried = self.carried(source, target, means, appearance)
        fake, varied = (self.image(target, positions, each) for each in (carried, self.drawn(phase, target)))
        return code, carried, fake, varied

    def discriminator_terms(self) -> dict[str, float]:
        terms = {}
        for target, source in SIDES:
            code, carried, fake, varied = self.fakes("discriminator", source, target)
            means, _, appearance, _ = self.parts[target]
            for name, weight, real, made in (
                ("image", 11.0, self.images[target], torch.cat([fake, varied])),
                ("geometry", 13.0, self.code(target, means), code),
                ("appearance", 13.0, appearance, carried),
            ):
                judge = f"{name}_{target}"
                terms[judge] = weight * (self.squares(judge, real, 1.0) + self.squares(judge, made, 0.0))
        return terms

    def generator_terms(self) -> dict[str, float]:
        terms: dict[str, Tensor | float] = {}
        for target, source in SIDES:
            means, deviations, appearance, log_variance = self.parts[source]
            sampled = appearance + self.drawn("posterior", source) * log_variance.exp().sqrt()
            again = self.image(source, means, sampled)
            terms[f"image_{source}"] = 2.0 * mean_absolute_difference(again, self.images[source])
            terms[f"kl_{source}"] = 3.0 * divergence_from_normal(appearance, log_variance)
            terms[f"separation_{source}"] = 5.0 * separation_loss(means, TINY_LANDMARKS.separation_deviation)
            terms[f"concentration_{source}"] = 7.0 * concentration_loss(deviations)
            way = f"{source}2{target}"
            code, carried, fake, varied = self.fakes("generator", source, target)
            terms[f"gan_{way}"] = 11.0 * self.squares(f"image_{target}", torch.cat([fake, varied]), 1.0)
            terms[f"geometry_gan_{way}"] = 13.0 * self.squares(f"geometry_{target}", code, 1.0)
            terms[f"appearance_gan_{way}"] = 13.0 * self.squares(f"appearance_{target}", carried, 1.0)
            geometry_again = self.method.mappers[f"geometry_{target}"](code)
            appearance_again = self.method.mappers[f"appearance_{target}"](carried)
            terms[f"code_cycle_{way}"] = 17.0 * (
                mean_absolute_difference(geometry_again, self.code(source, means))
                + mean_absolute_difference(appearance_again, appearance)
            )
            seen, _, look, _ = self.apart(target, fake)
            _, positions, carried_back = self.carried(target, source, seen, look)
            back = self.image(source, positions, carried_back)
            terms[f"cycle_{way}"] = 19.0 * mean_absolute_difference(back, self.images[source])
            (features,) = self.method.hidden_networks()
            assert features is not None
            grams = gram_matrices(features(fake)), gram_matrices(features(self.images[source]))
            terms[f"appearance_{way}"] = 23.0 * mean_absolute_difference(*grams)
        return {name: float(value) for name, value in terms.items()}


@torch.no_grad()
def test_every_term_is_its_formula() -> None:
    method = TransGaga(replace(TINY_LANDMARKS, **WEIGHTS), seed=3)  # type: ignore[arg-type]
    method.prepare(iter([tiny_pair(count=8, seed=1), tiny_pair(count=8, seed=2)]))
    for parameter in method.discriminators.parameters():
        parameter.mul_(15.0)  # scores of order 1, so that they weigh
    oracle = Oracle(method)
    discriminator, generator = method.phases()
    for phase, wanted in (
        (discriminator, oracle.discriminator_terms()),
        (generator, oracle.generator_terms()),
    ):
        terms = {name: value.item() for name, value in phase.loss(oracle.pair).items()}
        assert terms == pytest.approx(wanted, rel=1e-3)


def test_a_carried_style_is_that_of_the_source_encoder_carried_over() -> None:
    method = TransGaga(TINY_LANDMARKS, seed=3).eval()
    translator, x = method.translator("a", "b"), tiny_pair().a
    assert isinstance(translator, TransGagaTranslator)
    wanted = method.mappers["appearance_a"](method._coder("a").appearance_encoder(x)[0])
    assert torch.equal(translator.carried_style(x), wanted)
