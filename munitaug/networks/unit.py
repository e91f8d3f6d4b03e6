"""UNIT's networks: two encoders and two decoders that meet in one latent, in the form of 2017 and in the later one.

Liu, Breuel & Kautz 2017, section 4; layer by layer after mingyuliutw/UNIT, branch version_02, cocogan_nets.py (form
"shared": classes COCOResGen, COCODis and COCOMsDis) and branch master, networks.py (form "later": class VAEGen). Read,
not copied: their licence is non-commercial.

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.autoencoder import AutoEncoderShape, ContentEncoder
from munitaug.networks.blocks import ConvUnit, ResidualBlock
from munitaug.networks.norms import instance_norm
from munitaug.networks.resampling import SmoothHalving

UnitForm = Literal["shared", "later"]
SLOPE = 0.01
"""Of the leaky ReLUs of 2017: the framework's default."""


@dataclass(frozen=True)
class UnitShape:
    """The sizes of both domains' encoders and decoders.

    Args:
        form: "shared" (2017) or "later".
        channels: image channels, 1 to 4.
        width: feature maps after the first convolution; each halving of the image doubles them.
        n_downsample: halvings of the image.
        n_residual: residual blocks of one domain's own, in the encoder and again in the decoder.
        n_shared: residual blocks of both domains, before the latent and again after it; 0 in the later form.
        edge_kernel: side of the encoder's first convolution, and of the later form's last.
        upsample_kernel: side of the later form's convolutions after up-sampling.
    """

    form: UnitForm
    channels: int
    width: int
    n_downsample: int
    n_residual: int
    n_shared: int
    edge_kernel: int = 7
    upsample_kernel: int = 5

    @property
    def size_multiple(self) -> int:
        """Gives the number that image sides must be multiples of, in pixels."""
        return int(2**self.n_downsample)

    @property
    def latent_channels(self) -> int:
        """Gives the channels of a latent."""
        return self.width * self.size_multiple


class ZeroPaddedResidualBlock(nn.Module):
    """Two zero-padded 3 x 3 convolutions with instance norm and a skip; ReLU only between the two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x C x H x W features of the same shape."""
        return x + instance_norm(self.second(instance_norm(self.first(x), "relu")))


