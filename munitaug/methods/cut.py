"""CUT and FastCUT: contrastive unpaired translation (Park, Efros, Zhang & Zhu, ECCV 2020, arXiv 2007.15651).

One-sided: a patch of the translation must be nearer to the patch of the source at the same place than to its other
patches. After the paper and taesungp/contrastive-unpaired-translation, models/cut_model.py and patchnce.py (read, not
copied).

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.losses import discriminator_loss, generator_adversarial_loss
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import drawn, padded, scores_of
from munitaug.networks.initialise import Initialisation, initialise_weights
from munitaug.networks.patchgan import PatchGan, PatchGanShape
from munitaug.networks.precision import full_precision
from munitaug.networks.projection import PatchProjection, draw_positions
from munitaug.networks.resnet import ResnetGenerator, ResnetShape
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, POSITIVE, Limits, check_settings
from munitaug.translator import OneToOneTranslator, Translator
from munitaug.types import DomainKey, Pair

PRESETS = ("paper", "fast", "small")
CHANCE_OF_FLIP = 0.5


@dataclass(frozen=True)
class CutConfig:
    """Networks, weights and optimiser of a CUT; the defaults are the published ones.

    Args:
        channels: image channels of both domains, 1 to 4.
        width: feature maps of the generator's first convolution.
        n_residual: residual blocks of the generator.
        antialias_down: halve maps through a smoothing filter, in generator and discriminator.
        antialias_up: double maps through a smoothing filter.
        feature_blocks: residual blocks, from 1 and rising, whose maps are compared, beside the pixels and both
            down-sampling convolutions.
        n_patches: places in each map that are compared; all of a smaller one.
        projection_width: numbers in the vectors that are compared.
        temperature: that their similarities are divided by.
        flip_equivariance: translate every second batch mirrored, and compare with the images as they were (FastCUT).
        discriminator_width: feature maps of the discriminator's first layer.
        n_discriminator_layers: halving layers of the discriminator; 3 give patches of 70 x 70 px.
        initialisation: of all networks: "xavier" (with a gain of 0.02: first translations are grey), "gaussian" or
            "kaiming".
        weight_gan: of the adversarial term (least squares).
        weight_nce: of the contrastive term between source images and their translations.
        weight_identity_nce: of the same between target images and what the generator makes of them; 0 leaves it out.
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int = 3
    width: int = 64
    n_residual: int = 9
    antialias_down: bool = True
    antialias_up: bool = True
    feature_blocks: tuple[int, ...] = (1, 5)
    n_patches: int = 256
    projection_width: int = 256
    temperature: float = 0.07
    flip_equivariance: bool = False
    discriminator_width: int = 64
    n_discriminator_layers: int = 3
    initialisation: Initialisation = "xavier"
    weight_gan: float = 1.0
    weight_nce: float = 0.5
    weight_identity_nce: float = 0.5
    optimiser: OptimiserSettings = OptimiserSettings(lr=2e-4, weight_decay=0.0, linear_decay_from=0.5)

    def __post_init__(self) -> None:
        check_settings(
            self,
            channels=CHANNELS,
            n_patches=Limits(2, because="so that patches can differ"),
            temperature=POSITIVE,
        )
        numbers = list(self.feature_blocks)
        if numbers != sorted(set(numbers)) or not all(1 <= number <= self.n_residual for number in numbers):
            raise ValueError(
                f"feature_blocks must be rising numbers from 1 to n_residual ({self.n_residual}), got {numbers}"
            )

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: CUT as the published code has it: a contrastive weight of 1 for the mean of both terms, which the
        paper writes as a sum; hence 0.5 and 0.5 here.
        ``fast``: FastCUT as published: weight 10, no identity term, flips, decay over the last quarter.
        ``small``: CUT for 16-64 px on a CPU: width 24 and 32, 3 residual blocks, of which the first and the last are
        compared, 64 places, 64 numbers, a discriminator of two halving layers, and for short runs lr 5e-4 with linear
        decay over the second half and EMA 0.995, and CycleGAN's initial weights, with which first translations have
        contrast: from grey ones, fewer digits stayed what they were (MNIST -> USPS, 16 px, 400 steps, seeds 0 and 1).

        Args:
            name: "paper", "fast" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            return cls(channels=channels)
        if name == "fast":
            return cls(
                channels=channels,
                flip_equivariance=True,
                weight_nce=10.0,
                weight_identity_nce=0.0,
                optimiser=OptimiserSettings(lr=2e-4, weight_decay=0.0, linear_decay_from=0.75),
            )
        if name == "small":
            return cls(
                channels=channels,
                width=24,
                n_residual=3,
                feature_blocks=(1, 3),
                n_patches=64,
                projection_width=64,
                discriminator_width=32,
                n_discriminator_layers=2,
                initialisation="gaussian",
                optimiser=OptimiserSettings(lr=5e-4, weight_decay=0.0, linear_decay_from=0.5, ema_decay=0.995),
            )
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")

    @property
    def generator_shape(self) -> ResnetShape:
        """Gives the sizes of the generator."""
        return ResnetShape(self.channels, self.width, self.n_residual, self.antialias_down, self.antialias_up)

    @property
    def discriminator_shape(self) -> PatchGanShape:
        """Gives the sizes of the discriminator."""
        return PatchGanShape(self.channels, self.discriminator_width, self.n_discriminator_layers, self.antialias_down)


