"""DistanceGAN: one-sided unsupervised domain mapping (Benaim & Wolf, NIPS 2017, arXiv 1706.00826).

A mapping that keeps the distances between images, or between the halves of one image, needs no way back. Networks and
weights after the paper and sagiebenaim/DistanceGAN (read, not copied). Two deviations of the published code from its
paper are not repeated here: the digit code took the mean and deviation of distances from whole batches, so that its
normalised loss is inflated about fourfold at batch 16; and until commit 6160af8 it measured the distance between two
images as |mean(A) - mean(B)|. Otherwise than its digit code, initial weights are N(0, 0.02), not torch's, the cycle is
L1, not a mean square, and discriminators and generators take one step each for both directions, real and fake together;
with "resnet", discriminators judge translations that are made after the generators' step.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from munitaug.losses import (
    discriminator_loss,
    generator_adversarial_loss,
    half_distances,
    mean_absolute_difference,
    pairwise_distances,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import check_compared, compared, exchange, padded
from munitaug.networks.image_pool import ImagePool
from munitaug.networks.initialise import initialise_weights
from munitaug.networks.one_to_one import MappingShape, NetworkName
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, Limits, check_settings
from munitaug.translator import OneToOneTranslator, Translator
from munitaug.types import DomainKey, Pair

Distance = Literal["pairs", "self"]
PRESETS = ("paper", "digits", "small")
GROUP = 64
"""Images whose distances to one another are measured at a time for the statistics."""
LEAST_DEVIATION = 1e-6
LEAST_STATISTICS_IMAGES = 3


@dataclass(frozen=True)
class DistanceGanConfig:
    """Networks, weights and optimiser of a DistanceGAN; the defaults are the published digit experiment.

    Args:
        channels: image channels of both domains, 1 to 4.
        network: "digit" (the published networks for digits) or "resnet" (those of CycleGAN).
        width: feature maps of the generators' first convolution.
        discriminator_width: feature maps of the discriminators' first layer.
        n_discriminator_layers: strided layers of the discriminators.
        n_residual: residual blocks of "resnet" generators.
        pool_size: earlier translations kept for each discriminator; 0 keeps none.
        distance: "pairs" (distances between images) or "self" (between the upper and lower half of each).
        normalised: subtract the mean and divide by the deviation of the domain's real distances, as eq. 4 says.
        one_sided: train a -> b alone.
        weight_gan: of the adversarial term (least squares).
        weight_distance: of the distance term, in either direction.
        weight_cycle: of the cycle term; needs both directions. 0 leaves it out.
        weight_identity: of the identity term; 0 leaves it out, as published.
        statistics_images: images of each domain from which mean and deviation are estimated before training.
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
    distance: Distance = "pairs"
    normalised: bool = True
    one_sided: bool = False
    weight_gan: float = 1.0
    weight_distance: float = 0.1
    weight_cycle: float = 0.0
    weight_identity: float = 0.0
    statistics_images: int = 900
    optimiser: OptimiserSettings = OptimiserSettings(lr=2e-4, weight_decay=0.0)

    def __post_init__(self) -> None:
        check_settings(self, channels=CHANNELS, pool_size=Limits(0), statistics_images=Limits(LEAST_STATISTICS_IMAGES))
        if self.one_sided and self.weight_cycle > 0.0:
            raise ValueError("weight_cycle > 0 needs both directions; set one_sided to false or weight_cycle to 0")

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: the published experiments on photographs: CycleGAN's networks with 9 residual blocks, pool of 50,
        distance weight 1 either way, linear decay over the second half; batch size 2 or more.
        ``digits``: the published networks and weights of the losses of the digit experiment, for 32 px (MNIST ->
        SVHN was published with a distance weight of 0.05, SVHN -> MNIST with 0.1: this has 0.1 both ways).
        ``small``: for 16-64 px on a CPU: half the width, a discriminator of two strided layers, and for short runs lr
        5e-4 with linear decay over the second half; the distance weight of 1 of the paper's larger networks, because
        with 0.1 every digit became the same one where we measured it (MNIST -> USPS, 16 px, 600 steps).

        Args:
            name: "paper", "digits" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            decay = OptimiserSettings(lr=2e-4, weight_decay=0.0, linear_decay_from=0.5)
            return cls(channels=channels, network="resnet", pool_size=50, weight_distance=1.0, optimiser=decay)
        if name == "digits":
            return cls(channels=channels)
        if name == "small":
            return cls(
                channels=channels,
                width=32,
                discriminator_width=32,
                n_discriminator_layers=2,
                weight_distance=1.0,
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


class DistanceGan(Method):
    """A generator for each direction that keeps distances, and a discriminator for each target domain.

    ``statistics`` holds mean and deviation of real distances, by domain (a, b) x 2; :meth:`prepare` fills it.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "distancegan"
    config_class: ClassVar[type[DistanceGanConfig]] = DistanceGanConfig
    recording_obstacle = ""
    statistics: Tensor

    def __init__(self, config: DistanceGanConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        if config.one_sided:
            self.directions = (("a", "b"),)
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.generators = nn.ModuleDict({source: config.shape.generator() for source, _ in self.directions})
            self.discriminators = nn.ModuleDict({target: config.shape.discriminator() for _, target in self.directions})
        self.pools = nn.ModuleDict({target: ImagePool(config.pool_size) for _, target in self.directions})
        initialise_weights(self.generators, "gaussian", torch_generator(seed, "generator"))
        initialise_weights(self.discriminators, "gaussian", torch_generator(seed, "discriminator"))
        self.register_buffer("statistics", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))

    @property
    def config(self) -> DistanceGanConfig:
        """Gives the configuration it was built from."""
        return self._config

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Estimates mean and deviation of the real distances of both domains, as published before training.

        Args:
            pairs: batches of training images; as many are read as ``statistics_images`` needs.

        Raises:
            ValueError: the distances of a domain are all alike.
        """
        if not self._config.normalised:
            return
        seen: dict[str, list[Tensor]] = {"a": [], "b": []}
        count = 0
        for pair in pairs:
            seen["a"].append(pair.a.cpu())
            seen["b"].append(pair.b.cpu())
            count += len(pair.a)
            if count >= self._config.statistics_images:
                break
        for row, images in enumerate(seen.values()):
            groups = torch.cat(images).split(GROUP)
            distances = torch.cat([self._distances(group) for group in groups]).double()
            deviation = distances.std(correction=0)
            if not deviation >= LEAST_DEVIATION:
                raise ValueError(
                    f"distances between the images of domain {'ab'[row]} are all alike, so they cannot be normalised: "
                    "their images are too few or the same; give more images, or set normalised to false"
                )
            self.statistics[row] = torch.stack([distances.mean(), deviation]).to(self.statistics)

    def check(self, pair: Pair) -> None:
        """Refuses one image alone, which has no distance to another.

        Raises:
            ValueError: it is, and distances are between images.
        """
        if self._config.weight_distance > 0.0 and self._config.distance == "pairs":
            check_compared(pair, 'distance "self"')

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminators, then generators, as the digit experiments' code; the other way round for "resnet"."""
        phases = (
            Phase("discriminator", (self.discriminators,), self._discriminator_loss),
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
        images = padded(pair, self._config.shape.size_multiple)
        terms = {}
        for source, target in self.directions:
            judge = self.discriminators[target]
            with torch.no_grad():
                fresh = self.generators[source](images[source])
            pool = cast(ImagePool, self.pools[target])
            fake = exchange(pool, fresh, pair, "pool", target)
            loss = discriminator_loss(judge(images[target]), judge(fake), "lsgan")
            terms[f"gan_{target}"] = 0.5 * self._config.weight_gan * loss
        return terms

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        config, images = self._config, padded(pair, self._config.shape.size_multiple)
        terms: dict[str, Tensor] = {}
        for source, target in self.directions:
            fake = self.generators[source](images[source])
            scores = self.discriminators[target](fake)
            terms[f"gan_{target}"] = config.weight_gan * generator_adversarial_loss(scores, "lsgan")
            if config.weight_distance > 0.0:
                between = (images[source], fake)
                if config.distance != "self":
                    between = compared(images[source], pair), compared(fake, pair)
                term = self.distance_loss(*between, source, target)
                terms[f"distance_{target}"] = config.weight_distance * term
            if config.weight_cycle > 0.0:
                back = self.generators[target](fake)
                terms[f"cycle_{source}"] = config.weight_cycle * mean_absolute_difference(back, images[source])
            if config.weight_identity > 0.0:
                same = self.generators[source](images[target])
                terms[f"identity_{target}"] = config.weight_identity * mean_absolute_difference(same, images[target])
        return terms

    def distance_loss(self, images: Tensor, fakes: Tensor, source: DomainKey, target: DomainKey) -> Tensor:
        """Gives the mean difference between (normalised) distances before and after translation, eqs. 3-6.

        Args:
            images: N x C x H x W in [-1, 1] of the source domain; one image alone has no pair, and gives 0.
            fakes: their translations.
            source: domain of the images.
            target: domain of the translations.
        """
        before, after = self._distances(images), self._distances(fakes)
        if len(before) == 0:
            return after.sum()
        if self._config.normalised:
            before, after = self._normalised(before, source), self._normalised(after, target)
        return (before - after).abs().mean()

    def _normalised(self, distances: Tensor, key: DomainKey) -> Tensor:
        mean, deviation = self.statistics["ab".index(key)]
        normalised: Tensor = (distances - mean) / deviation
        return normalised

    def _distances(self, images: Tensor) -> Tensor:
        return half_distances(images) if self._config.distance == "self" else pairwise_distances(images)
