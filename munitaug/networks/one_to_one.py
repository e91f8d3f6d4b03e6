"""Generators and discriminators of the one-to-one methods, by name.

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from munitaug.networks.digit import DigitDiscriminator, DigitGenerator
from munitaug.networks.patchgan import PatchGan, PatchGanShape
from munitaug.networks.resnet import ResnetGenerator, ResnetShape

NetworkName = Literal["digit", "resnet"]
NETWORKS: tuple[NetworkName, ...] = ("digit", "resnet")


@dataclass(frozen=True)
class MappingShape:
    """The sizes of a generator and its discriminator.

    Args:
        network: "digit" for the small networks of DistanceGAN and GcGAN, "resnet" for those of CycleGAN.
        channels: image channels, 1 to 4.
        width: feature maps of the generator's first convolution.
        discriminator_width: feature maps of the discriminator's first layer.
        n_discriminator_layers: strided layers of the discriminator.
        n_residual: residual blocks of a "resnet".

    Raises:
        ValueError: unknown network, or a number outside its range.
    """

    network: NetworkName
    channels: int
    width: int
    discriminator_width: int
    n_discriminator_layers: int
    n_residual: int = 9

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        if not 1 <= self.channels <= 4:
            raise ValueError(f"channels must be 1 to 4, got {self.channels}")
        for name in ("width", "discriminator_width", "n_discriminator_layers", "n_residual"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def size_multiple(self) -> int:
        """Gives the number that image sides must be multiples of, in pixels."""
        return DigitGenerator.size_multiple

    def generator(self) -> nn.Module:
        """Gives a new generator with ``encode`` and ``decode``."""
        if self.network == "resnet":
            return ResnetGenerator(ResnetShape(self.channels, self.width, self.n_residual))
        return DigitGenerator(self.channels, self.channels, self.width)

    def discriminator(self) -> nn.Module:
        """Gives a new discriminator: images -> list of score maps."""
        if self.network == "resnet":
            return PatchGan(PatchGanShape(self.channels, self.discriminator_width, self.n_discriminator_layers))
        return DigitDiscriminator(self.channels, self.discriminator_width, self.n_discriminator_layers)
