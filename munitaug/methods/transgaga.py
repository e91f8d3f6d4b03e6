"""TransGaGa: geometry-aware unpaired translation (Wu, Cao, Li, Qian & Loy, CVPR 2019, arXiv 1904.09571).

An image is taken apart into landmarks (its geometry) and an appearance code; each is carried to the other domain by a
small network of its own, and put together there. No code was published. What the paper leaves open is our choice and
called so: all weights, the sizes of codes and networks, the training stages, and the bump that stands for a landmark.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from munitaug import ranks
from munitaug.images import match_channels, pad_to_multiple
from munitaug.losses import (
    discriminator_loss,
    divergence_from_normal,
    generator_adversarial_loss,
    mean_absolute_difference,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import check_feature_channels, drawn, padded, turn_of
from munitaug.networks.autoencoder import AutoEncoderShape, Decoder, StyleEncoder, StyleMlp
from munitaug.networks.blocks import ConvUnit, ResidualBlock
from munitaug.networks.discriminator import DiscriminatorShape, MultiScaleDiscriminator
from munitaug.networks.initialise import initialise_weights
from munitaug.networks.landmarks import (
    DOWNSAMPLE,
    LandmarkEncoder,
    LatentDiscriminator,
    LatentMapper,
    concentration_loss,
    draw_gaussians,
    heatmaps_to_moments,
    separation_loss,
)
from munitaug.networks.texture import RandomFeatures, gram_matrices
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, ODD, POSITIVE, Limits, check_settings
from munitaug.translator import Translator
from munitaug.types import BOTH_DIRECTIONS, Content, DomainKey, Pair

PRESETS = ("paper", "small")
SIZE_MULTIPLE = 4
PREPARING_BATCHES = 32
MOMENTUM = 0.99


@dataclass(frozen=True)
class TransGagaConfig:
    """Networks, weights and optimiser of a TransGaGa.

    30 landmarks and the terms are the paper's; every other number is our choice, because the paper gives none.

    Args:
        channels: image channels of both domains, 1 to 4.
        width: feature maps after the first convolution.
        n_residual: residual blocks of each encoder and of the decoder.
        landmarks: of each domain; landmarks of the two domains need not mean the same.
        landmark_deviation: width of the bump that stands for a landmark, in units of the image's side.
        appearance_dim: numbers in an appearance code.
        mlp_width: hidden units between the appearance code and the decoder.
        edge_kernel: side of the first and last convolution, odd.
        upsample_kernel: side of the convolutions after up-sampling, odd.
        pca_dim: numbers that landmark positions are reduced to before they are carried over.
        mapper_width: hidden units of the networks that carry codes over, and of their discriminators.
        discriminator_width: feature maps of the image discriminators' first layer.
        n_discriminator_layers: strided layers at each scale.
        n_scales: scales of the image discriminators.
        appearance_features: what the Gram matrices are taken of: "given" (a frozen network, VGG in the paper) or
            "random" (one layer of random filters, which needs no weights file).
        warm_up_steps: steps in which each domain learns to take apart and put together, and nothing is carried over,
            for discriminators neither; then the PCA of the landmarks is fixed.
        weight_image: of the reconstruction in the CVAE.
        weight_kl: of the divergence of appearance codes from N(0, I).
        weight_separation: of landmarks that come too close to one another.
        separation_deviation: how close that is, in units of the image's side.
        weight_concentration: of heatmaps that spread.
        weight_gan: of the adversarial term in pixels.
        weight_code_gan: of the adversarial terms on geometry and appearance codes.
        weight_code_cycle: of the cycles of both codes.
        weight_cycle: of the cycle in pixels.
        weight_appearance: of the Gram matrices' consistency.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int = 3
    width: int = 64
    n_residual: int = 4
    landmarks: int = 30
    landmark_deviation: float = 0.04
    appearance_dim: int = 8
    mlp_width: int = 256
    edge_kernel: int = 7
    upsample_kernel: int = 5
    pca_dim: int = 16
    mapper_width: int = 256
    discriminator_width: int = 64
    n_discriminator_layers: int = 4
    n_scales: int = 3
    appearance_features: Literal["given", "random"] = "given"
    warm_up_steps: int = 20_000
    weight_image: float = 20.0
    weight_kl: float = 0.05
    weight_separation: float = 0.1
    separation_deviation: float = 0.04
    weight_concentration: float = 0.1
    weight_gan: float = 1.0
    weight_code_gan: float = 1.0
    weight_code_cycle: float = 1.0
    weight_cycle: float = 10.0
    weight_appearance: float = 1.0
    optimiser: OptimiserSettings = OptimiserSettings(halve_every_steps=100_000)

    def __post_init__(self) -> None:
        check_settings(
            self,
            channels=CHANNELS,
            landmarks=Limits(2),
            landmark_deviation=POSITIVE,
            separation_deviation=POSITIVE,
            warm_up_steps=Limits(0),
            edge_kernel=ODD,
            upsample_kernel=ODD,
        )
        if self.pca_dim > 2 * self.landmarks:
            raise ValueError(
                f"pca_dim must be at most twice the landmarks ({2 * self.landmarks}), because each has two "
                f"coordinates; got {self.pca_dim}"
            )

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: the paper's 30 landmarks and objective on MUNIT-sized networks, for 64 px and more; its Gram
        matrices are those of VGG features, so a weights file is needed.
        ``small``: for 16-64 px on a CPU: 16 landmarks, narrow networks, Gram matrices of random filters, a warm-up of
        300 steps, lr 5e-4 with linear decay over the second half, EMA 0.995.

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
                n_residual=2,
                landmarks=16,
                landmark_deviation=0.08,
                mlp_width=64,
                edge_kernel=5,
                upsample_kernel=3,
                mapper_width=64,
                discriminator_width=32,
                n_discriminator_layers=3,
                n_scales=2,
                appearance_features="random",
                warm_up_steps=300,
                separation_deviation=0.08,
                optimiser=OptimiserSettings(lr=5e-4, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def shape(self) -> AutoEncoderShape:
        """Gives the sizes of appearance encoder, MLP and decoder."""
        return AutoEncoderShape(
            channels=self.channels,
            width=self.width,
            n_downsample=2,
            n_style_downsample=3,
            n_residual=self.n_residual,
            style_dim=self.appearance_dim,
            mlp_width=self.mlp_width,
            edge_kernel=self.edge_kernel,
            upsample_kernel=self.upsample_kernel,
        )


class AppearanceEncoder(nn.Module):
    """Image -> mean and log-variance of its appearance code; MUNIT's style encoder with twice the outputs."""

    def __init__(self, config: TransGagaConfig) -> None:
        super().__init__()
        doubled = replace(config.shape, style_dim=2 * config.appearance_dim)
        self.encoder = StyleEncoder(doubled)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives two N x S tensors for x: N x C x H x W in [-1, 1]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)


