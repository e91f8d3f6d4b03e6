"""UNIT's terms against slow oracles, its switches, its noise, its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from munitaug.losses import GanLoss
from munitaug.method import OptimiserSettings
from munitaug.methods import Unit, UnitConfig
from munitaug.methods.unit import latent_divergence, with_noise
from munitaug.networks.discriminator import MultiScaleDiscriminator
from munitaug.networks.unit import SharedFormDiscriminator
from munitaug.random import torch_generator
from munitaug.types import Pair
from tests.methods.cases import TINY_LATER_UNIT, TINY_SHARED_UNIT
from tests.oracles import SIDES, mean_absolute, mean_over_patches
from tests.tiny import tiny_pair

ONES = {"weight_gan": 1.0, "weight_image": 1.0, "weight_kl": 1.0, "weight_cycle": 1.0, "weight_cycle_kl": 1.0}
FORMS = {"shared": replace(TINY_SHARED_UNIT, **ONES), "later": replace(TINY_LATER_UNIT, **ONES)}  # type: ignore[arg-type]
GAN_LOSSES: tuple[GanLoss, ...] = ("lsgan", "nsgan", "hinge")


def method_of(config: UnitConfig) -> Unit:
    """Gives a UNIT whose discriminators' scores are of order 1, so that they weigh in a comparison."""
    method = Unit(config, seed=3)
    with torch.no_grad():
        for parameter in method.discriminators.parameters():
            parameter.mul_(15.0)
    return method


def terms_of(method: Unit, name: str, pair: Pair) -> dict[str, float]:
    (phase,) = (phase for phase in method.phases() if phase.name == name)
    return {term: value.item() for term, value in phase.loss(pair).items()}


class UnitOracle:
    """UNIT's terms for one pair, one image at a time, with a double-precision copy of the networks."""

    def __init__(self, method: Unit, pair: Pair) -> None:
        self.method = deepcopy(method).double()
        self.images = {"a": pair.a.double(), "b": pair.b.double()}
        self.pair = pair
        self.count = range(len(pair.a))

    def mean(self, key: str, image: Tensor) -> Tensor:
        return self.method.generators.encode(key, image[None])

    def decoded(self, key: str, latent: Tensor) -> Tensor:
        return self.method.generators.decode(key, latent)[0].double()

    def noise(self, where: str, like: Tensor) -> Tensor:
        """Gives N x Q x h x w draws, a function of the pair's seed and the use."""
        shape = (len(self.count), *like.shape[1:])
        return torch.randn(shape, generator=torch_generator(self.pair.seed, "latent noise", where)).double()

    def noisy(self, key: str, index: int, use: str) -> Tensor:
        mean = self.mean(key, self.images[key][index])
        return mean + self.noise(f"{use} {key}", mean)[index]

    def prices(self, key: str, images: list[Tensor], pays: str) -> float:
        judge = self.method.discriminators[key]
        values = [mean_over_patches(judge(image[None]), self.method.config.gan_loss, pays) for image in images]
        return sum(values) / len(values)

    def average(self, values: Iterator[float]) -> float:
        return sum(values) / len(self.count)

    @torch.no_grad()
    def generator_terms(self) -> dict[str, float]:
        terms: dict[str, float] = {}
        for key, other in SIDES:
            own, sources = self.images[key], self.images[other]
            means = [self.mean(key, own[i]) for i in self.count]
            rebuilt = [self.decoded(key, self.noisy(key, i, "made")) for i in self.count]
            fakes = [self.decoded(key, self.noisy(other, i, "made")) for i in self.count]
            again = [self.mean(key, fake) for fake in fakes]
            noise = self.noise(f"cycle {key}", again[0])
            back = [self.decoded(other, again[i] + noise[i]) for i in self.count]
            terms |= {
                f"image_{key}": self.average(mean_absolute(rebuilt[i], own[i]) for i in self.count),
                f"kl_{key}": self.average(mean_of_squares(mean) for mean in means),
                f"gan_{key}": self.prices(key, fakes, "generator"),
                f"cycle_{key}": self.average(mean_absolute(back[i], sources[i]) for i in self.count),
                f"cycle_kl_{key}": self.average(mean_of_squares(mean) for mean in again),
            }
        return terms

    @torch.no_grad()
    def discriminator_terms(self) -> dict[str, float]:
        terms = {}
        for key, other in SIDES:
            fakes = [self.decoded(key, self.noisy(other, i, "judged")) for i in self.count]
            terms[f"gan_{key}"] = self.prices(key, list(self.images[key]), "real") + self.prices(key, fakes, "fake")
        return terms


