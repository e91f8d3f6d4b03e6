"""CycleGAN: unpaired translation with cycle consistency (Zhu, Park, Isola & Efros, ICCV 2017, arXiv 1703.10593).

Objective and networks after the paper and junyanz/pytorch-CycleGAN-and-pix2pix, models/cycle_gan_model.py (read, not
copied). One line differs from it: the discriminators see translations made after the generators' step, not before. With
``noise_dim`` it is the "CycleGAN with noise" that the multimodal papers compare with (Huang et al. 2018, section 5.2).

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from munitaug.lanes import in_lanes
from munitaug.losses import discriminator_loss, generator_adversarial_loss, mean_absolute_difference
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import drawn, exchange, padded, scores_of
from munitaug.networks.image_pool import ImagePool
from munitaug.networks.initialise import initialise_weights
from munitaug.networks.patchgan import PatchGan, PatchGanShape
from munitaug.networks.resnet import ResnetGenerator, ResnetShape
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, Limits, check_settings
from munitaug.translator import OneToOneTranslator, Translator
from munitaug.types import BOTH_DIRECTIONS, Content, DomainKey, Pair

PRESETS = ("paper", "small")
OTHER = dict(BOTH_DIRECTIONS)
"""The other domain."""
NO_EXEMPLARS = (
    "the noise of a CycleGAN cannot be read from an exemplar; for styles of exemplars train munit, dritpp, transgaga "
    "or multidomain"
)


@dataclass(frozen=True)
class CycleGanConfig:
    """Networks, weights and optimiser of a CycleGAN; the defaults are the published ones for 256 px.

    Args:
        channels: image channels of both domains, 1 to 4.
        width: feature maps of the generators' first convolution.
        n_residual: residual blocks of the generators; published are 9 from 256 px on, 6 at 128 px.
        antialias_down: halve maps through a smoothing filter, in generators and discriminators, as CUT does.
        antialias_up: double maps through a smoothing filter, as CUT does.
        noise_dim: numbers of a code from N(0, I) that both generators take as planes beside the image (see
            :func:`beside_noise`); variants by name, since the cycle term teaches the generators to ignore it. 0, as
            published, takes none.
        discriminator_width: feature maps of the discriminators' first layer.
        n_discriminator_layers: halving layers of the discriminators; 3 give patches of 70 x 70 px.
        pool_size: earlier translations of each domain kept for the discriminators; 0 shows them the latest only.
        weight_gan: of the adversarial term (least squares).
        weight_cycle: of the cycle term, eq. 2.
        weight_identity: of the identity term (paper, section 5.2); 0 leaves it out.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int = 3
    width: int = 64
    n_residual: int = 9
    antialias_down: bool = False
    antialias_up: bool = False
    noise_dim: int = 0
    discriminator_width: int = 64
    n_discriminator_layers: int = 3
    pool_size: int = 50
    weight_gan: float = 1.0
    weight_cycle: float = 10.0
    weight_identity: float = 5.0
    optimiser: OptimiserSettings = OptimiserSettings(lr=2e-4, weight_decay=0.0, linear_decay_from=0.5)

    def __post_init__(self) -> None:
        check_settings(self, channels=CHANNELS, pool_size=Limits(0), noise_dim=Limits(0))

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: networks, weights and optimiser as published for 256 px, with the identity weight of the published
        code's default (the paper used it for paintings and left it out elsewhere). At 128 px take n_residual 6.
        ``small``: for 16-64 px on a CPU: width 24 and 32, 3 residual blocks, a discriminator of two halving layers
        whose patches (34 px) fit small images, and for short runs lr 5e-4 with linear decay over the second half and
        EMA 0.995.

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
                width=24,
                n_residual=3,
                discriminator_width=32,
                n_discriminator_layers=2,
                optimiser=OptimiserSettings(lr=5e-4, weight_decay=0.0, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def generator_shape(self) -> ResnetShape:
        """Gives the sizes of one generator."""
        down, up = self.antialias_down, self.antialias_up
        return ResnetShape(self.channels, self.width, self.n_residual, down, up, self.noise_dim)

    @property
    def discriminator_shape(self) -> PatchGanShape:
        """Gives the sizes of one discriminator."""
        return PatchGanShape(self.channels, self.discriminator_width, self.n_discriminator_layers, self.antialias_down)


class CycleGan(Method):
    """A generator for each direction, a discriminator and a pool of earlier translations for each domain.

    ``generators`` are held by their source domain, ``discriminators`` and ``pools`` by the domain they judge.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "cyclegan"
    config_class: ClassVar[type[CycleGanConfig]] = CycleGanConfig
    recording_obstacle = ""

    def __init__(self, config: CycleGanConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.generators = nn.ModuleDict({key: ResnetGenerator(config.generator_shape) for key in "ab"})
            self.discriminators = nn.ModuleDict({key: PatchGan(config.discriminator_shape) for key in "ab"})
        self.pools = nn.ModuleDict({key: ImagePool(config.pool_size) for key in "ab"})
        initialise_weights(self.generators, "gaussian", torch_generator(seed, "generator"))
        initialise_weights(self.discriminators, "gaussian", torch_generator(seed, "discriminator"))

    @property
    def config(self) -> CycleGanConfig:
        """Gives the configuration it was built from."""
        return self._config

    def phases(self) -> tuple[Phase, ...]:
        """Gives generators, then discriminators, as published."""
        return (
            Phase("generator", (self.generators,), self._generator_loss),
            Phase("discriminator", (self.discriminators,), self._discriminator_loss),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights.

        Raises:
            ValueError: it was read from a checkpoint with the other generator alone.
        """
        self.check_direction(source, target)
        shape = self._config.generator_shape
        if self._config.noise_dim:
            return NoiseTranslator(cast(ResnetGenerator, self.generators[source]), self.style_banks.get(target))
        return OneToOneTranslator(self.generators[source], shape.channels, shape.size_multiple)

    def _translate(self, source: str, images: Tensor, pair: Pair, use: str) -> Tensor:
        """Gives translations of images from one domain, with noise drawn for this use of the pair if there is any."""
        if self._config.noise_dim:
            sets = len(images) // len(pair.a)  # of the batch's images, one after the other
            shape = (sets, pair.batch_size, self._config.noise_dim)
            noise = drawn(pair, lambda generator: torch.randn(shape, generator=generator), "noise", use, source)
            images = beside_noise(images, torch.cat([pair.rows(each) for each in noise]))
        translations: Tensor = self.generators[source](images)
        return translations

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        images = padded(pair, self._config.generator_shape.size_multiple)
        made = in_lanes(partial(self._made, pair), {key: (images[key], images[OTHER[key]]) for key in OTHER})
        seen = {key: (images[key], images[OTHER[key]], *made[key]) for key in OTHER}
        terms = in_lanes(partial(self._terms_of_direction, pair), seen)
        return terms["a"] | terms["b"]

    def _made(self, pair: Pair, source: str, image: Tensor, target_image: Tensor) -> tuple[Tensor, ...]:
        """Gives the translations of images from one domain and, with the identity term, those of the target's."""
        if self._config.weight_identity == 0.0:
            return (self._translate(source, image, pair, "generator"),)
        # one pass for both: instance norm keeps images apart
        both = self._translate(source, torch.cat([image, target_image]), pair, "generator")
        return both[: len(image)], both[len(image) :]

    def _terms_of_direction(
        self, pair: Pair, source: str, image: Tensor, target_image: Tensor, fake: Tensor, same: Tensor | None = None
    ) -> dict[str, Tensor]:
        config, target = self._config, OTHER[source]
        terms: dict[str, Tensor] = {}
        if same is not None:
            terms[f"identity_{target}"] = config.weight_identity * mean_absolute_difference(same, target_image)
        scores = self.discriminators[target](fake)
        terms[f"gan_{target}"] = config.weight_gan * generator_adversarial_loss(scores, "lsgan")
        if config.weight_cycle > 0.0:
            back = self._translate(target, fake, pair, "cycle")
            terms[f"cycle_{source}"] = config.weight_cycle * mean_absolute_difference(back, image)
        return terms

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        """Gives half the least-squares loss of each discriminator, on real images and on the pool's.

        Published code shows the discriminators the translations that the generators' step was made from; here they
        are made anew, by the generators after that step, because a phase is a function of the pair alone.
        """
        images = padded(pair, self._config.generator_shape.size_multiple)
        with torch.no_grad():
            fresh = in_lanes(
                lambda source, image: self._translate(source, image, pair, "discriminator"),
                {source: (image,) for source, image in images.items()},
            )
        judged = {}
        for source, target in BOTH_DIRECTIONS:
            fake = exchange(cast(ImagePool, self.pools[target]), fresh[source], pair, "pool", target)
            judged[target] = images[target], fake
        terms = in_lanes(self._terms_of_discriminator, judged)
        return terms["a"] | terms["b"]

    def _terms_of_discriminator(self, key: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        real_maps, fake_maps = scores_of(self.discriminators[key], [real, fake])
        return {f"gan_{key}": 0.5 * self._config.weight_gan * discriminator_loss(real_maps, fake_maps, "lsgan")}


class NoiseTranslator(Translator):
    """A generator that takes noise beside the image; the noise is its style code, the image its content."""

    reads_styles: ClassVar[bool] = False

    def __init__(self, generator: ResnetGenerator, style_bank: Tensor | None = None) -> None:
        shape = generator.shape
        super().__init__(shape.channels, shape.size_multiple, shape.extra_planes, style_bank)
        self.generator = generator

    def encode_content(self, x: Tensor) -> Content:
        """Gives x itself: noise enters with the first convolution, so nothing can be kept."""
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of images and noise: N x style_dim."""
        assert isinstance(content, Tensor)
        translations: Tensor = self.generator(beside_noise(content, style))
        return translations

    def encode_style(self, y: Tensor) -> Tensor:
        """Refuses: noise stands for nothing that an image has.

        Raises:
            ValueError: always; the message names methods that have styles of exemplars.
        """
        raise ValueError(NO_EXEMPLARS)


def beside_noise(images: Tensor, noise: Tensor) -> Tensor:
    """Gives N x (C + S) x H x W: images N x C x H x W, and noise N x S as planes.

    Plane k is the code's number k times a wave of its own over the image, because the first instance norm takes a
    constant plane off entirely.
    """
    count = noise.shape[1]
    rows, columns = (
        torch.cos(
            torch.arange(count + 1, device=images.device)[:, None]
            * (torch.arange(side, device=images.device) + 0.5)
            * (torch.pi / side)
        )
        for side in images.shape[2:]
    )
    places = wave_numbers(count)
    waves = torch.stack([rows[down, :, None] * columns[across] for down, across in places])
    return torch.cat([images, (noise[:, :, None, None] * waves).to(images.dtype)], dim=1)


def wave_numbers(count: int) -> list[tuple[int, int]]:
    """Gives the first (down, across) half periods of waves over an image, slow ones first, without the constant."""
    square = ((down, across) for down in range(count + 1) for across in range(count + 1))
    return sorted(square, key=lambda place: (sum(place), place))[1 : count + 1]
