"""MUNIT's terms against slow oracles, its switches, its refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from munitaug.losses import GanLoss
from munitaug.method import OptimiserSettings, Phase
from munitaug.methods import Munit, MunitConfig
from munitaug.networks.autoencoder import AutoEncoder
from munitaug.types import Pair
from tests.oracles import MunitOracle
from tests.tiny import TINY, tiny_pair

EVERY_TERM = replace(
    TINY,
    weight_gan=1.0,
    weight_image=1.0,
    weight_style=1.0,
    weight_content=1.0,
    weight_cycle=1.0,
    weight_mode_seeking=1.0,
)
ONLY = replace(TINY, weight_gan=0.0, weight_image=0.0, weight_style=0.0, weight_content=0.0)
GAN_LOSSES: tuple[GanLoss, ...] = ("lsgan", "nsgan", "hinge")


def method_of(config: MunitConfig, features: nn.Module | None = None) -> Munit:
    """Gives a MUNIT whose discriminators' scores are of order 1, so that they weigh in a comparison."""
    method = Munit(config, seed=3, features=features)
    with torch.no_grad():
        for parameter in method.discriminators.parameters():
            parameter.mul_(15.0)
    return method


def phase(method: Munit, name: str) -> Phase:
    return next(phase for phase in method.phases() if phase.name == name)


def terms_of(method: Munit, name: str, pair: Pair) -> dict[str, float]:
    return {term: value.item() for term, value in phase(method, name).loss(pair).items()}


def small_features() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).requires_grad_(False)


