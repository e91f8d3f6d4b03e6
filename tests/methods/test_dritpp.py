"""DRIT++: every term against a slow oracle, the schedule, the clipped gradient, published sizes, refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from munitaug.method import OptimiserSettings
from munitaug.methods import Dritpp, DritppConfig
from munitaug.methods.dritpp import (
    AttributeCode,
    DritppTranslator,
    apply_fixed,
    attribute_prior_loss,
    indistinguishable_loss,
)
from munitaug.methods.parts import scores_of
from munitaug.networks.drit import (
    ContentDiscriminator,
    DritShape,
    FeatureWiseBlock,
    PooledResidualBlock,
    UpUnit,
    beside,
    initialise_linear_layers,
)
from munitaug.random import torch_generator
from munitaug.types import Pair
from tests.methods.cases import TINY_DRIT
from tests.oracles import SIDES, mean_absolute, mean_over_patches
from tests.tiny import TINY_TRAINING, tiny_pair, tiny_trainer

EVERY_TERM = replace(
    TINY_DRIT,
    content_noise=0.5,
    content_clip_norm=0.0,
    weight_gan=1.0,
    weight_content_gan=1.0,
    weight_cross_cycle=1.0,
    weight_self=1.0,
    weight_latent=1.0,
    weight_kl=1.0,
    weight_content_norm=1.0,
    weight_mode_seeking=1.0,
)
FORMS = ("concatenation", "feature-wise")


def method_of(config: DritppConfig) -> Dritpp:
    """Gives a DRIT++ whose discriminators' scores are of order 1, so that they weigh in a comparison."""
    method = Dritpp(config, seed=3)
    with torch.no_grad():
        for judges in (method.discriminators, method.random_discriminators, method.content_discriminator):
            for parameter in judges.parameters():
                parameter.mul_(15.0)
    return method


def terms_of(method: Dritpp, name: str, pair: Pair) -> dict[str, float]:
    (phase,) = [phase for phase in method.phases() if phase.name == name]
    return {term: value.item() for term, value in phase.loss(pair).items()}