class SharedFormEncoder(nn.Module):
    """One domain's own part of the encoder of 2017: no norm in the first layer, instance norm in all others."""

    def __init__(self, shape: UnitShape) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape.channels, shape.width, shape.edge_kernel, padding=shape.edge_kernel // 2)
        widths = [shape.width * 2**step for step in range(shape.n_downsample + 1)]
        self.down = nn.ModuleList(
            [nn.Conv2d(narrow, wide, 3, stride=2, padding=1) for narrow, wide in pairwise(widths)]
        )
        self.blocks = nn.Sequential(*[ZeroPaddedResidualBlock(widths[-1]) for _ in range(shape.n_residual)])

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x latent_channels x H/2^n x W/2^n features of x: N x C x H x W in [-1, 1]."""
        x = F.leaky_relu(self.first(x), SLOPE)
        for convolution in self.down:
            x = instance_norm(convolution(x), "relu")
        out: Tensor = self.blocks(x)
        return out


class SharedFormDecoder(nn.Module):
    """One domain's own part of the decoder of 2017: transposed convolutions, the last of them 1 x 1."""

    def __init__(self, shape: UnitShape) -> None:
        super().__init__()
        widths = [shape.width * 2**step for step in range(shape.n_downsample, -1, -1)]
        self.blocks = nn.Sequential(*[ZeroPaddedResidualBlock(widths[0]) for _ in range(shape.n_residual)])
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1)
                for wide, narrow in pairwise(widths)
            ]
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], shape.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N x latent_channels x h x w features."""
        x = self.blocks(x)
        for convolution in self.up:
            x = instance_norm(convolution(x), "relu")
        image: Tensor = self.to_image(x)
        return image.tanh()


class LaterFormDecoder(nn.Module):
    """MUNIT's decoder with plain instance norm in its residual blocks."""

    def __init__(self, shape: UnitShape) -> None:
        super().__init__()
        width = shape.latent_channels
        kernel, edge = shape.upsample_kernel, shape.edge_kernel
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(shape.n_residual)])
        self.upsampling = nn.ModuleList()
        for _ in range(shape.n_downsample):
            self.upsampling.append(ConvUnit(width, width // 2, kernel, padding=kernel // 2, norm="layer", doubled=True))
            width //= 2
        self.to_image = ConvUnit(width, shape.channels, edge, padding=edge // 2, activation="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x C x H x W in [-1, 1] of N x latent_channels x h x w latents."""
        x = self.blocks(x)
        for unit in self.upsampling:
            x = unit(x)
        image: Tensor = self.to_image(x)
        return image


def later_form_encoder(shape: UnitShape) -> ContentEncoder:
    """Gives one domain's encoder of the later form: MUNIT's content encoder."""
    return ContentEncoder(
        AutoEncoderShape(
            channels=shape.channels,
            width=shape.width,
            n_downsample=shape.n_downsample,
            n_style_downsample=1,  # styles are not used
            n_residual=shape.n_residual,
            style_dim=1,
            mlp_width=1,
            edge_kernel=shape.edge_kernel,
        )
    )


class UnitGenerators(nn.Module):
    """Both domains: image -> own encoder -> shared blocks -> latent -> shared blocks -> own decoder -> image.

    The latent's distribution is N(map, 1): the networks give its mean, and whoever trains them adds the noise. The
    later form shares no layers, so its shared parts are empty.
    """

    def __init__(self, shape: UnitShape) -> None:
        super().__init__()
        if shape.form == "shared":
            self.encoders = nn.ModuleDict({key: SharedFormEncoder(shape) for key in "ab"})
            self.decoders = nn.ModuleDict({key: SharedFormDecoder(shape) for key in "ab"})
        else:
            self.encoders = nn.ModuleDict({key: later_form_encoder(shape) for key in "ab"})
            self.decoders = nn.ModuleDict({key: LaterFormDecoder(shape) for key in "ab"})
        width = shape.latent_channels
        self.shared_encoder = nn.Sequential(*[ZeroPaddedResidualBlock(width) for _ in range(shape.n_shared)])
        self.shared_decoder = nn.Sequential(*[ZeroPaddedResidualBlock(width) for _ in range(shape.n_shared)])

    def between(self, source: str, target: str) -> UnitGenerator:
        """Gives the generator from one domain to the other, or to itself; it shares these weights."""
        return UnitGenerator(self.encoders[source], self.shared_encoder, self.shared_decoder, self.decoders[target])

    def encode(self, key: str, x: Tensor) -> Tensor:
        """Gives the latent's mean, N x latent_channels x H/2^n x W/2^n, of x: N x C x H x W in [-1, 1]."""
        return cast(Tensor, self.shared_encoder(self.encoders[key](x)))

    def decode(self, key: str, latent: Tensor) -> Tensor:
        """Gives float32 N x C x H x W images of the domain in [-1, 1]."""
        image: Tensor = self.decoders[key](self.shared_decoder(latent))
        return image.float()


class UnitGenerator(nn.Module):
    """The way from one domain to one other, in two halves; deterministic."""

    def __init__(
        self, encoder: nn.Module, shared_encoder: nn.Sequential, shared_decoder: nn.Sequential, decoder: nn.Module
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.shared_encoder = shared_encoder
        self.shared_decoder = shared_decoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """Gives the latent's mean of x: N x C x H x W in [-1, 1], sides multiples of size_multiple."""
        return cast(Tensor, self.shared_encoder(self.encoder(x)))

    def decode(self, latent: Tensor) -> Tensor:
        """Gives float32 N x C x H x W in [-1, 1] of a latent."""
        image: Tensor = self.decoder(self.shared_decoder(latent))
        return image.float()


class SharedFormDiscriminator(nn.Module):
    """The patch discriminator of 2017: zero-padded strided 3 x 3 convolutions without norm, then 1 x 1.

    Args:
        channels: image channels.
        width: feature maps of the first layer; each further one doubles them.
        n_layers: strided layers at each scale.
        n_scales: image pyramid levels; 1 is COCODis, 3 is COCOMsDis.
    """

    def __init__(self, channels: int, width: int, n_layers: int, n_scales: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**layer for layer in range(n_layers))]
        self.scales = nn.ModuleList()
        for _ in range(n_scales):
            strided = [nn.Conv2d(narrow, wide, 3, stride=2, padding=1) for narrow, wide in pairwise(widths)]
            self.scales.append(nn.ModuleList([*strided, nn.Conv2d(widths[-1], 1, 1)]))
        self.smooth_halving = SmoothHalving("replicate")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives one map of patch scores per scale, N x 1 x h x w, unbounded, largest image first."""
        maps: list[Tensor] = []
        for number, scale in enumerate(self.scales):
            x = x if number == 0 else self.smooth_halving(x)
            maps.append(self._scores(cast(nn.ModuleList, scale), x))
        return maps

    @staticmethod
    def _scores(layers: nn.ModuleList, x: Tensor) -> Tensor:
        *strided, last = layers
        for convolution in strided:
            x = F.leaky_relu(convolution(x), SLOPE)
        scores: Tensor = last(x)
        return scores
