"""MultiDomain: MUNIT's objective for any number of domains with one model.

One content encoder and one decoder serve all domains; what a domain has of its own is a head of the style encoder, the
MLP that turns its styles into AdaIN parameters, and a map of the discriminator, as StarGAN v2 (Choi et al., CVPR 2020,
arXiv 1912.01865) gives each domain a branch. N domains then need one model, where MUNIT needs N (N - 1) / 2. The
losses are MUNIT's (Huang et al. 2018, eqs. 2-5); in every step they are those of two of the domains.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from munitaug.images import pad_to_multiple
from munitaug.losses import GanLoss, discriminator_loss
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.multimodal import Side, decoded, generator_terms
from munitaug.methods.parts import padded, scores_of
from munitaug.networks.autoencoder import AutoEncoderShape, ContentEncoder, Decoder, StyleEncoder, StyleMlp
from munitaug.networks.discriminator import DiscriminatorShape, MultiScaleDiscriminator
from munitaug.networks.initialise import initialise_weights
from munitaug.random import on_device, seed_of, torch_generator
from munitaug.settings import CHANNELS, ODD, Limits, check_settings
from munitaug.translator import Translator
from munitaug.types import Content, DomainKey, Pair

PRESETS = ("paper", "small")


@dataclass(frozen=True)
class MultiDomainConfig:
    """Networks, weights and optimiser; the defaults are those of MUNIT with the cycle term.

    Args:
        domains: names of the domains, at least two; directions are written "first:second".
        channels: image channels of all domains, 1 to 4.
        width: feature maps after the first convolution of the encoders.
        n_downsample: halvings of the content encoder, 1 to 3.
        n_style_downsample: halvings of the style encoder.
        n_residual: residual blocks in the content encoder, and again in the decoder.
        style_dim: numbers in a style code.
        mlp_width: hidden units of each domain's MLP.
        edge_kernel: side of the first and last convolution, odd.
        upsample_kernel: side of the convolutions after up-sampling, odd.
        discriminator_width: feature maps of the discriminator's first layer.
        n_discriminator_layers: strided layers at each scale.
        n_scales: scales of the discriminator.
        gan_loss: "lsgan", "nsgan" or "hinge".
        weight_gan: of the adversarial term.
        weight_image: of the image reconstruction.
        weight_style: of the style reconstruction.
        weight_content: of the content reconstruction, whose target is held fixed.
        weight_cycle: of the style-augmented cycle.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range, or domain names that cannot be.
    """

    domains: tuple[str, ...] = ("a", "b")
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
    gan_loss: GanLoss = "lsgan"
    weight_gan: float = 1.0
    weight_image: float = 10.0
    weight_style: float = 1.0
    weight_content: float = 1.0
    weight_cycle: float = 10.0
    optimiser: OptimiserSettings = OptimiserSettings(halve_every_steps=100_000, ema_decay=0.999)

    def __post_init__(self) -> None:
        if isinstance(self.domains, str):
            raise ValueError(f"domains must be a sequence of names, got the text {self.domains!r}")
        if len(self.domains) < 2 or len(set(self.domains)) != len(self.domains):
            raise ValueError(f"domains must be at least two different names, got {', '.join(self.domains) or 'none'}")
        if any(not name or set(name) & set(":/.") for name in self.domains):
            raise ValueError(f"domain names must not be empty nor have : / . in them, got {', '.join(self.domains)}")
        for name, place in (("a", 0), ("b", 1)):  # what these mean everywhere else: the source and the target
            if name in self.domains and self.domains[place] != name:
                raise ValueError(
                    f"a domain may be called {name!r} only as the {('first', 'second')[place]}, got "
                    f"{', '.join(self.domains)}: give its folder another name"
                )
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
        """Gives a named configuration for two domains, "a" and "b"; replace ``domains`` for more.

        ``paper``: MUNIT's networks and weights with the cycle term, EMA 0.999. ``small``: for 16-64 px on a CPU, as
        MUNIT's preset of that name.

        Args:
            name: "paper" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            return cls(channels=channels)
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
                optimiser=OptimiserSettings(lr=5e-4, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def shape(self) -> AutoEncoderShape:
        """Gives the sizes of the encoders and the decoder."""
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


class MultiDomain(Method):
    """One content space, one decoder, and a style space for each domain.

    Args:
        config: domains, networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "multidomain"
    config_class: ClassVar[type[MultiDomainConfig]] = MultiDomainConfig
    recording_obstacle = "each step is of two other domains"

    def __init__(self, config: MultiDomainConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        self.directions = tuple(permutations(config.domains, 2))
        shape, names = config.shape, config.domains
        judge = DiscriminatorShape(
            config.channels,
            config.discriminator_width,
            config.n_discriminator_layers,
            config.n_scales,
            n_outputs=len(names),
        )
        adain = Decoder.adain_count(shape)
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.content_encoder = ContentEncoder(shape)
            self.style_encoder = StyleEncoder(replace(shape, style_dim=self._styles_size()))
            self.style_mlps = nn.ModuleDict({name: StyleMlp(shape.style_dim, shape.mlp_width, adain) for name in names})
            self.decoder = Decoder(shape)
            self.discriminator = MultiScaleDiscriminator(judge)
        generators = (self.content_encoder, self.style_encoder, self.style_mlps, self.decoder)
        for number, part in enumerate(generators):
            initialise_weights(part, "kaiming", torch_generator(seed, "generator", number))
        initialise_weights(self.discriminator, "gaussian", torch_generator(seed, "discriminator"))

    def _styles_size(self) -> int:
        return self._config.style_dim * len(self._config.domains)

    @property
    def config(self) -> MultiDomainConfig:
        """Gives the configuration it was built from."""
        return self._config

    def domain_key(self, key: DomainKey) -> DomainKey:
        """Gives the name of a domain; "a" is the first and "b" the second, whatever they are called."""
        if key in self._config.domains or key not in ("a", "b"):
            return key
        return self._config.domains["ab".index(key)]

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminator, then generator, as MUNIT."""
        generators = (self.content_encoder, self.style_encoder, self.style_mlps, self.decoder)
        return (
            Phase("discriminator", (self.discriminator,), self._discriminator_loss),
            Phase("generator", generators, self._generator_loss),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to another; it shares this method's weights.

        Raises:
            ValueError: there is no such domain, or both are the same.
        """
        source, target = self.domain_key(source), self.domain_key(target)
        if (source, target) not in self.directions:
            raise ValueError(
                f"this multidomain has the domains {', '.join(self._config.domains)}; two different ones make a "
                f"direction (a2b is {':'.join(self._config.domains[:2])}), got {source}:{target}"
            )
        return MultiDomainTranslator(self, target)

    def restyler(self, domain: DomainKey) -> Translator:
        """Gives the translator to a domain, whose content encoder takes images of all; it shares the weights."""
        return MultiDomainTranslator(self, self.domain_key(domain))

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives the contents of both domains' images, which both phases decode."""
        image_a, image_b = padded(pair, self._config.shape.size_multiple).values()
        return {"content_a": self.content_encoder(image_a), "content_b": self.content_encoder(image_b)}

    def encode_style(self, image: Tensor, key: DomainKey) -> Tensor:
        """Gives N x style_dim codes in the style space of one domain, for image: N x C x H x W in [-1, 1]."""
        index, size = self._config.domains.index(key), self._config.style_dim
        codes: Tensor = self.style_encoder(image)[:, index * size : (index + 1) * size]
        return codes

    def decode(self, content: Tensor, style: Tensor, key: DomainKey) -> Tensor:
        """Gives float32 N x C x H x W in [-1, 1] of one domain, of content and style: N x style_dim."""
        image: Tensor = self.decoder(content, self.style_mlps[key](style))
        return image.float()

    def _maps(self, image: Tensor, key: DomainKey) -> list[Tensor]:
        index = self._config.domains.index(key)
        return [maps[:, index : index + 1] for maps in self.discriminator(image)]

    def _keys(self, pair: Pair) -> tuple[DomainKey, DomainKey]:
        first, second = pair.domains
        return self.domain_key(first), self.domain_key(second)

    def _draw_styles(self, pair: Pair, phase: str) -> tuple[Tensor, Tensor]:
        generator = torch_generator(seed_of(pair.seed, *pair.domains), "style", phase)
        shape = (pair.batch_size, self._config.style_dim)
        first, second = (pair.rows(torch.randn(shape, generator=generator)) for _ in "ab")
        return on_device(first, pair.a.device), on_device(second, pair.a.device)

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        key_a, key_b = self._keys(pair)
        image_a, image_b = padded(pair, self._config.shape.size_multiple).values()
        style_a, style_b = self._draw_styles(pair, "discriminator")
        with torch.no_grad():
            contents = pair.shared or self.shared(pair)
            fake_a = self.decode(contents["content_b"], style_a, key_a)
            fake_b = self.decode(contents["content_a"], style_b, key_b)
        terms = {}
        for side, key, real, fake in (("a", key_a, image_a, fake_a), ("b", key_b, image_b, fake_b)):
            real_maps, fake_maps = scores_of(partial(self._maps, key=key), [real, fake])
            loss = discriminator_loss(real_maps, fake_maps, self._config.gan_loss)
            terms[f"gan_{side}"] = self._config.weight_gan * loss
        return terms

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        key_a, key_b = self._keys(pair)
        image_a, image_b = padded(pair, self._config.shape.size_multiple).values()
        style_a, style_b = self._draw_styles(pair, "generator")
        contents = pair.shared or self.shared(pair)
        content_a, content_b = contents["content_a"], contents["content_b"]
        a = self._side(key_a, image_a, content_a, content_b, style_a)
        b = self._side(key_b, image_b, content_b, content_a, style_b)
        terms: dict[str, Tensor] = {}
        for side, own, other, key, other_key in (("a", a, b, key_a, key_b), ("b", b, a, key_b, key_a)):
            made = generator_terms(
                own,
                other,
                self._config,
                judge=partial(self._maps, key=key),
                encode=partial(self._encode, key=key),
                decode_back=partial(self.decode, key=other_key),
                detach_content=True,
            )
            terms |= {f"{name}_{side}": value for name, value in made.items()}
        return terms

    def _side(self, key: DomainKey, image: Tensor, own: Tensor, other: Tensor, style: Tensor) -> Side:
        encode_style, decode = partial(self.encode_style, key=key), partial(self.decode, key=key)
        own_style, *images = decoded(image, own, other, style, encode_style=encode_style, decode=decode)
        return Side(image, own, own_style, style, *images)

    def _encode(self, image: Tensor, key: DomainKey) -> tuple[Tensor, Tensor]:
        return self.content_encoder(image), self.encode_style(image, key)


class MultiDomainTranslator(Translator):
    """The shared content encoder and decoder, with the style MLP and the style encoder's head of the target."""

    def __init__(self, method: MultiDomain, target: DomainKey) -> None:
        config = method.config
        bank = method.style_banks.get(target)
        super().__init__(config.channels, config.shape.size_multiple, config.style_dim, bank)
        self.content_encoder = method.content_encoder
        self.style_encoder = method.style_encoder
        self.style_mlp = method.style_mlps[target]
        self.decoder = method.decoder
        start = config.domains.index(target) * config.style_dim
        self._head = slice(start, start + config.style_dim)

    def encode_content(self, x: Tensor) -> Content:
        """Gives N x Q x H/m x W/m for x: N x C x H x W in [-1, 1], sides multiples of m."""
        return cast(Tensor, self.content_encoder(x))

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N contents and style: N x style_dim."""
        assert isinstance(content, Tensor)
        image: Tensor = self.decoder(content, self.style_mlp(style))
        return image.float()

    def decode_variants(self, content: Content, style: Tensor) -> Tensor:
        """Gives K N x C x H x W in [-1, 1] of N contents, not copied, and style: N x K x style_dim."""
        return self.decode(content, style.flatten(0, 1))

    def encode_style(self, y: Tensor) -> Tensor:
        """Gives N x style_dim codes of target images y: N x C x H x W in [-1, 1], sides from 16 px up."""
        codes: Tensor = self.style_encoder(pad_to_multiple(y, self.size_multiple)[0])
        return codes[:, self._head]