class DritOracle:
    """DRIT++'s terms for one pair, one image at a time, with a double-precision copy of the networks; weights 1."""

    def __init__(self, method: Dritpp, pair: Pair) -> None:
        self.config = method.config
        self.method = deepcopy(method).double()
        self.images = {"a": pair.a.double(), "b": pair.b.double()}
        self.pair = pair
        self.count = len(pair.a)
        self.seeking = self.config.weight_mode_seeking > 0.0

    def draw(self, size: Sequence[int], *purpose: str) -> Tensor:
        return torch.randn(*size, generator=torch_generator(self.pair.seed, *purpose)).double()

    def content(self, key: str, image: Tensor, index: int, purpose: str) -> Tensor:
        clean: Tensor = self.method.shared_encoder(self.method.content_encoders[key](image[None]))[0]
        noise = self.draw((self.count, *clean.shape), "content noise", key, purpose)
        return clean + self.config.content_noise * noise[index]

    def code(self, key: str, image: Tensor) -> AttributeCode:
        mean, log_variance = self.method.attribute_encoders[key](image[None])
        return AttributeCode(mean[0], None if log_variance is None else log_variance[0])

    def attribute(self, key: str, image: Tensor, index: int, purpose: str) -> Tensor:
        code = self.code(key, image)
        if code.log_variance is None:
            return code.mean.double()
        noise = self.draw((self.count, self.config.style_dim), "attribute noise", key, purpose)[index]
        deviations = [math.sqrt(math.exp(value)) for value in code.log_variance.tolist()]
        return code.mean.double() + torch.tensor(deviations, dtype=torch.float64) * noise

    def drawn(self, purpose: str, name: str, index: int) -> Tensor:
        return self.draw((self.count, self.config.style_dim), "attribute", purpose, name)[index]

    def decoded(self, key: str, content: Tensor, attribute: Tensor) -> Tensor:
        image: Tensor = self.method.generators[key](self.method.shared_decoder(content[None]), attribute[None])[0]
        return image.double()

    def fake(self, key: str, other: str, index: int, purpose: str, name: str) -> Tensor:
        """Gives an image of one domain with a content of the other and an attribute: "encoded", "first" or "second"."""
        content = self.content(other, self.images[other][index], index, purpose)
        if name == "encoded":
            return self.decoded(key, content, self.attribute(key, self.images[key][index], index, purpose))
        return self.decoded(key, content, self.drawn(purpose, name, index))

    def price(self, judge: nn.Module, image: Tensor, pays: str) -> float:
        return mean_over_patches([maps[0] for maps in judge(image[None])], "nsgan", pays)

    def generator_terms(self) -> dict[str, float]:
        terms: dict[str, float] = {}
        for key, other in SIDES:
            means: dict[str, list[float]] = {}
            for index in range(self.count):
                for name, value in self.terms_of_image(key, other, index).items():
                    means.setdefault(f"{name}_{key}", []).append(value)
            terms |= {name: sum(values) / len(values) for name, values in means.items()}
            if self.seeking:
                terms[f"mode_seeking_{key}"] = self.mode_seeking(key, other)
        return terms

    def terms_of_image(self, key: str, other: str, index: int) -> dict[str, float]:
        image = self.images[key][index]
        content = self.content(key, image, index, "generator")
        scores = self.method.content_discriminator(content[None])[0].flatten().tolist()
        sigmoids = [1.0 / (1.0 + math.exp(-score)) for score in scores]
        encoded = self.fake(key, other, index, "generator", "encoded")
        first = self.fake(key, other, index, "generator", "first")
        judge = self.method.random_discriminators[key]
        random = self.price(judge, first, "generator")
        if self.seeking:
            random += self.price(judge, self.fake(key, other, index, "generator", "second"), "generator")
        own = self.decoded(key, content, self.attribute(key, image, index, "generator"))
        return {
            "content_gan": sum(-0.5 * math.log(p) - 0.5 * math.log(1 - p) for p in sigmoids) / len(sigmoids),
            "kl": self.prior_price(self.code(key, image)),
            "content_norm": sum(value**2 for value in content.flatten().tolist()) / content.numel(),
            "self": mean_absolute(own, image),
            "gan": self.price(self.method.discriminators[key], encoded, "generator"),
            "gan_random": random,
            "latent": mean_absolute(self.code(key, first).mean, self.drawn("generator", "first", index)),
            "cross_cycle": self.cross_cycle(key, other, index),
        }

    def prior_price(self, code: AttributeCode) -> float:
        if code.log_variance is None:
            return sum(float(m) ** 2 for m in code.mean) / len(code.mean)
        own = torch.distributions.Normal(code.mean, (0.5 * code.log_variance).exp())
        divergence: Tensor = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))
        return float(divergence.sum())

    def cross_cycle(self, key: str, other: str, index: int) -> float:
        mine, theirs = (
            self.fake(key, other, index, "generator", "encoded"),
            self.fake(other, key, index, "generator", "encoded"),
        )
        content = self.content(other, theirs, index, "cross-cycle")  # an image of the other domain, content of this one
        back = self.decoded(key, content, self.attribute(key, mine, index, "cross-cycle"))
        return mean_absolute(back, self.images[key][index])

    def mode_seeking(self, key: str, other: str) -> float:
        images, styles = [], []
        for index in range(self.count):
            pairs = [self.fake(key, other, index, "generator", name) for name in ("first", "second")]
            images.append(mean_absolute(*pairs))
            styles.append(mean_absolute(*(self.drawn("generator", name, index) for name in ("first", "second"))))
        return sum(styles) / (sum(images) + 1e-5 * self.count)

    def discriminator_terms(self) -> dict[str, float]:
        terms = {}
        for key, other in SIDES:
            for term, judges, names in (
                ("gan", self.method.discriminators, ["encoded"]),
                ("gan_random", self.method.random_discriminators, ["first", "second"] if self.seeking else ["first"]),
            ):
                total = 0.0
                for index in range(self.count):
                    for name in names:
                        fake = self.fake(key, other, index, "discriminator", name)
                        total += self.price(judges[key], self.images[key][index], "real")
                        total += self.price(judges[key], fake, "fake")
                terms[f"{term}_{key}"] = total / self.count
        return terms

    def content_discriminator_terms(self) -> dict[str, float]:
        total = 0.0
        for index in range(self.count):
            for key, pays in (("a", "fake"), ("b", "real")):
                content = self.content(key, self.images[key][index], index, "content_discriminator")
                total += self.price(self.method.content_discriminator, content, pays)
        return {"gan": total / self.count}


