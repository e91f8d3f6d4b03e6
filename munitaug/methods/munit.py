"""MUNIT: multimodal unsupervised image-to-image translation (Huang, Liu, Belongie & Kautz, ECCV 2018).

Objective and networks after arXiv 1804.04732 and NVlabs/MUNIT (trainer.py, networks.py; read, not copied:
its licence is non-commercial). Deviations of our presets are said in :meth:`MunitConfig.preset`.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from munitaug import ranks
from munitaug.images import match_channels, pad_to_multiple
from munitaug.lanes import in_lanes
from munitaug.losses import (
    GanLoss,
    discriminator_loss,
    domain_invariant_perceptual_loss,
    gradient_penalty_r1,
    mode_seeking_loss,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.multimodal import Side, decoded, generator_terms
from munitaug.methods.parts import check_feature_channels, drawn, padded, scores_of
from munitaug.networks.autoencoder import AutoEncoder, AutoEncoderShape
from munitaug.networks.discriminator import DiscriminatorShape, MultiScaleDiscriminator
from munitaug.networks.initialise import initialise_weights
from munitaug.networks.vgg import VggFeatures
from munitaug.random import seed_of, torch_generator
from munitaug.settings import CHANNELS, ODD, Limits, check_settings
from munitaug.translator import Translator
from munitaug.types import Content, DomainKey, Pair

PresetName = Literal["paper", "modern", "small"]
PRESETS: tuple[PresetName, ...] = ("paper", "modern", "small")
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class MunitConfig:
    """Networks, weights and optimiser of a MUNIT; the defaults are the published ones ("paper").

    Args:
        channels: image channels of both domains, 1 to 4.
        width: feature maps after the first convolution of the encoders.
        n_downsample: halvings of the content encoder; image sides are padded to multiples of 2^n.
        n_style_downsample: halvings of the style encoder.
        n_residual: residual blocks in the content encoder, and again in the decoder.
        style_dim: numbers in a style code.
        mlp_width: hidden units of the style MLP.
        edge_kernel: side of the first and last convolution, odd.
        upsample_kernel: side of the convolutions after up-sampling, odd.
        discriminator_width: feature maps of the discriminator's first layer.
        n_discriminator_layers: strided layers at each scale.
        n_scales: scales of the discriminator.
        spectral_norm: spectral norm in the discriminators.
        gan_loss: "lsgan" (published), "nsgan" or "hinge".
        weight_gan: of the adversarial term.
        weight_image: of the image reconstruction, eq. 2.
        weight_style: of the style reconstruction, eq. 4.
        weight_content: of the content reconstruction, eq. 3.
        weight_cycle: of the style-augmented cycle (paper, section 5.1); 0 leaves it out.
        weight_perceptual: of the domain-invariant perceptual term; > 0 needs a feature network.
        weight_mode_seeking: of the mode-seeking term (Mao et al. 2019); 0 leaves it out.
        weight_r1: of the R1 gradient penalty (Mescheder et al. 2018); 0 leaves it out.
        detach_content: do not let gradients flow into the target of the content reconstruction.
        redraw_styles: draw styles for each phase, as published. False draws them once a step: both phases see the same
            translations, which then are decoded once (where the batch is not cut by gradient accumulation).
        discriminator_lr_scale: the discriminators' lr as a multiple of the generators'.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int = 3
    width: int = 64
    n_downsample: int = 2
    n_style_downsample: int = 4
    n_residual: int = 4
    style_dim: int = 8
    mlp_width: int = 256
    edge_kernel: int = 7
    upsample_kernel: int = 5
    discriminator_width: int = 64
    n_discriminator_layers: int = 4
    n_scales: int = 3
    spectral_norm: bool = False
    gan_loss: GanLoss = "lsgan"
    weight_gan: float = 1.0
    weight_image: float = 10.0
    weight_style: float = 1.0
    weight_content: float = 1.0
    weight_cycle: float = 0.0
    weight_perceptual: float = 0.0
    weight_mode_seeking: float = 0.0
    weight_r1: float = 0.0
    detach_content: bool = False
    redraw_styles: bool = True
    discriminator_lr_scale: float = 1.0
    optimiser: OptimiserSettings = OptimiserSettings(halve_every_steps=100_000)

    def __post_init__(self) -> None:
        check_settings(
            self,
            channels=CHANNELS,
            n_downsample=Limits(1, 3, because="so that 16 px images have contents of 2 x 2"),
            n_style_downsample=Limits(1, 9),
            n_residual=Limits(1, 9),
            edge_kernel=ODD,
            upsample_kernel=ODD,
        )

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: the authors' networks, objective and optimiser, for 64 px and more.
        ``modern``: the same networks with two later practices that helped where we measured them: the cycle
        term at the weight of the authors' later configs, and averaged weights (EMA 0.999).
        ``small``: for 16-64 px on a CPU: narrower and shallower networks, 3 x 3 and 5 x 5 kernels in place
        of 5 x 5 and 7 x 7, a two-scale discriminator whose patches fit small images, and for short runs lr
        5e-4 with linear decay over the second half, EMA 0.995 and style weight 4, with which styles differ
        sooner; the cycle term as ``modern``, and no gradient into the content target (as NVlabs/imaginaire).

        Args:
            name: "paper", "modern" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            return cls(channels=channels)
        if name == "modern":
            return cls(
                channels=channels,
                weight_cycle=10.0,
                optimiser=OptimiserSettings(halve_every_steps=100_000, ema_decay=0.999),
            )
        if name == "small":
            return cls(
                channels=channels,
                width=16,
                n_style_downsample=3,
                n_residual=2,
                mlp_width=64,
                edge_kernel=5,
                upsample_kernel=3,
                discriminator_width=32,
                n_discriminator_layers=3,
                n_scales=2,
                weight_style=4.0,
                weight_cycle=10.0,
                detach_content=True,
                optimiser=OptimiserSettings(lr=5e-4, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def auto_encoder_shape(self) -> AutoEncoderShape:
        """Gives the sizes of one domain's auto-encoder."""
        return AutoEncoderShape(
            channels=self.channels,
            width=self.width,
            n_downsample=self.n_downsample,
            n_style_downsample=self.n_style_downsample,
            n_residual=self.n_residual,
            style_dim=self.style_dim,
            mlp_width=self.mlp_width,
            edge_kernel=self.edge_kernel,
            upsample_kernel=self.upsample_kernel,
        )

    @property
    def discriminator_shape(self) -> DiscriminatorShape:
        """Gives the sizes of one domain's discriminator."""
        return DiscriminatorShape(
            self.channels, self.discriminator_width, self.n_discriminator_layers, self.n_scales, self.spectral_norm
        )


class Munit(Method):
    """Two auto-encoders that share a content space, and a discriminator for each domain.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: frozen network, N x 3 x H x W in [-1, 1] -> features; needed when weight_perceptual > 0.

    Raises:
        ValueError: weight_perceptual > 0 without a feature network.
    """

    name: ClassVar[str] = "munit"
    config_class: ClassVar[type[MunitConfig]] = MunitConfig
    recording_obstacle = ""

    def __init__(self, config: MunitConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        self._config = config
        self._features = (features,)  # a tuple hides the frozen network from parameters() and checkpoints
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(seed, "spectral"))  # torch draws its singular vectors there
            self.auto_encoders = nn.ModuleDict({key: AutoEncoder(config.auto_encoder_shape) for key in "ab"})
            self.discriminators = nn.ModuleDict(
                {key: MultiScaleDiscriminator(config.discriminator_shape) for key in "ab"}
            )
        initialise_weights(self.auto_encoders, "kaiming", torch_generator(seed, "generator"))
        initialise_weights(self.discriminators, "gaussian", torch_generator(seed, "discriminator"))

    def hidden_networks(self) -> tuple[nn.Module | None, ...]:
        """Gives the frozen feature network."""
        return self._features

    @property
    def config(self) -> MunitConfig:
        """Gives the configuration it was built from."""
        return self._config

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminator, then generator, on the same batch; with styles drawn anew, as published, or the same.

        Raises:
            ValueError: weight_perceptual > 0 without a feature network.
        """
        if self._config.weight_perceptual > 0.0 and self._features[0] is None:
            raise ValueError(
                "weight_perceptual > 0 needs a feature network: pass features=..., or --vgg-weights FILE to the CLI"
            )
        if self._config.weight_perceptual > 0.0:
            check_feature_channels(self._config.channels)
        return (
            Phase(
                "discriminator",
                (self.discriminators,),
                self._discriminator_loss,
                lr_scale=self._config.discriminator_lr_scale,
            ),
            Phase("generator", (self.auto_encoders,), self._generator_loss),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights.

        Raises:
            ValueError: there is no such direction.
        """
        self.check_direction(source, target)
        return self._between(source, target)

    def restyler(self, domain: DomainKey) -> Translator:
        """Gives a domain's own encoder and decoder as a translator; it shares this method's weights."""
        return self._between(domain, domain)

    def _between(self, source: DomainKey, target: DomainKey) -> Translator:
        coders = self._auto_encoder(source), self._auto_encoder(target)
        return MunitTranslator(*coders, self._config, self.style_banks.get(target))

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives the contents of both domains' images, which both phases decode; and what they decode to, if alike."""
        contents = self._contents(pair)
        return contents if self._config.redraw_styles else contents | {"sides": self._sides(pair, contents)}

    def _auto_encoder(self, key: str) -> AutoEncoder:
        module = self.auto_encoders[key]
        assert isinstance(module, AutoEncoder)
        return module

    def _discriminator(self, key: str) -> MultiScaleDiscriminator:
        module = self.discriminators[key]
        assert isinstance(module, MultiScaleDiscriminator)
        return module

    def _contents(self, pair: Pair) -> dict[str, Any]:
        images = padded(pair, self._config.auto_encoder_shape.size_multiple)
        made = in_lanes(self._content, {key: (image,) for key, image in images.items()})
        return {f"content_{key}": content for key, content in made.items()}

    def _content(self, key: str, image: Tensor) -> Tensor:
        content: Tensor = self._auto_encoder(key).content_encoder(image)
        return content

    def _draw_styles(self, pair: Pair, phase: str) -> tuple[Tensor, Tensor]:
        shape = (pair.batch_size, self._config.style_dim)

        def draw(generator: torch.Generator) -> Tensor:
            return torch.stack([torch.randn(shape, generator=generator) for _ in "ab"])

        style_a, style_b = drawn(pair, draw, "style", phase)
        return pair.rows(style_a), pair.rows(style_b)

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        image_a, image_b = padded(pair, self._config.auto_encoder_shape.size_multiple).values()
        fake_a, fake_b = self._fakes_to_discriminate(pair)
        terms = in_lanes(self._terms_of_discriminator, {"a": (image_a, fake_a), "b": (image_b, fake_b)})
        return terms["a"] | terms["b"]

    def _terms_of_discriminator(self, key: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Gives the terms of one domain's discriminator; ``fake`` are translations of the other domain's images."""
        config = self._config
        real_maps, fake_maps = scores_of(self._discriminator(key), [real, fake])
        terms = {f"gan_{key}": config.weight_gan * discriminator_loss(real_maps, fake_maps, config.gan_loss)}
        if config.weight_r1 > 0.0:
            terms[f"r1_{key}"] = config.weight_r1 * self._r1_penalty(key, real)
        return terms

    def _fakes_to_discriminate(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Gives translations into a and into b, without a graph: published code builds one and throws it away."""
        if "sides" in pair.shared:
            side_a, side_b = pair.shared["sides"]
            return side_a.fake.detach(), side_b.fake.detach()
        with torch.no_grad():
            contents = pair.shared or self._contents(pair)
            style_a, style_b = self._draw_styles(pair, "discriminator" if self._config.redraw_styles else "generator")
            codes = {"a": (contents["content_b"], style_a), "b": (contents["content_a"], style_b)}
            fakes = in_lanes(lambda key, content, style: self._auto_encoder(key).decode(content, style), codes)
            return fakes["a"], fakes["b"]

    def _r1_penalty(self, key: str, real: Tensor) -> Tensor:
        """Gives the gradient penalty, in float32 even under autocast: half precision overflows in its square."""
        leaf = real.detach().requires_grad_()
        with torch.autocast(leaf.device.type, enabled=False):
            return gradient_penalty_r1(leaf, self._discriminator(key)(leaf))

    def _sides(self, pair: Pair, contents: Mapping[str, Any]) -> tuple[Side, Side]:
        """Gives, of each domain, its images reconstructed and the other's translated into it."""
        image_a, image_b = padded(pair, self._config.auto_encoder_shape.size_multiple).values()
        style_a, style_b = self._draw_styles(pair, "generator")
        content_a, content_b = contents["content_a"], contents["content_b"]
        seen = {"a": (image_a, content_a, content_b, style_a), "b": (image_b, content_b, content_a, style_b)}
        made = in_lanes(self._decoded, seen)
        return (
            Side(image_a, content_a, made["a"][0], style_a, *made["a"][1:]),
            Side(image_b, content_b, made["b"][0], style_b, *made["b"][1:]),
        )

    def _decoded(self, key: str, image: Tensor, own: Tensor, other: Tensor, style: Tensor) -> tuple[Tensor, ...]:
        """Gives a domain's own style codes, its images of them and ``own``, and images of ``other`` and ``style``."""
        coder = self._auto_encoder(key)
        return decoded(image, own, other, style, encode_style=coder.style_encoder, decode=coder.decode)

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        if "sides" in pair.shared:
            a, b = pair.shared["sides"]
        else:
            a, b = self._sides(pair, pair.shared or self._contents(pair))
        of_sides = in_lanes(self._terms_of_side, {"a": (*a, *b), "b": (*b, *a)})
        terms = of_sides["a"] | of_sides["b"]
        if self._config.weight_mode_seeking > 0.0:
            terms |= self._mode_seeking_terms(pair, a, b)
        return terms

    def _terms_of_side(self, key: str, *sides: Tensor) -> dict[str, Tensor]:
        """Gives the generator's terms of one domain, of whose side and the other's these are the tensors.

        ``side.fake`` has the content of the other domain.
        """
        side, other = Side(*sides[: len(Side._fields)]), Side(*sides[len(Side._fields) :])
        config = self._config
        terms = generator_terms(
            side,
            other,
            config,
            judge=self._discriminator(key),
            encode=self._auto_encoder(key).encode,
            decode_back=self._auto_encoder("b" if key == "a" else "a").decode,
            detach_content=config.detach_content,
        )
        if config.weight_perceptual > 0.0:
            terms["perceptual"] = config.weight_perceptual * self._perceptual_term(side.fake, other.image)
        return {f"{name}_{key}": value for name, value in terms.items()}

    def _perceptual_term(self, fake: Tensor, source: Tensor) -> Tensor:
        features = self._features[0]
        assert features is not None
        # a network of the user's may keep maps between its layers, and both domains ask it at once
        alone = nullcontext() if isinstance(features, VggFeatures) else _ONE_AT_A_TIME
        with alone, torch.no_grad():
            wanted = features(match_channels(source, 3))
        with alone:
            seen = features(match_channels(fake, 3))
        return domain_invariant_perceptual_loss(seen, wanted)

    def _mode_seeking_terms(self, pair: Pair, a: Side, b: Side) -> dict[str, Tensor]:
        style_a, style_b = self._draw_styles(pair, "mode-seeking")
        terms = {}
        for key, side, other, style in (("a", a, b, style_a), ("b", b, a, style_b)):
            second = self._auto_encoder(key).decode(other.content, style)
            loss = mode_seeking_loss(*(ranks.gather(each) for each in (side.fake, second, side.drawn_style, style)))
            terms[f"mode_seeking_{key}"] = self._config.weight_mode_seeking * loss
        return terms


class MunitTranslator(Translator):
    """Content encoder of one domain, style MLP and decoder of the other."""

    def __init__(
        self, source: AutoEncoder, target: AutoEncoder, config: MunitConfig, style_bank: Tensor | None
    ) -> None:
        super().__init__(config.channels, config.auto_encoder_shape.size_multiple, config.style_dim, style_bank)
        self.content_encoder = source.content_encoder
        self.target = target

    def encode_content(self, x: Tensor) -> Content:
        """Gives N x Q x H/m x W/m for x: N x C x H x W in [-1, 1], sides multiples of m."""
        content: Tensor = self.content_encoder(x)
        return content

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N contents and style: N x style_dim."""
        assert isinstance(content, Tensor)
        return self.target.decode(content, style)

    def decode_variants(self, content: Content, style: Tensor) -> Tensor:
        """Gives K N x C x H x W in [-1, 1] of N contents, not copied, and style: N x K x style_dim."""
        return self.decode(content, style.flatten(0, 1))

    def encode_style(self, y: Tensor) -> Tensor:
        """Gives N x style_dim codes of target images y: N x C x H x W in [-1, 1], sides from 16 px up."""
        code: Tensor = self.target.style_encoder(pad_to_multiple(y, self.size_multiple)[0])
        return code
