"""The networks of DRIT++: encoders of content and attribute, two kinds of generators, two kinds of discriminators.

Lee et al. 2020; layer by layer after HsinYingLee/DRIT, src/networks.py (read, not copied). LeakyReLU has slope 0.01 in
the discriminators and content encoders, and 0.2 in the attribute encoder, as there.

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.activations import LEAKY_SLOPE
from munitaug.networks.autoencoder import AutoEncoderShape, StyleEncoder
from munitaug.networks.blocks import ConvUnit, ResidualBlock, reflect_pad
from munitaug.networks.discriminator import DiscriminatorShape, PyramidDiscriminator
from munitaug.networks.norms import instance_norm

Conditioning = Literal["concatenation", "feature-wise"]
SIZE_MULTIPLE = 4
SLOPE = 0.01
ATTRIBUTE_BLOCKS = 3
ATTRIBUTE_HALVINGS = 4


@dataclass(frozen=True)
class DritShape:
    """The sizes of encoders and generators.

    Args:
        channels: image channels, 1 to 4.
        width: feature maps after the first convolution; content has four times as many, at a quarter of the side.
        n_residual: residual blocks of a domain's content encoder, before the one that both domains share.
        style_dim: numbers in an attribute code.
        mlp_width: hidden units between attribute and generator, where the conditioning is feature-wise.
        conditioning: how the attribute enters the generator.
    """

    channels: int
    width: int
    n_residual: int
    style_dim: int
    mlp_width: int
    conditioning: Conditioning

    @property
    def content_channels(self) -> int:
        """Gives the channels of a content code."""
        return self.width * SIZE_MULTIPLE

    def attribute_encoder(self) -> nn.Module:
        """Gives a new attribute encoder: images -> (mean, log-variance or None)."""
        return VariationalEncoder(self) if self.conditioning == "concatenation" else PlainEncoder(self)

    def generator(self) -> nn.Module:
        """Gives a new generator: (content, attribute) -> images."""
        return ConcatenationGenerator(self) if self.conditioning == "concatenation" else FeatureWiseGenerator(self)

    def shared_decoder(self) -> nn.Module:
        """Gives the part of the generators that both domains share: a residual block, or nothing where feature-wise."""
        return ResidualBlock(self.content_channels) if self.conditioning == "concatenation" else nn.Identity()


class LeakyUnit(nn.Module):
    """Reflect pad, convolution with bias, LeakyReLU of slope 0.01; maps smaller than the kernel repeat their edge."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.kernel = kernel
        self.padding = padding
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x channels_out x H' x W' features."""
        return F.leaky_relu(self.conv(reflect_pad(x, self.padding, self.kernel)), SLOPE)


class UpUnit(nn.Module):
    """A transposed convolution that doubles the side, layer norm with a gain and a shift per channel, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.GroupNorm(1, channels_out)  # one group: mean and variance over C, H and W

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x channels_out x 2H x 2W features."""
        return F.relu(self.norm(self.conv(x)))


class DomainContentEncoder(nn.Module):
    """One domain's part of the content encoder; a residual block that both domains share follows it."""

    def __init__(self, shape: DritShape) -> None:
        super().__init__()
        width = shape.width
        self.first = LeakyUnit(shape.channels, width, 7, padding=3)
        self.layers = nn.Sequential(
            ConvUnit(width, 2 * width, 3, stride=2, padding=1, norm="instance"),
            ConvUnit(2 * width, 4 * width, 3, stride=2, padding=1, norm="instance"),
            *(ResidualBlock(4 * width) for _ in range(shape.n_residual)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x content_channels x H/4 x W/4 for x: N x C x H x W in [-1, 1]."""
        features: Tensor = self.layers(self.first(x))
        return features


class PooledResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after a LeakyReLU 0.2, and a linear way past them; averaging halves the side."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_in, 3)
        self.second = nn.Conv2d(channels_in, channels_out, 3)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x channels_out x H/2 x W/2 features."""
        y = self.first(reflect_pad(F.leaky_relu(x, LEAKY_SLOPE), 1))
        y = self.second(reflect_pad(F.leaky_relu(y, LEAKY_SLOPE), 1))
        out: Tensor = F.avg_pool2d(y, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return out


class VariationalEncoder(nn.Module):
    """Image -> mean and log-variance of its attribute; the encoder that goes with concatenation."""

    def __init__(self, shape: DritShape) -> None:
        super().__init__()
        widths = [shape.width * (step + 1) for step in range(ATTRIBUTE_BLOCKS + 1)]
        self.first = nn.Conv2d(shape.channels, shape.width, 4, stride=2)
        self.blocks = nn.Sequential(*(PooledResidualBlock(here, after) for here, after in pairwise(widths)))
        self.mean = nn.Linear(widths[-1], shape.style_dim)
        self.log_variance = nn.Linear(widths[-1], shape.style_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gives two N x style_dim float32 tensors for x: N x C x H x W in [-1, 1], sides from 16 px up."""
        features = self.blocks(self.first(reflect_pad(x, 1)))
        pooled = F.leaky_relu(features, LEAKY_SLOPE).mean(dim=(2, 3))
        return self.mean(pooled).float(), self.log_variance(pooled).float()


class PlainEncoder(nn.Module):
    """Image -> attribute without a variance, as MUNIT's style encoder; it goes with the feature-wise transform."""

    def __init__(self, shape: DritShape) -> None:
        super().__init__()
        self.encoder = StyleEncoder(
            AutoEncoderShape(
                channels=shape.channels,
                width=shape.width,
                n_downsample=2,
                n_style_downsample=ATTRIBUTE_HALVINGS,
                n_residual=shape.n_residual,
                style_dim=shape.style_dim,
                mlp_width=shape.mlp_width,
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gives (N x style_dim, None) for x: N x C x H x W in [-1, 1]."""
        return self.encoder(x), None


class ConcatenationGenerator(nn.Module):
    """The attribute stands beside the features as constant maps, anew before every up-sampling and at the end."""

    def __init__(self, shape: DritShape) -> None:
        super().__init__()
        extra, wide = shape.style_dim, shape.content_channels + shape.style_dim
        self.blocks = nn.Sequential(*(ResidualBlock(wide) for _ in range(shape.n_residual)))
        self.upsampling = nn.ModuleList()
        for _ in range(2):
            self.upsampling.append(UpUnit(wide + extra, (wide + extra) // 2))
            wide = (wide + extra) // 2
        self.to_image = nn.Conv2d(wide + extra, shape.channels, 1)

    def forward(self, content: Tensor, attribute: Tensor) -> Tensor:
        """Gives float32 N x C x H x W in [-1, 1] of content N x Q x H/4 x W/4 and attribute N x style_dim."""
        x = self.blocks(beside(content, attribute))
        for unit in self.upsampling:
            x = unit(beside(x, attribute))
        image: Tensor = self.to_image(beside(x, attribute))
        return image.tanh().float()


class FeatureWiseBlock(nn.Module):
    """A residual block in which 1 x 1 convolutions mix the features with a part of the transformed attribute, twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(channels, channels, 3) for _ in range(2)])
        self.mixing = nn.ModuleList([nn.Conv2d(2 * channels, 2 * channels, 1) for _ in range(2)])
        self.narrowing = nn.ModuleList([nn.Conv2d(2 * channels, channels, 1) for _ in range(2)])

    def forward(self, x: Tensor, attribute: Tensor) -> Tensor:
        """Gives features of the same shape for x: N x channels x h x w and attribute: N x channels."""
        y = x
        for convolution, mix, narrow in zip(self.convolutions, self.mixing, self.narrowing, strict=True):
            y = beside(instance_norm(convolution(reflect_pad(y, 1))), attribute)
            y = F.relu(narrow(F.relu(mix(y))))
        return x + y


class FeatureWiseGenerator(nn.Module):
    """An MLP turns the attribute into a part for each residual block."""

    def __init__(self, shape: DritShape) -> None:
        super().__init__()
        width, count = shape.content_channels, shape.n_residual + 1
        self.mlp = nn.Sequential(
            nn.Linear(shape.style_dim, shape.mlp_width),
            nn.ReLU(),
            nn.Linear(shape.mlp_width, shape.mlp_width),
            nn.ReLU(),
            nn.Linear(shape.mlp_width, count * width),
        )
        self.blocks = nn.ModuleList([FeatureWiseBlock(width) for _ in range(count)])
        self.upsampling = nn.Sequential(UpUnit(width, width // 2), UpUnit(width // 2, width // 4))
        self.to_image = nn.Conv2d(width // 4, shape.channels, 1)

    def forward(self, content: Tensor, attribute: Tensor) -> Tensor:
        """Gives float32 N x C x H x W in [-1, 1] of content N x Q x H/4 x W/4 and attribute N x style_dim."""
        x = content
        parts = self.mlp(attribute).chunk(len(self.blocks), dim=1)
        for block, part in zip(self.blocks, parts, strict=True):
            x = block(x, part)
        image: Tensor = self.to_image(self.upsampling(x))
        return image.tanh().float()


class DomainDiscriminator(PyramidDiscriminator):
    """A patch discriminator per pyramid level, as MUNIT's but for the slope of its LeakyReLU."""

    def __init__(self, shape: DiscriminatorShape) -> None:
        super().__init__((_patch_discriminator(shape) for _ in range(shape.n_scales)), spectral=shape.spectral_norm)


def _patch_discriminator(shape: DiscriminatorShape) -> nn.Sequential:
    widths = [shape.channels, *(shape.width * 2**layer for layer in range(shape.n_layers))]
    units = [LeakyUnit(here, after, 4, stride=2, padding=1) for here, after in pairwise(widths)]
    return nn.Sequential(*units, nn.Conv2d(widths[-1], 1, 1))


class ContentDiscriminator(nn.Module):
    """Content -> scores that say which domain it came from: one score for the 54 x 54 contents of 216 px images.

    No norm: the published code names instance norm, but compares its name with another literal and leaves it out.

    Args:
        channels: of the content.
        n_layers: strided convolutions, 3 as published.
        kernel: their side, 7 as published.
        last_kernel: side of the convolution after them, 4 as published.
    """

    def __init__(self, channels: int, n_layers: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(LeakyUnit(channels, channels, kernel, stride=2, padding=1) for _ in range(n_layers)),
            LeakyUnit(channels, channels, last_kernel),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, content: Tensor) -> list[Tensor]:
        """Gives a list of one map, N x 1 x h x w scores, unbounded, for content: N x channels x H x W."""
        return [self.layers(content)]


def beside(features: Tensor, attribute: Tensor) -> Tensor:
    """Gives N x (F + S) x h x w: features N x F x h x w with attribute N x S as constant maps after them."""
    maps = attribute.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return torch.cat([features, maps], dim=1)


@torch.no_grad()
def initialise_linear_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Draws the weights of linear layers from U(-1/sqrt(n), 1/sqrt(n)), n being the inputs; biases become 0.

    The published code sets convolutions alone to N(0, 0.02) and leaves linear layers as torch makes them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            layer.weight.copy_((torch.rand(layer.weight.shape, generator=generator) * 2.0 - 1.0) * bound)
            layer.bias.zero_()
