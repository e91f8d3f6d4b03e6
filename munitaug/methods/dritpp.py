"""DRIT++: diverse translation via disentangled representations (Lee et al., IJCV 2020, arXiv 1905.01270).

An image is a content, which lives in a space that both domains share, and an attribute of its domain. Two images
exchange their attributes, then exchange them again, and must be what they were (cross-cycle consistency). Objective,
networks and weights after the paper and HsinYingLee/DRIT (src/model.py, src/train.py; read, not copied).

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from munitaug import ranks
from munitaug.images import pad_to_multiple
from munitaug.losses import (
    discriminator_loss,
    divergence_from_normal,
    generator_adversarial_loss,
    mean_absolute_difference,
    mode_seeking_loss,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import drawn_normal, scores_of
from munitaug.networks.blocks import ResidualBlock
from munitaug.networks.discriminator import DiscriminatorShape
from munitaug.networks.drit import (
    SIZE_MULTIPLE,
    Conditioning,
    ContentDiscriminator,
    DomainContentEncoder,
    DomainDiscriminator,
    DritShape,
    initialise_linear_layers,
)
from munitaug.networks.initialise import initialise_weights
from munitaug.random import seed_of, torch_generator
from munitaug.settings import CHANNELS, ODD, POSITIVE, check_settings
from munitaug.translator import Translator
from munitaug.types import Content, DomainKey, Pair

PRESETS = ("paper", "small")
KEYS: tuple[DomainKey, DomainKey] = ("a", "b")


@dataclass(frozen=True)
class DritppConfig:
    """Networks, weights and optimiser of a DRIT++; the defaults are the published ones ("paper").

    Args:
        channels: image channels of both domains, 1 to 4.
        width: feature maps after the first convolution of the encoders.
        n_residual: residual blocks of a content encoder before the shared one, and of a generator.
        style_dim: numbers in an attribute.
        conditioning: "concatenation" (of the attribute; for pairs whose shapes differ little) or "feature-wise" (for
            pairs whose shapes differ much; its attribute encoder gives no variance).
        mlp_width: hidden units between attribute and generator, where the conditioning is feature-wise.
        content_noise: standard deviation of the noise added to contents in training.
        discriminator_width: feature maps of the image discriminators' first layer.
        n_discriminator_layers: strided layers at each scale.
        n_scales: scales of the image discriminators.
        spectral_norm: spectral norm in the image discriminators.
        n_content_layers: strided layers of the content discriminator.
        content_kernel: side of their convolutions, odd.
        content_last_kernel: side of the content discriminator's convolution after them.
        content_clip_norm: the content discriminator's gradient is scaled down to this norm; 0 leaves it.
        content_lr_scale: the content discriminator's lr as a multiple of the others'.
        content_steps: the content discriminator learns at every step, all else at every so-many-th.
        initialisation: law of the convolutions' initial weights, "gaussian" (published) or "kaiming".
        weight_gan: of the adversarial terms on images, of encoded and of random attributes.
        weight_content_gan: of the adversarial term on contents.
        weight_cross_cycle: of the cross-cycle consistency.
        weight_self: of the reconstruction of an image from its own content and attribute.
        weight_latent: of the latent regression.
        weight_kl: of the divergence of attributes from N(0, I); feature-wise, of their mean square.
        weight_content_norm: of the contents' mean square.
        weight_mode_seeking: of the mode-seeking term (Mao et al. 2019); 0 leaves it and its second draw out.
        optimiser: Adam settings of all phases.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int = 3
    width: int = 64
    n_residual: int = 3
    style_dim: int = 8
    conditioning: Conditioning = "concatenation"
    mlp_width: int = 256
    content_noise: float = 1.0
    discriminator_width: int = 64
    n_discriminator_layers: int = 4
    n_scales: int = 3
    spectral_norm: bool = False
    n_content_layers: int = 3
    content_kernel: int = 7
    content_last_kernel: int = 4
    content_clip_norm: float = 5.0
    content_lr_scale: float = 0.4
    content_steps: int = 3
    initialisation: Literal["gaussian", "kaiming"] = "gaussian"
    weight_gan: float = 1.0
    weight_content_gan: float = 1.0
    weight_cross_cycle: float = 10.0
    weight_self: float = 10.0
    weight_latent: float = 10.0
    weight_kl: float = 0.01
    weight_content_norm: float = 0.01
    weight_mode_seeking: float = 1.0
    optimiser: OptimiserSettings = OptimiserSettings(linear_decay_from=0.5)

    def __post_init__(self) -> None:
        check_settings(self, channels=CHANNELS, content_kernel=ODD, content_lr_scale=POSITIVE)

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: the published networks (concatenation), weights, schedule and optimiser, for 216 px crops; train
        with a batch of 2 (both discriminators see all real images of it, where the published code shares them out).
        ``small``: for 16-64 px on a CPU; all its differences are our choice: narrow networks, one residual block in
        place of three, a two-scale discriminator, a content discriminator that fits 4 x 4 contents, every phase at
        every step, Kaiming weights and, for short runs, lr 5e-4 with EMA 0.995. With the published noise on contents
        and weight of mode seeking, digits of 16 px came out in pieces after 400 to 600 steps (one seed); less so with a
        noise of 0.25 and a weight of 0.1, which it has.

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
                width=12,
                n_residual=1,
                mlp_width=64,
                content_noise=0.25,
                discriminator_width=32,
                n_discriminator_layers=3,
                n_scales=2,
                n_content_layers=1,
                content_kernel=3,
                content_last_kernel=2,
                content_steps=1,
                initialisation="kaiming",
                weight_mode_seeking=0.1,
                optimiser=OptimiserSettings(lr=5e-4, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def shape(self) -> DritShape:
        """Gives the sizes of encoders and generators."""
        return DritShape(self.channels, self.width, self.n_residual, self.style_dim, self.mlp_width, self.conditioning)

    @property
    def discriminator_shape(self) -> DiscriminatorShape:
        """Gives the sizes of an image discriminator."""
        return DiscriminatorShape(
            self.channels, self.discriminator_width, self.n_discriminator_layers, self.n_scales, self.spectral_norm
        )


class AttributeCode(NamedTuple):
    """What an attribute encoder says: mean N x S, and log-variance N x S or None where it gives none."""

    mean: Tensor
    log_variance: Tensor | None


class _Side(NamedTuple):
    """One domain's images, taken apart."""

    image: Tensor
    content: Tensor
    code: AttributeCode
    attribute: Tensor


class _Fakes(NamedTuple):
    """Images of one domain; all but the first have the other domain's contents."""

    own: Tensor
    encoded: Tensor
    random: tuple[Tensor, ...]


class Dritpp(Method):
    """Content encoders with a shared end, attribute encoders, generators; discriminators of images and of contents.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "dritpp"
    config_class: ClassVar[type[DritppConfig]] = DritppConfig
    recording_obstacle = ""

    def __init__(self, config: DritppConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        if config.content_steps > 1:
            skips = f"content_steps {config.content_steps} leaves phases out at most steps; set it to 1"
            self.recording_obstacle = skips
        shape, judged = config.shape, config.discriminator_shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(seed, "spectral"))  # torch draws its singular vectors there
            self.content_encoders = nn.ModuleDict({key: DomainContentEncoder(shape) for key in KEYS})
            self.shared_encoder = ResidualBlock(shape.content_channels)
            self.attribute_encoders = nn.ModuleDict({key: shape.attribute_encoder() for key in KEYS})
            self.shared_decoder = shape.shared_decoder()
            self.generators = nn.ModuleDict({key: shape.generator() for key in KEYS})
            self.discriminators = nn.ModuleDict({key: DomainDiscriminator(judged) for key in KEYS})
            self.random_discriminators = nn.ModuleDict({key: DomainDiscriminator(judged) for key in KEYS})
            self.content_discriminator = ContentDiscriminator(
                shape.content_channels, config.n_content_layers, config.content_kernel, config.content_last_kernel
            )
        for name, module in self.named_children():
            translating = not name.endswith(("discriminator", "discriminators"))
            law = config.initialisation if translating else "gaussian"
            initialise_weights(module, law, torch_generator(seed, name))
            if law == "gaussian":
                initialise_linear_layers(module, torch_generator(seed, name, "linear"))

    @property
    def config(self) -> DritppConfig:
        """Gives the configuration it was built from."""
        return self._config

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminators, content discriminator, then encoders and generators.

        As in the published schedule, the content discriminator alone learns in the steps between. There encoders and
        generators take two optimiser steps in turn, the second (random attributes) without the attribute encoders. A
        weight stands in one phase here, so we take one step on the sum, and the attribute encoders get no gradient
        from the terms of the second.
        """
        every = self._config.content_steps
        judges = (self.discriminators, self.random_discriminators)
        content_judge = (self.content_discriminator,)
        makers = (
            self.content_encoders,
            self.shared_encoder,
            self.attribute_encoders,
            self.shared_decoder,
            self.generators,
        )
        content_lr, content_clip = self._config.content_lr_scale, self._config.content_clip_norm
        return (
            Phase("discriminator", judges, self._discriminator_loss, every),
            Phase(
                "content_discriminator",
                content_judge,
                self._content_discriminator_loss,
                lr_scale=content_lr,
                clip_norm=content_clip,
            ),
            Phase("generator", makers, self._generator_loss, every),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights.

        Raises:
            ValueError: there is no such direction.
        """
        self.check_direction(source, target)
        return DritppTranslator(self, source, target)

    def restyler(self, domain: DomainKey) -> Translator:
        """Gives a domain's own encoder and decoder as a translator; it shares this method's weights."""
        return DritppTranslator(self, domain, domain)

    def _content(self, key: DomainKey, image: Tensor, pair: Pair, *purpose: str) -> Tensor:
        """Gives the content of a domain's images, with the noise of training."""
        content: Tensor = self.shared_encoder(self.content_encoders[key](image))
        if self._config.content_noise == 0.0:
            return content
        noise = drawn_normal(pair, content.shape, "content noise", key, *purpose)
        return content + self._config.content_noise * noise

    def _attribute(self, key: DomainKey, image: Tensor, pair: Pair, *purpose: str) -> tuple[AttributeCode, Tensor]:
        """Gives the attribute code of a domain's images, and an attribute drawn from it."""
        code = AttributeCode(*self.attribute_encoders[key](image))
        if code.log_variance is None:
            return code, code.mean
        return code, code.mean + (0.5 * code.log_variance).exp() * drawn_normal(
            pair, code.mean.shape, "attribute noise", key, *purpose
        )

    def _sides(self, pair: Pair, phase: str) -> tuple[_Side, _Side]:
        """Gives both domains' images, taken apart."""
        sides = []
        for key, images in zip(KEYS, (pair.a, pair.b), strict=True):
            image = pad_to_multiple(images, SIZE_MULTIPLE)[0]
            content = self._content(key, image, pair, phase)
            sides.append(_Side(image, content, *self._attribute(key, image, pair, phase)))
        return sides[0], sides[1]

    def _drawn_attributes(self, pair: Pair, phase: str) -> list[Tensor]:
        """Gives a random attribute of every image, and a second one for mode seeking; both domains take the same."""
        names = ["first", "second"] if self._config.weight_mode_seeking > 0.0 else ["first"]
        shape = torch.Size((len(pair.a), self._config.style_dim))
        return [drawn_normal(pair, shape, "attribute", phase, name) for name in names]

    def _decode(self, key: DomainKey, contents: Sequence[Tensor], attributes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gives the images of several batches of contents and attributes, generated in one pass."""
        content: Tensor = self.shared_decoder(torch.cat(list(contents)))
        images: Tensor = self.generators[key](content, torch.cat(list(attributes)))
        return tuple(images.unflatten(0, (len(contents), -1)))

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        """Gives the image discriminators' terms; the real images are the same for both of a domain."""
        drawn, terms = self._drawn_attributes(pair, "discriminator"), {}
        with torch.no_grad():
            a, b = self._sides(pair, "discriminator")
        for key, side, other in zip(KEYS, (a, b), (b, a), strict=True):
            with torch.no_grad():
                encoded, *random = self._decode(key, [other.content] * (1 + len(drawn)), [side.attribute, *drawn])
            for name, judges, fakes in (
                ("gan", self.discriminators, [encoded]),
                ("gan_random", self.random_discriminators, random),
            ):
                real_maps, *fake_maps = scores_of(judges[key], [side.image, *fakes])
                losses = [discriminator_loss(real_maps, maps, "nsgan") for maps in fake_maps]
                terms[f"{name}_{key}"] = self._config.weight_gan * torch.stack(losses).sum()
        return terms

    def _content_discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        with torch.no_grad():
            a, b = (
                self._content(key, pad_to_multiple(images, SIZE_MULTIPLE)[0], pair, "content_discriminator")
                for key, images in zip(KEYS, (pair.a, pair.b), strict=True)
            )
        maps_a, maps_b = scores_of(self.content_discriminator, [a, b])
        return {"gan": self._config.weight_content_gan * discriminator_loss(maps_b, maps_a, "nsgan")}

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        a, b = self._sides(pair, "generator")
        drawn = self._drawn_attributes(pair, "generator")
        fakes_a, fakes_b = self._fakes("a", a, b, drawn), self._fakes("b", b, a, drawn)
        terms: dict[str, Tensor] = {}
        for key, side, fakes in zip(KEYS, (a, b), (fakes_a, fakes_b), strict=True):
            values = self._terms_of_codes(side) | self._terms_of_fakes(key, side, fakes, drawn)
            terms |= {f"{name}_{key}": value for name, value in values.items()}
        if self._config.weight_cross_cycle > 0.0:
            terms |= self._cross_cycle_terms(pair, (a, b), (fakes_a.encoded, fakes_b.encoded))
        return terms

    def _fakes(self, key: DomainKey, side: _Side, other: _Side, drawn: list[Tensor]) -> _Fakes:
        contents = [side.content] + [other.content] * (1 + len(drawn))
        own, encoded, *random = self._decode(key, contents, [side.attribute, side.attribute, *drawn])
        return _Fakes(own, encoded, tuple(random))

    def _terms_of_codes(self, side: _Side) -> dict[str, Tensor]:
        """Gives the terms on one domain's contents and attributes."""
        config = self._config
        terms: dict[str, Tensor] = {}
        if config.weight_content_gan > 0.0:
            maps = self.content_discriminator(side.content)
            terms["content_gan"] = config.weight_content_gan * indistinguishable_loss(maps)
        if config.weight_kl > 0.0:
            terms["kl"] = config.weight_kl * attribute_prior_loss(side.code)
        if config.weight_content_norm > 0.0:
            terms["content_norm"] = config.weight_content_norm * side.content.float().square().mean()
        return terms

    def _terms_of_fakes(self, key: DomainKey, side: _Side, fakes: _Fakes, drawn: list[Tensor]) -> dict[str, Tensor]:
        """Gives the terms on the images generated in one domain, without the cross-cycle."""
        config = self._config
        terms: dict[str, Tensor] = {}
        if config.weight_self > 0.0:
            terms["self"] = config.weight_self * mean_absolute_difference(fakes.own, side.image)
        if config.weight_gan > 0.0:
            terms["gan"] = config.weight_gan * generator_adversarial_loss(
                self.discriminators[key](fakes.encoded), "nsgan"
            )
            maps_of_fakes = scores_of(self.random_discriminators[key], fakes.random)
            losses = [generator_adversarial_loss(maps, "nsgan") for maps in maps_of_fakes]
            terms["gan_random"] = config.weight_gan * torch.stack(losses).sum()
        if config.weight_latent > 0.0:
            mean, _ = apply_fixed(self.attribute_encoders[key], fakes.random[0])
            terms["latent"] = config.weight_latent * mean_absolute_difference(mean, drawn[0])
        if config.weight_mode_seeking > 0.0:
            of_ranks = (ranks.gather(each) for each in (*fakes.random, *drawn))
            terms["mode_seeking"] = config.weight_mode_seeking * mode_seeking_loss(*of_ranks)
        return terms

    def _cross_cycle_terms(
        self, pair: Pair, sides: tuple[_Side, _Side], encoded: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Gives the difference between images and what two exchanges of attributes make of them.

        Args:
            pair: decides the noise.
            sides: of a and b.
            encoded: N x C x H x W images of a with contents of b, and of b with contents of a.
        """
        content_of_b, content_of_a = (
            self._content(key, fake, pair, "cross-cycle") for key, fake in zip(KEYS, encoded, strict=True)
        )
        terms = {}
        for key, side, fake, content in zip(KEYS, sides, encoded, (content_of_a, content_of_b), strict=True):
            _, attribute = self._attribute(key, fake, pair, "cross-cycle")
            (back,) = self._decode(key, [content], [attribute])
            difference = mean_absolute_difference(back, side.image)
            terms[f"cross_cycle_{key}"] = self._config.weight_cross_cycle * difference
        return terms


class DritppTranslator(Translator):
    """Content encoder of one domain, generator of the other; without the noise of training."""

    def __init__(self, method: Dritpp, source: DomainKey, target: DomainKey) -> None:
        config = method.config
        super().__init__(config.channels, SIZE_MULTIPLE, config.style_dim, method.style_banks.get(target))
        self.content_encoder = method.content_encoders[source]
        self.shared_encoder = method.shared_encoder
        self.shared_decoder = method.shared_decoder
        self.generator = method.generators[target]
        self.attribute_encoder = method.attribute_encoders[target]

    def encode_content(self, x: Tensor) -> Content:
        """Gives N x Q x H/4 x W/4 for x: N x C x H x W in [-1, 1], sides multiples of 4."""
        content: Tensor = self.shared_encoder(self.content_encoder(x))
        return content

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N contents and style: N x style_dim, the attributes."""
        images: Tensor = self.generator(self.shared_decoder(content), style)
        return images

    def encode_style(self, y: Tensor) -> Tensor:
        """Gives N x style_dim mean attributes of target images y: N x C x H x W in [-1, 1], sides from 16 px up."""
        mean: Tensor = self.attribute_encoder(pad_to_multiple(y, self.size_multiple)[0])[0]
        return mean


def attribute_prior_loss(code: AttributeCode) -> Tensor:
    """Gives KL(N(mean, variance) || N(0, I)), summed over the numbers of a code and averaged over images.

    A code without variance (feature-wise conditioning) costs the mean of its squares, as in the published code.
    """
    if code.log_variance is None:
        return code.mean.square().mean()
    return divergence_from_normal(code.mean, code.log_variance)


def indistinguishable_loss(maps: Sequence[Tensor]) -> Tensor:
    """Gives the cross-entropy of scores with the probability 1/2; least, log 2, at 0 (DRIT++ content adversarial).

    Args:
        maps: N x 1 x h x w scores, unbounded.
    """
    losses = [F.softplus(scores.float()) - 0.5 * scores.float() for scores in maps]
    return torch.stack([loss.mean() for loss in losses]).sum()


def apply_fixed(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gives an attribute encoder's answer through which gradients reach x, but not the encoder's weights."""
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    answer: tuple[Tensor, Tensor | None] = functional_call(network, weights, (x,))
    return answer