def close(terms: dict[str, float]) -> dict[str, object]:
    return {name: pytest.approx(value, rel=3e-4, abs=1e-6) for name, value in terms.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seeking", [0.0, 1.0])
def test_every_term_equals_its_oracle(form: str, seeking: float) -> None:
    config = replace(EVERY_TERM, conditioning=form, weight_mode_seeking=seeking)  # type: ignore[arg-type]
    method, pair = method_of(config), tiny_pair(count=2)
    with torch.no_grad():
        oracle = DritOracle(method, pair)
        expected = (
            oracle.generator_terms(),
            oracle.discriminator_terms(),
            oracle.content_discriminator_terms(),
        )
    assert terms_of(method, "generator", pair) == close(expected[0])
    assert terms_of(method, "discriminator", pair) == close(expected[1])
    assert terms_of(method, "content_discriminator", pair) == close(expected[2])


WEIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "weight_gan": {"generator": ("gan", "gan_random"), "discriminator": ("gan", "gan_random")},
    "weight_content_gan": {"generator": ("content_gan",), "content_discriminator": ("gan",)},
    "weight_cross_cycle": {"generator": ("cross_cycle",)},
    "weight_self": {"generator": ("self",)},
    "weight_latent": {"generator": ("latent",)},
    "weight_kl": {"generator": ("kl",)},
    "weight_content_norm": {"generator": ("content_norm",)},
    "weight_mode_seeking": {"generator": ("mode_seeking",)},
}


def test_every_field_named_weight_is_tested_below() -> None:
    assert {name for name in asdict(TINY_DRIT) if name.startswith("weight_")} == WEIGHTS.keys()


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_multiplies_its_terms_and_no_other(weight: str) -> None:
    tripled = DritppConfig(**{**vars(EVERY_TERM), weight: 3.0})
    methods, pair = (method_of(EVERY_TERM), method_of(tripled)), tiny_pair()
    for phase in ("discriminator", "content_discriminator", "generator"):
        once, thrice = (terms_of(method, phase, pair) for method in methods)
        changed = WEIGHTS[weight].get(phase, ())
        names = {name for term in changed for name in (f"{term}_a", f"{term}_b", term) if name in once}
        assert bool(names) == bool(changed)
        assert thrice == close({name: (3.0 if name in names else 1.0) * value for name, value in once.items()})


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_of_zero_leaves_its_terms_out_of_the_generators_phase(weight: str) -> None:
    without = DritppConfig(**{**vars(EVERY_TERM), weight: 0.0})
    present, absent = (terms_of(method_of(config), "generator", tiny_pair()) for config in (EVERY_TERM, without))
    assert present.keys() - absent.keys() == {f"{term}_{key}" for term in WEIGHTS[weight]["generator"] for key in "ab"}


def only(**weights: float) -> DritppConfig:
    return DritppConfig(**{**vars(EVERY_TERM), **dict.fromkeys(WEIGHTS, 0.0), **weights})