class Cut(Method):
    """A generator from a to b, a discriminator of b, and a head that projects the generator's features.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "cut"
    config_class: ClassVar[type[CutConfig]] = CutConfig
    recording_obstacle = ""

    def __init__(self, config: CutConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        if config.flip_equivariance:
            self.recording_obstacle = "flip_equivariance mirrors every second batch; set it to False"
        self.directions = (("a", "b"),)
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.generator = ResnetGenerator(config.generator_shape)
            self.discriminator = PatchGan(config.discriminator_shape)
            feature_widths = config.generator_shape.feature_widths(config.feature_blocks)
            self.projection = PatchProjection(feature_widths, config.projection_width)
        initialise_weights(self.generator, config.initialisation, torch_generator(seed, "generator"))
        initialise_weights(self.discriminator, config.initialisation, torch_generator(seed, "discriminator"))
        initialise_weights(self.projection, config.initialisation, torch_generator(seed, "projection"))

    @property
    def config(self) -> CutConfig:
        """Gives the configuration it was built from."""
        return self._config

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminator, then generator and head, as published.

        The published code has an optimiser for the head alone; Adam goes weight by weight, so one for both is the same.
        """
        return (
            Phase("discriminator", (self.discriminator,), self._discriminator_loss),
            Phase("generator", (self.generator, self.projection), self._generator_loss),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from a to b; it shares this method's weights.

        Raises:
            ValueError: the other direction, which this method does not learn.
        """
        if (source, target) not in self.directions:
            raise ValueError(
                f"cut is one-sided: it translates a2b only, got {source}2{target}; exchange the domains and train again"
            )
        shape = self._config.generator_shape
        return OneToOneTranslator(self.generator, shape.channels, shape.size_multiple)

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives the translations of a (with an identity term those of b behind them), and the features on the way.

        All mirrored where this batch is; else the translation of a stands under its own name too.
        """
        config, mirrored = self._config, self._mirrored(pair)
        image_a, image_b = padded(pair, config.generator_shape.size_multiple).values()
        images = torch.cat([image_a, image_b]) if config.weight_identity_nce > 0.0 else image_a
        content, keys = self.generator.encode_with_features(
            images.flip(3) if mirrored else images, config.feature_blocks
        )
        made = self.generator.decode(content)
        shared = {"images": images, "translations": made, "features": keys}
        return shared if mirrored else shared | {"translation_a": made[: len(image_a)]}

    def _mirrored(self, pair: Pair) -> bool:
        """Says whether this batch is translated mirrored: the same in both phases."""
        if not self._config.flip_equivariance:
            return False
        return bool(torch.rand((), generator=torch_generator(pair.seed, "flip")) < CHANCE_OF_FLIP)

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        image_a, real = padded(pair, self._config.generator_shape.size_multiple).values()
        if pair.shared:
            fake = pair.shared["translations"][: len(image_a)].detach()
        else:
            with torch.no_grad():
                fake = self.generator(image_a.flip(3) if self._mirrored(pair) else image_a)
        real_maps, fake_maps = scores_of(self.discriminator, [real, fake])
        return {"gan_b": 0.5 * self._config.weight_gan * discriminator_loss(real_maps, fake_maps, "lsgan")}

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        config, count, mirrored = self._config, len(pair.a), self._mirrored(pair)
        shared = pair.shared or self.shared(pair)
        images, translated, keys = shared["images"], shared["translations"], shared["features"]
        scores = self.discriminator(translated[:count])
        terms = {"gan_b": config.weight_gan * generator_adversarial_loss(scores, "lsgan")}
        if config.weight_nce == 0.0 and config.weight_identity_nce == 0.0:
            return terms
        if mirrored:
            with torch.no_grad():
                keys = self.generator.features(images, config.feature_blocks)
        queries = self.generator.features(translated, config.feature_blocks)
        if mirrored:
            queries = [features.flip(3) for features in queries]
        for name, weight, part in (
            ("nce", config.weight_nce, slice(0, count)),
            ("identity_nce", config.weight_identity_nce, slice(count, None)),
        ):
            if weight > 0.0:
                positions = self._positions(pair, queries, name)
                loss = self.contrastive_loss([q[part] for q in queries], [k[part] for k in keys], positions)
                terms[name] = weight * loss
        return terms

    def _positions(self, pair: Pair, maps: list[Tensor], term: str) -> Sequence[Tensor]:
        """Gives the places in each map that a term compares."""
        sizes, count = [features.shape[2] * features.shape[3] for features in maps], self._config.n_patches
        together = drawn(pair, lambda generator: torch.cat(draw_positions(sizes, count, generator)), "patches", term)
        parts: Sequence[Tensor] = together.split([min(size, count) for size in sizes])
        return parts

    def contrastive_loss(self, queries: list[Tensor], keys: list[Tensor], positions: Sequence[Tensor]) -> Tensor:
        """Gives the mean over maps of :func:`patch_nce_loss` at places drawn anew; L_PatchNCE (2020).

        Gradients flow through the queries alone, as published.

        Args:
            queries: maps of the translation, N x F x h x w each.
            keys: the same of the image it was made from.
            positions: places in each map, of :func:`draw_positions`; all images of a batch share them, as published.
        """
        with torch.no_grad():
            wanted = self.projection(keys, positions)
        found = self.projection(queries, positions)
        losses = [patch_nce_loss(q, k, self._config.temperature) for q, k in zip(found, wanted, strict=True)]
        return torch.stack(losses).mean()


def patch_nce_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Gives how far each query is from being nearest to its own key, >= 0; the l of L_PatchNCE (2020).

    The negatives of a place are the other places of the same image, not those of other images in the batch.

    Args:
        queries: N x P x D, vectors of length 1 at P places of N translations.
        keys: N x P x D, the same of the images that they were made from.
        temperature: that similarities are divided by, > 0.
    """
    with full_precision(queries.device):
        similarities = queries.float() @ keys.float().transpose(1, 2) / temperature
    own = torch.arange(similarities.shape[1], device=similarities.device).expand(len(similarities), -1)
    return F.cross_entropy(similarities.flatten(0, 1), own.flatten())