@pytest.mark.parametrize("gan_loss", GAN_LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_generator_term_equals_its_oracle(gan_loss: GanLoss, channels: int) -> None:
    method = method_of(replace(EVERY_TERM, gan_loss=gan_loss, channels=channels))
    pair = tiny_pair(count=2, channels=channels)
    expected = MunitOracle(method, pair).generator_terms()
    terms = terms_of(method, "generator", pair)
    assert terms.keys() == expected.keys()
    assert terms == {name: pytest.approx(value, rel=2e-4) for name, value in expected.items()}


@pytest.mark.parametrize("gan_loss", GAN_LOSSES)
def test_every_discriminator_term_equals_its_oracle(gan_loss: GanLoss) -> None:
    method, pair = method_of(replace(EVERY_TERM, gan_loss=gan_loss)), tiny_pair()
    expected = MunitOracle(method, pair).discriminator_terms()
    assert terms_of(method, "discriminator", pair) == {
        name: pytest.approx(value, rel=2e-4) for name, value in expected.items()
    }


def test_r1_equals_central_differences() -> None:
    method, pair = method_of(replace(TINY, weight_r1=1.0)), tiny_pair()
    oracle, terms = MunitOracle(method, pair), terms_of(method, "discriminator", pair)
    for key in ("a", "b"):
        assert terms[f"r1_{key}"] == pytest.approx(oracle.r1(key), rel=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_perceptual_term_compares_a_translation_with_its_source(channels: int) -> None:
    features, pair = small_features(), tiny_pair(channels=channels)
    method = method_of(replace(TINY, channels=channels, weight_perceptual=1.0), features)
    terms = terms_of(method, "generator", pair)

    class OnThreeChannels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = features

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.features(x.expand(-1, 3, -1, -1))
            return out

    oracle = MunitOracle(method, pair)
    assert terms["perceptual_a"] == pytest.approx(oracle.perceptual("a", "b", OnThreeChannels()), rel=1e-3)
    assert terms["perceptual_b"] == pytest.approx(oracle.perceptual("b", "a", OnThreeChannels()), rel=1e-3)


WEIGHTS = {
    "weight_gan": ("generator", "gan"),
    "weight_image": ("generator", "image"),
    "weight_style": ("generator", "style"),
    "weight_content": ("generator", "content"),
    "weight_cycle": ("generator", "cycle"),
    "weight_perceptual": ("generator", "perceptual"),
    "weight_mode_seeking": ("generator", "mode_seeking"),
    "weight_r1": ("discriminator", "r1"),
}


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_multiplies_its_term_and_no_other(weight: str) -> None:
    name, term = WEIGHTS[weight]
    every = replace(EVERY_TERM, weight_perceptual=1.0, weight_r1=1.0)
    tripled = MunitConfig(**{**vars(every), weight: 3.0})
    once, thrice = (terms_of(method_of(c, small_features()), name, tiny_pair()) for c in (every, tripled))
    factors = {other: 3.0 if other in (f"{term}_a", f"{term}_b") else 1.0 for other in once}
    assert thrice == {other: pytest.approx(factors[other] * value, rel=1e-5) for other, value in once.items()}
    assert sorted(factors.values())[-2:] == [3.0, 3.0]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_of_zero_leaves_its_term_out(weight: str) -> None:
    name, term = WEIGHTS[weight]
    every = replace(EVERY_TERM, weight_perceptual=1.0, weight_r1=1.0)
    config = MunitConfig(**{**vars(every), weight: 0.0})
    present, absent = (terms_of(method_of(c, small_features()), name, tiny_pair()) for c in (every, config))
    assert present.keys() - absent.keys() == {f"{term}_a", f"{term}_b"} or (name, term) == ("discriminator", "gan")


def test_every_field_named_weight_is_tested_above() -> None:
    assert {name for name in asdict(TINY) if name.startswith("weight_")} == WEIGHTS.keys()


def content_gradients(method: Munit, pair: Pair, detached: bool) -> list[Tensor]:
    """Gives the gradients of the content terms, with or without a way through their targets."""
    coder_a, coder_b = (method.auto_encoders[key] for key in "ab")
    assert isinstance(coder_a, AutoEncoder)
    assert isinstance(coder_b, AutoEncoder)
    styles = MunitOracle(method, pair).styles("generator")
    content_a, content_b = coder_a.content_encoder(pair.a), coder_b.content_encoder(pair.b)
    again_b = coder_a.content_encoder(coder_a.decode(content_b, styles["a"].float()))
    again_a = coder_b.content_encoder(coder_b.decode(content_a, styles["b"].float()))
    targets = (content_b.detach(), content_a.detach()) if detached else (content_b, content_a)
    loss = (again_b - targets[0]).abs().mean() + (again_a - targets[1]).abs().mean()
    return list(
        torch.autograd.grad(loss, list(method.auto_encoders.parameters()), allow_unused=True, materialize_grads=True)
    )


@pytest.mark.parametrize("detached", [True, False])
def test_detach_content_stops_the_gradient_into_the_target_only(detached: bool) -> None:
    method, pair = method_of(replace(ONLY, weight_content=1.0, detach_content=detached)), tiny_pair()
    sum(phase(method, "generator").loss(pair).values(), torch.zeros(())).backward()
    parameters = list(method.auto_encoders.parameters())
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    torch.testing.assert_close(found, content_gradients(method, pair, detached), atol=1e-6, rtol=1e-3)
    wrong = torch.cat([g.flatten() for g in content_gradients(method, pair, not detached)])
    assert not torch.allclose(torch.cat([g.flatten() for g in found]), wrong, atol=1e-6, rtol=1e-2)


def test_the_discriminator_phase_builds_no_generator_graph() -> None:
    method = method_of(replace(EVERY_TERM, weight_r1=1.0))
    sum(phase(method, "discriminator").loss(tiny_pair()).values(), torch.zeros(())).backward()
    assert all(parameter.grad is None for parameter in method.auto_encoders.parameters())
    assert all(parameter.grad is not None for parameter in method.discriminators.parameters())


def test_both_phases_draw_styles_of_their_own() -> None:
    oracle = MunitOracle(Munit(TINY), tiny_pair())
    drawn = [oracle.styles(purpose) for purpose in ("discriminator", "generator", "mode-seeking")]
    codes = [tuple(style.flatten().tolist()) for styles in drawn for style in styles.values()]
    assert len(set(codes)) == 6


def images_judged(method: Munit, pair: Pair) -> dict[str, list[Tensor]]:
    """Gives the translations that each phase shows the discriminators, a's and b's."""
    seen: dict[str, list[Tensor]] = {}
    for each in method.phases():
        images: list[Tensor] = []
        hooks = [
            method.discriminators[key].register_forward_pre_hook(lambda _, x, images=images: images.append(x[0]))
            for key in "ab"
        ]
        each.loss(pair)
        for hook in hooks:
            hook.remove()
        seen[each.name] = [image[-len(pair.a) :].detach() for image in images]
    return seen


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("redrawn", [True, False])
def test_phases_see_the_same_translations_where_styles_are_drawn_once(redrawn: bool, shared: bool) -> None:
    method, pair = method_of(replace(TINY, redraw_styles=redrawn)), tiny_pair()
    seen = images_judged(method, replace(pair, shared=method.shared(pair)) if shared else pair)
    assert [len(images) for images in seen.values()] == [2, 2]
    for first, second in zip(seen["discriminator"], seen["generator"], strict=True):
        distance = (first - second).abs().max().item()
        assert distance > 1e-2 if redrawn else distance < 1e-5


def test_a_shared_translation_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = AutoEncoder.decode

    def counting(coder: AutoEncoder, content: Tensor, style: Tensor) -> Tensor:
        decoded.append(len(content))
        return decode(coder, content, style)

    monkeypatch.setattr(AutoEncoder, "decode", counting)
    images = {}
    for redrawn in (True, False):
        method, pair = method_of(replace(TINY, redraw_styles=redrawn)), tiny_pair(count=2)
        pair = replace(pair, shared=method.shared(pair))
        for each in method.phases():
            each.loss(pair)
        images[redrawn] = sum(decoded)
        decoded.clear()
    assert images == {True: 12, False: 8}  # of each domain 2 reconstructed, 2 translated, and 2 for the discriminator


def test_a_loss_is_a_function_of_the_pair() -> None:
    method, pair = method_of(EVERY_TERM), tiny_pair()
    first = terms_of(method, "generator", pair)
    torch.manual_seed(99)
    assert terms_of(method, "generator", pair) == first
    assert terms_of(method, "generator", replace(pair, seed=pair.seed + 1)) != first


def test_images_whose_sides_are_no_multiples_can_be_trained_on() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 17, 30, generator=generator) for _ in "ab")
    pair = Pair(a, b)
    method = method_of(EVERY_TERM)
    for each in method.phases():
        assert all(value.isfinite() for value in each.loss(pair).values())