def gradients_of(method: Dritpp, module: nn.Module, phase: str = "generator") -> float:
    """Gives the largest gradient of a module's weights after backward of one phase."""
    method.zero_grad()
    (found,) = [each for each in method.phases() if each.name == phase]
    sum(found.loss(tiny_pair()).values(), torch.zeros(())).backward()
    return max(0.0 if p.grad is None else p.grad.abs().max().item() for p in module.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_the_terms_on_random_attributes_train_all_but_the_attribute_encoders(form: str) -> None:
    config = replace(only(weight_latent=1.0, weight_mode_seeking=1.0), conditioning=form)  # type: ignore[arg-type]
    method = method_of(config)
    assert gradients_of(method, method.attribute_encoders) == 0.0
    for module in (method.generators, method.content_encoders, method.shared_encoder):
        assert gradients_of(method, module) > 0.0


def test_the_terms_on_encoded_attributes_train_the_attribute_encoders() -> None:
    method = method_of(only(weight_self=1.0))
    assert gradients_of(method, method.attribute_encoders) > 0.0


def test_an_encoder_applied_fixed_passes_the_same_gradient_to_its_input() -> None:
    encoder, image = Dritpp(TINY_DRIT).attribute_encoders["a"], tiny_pair().a.requires_grad_()
    (plain,) = torch.autograd.grad(encoder(image)[0].square().sum(), image)
    (fixed,) = torch.autograd.grad(apply_fixed(encoder, image)[0].square().sum(), image)
    torch.testing.assert_close(fixed, plain)
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("phase", ["discriminator", "content_discriminator"])
def test_a_discriminator_phase_builds_no_generator_graph(phase: str) -> None:
    method = method_of(EVERY_TERM)
    for module in (method.content_encoders, method.attribute_encoders, method.generators, method.shared_encoder):
        assert gradients_of(method, module, phase) == 0.0
    judges = (method.discriminators, method.random_discriminators, method.content_discriminator)
    moved = [gradients_of(method, judge, phase) > 0.0 for judge in judges]
    assert moved == ([True, True, False] if phase == "discriminator" else [False, False, True])


def test_a_loss_is_a_function_of_the_pair() -> None:
    method, pair = method_of(EVERY_TERM), tiny_pair()
    first = terms_of(method, "generator", pair)
    torch.manual_seed(99)
    assert terms_of(method, "generator", pair) == first
    assert terms_of(method, "generator", replace(pair, seed=pair.seed + 1)) != first


def test_the_content_discriminators_gradient_is_clipped_and_no_others(tmp_path: Path) -> None:
    config = replace(TINY_DRIT, content_clip_norm=1e-3, content_steps=1, weight_content_gan=100.0)
    for most in (0.0, 1e-3):
        method = method_of(replace(config, content_clip_norm=most))
        tiny_trainer(tmp_path / str(most), replace(TINY_TRAINING, max_steps=1), method).run(progress=False)
        norms = [norm_of_gradients(judge) for judge in (method.content_discriminator, method.discriminators)]
        assert (norms[0] == pytest.approx(1e-3, rel=2e-3)) == (most > 0.0)
        assert min(norms[most > 0.0 :]) > 1e-2


def norm_of_gradients(module: nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in module.parameters() if p.grad is not None))


def test_between_two_updates_the_content_discriminator_learns_alone(tmp_path: Path) -> None:
    method = Dritpp(replace(TINY_DRIT, content_steps=3))
    seen: list[set[str]] = []
    trainer = tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=5), method)
    trainer.run(on_step=lambda _, terms: seen.append({name.split("/")[0] for name in terms}), progress=False)
    everything = {"discriminator", "content_discriminator", "generator"}
    assert seen == [
        everything,
        {"content_discriminator"},
        {"content_discriminator"},
        everything,
        {"content_discriminator"},
    ]


def test_indistinguishable_contents_cost_log_2_and_all_others_more() -> None:
    assert indistinguishable_loss([torch.zeros(2, 1, 3, 3)]).item() == pytest.approx(math.log(2.0))
    for score in (-2.0, 0.7):
        probability = 1.0 / (1.0 + math.exp(-score))
        by_hand = -0.5 * math.log(probability) - 0.5 * math.log(1.0 - probability)
        assert indistinguishable_loss([torch.full((1, 1, 2, 2), score)]).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_prior_term_is_a_mean_over_images_of_a_sum_over_numbers() -> None:
    assert attribute_prior_loss(AttributeCode(torch.zeros(2, 3), torch.zeros(2, 3))).item() == 0.0
    code = AttributeCode(torch.tensor([[0.3, 1.0], [0.0, 0.0]]), torch.tensor([[0.4, -1.0], [0.0, 0.0]]))
    by_hand = 0.5 * (0.3**2 + math.exp(0.4) - 1 - 0.4) + 0.5 * (1.0 + math.exp(-1.0) - 1 + 1.0)
    assert attribute_prior_loss(code).item() == pytest.approx(by_hand / 2, rel=1e-5)
    assert attribute_prior_loss(AttributeCode(code.mean, None)).item() == pytest.approx(1.09 / 4, rel=1e-5)


def test_scores_come_back_by_batch_then_scale() -> None:
    method = method_of(TINY_DRIT)
    batches = [tiny_pair(seed=seed).a for seed in (1, 2, 3)]
    judge = method.discriminators["a"]
    for maps, batch in zip(scores_of(judge, batches), batches, strict=True):
        torch.testing.assert_close(maps, judge(batch))


def test_noise_on_contents_has_the_deviation_it_should_and_none_at_use() -> None:
    method, pair = Dritpp(replace(TINY_DRIT, content_noise=0.5)), tiny_pair(count=64)
    translator = method.translator("a", "b")
    clean = translator.encode_content(pair.a)
    assert isinstance(clean, Tensor)
    noise = method._content("a", pair.a, pair, "generator") - clean
    assert noise.std().item() == pytest.approx(0.5, rel=0.03)
    assert noise.mean().abs() < 0.02
    other = method._content("a", pair.a, pair, "discriminator") - clean
    assert (noise * other).mean().abs() < 0.02
    again = translator.encode_content(pair.a)
    assert isinstance(again, Tensor)
    assert torch.equal(clean, again)