class DomainCoder(nn.Module):
    """One domain: image -> landmarks and appearance; landmarks and appearance -> image."""

    def __init__(self, config: TransGagaConfig) -> None:
        super().__init__()
        shape, wide = config.shape, 2 * config.width
        self.landmark_encoder = LandmarkEncoder(config.channels, config.width, config.landmarks, config.n_residual)
        self.geometry_encoder = nn.Sequential(
            ConvUnit(config.landmarks, wide, 3, padding=1, norm="instance"),
            ConvUnit(wide, shape.content_channels, 4, stride=2, padding=1, norm="instance"),
            *(ResidualBlock(shape.content_channels) for _ in range(config.n_residual)),
        )
        self.appearance_encoder = AppearanceEncoder(config)
        self.style_mlp = StyleMlp(config.appearance_dim, config.mlp_width, Decoder.adain_count(shape))
        self.decoder = Decoder(shape)

    def decode(self, bumps: Tensor, appearance: Tensor) -> Tensor:
        """Gives float32 N x C x H x W in [-1, 1] of landmark maps N x L x H/2 x W/2 and codes N x S."""
        image: Tensor = self.decoder(self.geometry_encoder(bumps), self.style_mlp(appearance))
        return image.float()


class PositionCode(nn.Module):
    """Landmark positions <-> a few uncorrelated numbers: a PCA whose axes stay as they are once they were fitted.

    Its buffers follow the positions' running mean and second moment until :meth:`fit` is called.

    Args:
        landmarks: L.
        size: numbers in a code.
    """

    mean: Tensor
    axes: Tensor
    scale: Tensor
    running_mean: Tensor
    running_second: Tensor

    def __init__(self, landmarks: int, size: int) -> None:
        super().__init__()
        numbers = 2 * landmarks
        self.register_buffer("mean", torch.full((numbers,), 0.5))
        self.register_buffer("axes", torch.eye(numbers)[:size].clone())
        self.register_buffer("scale", torch.full((size,), 0.25))
        self.register_buffer("running_mean", torch.full((numbers,), 0.5))
        self.register_buffer("running_second", 0.25 + 0.0625 * torch.eye(numbers))

    @torch.no_grad()
    def follow(self, means: Tensor, momentum: float = MOMENTUM) -> None:
        """Moves the running moments towards those of a batch of positions, N x L x 2."""
        flat = means.detach().float().flatten(1)
        with torch.autocast(flat.device.type, enabled=False):
            second = flat.T @ flat / len(flat)
        self.running_mean.lerp_(flat.mean(dim=0), 1.0 - momentum)
        self.running_second.lerp_(second, 1.0 - momentum)

    @torch.no_grad()
    def fit(self) -> None:
        """Takes the axes of largest variance from the running moments; signs are chosen, so that it repeats."""
        covariance = self.running_second - torch.outer(self.running_mean, self.running_mean)
        values, vectors = torch.linalg.eigh(covariance.double().cpu())
        count = len(self.scale)
        axes = vectors.T.flip(0)[:count]
        signs = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
        self.axes.copy_(axes * signs)
        self.scale.copy_(values.flip(0)[:count].clamp_min(1e-6).sqrt())
        self.mean.copy_(self.running_mean)

    def encode(self, means: Tensor) -> Tensor:
        """Gives N x size of positions N x L x 2."""
        return (means.flatten(1) - self.mean) @ self.axes.T / self.scale

    def decode(self, code: Tensor) -> Tensor:
        """Gives positions N x L x 2 of codes N x size."""
        means: Tensor = ((code * self.scale) @ self.axes + self.mean).unflatten(1, (-1, 2))
        return means