def test_a_feature_network_takes_no_images_of_four_channels() -> None:
    method = Munit(replace(TINY, weight_perceptual=1.0, channels=4), features=nn.Flatten())
    with pytest.raises(ValueError, match="a feature network takes images of 1 or 3 channels, got 4"):
        method.phases()


def test_the_perceptual_term_needs_a_feature_network() -> None:
    method = Munit(replace(TINY, weight_perceptual=1.0))
    with pytest.raises(ValueError, match=r"weight_perceptual > 0 needs a feature network: .*--vgg-weights FILE"):
        method.phases()


def test_the_feature_network_is_no_part_of_the_weights_but_moves_with_them() -> None:
    features = small_features()
    method = Munit(replace(TINY, weight_perceptual=1.0), features=features)
    assert method.state_dict().keys() == Munit(TINY).state_dict().keys()
    assert not {id(p) for p in features.parameters()} & {id(p) for p in method.parameters()}
    assert method.to("meta") is method
    assert {parameter.device.type for parameter in features.parameters()} == {"meta"}


def test_the_paper_preset_has_the_published_sizes_weights_and_optimiser() -> None:
    config = MunitConfig.preset("paper")
    assert (config.gan_loss, config.detach_content, config.spectral_norm) == ("lsgan", False, False)
    weights = {name: value for name, value in vars(config).items() if name.startswith("weight_") and value}
    assert weights == {"weight_gan": 1.0, "weight_image": 10.0, "weight_style": 1.0, "weight_content": 1.0}
    assert config.optimiser == OptimiserSettings(
        lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4, halve_every_steps=100_000, linear_decay_from=1.0, ema_decay=0.0
    )


