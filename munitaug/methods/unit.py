"""UNIT: unsupervised image-to-image translation networks (Liu, Breuel & Kautz, NIPS 2017).

Two variational auto-encoders with one latent space, and a discriminator for each domain. Objective and networks after
arXiv 1703.00848 and mingyuliutw/UNIT (branches version_02 and master; read, not copied: their licence is
non-commercial). Deviations of our presets are said in :meth:`UnitConfig.preset`.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from munitaug.losses import (
    GanLoss,
    discriminator_loss,
    generator_adversarial_loss,
    mean_absolute_difference,
)
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods.parts import drawn_normal, padded, scores_of
from munitaug.networks.discriminator import DiscriminatorShape, MultiScaleDiscriminator
from munitaug.networks.initialise import Initialisation, initialise_weights
from munitaug.networks.unit import SharedFormDiscriminator, UnitForm, UnitGenerators, UnitShape
from munitaug.random import torch_generator
from munitaug.settings import CHANNELS, ODD, Limits, check_settings
from munitaug.translator import OneToOneTranslator, Translator
from munitaug.types import DomainKey, Pair

PRESETS = ("paper", "later", "small")


@dataclass(frozen=True)
class UnitConfig:
    """Networks, weights and optimiser of a UNIT; the defaults are those published with the paper ("paper").

    Args:
        channels: image channels of both domains, 1 to 4.
        form: "shared" (2017: domains share the layers around the latent) or "later" (MUNIT's layers, nothing shared).
        width: feature maps after the first convolution of the encoders.
        n_downsample: halvings of the image; image sides are padded to multiples of 2^n.
        n_residual: residual blocks of a domain's own, in the encoder and again in the decoder.
        n_shared: residual blocks of both domains, before the latent and again after it; 0 in the later form.
        edge_kernel: side of the first convolution, and of the later form's last; odd.
        upsample_kernel: side of the later form's convolutions after up-sampling, odd; the shared form does not use it.
        discriminator_width: feature maps of the discriminator's first layer.
        n_discriminator_layers: strided layers at each scale.
        n_scales: scales of the discriminator.
        gan_loss: "nsgan" (2017), "lsgan" (later) or "hinge".
        weight_gan: of the adversarial term.
        weight_image: of the image reconstruction.
        weight_kl: of the distance of the latent from N(0, 1).
        weight_cycle: of the cycle term.
        weight_cycle_kl: of the distance of the translation's latent from N(0, 1).
        optimiser: Adam settings of both phases.

    Raises:
        ValueError: a number outside its range, or shared layers in the later form.
    """

    channels: int = 3
    form: UnitForm = "shared"
    width: int = 64
    n_downsample: int = 2
    n_residual: int = 3
    n_shared: int = 1
    edge_kernel: int = 7
    upsample_kernel: int = 5
    discriminator_width: int = 64
    n_discriminator_layers: int = 6
    n_scales: int = 1
    gan_loss: GanLoss = "nsgan"
    weight_gan: float = 10.0
    weight_image: float = 100.0
    weight_kl: float = 0.1
    weight_cycle: float = 100.0
    weight_cycle_kl: float = 0.1
    optimiser: OptimiserSettings = OptimiserSettings()

    def __post_init__(self) -> None:
        check_settings(
            self,
            channels=CHANNELS,
            n_downsample=Limits(1, 3, because="so that 16 px images have latents of 2 x 2"),
            n_shared=Limits(0),
            edge_kernel=ODD,
            upsample_kernel=ODD,
        )
        self._check_sharing()

    def _check_sharing(self) -> None:
        if self.form == "shared" and self.n_shared < 1:
            raise ValueError(f'form "shared" needs n_shared of at least 1, got {self.n_shared}; or take form "later"')
        if self.form == "later" and self.n_shared != 0:
            raise ValueError(
                f'form "later" shares no layers, so n_shared must be 0, got {self.n_shared}; preset "later" has all of '
                "its numbers"
            )

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration.

        ``paper``: networks, objective and optimiser of the code published with the paper, as its dog configuration
        has them; the KL term is taken of the latent's mean, without the noise (see :func:`latent_divergence`), and
        biases start at 0.
        ``later``: those of the authors' later code (edges2shoes configuration), which became MUNIT's: no shared
        layers, least squares at three scales, weights a tenth of the former.
        ``small``: the form of 2017 for 16-64 px on a CPU: width 16, two blocks of a domain's own, 5 x 5 first
        kernel, a discriminator of three layers and two scales, and for short runs lr 5e-4 with linear decay over
        the second half and EMA 0.995. The weights are those of ``later``, least squares with them.

        Args:
            name: "paper", "later" or "small".
            channels: image channels, 1 to 4.

        Raises:
            ValueError: unknown name.
        """
        if name == "paper":
            return cls(channels=channels)
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        later = cls(
            channels=channels,
            form="later",
            n_residual=4,
            n_shared=0,
            n_discriminator_layers=4,
            n_scales=3,
            gan_loss="lsgan",
            weight_gan=1.0,
            weight_image=10.0,
            weight_kl=0.01,
            weight_cycle=10.0,
            weight_cycle_kl=0.01,
            optimiser=OptimiserSettings(halve_every_steps=100_000),
        )
        if name == "later":
            return later
        return cls(
            channels=channels,
            width=16,
            n_residual=2,
            edge_kernel=5,
            discriminator_width=32,
            n_discriminator_layers=3,
            n_scales=2,
            gan_loss=later.gan_loss,
            weight_gan=later.weight_gan,
            weight_image=later.weight_image,
            weight_kl=later.weight_kl,
            weight_cycle=later.weight_cycle,
            weight_cycle_kl=later.weight_cycle_kl,
            optimiser=OptimiserSettings(lr=5e-4, linear_decay_from=0.5, ema_decay=0.995),
        )

    @property
    def shape(self) -> UnitShape:
        """Gives the sizes of the encoders and decoders."""
        return UnitShape(
            form=self.form,
            channels=self.channels,
            width=self.width,
            n_downsample=self.n_downsample,
            n_residual=self.n_residual,
            n_shared=self.n_shared,
            edge_kernel=self.edge_kernel,
            upsample_kernel=self.upsample_kernel,
        )

    def discriminator(self) -> nn.Module:
        """Gives a new discriminator of one domain: images -> list of score maps."""
        sizes = (self.channels, self.discriminator_width, self.n_discriminator_layers, self.n_scales)
        if self.form == "shared":
            return SharedFormDiscriminator(*sizes)
        return MultiScaleDiscriminator(DiscriminatorShape(*sizes))


class Unit(Method):
    """Encoders and decoders of both domains around one latent space, and a discriminator for each domain.

    Training adds N(0, 1) noise to the latent's mean; a translator takes the mean itself, so it is deterministic.

    Args:
        config: networks, weights, optimiser.
        seed: decides the initial weights.
        features: not used by this method.
    """

    name: ClassVar[str] = "unit"
    config_class: ClassVar[type[UnitConfig]] = UnitConfig
    recording_obstacle = ""

    def __init__(self, config: UnitConfig, *, seed: int = 0, features: nn.Module | None = None) -> None:
        super().__init__()
        del features
        self._config = config
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are drawn anew below
            self.generators = UnitGenerators(config.shape)
            self.discriminators = nn.ModuleDict({key: config.discriminator() for key in "ab"})
        law: Initialisation = "gaussian" if config.form == "shared" else "kaiming"
        initialise_weights(self.generators, law, torch_generator(seed, "generator"))
        initialise_weights(self.discriminators, "gaussian", torch_generator(seed, "discriminator"))

    @property
    def config(self) -> UnitConfig:
        """Gives the configuration it was built from."""
        return self._config

    def phases(self) -> tuple[Phase, ...]:
        """Gives discriminators, then generators, on the same batch with noise drawn anew, as published.

        The generators' phase holds the shared layers once; both domains' terms reach them.
        """
        return (
            Phase("discriminator", (self.discriminators,), self._discriminator_loss),
            Phase("generator", (self.generators,), self._generator_loss),
        )

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares this method's weights and adds no noise.

        Raises:
            ValueError: there is no such direction.
        """
        self.check_direction(source, target)
        generator = self.generators.between(source, target)
        return OneToOneTranslator(generator, self._config.channels, self._config.shape.size_multiple)

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives the means of both domains' latents, to which each phase adds noise of its own."""
        return {
            f"mean_{key}": self.generators.encode(key, image)
            for key, image in padded(pair, self._config.shape.size_multiple).items()
        }

    def _discriminator_loss(self, pair: Pair) -> dict[str, Tensor]:
        images = padded(pair, self._config.shape.size_multiple)
        with torch.no_grad():
            means = pair.shared or self.shared(pair)
            latents = {key: with_noise(means[f"mean_{key}"], pair, f"judged {key}") for key in "ab"}
            fakes = {"a": self.generators.decode("a", latents["b"]), "b": self.generators.decode("b", latents["a"])}
        terms = {}
        for key, judge in self.discriminators.items():
            real_maps, fake_maps = scores_of(judge, [images[key], fakes[key]])
            loss = discriminator_loss(real_maps, fake_maps, self._config.gan_loss)
            terms[f"gan_{key}"] = self._config.weight_gan * loss
        return terms

    def _generator_loss(self, pair: Pair) -> dict[str, Tensor]:
        images = padded(pair, self._config.shape.size_multiple)
        shared = pair.shared or self.shared(pair)
        means = {key: shared[f"mean_{key}"] for key in "ab"}
        latents = {key: with_noise(means[key], pair, f"made {key}") for key in "ab"}
        terms: dict[str, Tensor] = {}
        for key, other in (("a", "b"), ("b", "a")):
            both = self.generators.decode(key, torch.cat([latents[key], latents[other]]))
            rebuilt, fake = both[: len(images[key])], both[len(images[key]) :]
            terms |= self._terms_of_latent(key, images[key], rebuilt, means[key])
            terms |= self._terms_of_fake(key, fake, images[other], pair)
        return terms

    def _terms_of_latent(self, key: str, image: Tensor, rebuilt: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Gives the two terms of a domain's variational auto-encoder."""
        config, terms = self._config, {}
        if config.weight_image > 0.0:
            terms[f"image_{key}"] = config.weight_image * mean_absolute_difference(rebuilt, image)
        if config.weight_kl > 0.0:
            terms[f"kl_{key}"] = config.weight_kl * latent_divergence(mean)
        return terms

    def _terms_of_fake(self, key: str, fake: Tensor, source: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Gives the terms of a translation into domain ``key``; ``source`` is the other domain's image."""
        config, other = self._config, "b" if key == "a" else "a"
        terms: dict[str, Tensor] = {}
        if config.weight_gan > 0.0:
            loss = generator_adversarial_loss(self.discriminators[key](fake), config.gan_loss)
            terms[f"gan_{key}"] = config.weight_gan * loss
        if config.weight_cycle == 0.0 and config.weight_cycle_kl == 0.0:
            return terms
        mean = self.generators.encode(key, fake)
        if config.weight_cycle > 0.0:
            back = self.generators.decode(other, with_noise(mean, pair, f"cycle {key}"))
            terms[f"cycle_{key}"] = config.weight_cycle * mean_absolute_difference(back, source)
        if config.weight_cycle_kl > 0.0:
            terms[f"cycle_kl_{key}"] = config.weight_cycle_kl * latent_divergence(mean)
        return terms


def with_noise(mean: Tensor, pair: Pair, where: str) -> Tensor:
    """Gives a sample of N(mean, 1), a function of the pair's seed and of where it is used.

    Args:
        mean: N x Q x h x w.
        pair: whose seed and place in the batch decide.
        where: the use, so that each has noise of its own.
    """
    return mean + drawn_normal(pair, mean.shape, "latent noise", where).to(mean.dtype)


def latent_divergence(mean: Tensor) -> Tensor:
    """Gives mean(mean^2), >= 0: twice the divergence of N(mean, 1) from N(0, 1) per number.

    The factor 1/2 is left out, as the published code does. The code of 2017 takes the square of mean + noise, whose
    expectation is larger by 1 and whose gradient is the same on average; ours lacks that noise, as the later code.
    """
    return mean.float().square().mean()