def mean_of_squares(x: Tensor) -> float:
    squares: list[float] = [value * value for value in x.flatten().tolist()]
    return sum(squares) / len(squares)


@pytest.mark.parametrize("gan_loss", GAN_LOSSES)
@pytest.mark.parametrize("form", FORMS)
def test_every_generator_term_equals_its_oracle(form: str, gan_loss: GanLoss) -> None:
    method, pair = method_of(replace(FORMS[form], gan_loss=gan_loss)), tiny_pair()
    expected = UnitOracle(method, pair).generator_terms()
    terms = terms_of(method, "generator", pair)
    assert terms == {name: pytest.approx(value, rel=2e-4) for name, value in expected.items()}


@pytest.mark.parametrize("gan_loss", GAN_LOSSES)
@pytest.mark.parametrize("form", FORMS)
def test_every_discriminator_term_equals_its_oracle(form: str, gan_loss: GanLoss) -> None:
    method, pair = method_of(replace(FORMS[form], gan_loss=gan_loss, n_scales=2)), tiny_pair()
    expected = UnitOracle(method, pair).discriminator_terms()
    assert terms_of(method, "discriminator", pair) == {
        name: pytest.approx(value, rel=2e-4) for name, value in expected.items()
    }


TERMS = {
    "weight_gan": "gan",
    "weight_image": "image",
    "weight_kl": "kl",
    "weight_cycle": "cycle",
    "weight_cycle_kl": "cycle_kl",
}


@pytest.mark.parametrize("weight", TERMS)
def test_a_weight_multiplies_its_term_and_no_other(weight: str) -> None:
    tripled = UnitConfig(**{**vars(FORMS["shared"]), weight: 3.0})
    once, thrice = (terms_of(method_of(config), "generator", tiny_pair()) for config in (FORMS["shared"], tripled))
    factors = {name: 3.0 if name in (f"{TERMS[weight]}_a", f"{TERMS[weight]}_b") else 1.0 for name in once}
    assert thrice == {name: pytest.approx(factors[name] * value, rel=1e-5) for name, value in once.items()}
    assert sorted(factors.values())[-2:] == [3.0, 3.0]


@pytest.mark.parametrize("weight", TERMS)
def test_a_weight_of_zero_leaves_its_term_out(weight: str) -> None:
    without = UnitConfig(**{**vars(FORMS["later"]), weight: 0.0})
    present, absent = (terms_of(method_of(config), "generator", tiny_pair()) for config in (FORMS["later"], without))
    assert present.keys() - absent.keys() == {f"{TERMS[weight]}_a", f"{TERMS[weight]}_b"}


def test_every_field_named_weight_is_tested_above() -> None:
    assert {name for name in asdict(TINY_SHARED_UNIT) if name.startswith("weight_")} == TERMS.keys()


def test_without_cycle_terms_translations_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    method = method_of(replace(FORMS["shared"], weight_cycle=0.0, weight_cycle_kl=0.0))
    encoded: list[str] = []
    encode = method.generators.encode

    def counted(key: str, x: Tensor) -> Tensor:
        encoded.append(key)
        return encode(key, x)

    monkeypatch.setattr(method.generators, "encode", counted)
    terms_of(method, "generator", tiny_pair())
    assert encoded == ["a", "b"]