@pytest.mark.parametrize("form", FORMS)
def test_a_translation_is_the_targets_generator_on_the_sources_content(form: str) -> None:
    method, pair = Dritpp(replace(TINY_DRIT, content_noise=0.0, conditioning=form)), tiny_pair()  # type: ignore[arg-type]
    oracle, style = DritOracle(method, pair), torch.randn(2, 1, 3)
    for source, target in (("a", "b"), ("b", "a")):
        translator = method.translator(source, target)
        content = oracle.content(source, pair.a[0].double(), 0, "generator")
        expected = oracle.decoded(target, content, style[0, 0].double())
        found = translator.translate(pair.a, style)[0, 0]
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-3)
        code = oracle.code(target, pair.b[1].double()).mean
        torch.testing.assert_close(translator.encode_style(pair.b)[1].double(), code.double(), atol=1e-4, rtol=1e-3)


def test_both_directions_share_the_end_of_the_encoder_and_the_start_of_the_generator() -> None:
    method = Dritpp(TINY_DRIT)
    there, back = method.translator("a", "b"), method.translator("b", "a")
    assert isinstance(there, DritppTranslator)
    assert isinstance(back, DritppTranslator)
    shared = {id(p) for p in there.parameters()} & {id(p) for p in back.parameters()}
    assert shared == {id(p) for block in (method.shared_encoder, method.shared_decoder) for p in block.parameters()}
    assert len(shared) == 8


def test_a_translator_carries_the_bank_of_its_target() -> None:
    method = Dritpp(TINY_DRIT)
    method.style_banks["b"] = torch.ones(4, 3)
    assert method.translator("a", "b").style_bank.sum() == 12
    assert method.translator("b", "a").style_bank.shape == (0, 3)


