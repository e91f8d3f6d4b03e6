"""GcGAN: geometry-consistent one-sided domain mapping (Fu et al., CVPR 2019, arXiv 1809.05852).

Translating a turned image must give the turned translation. One generator serves both, two discriminators judge them.
Objective and weights after the paper and hufu6371/GcGAN (read, not copied). What its digit code has otherwise: torch's
initial weights (here N(0, 0.02)), a mean square in the cycle (here L1), cycle and distance of the turned stream, too,
and a step for each direction and for real and fake images apart. Its code for photographs has the cycle of both
streams, and judges translations of before the generators' step.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from munitaug.losses import (
    discriminator_loss,
    generator_adversarial_loss,
    mean_absolute_difference,
    pairwise_distances,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import check_compared, compared, exchange, padded
from munitaug.networks.image_pool import ImagePool
from munitaug.networks.initialise import Initialisation, initialise_weights
from munitaug.networks.one_to_one import MappingShape, NetworkName
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, Limits, check_settings
from munitaug.translator import OneToOneTranslator, Translator
from munitaug.types import DomainKey, Pair

Geometry = Literal["rotation", "flip"]
PRESETS = ("paper", "digits", "small")


@dataclass(frozen=True)
class GcGanConfig:
    """Networks, weights and optimiser of a GcGAN; the defaults are the published digit experiment.

    Args:
        channels: image channels of both domains, 1 to 4.
        network: "digit" (the published networks for digits) or "resnet" (those of CycleGAN).
        width: feature maps of the generators' first convolution.
        discriminator_width: feature maps of the discriminators' first layer.
        n_discriminator_layers: strided layers of the discriminators.
        n_residual: residual blocks of "resnet" generators.
        pool_size: earlier translations kept for each discriminator; 0 keeps none.
        geometry: "rotation" (90 degrees clockwise; square images only) or "flip" (upside down).
        one_sided: train a -> b alone.
        weight_gan: of the adversarial term (least squares), for either stream.
        weight_geometry: of the geometry consistency.
        weight_identity: of the identity term, for either stream; 0 leaves it out.
        weight_cycle: of the cycle term, of the upright stream alone; needs both directions. 0 leaves it out.
        weight_distance: of the distance term of DistanceGAN, not normalised, of the upright stream alone; 0 leaves it
            out.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range, or a cycle without a way back.
    """

    channels: int = 3
    network: NetworkName = "digit"
    width: int = 64
    discriminator_width: int = 64
    n_discriminator_layers: int = 3
    n_residual: int = 9
    pool_size: int = 0
    geometry: Geometry = "rotation"
    one_sided: bool = False
    weight_gan: float = 1.0
    weight_geometry: float = 2.0
    weight_identity: float = 0.0
    weight_cycle: float = 0.0
    weight_distance: float = 0.0
    optimiser: OptimiserSettings = OptimiserSettings(lr=2e-4, weight_decay=0.0)

    def __post_init__(self) -> None:
        check_settings(self, channels=CHANNELS, pool_size=Limits(0))
        if self.one_sided and self.weight_cycle > 0.0:
            raise ValueError("weight_cycle > 0 needs both directions; set one_sided to false or weight_cycle to 0")

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: the published experiments on photographs: CycleGAN's networks with 9 residual blocks, one-sided,
        quarter turn, geometry weight 20, identity weight 5, pools of 50, linear decay over the second half.
        ``digits``: the published networks and weights of the losses of the digit experiment, for 32 px.
        ``small``: for 16-64 px on a CPU: half the width, a discriminator of two strided layers, and for short runs lr
        5e-4 with linear decay over the second half. The flip in place of the rotation: it takes images that are not
        square, and the paper found it the better of the two on digits.

        Args:
            name: "paper", "digits" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            return cls(
                channels=channels,
                network="resnet",
                pool_size=50,
                one_sided=True,
                weight_geometry=20.0,
                weight_identity=5.0,
                optimiser=OptimiserSettings(lr=2e-4, weight_decay=0.0, linear_decay_from=0.5),
            )
        if name == "digits":
            return cls(channels=channels)
        if name == "small":
            return cls(
                channels=channels,
                width=32,
                discriminator_width=32,
                n_discriminator_layers=2,
                geometry="flip",
                optimiser=OptimiserSettings(lr=5e-4, weight_decay=0.0, linear_decay_from=0.5),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def shape(self) -> MappingShape:
        """Gives the sizes of the networks."""
        return MappingShape(
            self.network,
            self.channels,
            self.width,
            self.discriminator_width,
            self.n_discriminator_layers,
            self.n_residual,
        )


class GcGan(Method):
    """A generator for each direction; for each target domain a discriminator of upright and one of turned images.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "gcgan"
    config_class: ClassVar[type[GcGanConfig]] = GcGanConfig
    recording_obstacle = ""

    def __init__(self, config: GcGanConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        if config.one_sided:
            self.directions = (("a", "b"),)
        targets = [target for _, target in self.directions]
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.generators = nn.ModuleDict({source: config.shape.generator() for source, _ in self.directions})
            self.discriminators = nn.ModuleDict({target: config.shape.discriminator() for target in targets})
            self.turned_discriminators = nn.ModuleDict({target: config.shape.discriminator() for target in targets})
        names = [f"{stream}_{target}" for stream in ("gan", "gan_turned") for target in targets]
        self.pools = nn.ModuleDict({name: ImagePool(config.pool_size) for name in names})
        law: Initialisation = "xavier" if config.network == "resnet" else "gaussian"
        initialise_weights(self.generators, law, torch_generator(seed, "generator"))
        initialise_weights(self.discriminators, law, torch_generator(seed, "discriminator"))
        initialise_weights(self.turned_discriminators, law, torch_generator(seed, "turned discriminator"))

    @property
    def config(self) -> GcGanConfig:
        """Gives the configuration it was built from."""
        return self._config

    def check(self, pair: Pair) -> None:
        """Refuses one image alone where distances between images count.

        Raises:
            ValueError: the batch has one image of each domain.
        """
        if self._config.weight_distance > 0.0:
            check_compared(pair, "weight_distance 0")

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminators, then generators, as the digit experiments' code; the other way round for "resnet"."""
        judges = (self.discriminators, self.turned_discriminators)
        phases = (
            Phase("discriminator", judges, self._discriminator_loss),
            Phase("generator", (self.generators,), self._generator_loss),
        )
        return phases[::-1] if self._config.network == "resnet" else phases

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights.

        Raises:
            ValueError: there is no such direction, or it was trained one-sided and this is the other side.
        """
        self.check_direction(source, target)
        return OneToOneTranslator(self.generators[source], self._config.channels, self._config.shape.size_multiple)

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        images, geometry = padded(pair, self._config.shape.size_multiple), self._config.geometry
        terms = {}
        for source, target in self.directions:
            generator = self.generators[source]
            with torch.no_grad():
                fake, turned_fake = generator(images[source]), generator(turn(images[source], geometry))
            streams = (
                ("gan", self.discriminators[target], images[target], fake),
                ("gan_turned", self.turned_discriminators[target], turn(images[target], geometry), turned_fake),
            )
            for name, judge, real, made in streams:
                pool = cast(ImagePool, self.pools[f"{name}_{target}"])
                kept = exchange(pool, made, pair, "pool", name, target)
                loss = discriminator_loss(judge(real), judge(kept), "lsgan")
                terms[f"{name}_{target}"] = 0.5 * self._config.weight_gan * loss
        return terms

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        config, images = self._config, padded(pair, self._config.shape.size_multiple)
        terms: dict[str, Tensor] = {}
        for source, target in self.directions:
            generator = self.generators[source]
            fake, turned_fake = generator(images[source]), generator(turn(images[source], config.geometry))
            for name, judges, made in (
                ("gan", self.discriminators, fake),
                ("gan_turned", self.turned_discriminators, turned_fake),
            ):
                loss = generator_adversarial_loss(judges[target](made), "lsgan")
                terms[f"{name}_{target}"] = config.weight_gan * loss
            if config.weight_geometry > 0.0:
                loss = geometry_loss(fake, turned_fake, config.geometry)
                terms[f"geometry_{target}"] = config.weight_geometry * loss
            terms |= self._optional_terms(pair, images, fake, source, target)
        return terms

    def _optional_terms(
        self, pair: Pair, images: dict[str, Tensor], fake: Tensor, source: DomainKey, target: DomainKey
    ) -> dict[str, Tensor]:
        """Gives identity, cycle and distance terms of one direction, as far as they have a weight."""
        config, generator = self._config, self.generators[source]
        terms: dict[str, Tensor] = {}
        if config.weight_identity > 0.0:
            real, turned = images[target], turn(images[target], config.geometry)
            both = mean_absolute_difference(generator(real), real) + mean_absolute_difference(generator(turned), turned)
            terms[f"identity_{target}"] = config.weight_identity * both
        if config.weight_cycle > 0.0:
            back = self.generators[target](fake)
            terms[f"cycle_{source}"] = config.weight_cycle * mean_absolute_difference(back, images[source])
        if config.weight_distance > 0.0:
            before, after = (pairwise_distances(compared(each, pair)) for each in (images[source], fake))
            terms[f"distance_{target}"] = config.weight_distance * mean_absolute_difference(before, after)
        return terms


def turn(images: Tensor, geometry: Geometry) -> Tensor:
    """Gives N x C x H x W images turned by 90 degrees clockwise ("rotation"), or upside down ("flip").

    Raises:
        ValueError: a rotation of images that are not square.
    """
    if geometry == "flip":
        return images.flip(2)
    if images.shape[2] != images.shape[3]:
        raise ValueError(
            f'geometry="rotation" needs square images, got {images.shape[3]} x {images.shape[2]} px; crop or resize '
            'them, or use geometry="flip"'
        )
    return images.rot90(-1, (2, 3))


def turn_back(images: Tensor, geometry: Geometry) -> Tensor:
    """Gives the images from which :func:`turn` made these."""
    return images.flip(2) if geometry == "flip" else images.rot90(1, (2, 3))


def geometry_loss(fake: Tensor, turned_fake: Tensor, geometry: Geometry) -> Tensor:
    """Gives |G(x) - f^-1(G(f x))| + |G(f x) - f(G(x))|, both means; eq. 3 (2019).

    In either term the second argument is held fixed, as the published code does.

    Args:
        fake: N x C x H x W, G(x).
        turned_fake: N x C x H x W, G(f x).
        geometry: f.
    """
    upright = mean_absolute_difference(fake, turn_back(turned_fake.detach(), geometry))
    return upright + mean_absolute_difference(turned_fake, turn(fake.detach(), geometry))