def test_the_paper_preset_has_46_million_parameters_in_all() -> None:
    method = Munit(MunitConfig.preset("paper"))
    for key in "ab":
        assert sum(p.numel() for p in method.auto_encoders[key].parameters()) == 15_026_187
        assert sum(p.numel() for p in method.discriminators[key].parameters()) == 8_271_171
    assert sum(p.numel() for p in method.parameters()) == 2 * (15_026_187 + 8_271_171)


@pytest.mark.parametrize("name", ["paper", "modern", "small"])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_preset_takes_the_channel_count(name: str, channels: int) -> None:
    assert MunitConfig.preset(name, channels=channels).channels == channels


def test_the_seed_decides_the_initial_weights_and_nothing_else_does() -> None:
    state = torch.get_rng_state()
    first, same, other = Munit(TINY, seed=1), Munit(TINY, seed=1), Munit(TINY, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(17)
    later = Munit(TINY, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        assert torch.equal(value, later.state_dict()[name])
    assert not all(torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_spectral_vectors_follow_the_seed_too() -> None:
    config = replace(TINY, spectral_norm=True)
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        states.append(Munit(config, seed=1).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_generators_start_as_kaiming_and_discriminators_as_gaussian() -> None:
    method = Munit(replace(TINY, width=16, discriminator_width=16))
    weights = dict(method.named_parameters())
    residual = weights["auto_encoders.a.content_encoder.layers.3.first.conv.weight"]
    assert residual.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert weights["discriminators.a.scales.0.layers.1.conv.weight"].std().item() == pytest.approx(0.02, rel=0.05)


def test_a_translation_is_the_targets_decoder_on_the_sources_content() -> None:
    method, pair = Munit(TINY, seed=1), tiny_pair()
    oracle = MunitOracle(method, pair)
    style = torch.randn(2, 1, 3)
    for source, target in (("a", "b"), ("b", "a")):
        out = method.translator(source, target).translate(pair.a, style)
        content = oracle.content(source, pair.a[0].double())
        expected = oracle.decoded(target, content, style[0].double())
        torch.testing.assert_close(out[0, 0].double(), expected, atol=1e-4, rtol=1e-3)
        code = method.translator(source, target).encode_style(pair.b[:1])
        torch.testing.assert_close(code.double(), oracle.style(target, pair.b[0].double()), atol=1e-4, rtol=1e-3)


def test_a_translator_carries_the_bank_of_its_target() -> None:
    method = Munit(TINY)
    method.style_banks["b"] = torch.ones(4, 3)
    assert method.translator("a", "b").style_bank.sum() == 12
    assert method.translator("b", "a").style_bank.shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MunitConfig(channels=5), "channels must be 1 to 4, got 5"),
        (lambda: MunitConfig(width=0), "width must be at least 1, got 0"),
        (lambda: MunitConfig(n_scales=0), "n_scales must be at least 1, got 0"),
        (lambda: MunitConfig(n_downsample=0), "n_downsample must be 1 to 3, .* got 0"),
        (lambda: MunitConfig(n_downsample=4), "n_downsample must be 1 to 3, so that 16 px images .* got 4"),
        (lambda: MunitConfig(n_residual=10), "n_residual must be 1 to 9, got 10"),
        (lambda: MunitConfig(edge_kernel=4), "edge_kernel must be odd and at least 1, got 4"),
        (lambda: MunitConfig(weight_cycle=-1.0), "weight_cycle must be at least 0, got -1.0"),
        (lambda: MunitConfig(weight_gan=float("nan")), "weight_gan must be at least 0, got nan"),
        (lambda: MunitConfig(gan_loss="wgan"), "gan_loss must be one of lsgan, nsgan, hinge, got 'wgan'"),  # type: ignore[arg-type]
        (lambda: MunitConfig.preset("large"), "preset must be one of paper, modern, small, got 'large'"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("n_downsample", [1, 2, 3])
def test_the_smallest_images_can_be_translated_at_every_allowed_depth(n_downsample: int) -> None:
    translator = Munit(replace(TINY, n_downsample=n_downsample)).translator("a", "b")
    out = translator.translate(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 3))
    assert out.shape == (1, 1, 3, 16, 16)
    assert out.std() > 1e-4