class _Parts(NamedTuple):
    """An image taken apart: positions N x L x 2, heatmap deviations N x L x 2, appearance mean and log-variance."""

    means: Tensor
    deviations: Tensor
    appearance: Tensor
    log_variance: Tensor


class TransGaga(Method):
    """Two domains that take images apart and put them together, and mappers between their codes.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: frozen network for the Gram matrices, N x 3 x H x W in [-1, 1] -> features; needed with
            appearance_features="given" and weight_appearance > 0.
    """

    name: ClassVar[str] = "transgaga"
    config_class: ClassVar[type[TransGagaConfig]] = TransGagaConfig
    recording_obstacle = "its steps change when the warm-up is over"
    finished_steps: Tensor

    def __init__(self, config: TransGagaConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        self._config = config
        random = config.appearance_features == "random"
        own = RandomFeatures(config.channels, torch_generator("random features")) if random else features
        self._features = (own,)  # a tuple hides the frozen network from parameters() and checkpoints
        judge = DiscriminatorShape(
            config.channels, config.discriminator_width, config.n_discriminator_layers, config.n_scales
        )
        sizes = {"geometry": config.pca_dim, "appearance": config.appearance_dim}
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.coders = nn.ModuleDict({key: DomainCoder(config) for key in "ab"})
            self.mappers = nn.ModuleDict(
                {
                    f"{name}_{key}": LatentMapper(size, config.mapper_width)
                    for name, size in sizes.items()
                    for key in "ab"
                }
            )
            self.discriminators = nn.ModuleDict({f"image_{key}": MultiScaleDiscriminator(judge) for key in "ab"})
            self.discriminators.update(
                {
                    f"{name}_{key}": LatentDiscriminator(size, config.mapper_width)
                    for name, size in sizes.items()
                    for key in "ab"
                }
            )
        self.positions = nn.ModuleDict({key: PositionCode(config.landmarks, config.pca_dim) for key in "ab"})
        self.register_buffer("finished_steps", torch.zeros((), dtype=torch.int64))
        initialise_weights(self.coders, "kaiming", torch_generator(seed, "coders"))
        initialise_weights(self.mappers, "kaiming", torch_generator(seed, "mappers"))
        initialise_weights(self.discriminators, "gaussian", torch_generator(seed, "discriminator"))

    def hidden_networks(self) -> tuple[nn.Module | None, ...]:
        """Gives the frozen feature network."""
        return self._features

    @property
    def config(self) -> TransGagaConfig:
        """Gives the configuration it was built from."""
        return self._config

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Fits the first PCA of landmark positions, to the untrained encoders; the warm-up ends with a better one."""
        for number, pair in enumerate(islice(pairs, PREPARING_BATCHES)):
            momentum = number / (number + 1.0)
            for key, image in padded(pair, SIZE_MULTIPLE).items():
                device = self.finished_steps.device
                with torch.no_grad():
                    self._position(key).follow(self._take_apart(key, image.to(device)).means, momentum)
        for key in ("a", "b"):
            self._position(key).fit()

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminators, then everything that makes images.

        Raises:
            ValueError: weight_appearance > 0 and appearance_features="given" without a feature network.
        """
        if self._config.weight_appearance > 0.0 and self._features[0] is None:
            raise ValueError(
                'appearance_features="given" needs a feature network: pass features=..., or --vgg-weights FILE to the '
                'CLI; or set appearance_features to "random"'
            )
        if self._config.weight_appearance > 0.0 and self._config.appearance_features == "given":
            check_feature_channels(self._config.channels)
        return (
            Phase("discriminator", (self.discriminators,), self._discriminator_loss),
            Phase("generator", (self.coders, self.mappers), self._generator_loss),
        )

    def translates(self) -> bool:
        """Says whether the warm-up is over, in which each domain learns by itself."""
        return int(self.finished_steps) > self._config.warm_up_steps

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights.

        Raises:
            ValueError: there is no such direction.
        """
        self.check_direction(source, target)
        return TransGagaTranslator(self, source, target)

    def _coder(self, key: str) -> DomainCoder:
        return cast(DomainCoder, self.coders[key])

    def _position(self, key: str) -> PositionCode:
        return cast(PositionCode, self.positions[key])

    def _take_apart(self, key: str, image: Tensor) -> _Parts:
        coder = self._coder(key)
        means, deviations = heatmaps_to_moments(coder.landmark_encoder(image))
        appearance, log_variance = coder.appearance_encoder(image)
        return _Parts(means, deviations, appearance, log_variance)

    def _put_together(self, key: str, means: Tensor, appearance: Tensor, like: Tensor) -> Tensor:
        bumps = bump_maps(means, like.shape[2], like.shape[3], self._config.landmark_deviation)
        return self._coder(key).decode(bumps, appearance)

    def carry_position(self, source: str, target: str, means: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the code N x P in the target's PCA, and the positions N x L x 2, of source positions N x L x 2."""
        code = self.mappers[f"geometry_{source}"](self._position(source).encode(means))
        return code, self._position(target).decode(code)

    def check_length(self, max_steps: int) -> None:
        """Refuses a run that would end in its warm-up, with nothing that could carry an image over.

        Raises:
            ValueError: it would.
        """
        warm_up = self._config.warm_up_steps
        if max_steps <= warm_up:
            raise ValueError(
                f"transgaga carries nothing over in its first {warm_up} steps (warm_up_steps), so {max_steps} steps "
                "would leave it untrained; train longer, or give a shorter warm-up"
            )

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        if int(self.finished_steps) + int(self.training) <= self._config.warm_up_steps:  # the step is counted later
            return {}
        config, images = self._config, padded(pair, SIZE_MULTIPLE)
        with torch.no_grad():
            parts = {key: self._take_apart(key, image) for key, image in images.items()}
            real = {key: self._codes(key, parts[key]) for key in ("a", "b")}
        terms: dict[str, Tensor] = {}
        for source, target in BOTH_DIRECTIONS:
            with torch.no_grad():
                codes, means = self.carry_position(source, target, parts[source].means)
                appearance = self.mappers[f"appearance_{source}"](parts[source].appearance)
                drawn = self._drawn(pair, "discriminator", target)
                like = images[source]
                fakes = [self._put_together(target, means, each, like) for each in (appearance, drawn)]
            for name, weight, true, false in (
                ("image", config.weight_gan, images[target], torch.cat(fakes)),
                ("geometry", config.weight_code_gan, real[target][0], codes),
                ("appearance", config.weight_code_gan, real[target][1], appearance),
            ):
                judge = self.discriminators[f"{name}_{target}"]
                terms[f"{name}_{target}"] = weight * discriminator_loss(judge(true), judge(false), "lsgan")
        return terms

    def _codes(self, key: str, parts: _Parts) -> tuple[Tensor, Tensor]:
        return self._position(key).encode(parts.means), parts.appearance

    def _drawn(self, pair: Pair, phase: str, key: str) -> Tensor:
        shape = (pair.batch_size, self._config.appearance_dim)
        whole = drawn(pair, lambda generator: torch.randn(shape, generator=generator), "style", phase, key)
        return pair.rows(whole)

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        images = padded(pair, SIZE_MULTIPLE)
        parts = {key: self._take_apart(key, image) for key, image in images.items()}
        finished = self._follow(parts, pair) if self.training else int(self.finished_steps)
        terms: dict[str, Tensor] = {}
        for key in ("a", "b"):
            terms |= self._terms_of_domain(pair, key, images[key], parts[key])
        if finished > self._config.warm_up_steps:
            for source, target in BOTH_DIRECTIONS:
                terms |= self._terms_of_direction(pair, images[source], parts[source], source, target)
        return terms

    def _follow(self, parts: dict[DomainKey, _Parts], pair: Pair) -> int:
        """Counts the step, and gives the count; during the warm-up the PCA's moments follow, at its end axes are fixed.

        A step of several turns leaves the moments where their mean would have moved them.
        """
        turn, turns = turn_of(pair)
        if turn == 0:
            self.finished_steps += 1
        finished = int(self.finished_steps)
        if finished > self._config.warm_up_steps:
            return finished
        share = (1.0 - MOMENTUM) / turns
        momentum = MOMENTUM if turns == 1 else 1.0 - share / (1.0 - (turns - 1 - turn) * share)
        for key, each in parts.items():
            self._position(key).follow(ranks.gather(each.means.detach()), momentum)
            if finished == self._config.warm_up_steps and turn == turns - 1:
                self._position(key).fit()
        return finished

    def _terms_of_domain(self, pair: Pair, key: str, image: Tensor, parts: _Parts) -> dict[str, Tensor]:
        """Gives the CVAE's terms and the landmark prior of one domain."""
        config = self._config
        noise = self._drawn(pair, "posterior", key)
        sampled = parts.appearance + noise * (0.5 * parts.log_variance).exp()
        again = self._put_together(key, parts.means, sampled, image)
        return {
            f"image_{key}": config.weight_image * mean_absolute_difference(again, image),
            f"kl_{key}": config.weight_kl * divergence_from_normal(parts.appearance, parts.log_variance),
            f"separation_{key}": config.weight_separation * separation_loss(parts.means, config.separation_deviation),
            f"concentration_{key}": config.weight_concentration * concentration_loss(parts.deviations),
        }

    def _terms_of_direction(
        self, pair: Pair, image: Tensor, parts: _Parts, source: DomainKey, target: DomainKey
    ) -> dict[str, Tensor]:
        """Gives adversarial, cycle and appearance terms of one direction."""
        config = self._config
        codes, means = self.carry_position(source, target, parts.means)
        appearance = self.mappers[f"appearance_{source}"](parts.appearance)
        drawn = self._drawn(pair, "generator", target)
        fake, varied = (self._put_together(target, means, each, image) for each in (appearance, drawn))
        terms: dict[str, Tensor] = {}
        for name, weight, made in (
            ("gan", config.weight_gan, torch.cat([fake, varied])),
            ("geometry_gan", config.weight_code_gan, codes),
            ("appearance_gan", config.weight_code_gan, appearance),
        ):
            judge = self.discriminators[f"{'image' if name == 'gan' else name.removesuffix('_gan')}_{target}"]
            terms[name] = weight * generator_adversarial_loss(judge(made), "lsgan")
        terms["code_cycle"] = config.weight_code_cycle * self._code_cycle(parts, codes, appearance, source, target)
        if config.weight_cycle > 0.0:
            back = self._way_back(fake, source, target)
            terms["cycle"] = config.weight_cycle * mean_absolute_difference(back, image)
        if config.weight_appearance > 0.0:
            terms["appearance"] = config.weight_appearance * self._appearance_term(image, fake)
        return {f"{name}_{source}2{target}": value for name, value in terms.items()}

    def _code_cycle(self, parts: _Parts, codes: Tensor, appearance: Tensor, source: str, target: str) -> Tensor:
        """Gives how far both codes are from themselves after going there and back."""
        own = self._position(source).encode(parts.means)
        geometry = mean_absolute_difference(self.mappers[f"geometry_{target}"](codes), own)
        back = self.mappers[f"appearance_{target}"](appearance)
        return geometry + mean_absolute_difference(back, parts.appearance)

    def _way_back(self, fake: Tensor, source: str, target: str) -> Tensor:
        """Gives the image of the source domain that a translation is translated back to."""
        again = self._take_apart(target, fake)
        _, means = self.carry_position(target, source, again.means)
        return self._put_together(source, means, self.mappers[f"appearance_{target}"](again.appearance), fake)

    def _appearance_term(self, image: Tensor, fake: Tensor) -> Tensor:
        """Gives the mean difference between the Gram matrices of an image and of its translation (L_con^a)."""
        features = self._features[0]
        assert features is not None
        channels = self._config.channels if self._config.appearance_features == "random" else 3
        with torch.no_grad():
            wanted = gram_matrices(features(match_channels(image, channels)))
        return mean_absolute_difference(gram_matrices(features(match_channels(fake, channels))), wanted)


class TransGagaTranslator(Translator):
    """Landmarks of the source, carried over; any appearance code of the target; the target's decoder.

    The content is the maps of carried landmarks, N x L x H/2 x W/2. Style codes are appearance codes: drawn from
    N(0, I), of exemplars, or the image's own carried over (:meth:`carried_style`).
    """

    def __init__(self, method: TransGaga, source: DomainKey, target: DomainKey) -> None:
        config = method.config
        super().__init__(config.channels, SIZE_MULTIPLE, config.appearance_dim, method.style_banks.get(target))
        from_coder, to_coder = method._coder(source), method._coder(target)
        self.landmark_deviation = config.landmark_deviation
        self.landmark_encoder = from_coder.landmark_encoder
        self.source_appearance = from_coder.appearance_encoder
        self.geometry_mapper = method.mappers[f"geometry_{source}"]
        self.appearance_mapper = method.mappers[f"appearance_{source}"]
        self.source_positions, self.target_positions = method._position(source), method._position(target)
        self.target = to_coder

    def landmarks(self, x: Tensor) -> Tensor:
        """Gives the carried landmarks N x L x 2, (row, column) in [0, 1], of x: N x C x H x W in [-1, 1].

        Sides must be multiples of ``size_multiple``. Between the landmarks of two images lie their geometry
        interpolations, for :meth:`content_of`.
        """
        means, _ = heatmaps_to_moments(self.landmark_encoder(x))
        return self.target_positions.decode(self.geometry_mapper(self.source_positions.encode(means)))

    def encode_content(self, x: Tensor) -> Content:
        """Gives N x L x H/2 x W/2 landmark maps of x: N x C x H x W in [-1, 1], sides multiples of 4."""
        return self.content_of(self.landmarks(x), x.shape[2], x.shape[3])

    def content_of(self, landmarks: Tensor, height: int, width: int) -> Tensor:
        """Gives the content that :meth:`decode` takes of landmarks N x L x 2, for images of height x width px."""
        return bump_maps(landmarks, height, width, self.landmark_deviation)

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of landmark maps and style: N x S."""
        assert isinstance(content, Tensor)
        return self.target.decode(content, style)

    def encode_style(self, y: Tensor) -> Tensor:
        """Gives the N x S mean appearance codes of target images y: N x C x H x W in [-1, 1]."""
        codes: Tensor = self.target.appearance_encoder(pad_to_multiple(y, SIZE_MULTIPLE)[0])[0]
        return codes

    def carried_style(self, x: Tensor) -> Tensor:
        """Gives N x S codes in the target domain of the appearance of source images x: N x C x H x W in [-1, 1]."""
        own = self.source_appearance(pad_to_multiple(x, SIZE_MULTIPLE)[0])[0]
        codes: Tensor = self.appearance_mapper(own)
        return codes


def bump_maps(means: Tensor, height: int, width: int, deviation: float) -> Tensor:
    """Gives N x L x height/2 x width/2 maps of landmarks N x L x 2 for an image of height x width px."""
    return draw_gaussians(means, height // DOWNSAMPLE, width // DOWNSAMPLE, deviation)