def test_constant_maps_of_the_attribute_stand_after_the_features() -> None:
    out = beside(torch.zeros(2, 1, 2, 3), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert out.shape == (2, 3, 2, 3)
    assert out[:, 0].eq(0).all()
    assert [out[n, c].unique().tolist() for n in (0, 1) for c in (1, 2)] == [[1.0], [2.0], [3.0], [4.0]]


def test_up_sampling_normalises_over_channels_and_positions() -> None:
    unit, x = UpUnit(3, 4), torch.randn(2, 3, 5, 6)
    for sample, raw in zip(unit(x).detach().numpy(), unit.conv(x).detach().numpy(), strict=True):
        expected = np.maximum(0.0, (raw - np.mean(raw)) / np.sqrt(np.var(raw) + 1e-5))
        np.testing.assert_allclose(sample, expected, atol=1e-5)
    assert unit(x).shape == (2, 4, 10, 12)


def test_a_pooled_block_averages_two_ways_through_it() -> None:
    block, x = PooledResidualBlock(2, 3), torch.randn(1, 2, 6, 6)
    with torch.no_grad():
        block.second.weight.zero_()
        block.second.bias.zero_()  # type: ignore[union-attr]
        out = block(x)
    weight, bias = block.shortcut.weight[:, :, 0, 0], block.shortcut.bias
    assert bias is not None
    for row in range(3):
        for column in range(3):
            mean = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(dim=(1, 2))
            torch.testing.assert_close(out[0, :, row, column], (weight @ mean + bias).detach())


def test_a_feature_wise_block_keeps_the_features_where_its_last_mixing_is_off() -> None:
    block, x = FeatureWiseBlock(4), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        first = block(x, torch.zeros(2, 4))
        assert not torch.allclose(first, block(x, torch.ones(2, 4)))
        for parameter in block.narrowing[1].parameters():
            parameter.zero_()
        assert torch.equal(block(x, torch.ones(2, 4)), x)
    assert first.shape == x.shape
    assert (first - x).min() >= 0.0  # the last activation before the sum is a ReLU


def test_the_content_discriminator_gives_one_score_for_the_published_crop_and_takes_the_smallest() -> None:
    judge = ContentDiscriminator(2, n_layers=3, kernel=7, last_kernel=4)
    assert judge(torch.zeros(1, 2, 54, 54))[0].shape == (1, 1, 1, 1)  # 216 px: 54, 25, 11, 4, 1
    assert judge(torch.zeros(1, 2, 4, 4))[0].shape == (1, 1, 1, 1)
    small = DritppConfig.preset("small")
    judge = ContentDiscriminator(2, small.n_content_layers, small.content_kernel, small.content_last_kernel)
    assert judge(torch.zeros(1, 2, 4, 4))[0].shape == (1, 1, 1, 1)
    assert judge(torch.zeros(1, 2, 8, 8))[0].shape == (1, 1, 3, 3)


def convolution(channels_in: int, channels_out: int, kernel: int) -> int:
    """Gives the parameters of a convolution with bias, or of a linear layer with kernel 1."""
    return channels_in * channels_out * kernel**2 + channels_out


RESIDUAL = 2 * convolution(256, 256, 3)
CONTENT = convolution(3, 64, 7) + convolution(64, 128, 3) + convolution(128, 256, 3) + 3 * RESIDUAL
POOLED = [
    convolution(n, n, 3) + convolution(n, m, 3) + convolution(n, m, 1) for n, m in ((64, 128), (128, 192), (192, 256))
]
VARIATIONAL = convolution(3, 64, 4) + sum(POOLED) + 2 * convolution(256, 8, 1)
PLAIN = convolution(3, 64, 7) + convolution(64, 128, 4) + convolution(128, 256, 4)
PLAIN += 2 * convolution(256, 256, 4) + convolution(256, 8, 1)
CONCATENATION = 3 * 2 * convolution(264, 264, 3) + convolution(272, 136, 3) + 2 * 136
CONCATENATION += convolution(144, 72, 3) + 2 * 72 + convolution(80, 3, 1)
MIXED = 2 * (convolution(256, 256, 3) + convolution(512, 512, 1) + convolution(512, 256, 1))
FEATURE_WISE = 4 * MIXED + convolution(8, 256, 1) + convolution(256, 256, 1) + convolution(256, 1024, 1)
FEATURE_WISE += convolution(256, 128, 3) + 2 * 128 + convolution(128, 64, 3) + 2 * 64 + convolution(64, 3, 1)
JUDGE = 3 * (sum(convolution(n, m, 4) for n, m in ((3, 64), (64, 128), (128, 256), (256, 512))) + 513)
CONTENT_JUDGE = 3 * convolution(256, 256, 7) + convolution(256, 256, 4) + 257


@pytest.mark.parametrize(
    ("form", "attribute", "generator", "shared_decoder"),
    [("concatenation", VARIATIONAL, CONCATENATION, RESIDUAL), ("feature-wise", PLAIN, FEATURE_WISE, 0)],
)
def test_the_paper_preset_has_the_parameters_of_the_published_layers(
    form: str, attribute: int, generator: int, shared_decoder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for draw in ("initialise_weights", "initialise_linear_layers"):  # 65 million numbers that nothing here needs
        monkeypatch.setattr(f"munitaug.methods.dritpp.{draw}", lambda *_: None)
    with torch.device("meta"):
        method = Dritpp(replace(DritppConfig.preset("paper"), conditioning=form))  # type: ignore[arg-type]
    assert {name: sum(p.numel() for p in module.parameters()) for name, module in method.named_children()} == {
        "content_encoders": 2 * CONTENT,
        "shared_encoder": RESIDUAL,
        "attribute_encoders": 2 * attribute,
        "shared_decoder": shared_decoder,
        "generators": 2 * generator,
        "discriminators": 2 * JUDGE,
        "random_discriminators": 2 * JUDGE,
        "content_discriminator": CONTENT_JUDGE,
    }


def test_the_paper_preset_has_65_million_parameters_in_all() -> None:
    everything = 2 * (CONTENT + VARIATIONAL + CONCATENATION + 2 * JUDGE) + 2 * RESIDUAL + CONTENT_JUDGE
    assert everything == 65_039_315


def test_the_paper_preset_has_the_published_weights_schedule_and_optimiser() -> None:
    config = DritppConfig.preset("paper")
    assert {name: value for name, value in vars(config).items() if name.startswith("weight_")} == {
        "weight_gan": 1.0,
        "weight_content_gan": 1.0,
        "weight_cross_cycle": 10.0,
        "weight_self": 10.0,
        "weight_latent": 10.0,
        "weight_kl": 0.01,
        "weight_content_norm": 0.01,
        "weight_mode_seeking": 1.0,
    }
    assert config.optimiser == OptimiserSettings(
        lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4, halve_every_steps=0, linear_decay_from=0.5, ema_decay=0.0
    )
    assert (config.style_dim, config.content_noise, config.content_clip_norm) == (8, 1.0, 5.0)
    narrow = Dritpp(replace(config, width=1, discriminator_width=1))
    schedule = {phase.name: (phase.every, phase.lr_scale) for phase in narrow.phases()}
    assert schedule == {"discriminator": (3, 1.0), "content_discriminator": (1, 0.4), "generator": (3, 1.0)}


@pytest.mark.parametrize("name", ["paper", "small"])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_preset_takes_the_channel_count(name: str, channels: int) -> None:
    assert DritppConfig.preset(name, channels=channels).channels == channels


def test_the_small_preset_trains_everything_at_every_step_from_16_px_on() -> None:
    method, pair = Dritpp(DritppConfig.preset("small", channels=1)), tiny_pair(channels=1)
    for phase in method.phases():
        assert phase.every == 1
        assert all(value.isfinite() for value in phase.loss(pair).values())


def test_published_weights_start_as_gaussian_and_linear_layers_as_torch_makes_them() -> None:
    config = replace(TINY_DRIT, width=16, mlp_width=64, initialisation="gaussian", conditioning="feature-wise")
    weights = dict(Dritpp(config).named_parameters())
    assert weights["shared_encoder.first.conv.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert weights["generators.a.upsampling.0.conv.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    linear = weights["generators.a.mlp.2.weight"]
    assert linear.abs().max().item() == pytest.approx(1 / 8, rel=0.01)
    assert linear.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)
    kaiming = dict(Dritpp(replace(config, initialisation="kaiming")).named_parameters())
    assert kaiming["shared_encoder.first.conv.weight"].std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert kaiming["discriminators.a.scales.0.1.conv.weight"].std().item() == pytest.approx(0.02, rel=0.2)


def test_linear_layers_are_drawn_from_the_generator_alone() -> None:
    layers = [nn.Linear(5, 4), nn.Linear(5, 4)]
    for layer in layers:
        initialise_linear_layers(layer, torch_generator(1))
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert layers[0].bias.eq(0).all()


def test_the_seed_decides_the_initial_weights_and_nothing_else_does() -> None:
    config = replace(TINY_DRIT, spectral_norm=True)
    state = torch.get_rng_state()
    first, other = Dritpp(config, seed=1), Dritpp(config, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(17)
    later = Dritpp(config, seed=1).state_dict()
    assert all(torch.equal(value, later[name]) for name, value in first.state_dict().items())
    assert not all(torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


def test_images_whose_sides_are_no_multiples_can_be_trained_on() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 17, 30, generator=generator) for _ in "ab")
    for phase in Dritpp(TINY_DRIT).phases():
        assert all(value.isfinite() for value in phase.loss(Pair(a, b)).values())


def test_the_sizes_are_those_of_the_configuration() -> None:
    assert TINY_DRIT.shape == DritShape(3, 4, 1, 3, 8, "concatenation")
    assert TINY_DRIT.shape.content_channels == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 5}, "channels must be 1 to 4, got 5"),
        ({"n_residual": 0}, "n_residual must be at least 1, got 0"),
        ({"content_steps": 0}, "content_steps must be at least 1, got 0"),
        ({"content_kernel": 4}, "content_kernel must be odd and at least 1, got 4"),
        ({"weight_kl": -1.0}, "weight_kl must be at least 0, got -1.0"),
        ({"weight_latent": float("nan")}, "weight_latent must be at least 0, got nan"),
        ({"content_noise": -0.1}, "content_noise must be at least 0, got -0.1"),
        ({"content_clip_norm": -5.0}, "content_clip_norm must be at least 0, got -5.0"),
        ({"content_lr_scale": 0.0}, "content_lr_scale must be above 0, got 0.0"),
        ({"conditioning": "adain"}, "conditioning must be one of concatenation, feature-wise, got 'adain'"),
        ({"initialisation": "zeros"}, "initialisation must be one of gaussian, kaiming, got 'zeros'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_DRIT, **changes)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of paper, small, got 'huge'"):
        DritppConfig.preset("huge")