def test_noise_is_standard_normal_and_decided_by_seed_and_use() -> None:
    mean = torch.full((4, 8, 32, 32), 2.0)
    noise = with_noise(mean, Pair(mean, mean, seed=1), "made a") - mean
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(with_noise(mean, Pair(mean, mean, seed=1), "made a") - mean, noise)
    for seed, use in ((2, "made a"), (1, "made b")):
        assert not torch.equal(with_noise(mean, Pair(mean, mean, seed=seed), use) - mean, noise)


def test_the_divergence_is_twice_that_of_two_normal_distributions() -> None:
    mean = torch.tensor([[[[0.5, -1.0], [2.0, 0.0]]]])
    ours, standard = torch.distributions.Normal(mean, 1.0), torch.distributions.Normal(0.0, 1.0)
    expected = 2 * torch.distributions.kl_divergence(ours, standard).mean()
    torch.testing.assert_close(latent_divergence(mean), expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_translator_decodes_the_mean_without_noise(form: str) -> None:
    method, image = method_of(FORMS[form]).train(), tiny_pair().a
    expected = method.generators.decode("b", method.generators.encode("a", image))
    found = method.translator("a", "b").translate(image, torch.zeros(2, 1, 0))[:, 0]
    torch.testing.assert_close(found, expected)


def test_the_paper_preset_has_the_numbers_of_2017() -> None:
    config = UnitConfig.preset("paper")
    assert config == UnitConfig()
    weights = (config.weight_gan, config.weight_image, config.weight_cycle, config.weight_kl, config.weight_cycle_kl)
    assert weights == (10.0, 100.0, 100.0, 0.1, 0.1)
    assert (config.form, config.n_residual, config.n_shared, config.gan_loss) == ("shared", 3, 1, "nsgan")
    assert config.optimiser == OptimiserSettings(lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4)
    assert isinstance(config.discriminator(), SharedFormDiscriminator)


def test_the_later_preset_has_the_numbers_of_the_later_code() -> None:
    config = UnitConfig.preset("later", channels=1)
    weights = (config.weight_gan, config.weight_image, config.weight_cycle, config.weight_kl, config.weight_cycle_kl)
    assert weights == (1.0, 10.0, 10.0, 0.01, 0.01)
    assert (config.form, config.n_residual, config.n_shared, config.gan_loss) == ("later", 4, 0, "lsgan")
    assert config.optimiser == OptimiserSettings(halve_every_steps=100_000)
    judge = config.discriminator()
    assert isinstance(judge, MultiScaleDiscriminator)
    assert config.channels == 1


def test_initial_weights_follow_the_law_of_the_form() -> None:
    shared, later = Unit(UnitConfig.preset("small")), Unit(replace(UnitConfig.preset("later"), width=16))
    block = shared.generators.state_dict()["shared_encoder.0.first.weight"]
    assert block.std().item() == pytest.approx(0.02, rel=0.05)
    block = later.generators.state_dict()["encoders.a.layers.3.first.conv.weight"]
    assert block.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "loose"}, "form must be one of shared, later"),
        ({"form": "later"}, 'form "later" shares no layers, so n_shared must be 0, got 1; preset "later"'),
        ({"n_shared": 0}, 'form "shared" needs n_shared of at least 1'),
        ({"n_shared": -1}, "n_shared must be at least 0, got -1"),
        ({"channels": 5}, "channels must be 1 to 4"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"n_downsample": 4}, "n_downsample must be 1 to 3"),
        ({"edge_kernel": 4}, "edge_kernel must be odd"),
        ({"weight_kl": -1.0}, "weight_kl must be at least 0"),
        ({"weight_gan": float("nan")}, "weight_gan must be at least 0"),
        ({"gan_loss": "wgan"}, "gan_loss must be"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_SHARED_UNIT, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of paper, later, small, got 'huge'"):
        UnitConfig.preset("huge")
