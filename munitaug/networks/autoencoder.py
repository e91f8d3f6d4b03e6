"""MUNIT's auto-encoder of one domain: content encoder, style encoder, style MLP and decoder.

Huang et al. 2018, section 5.1 and appendix B.1; layer by layer after NVlabs/MUNIT networks.py (read, not copied).

Floor 1: imports torch only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.activations import Activation
from munitaug.networks.blocks import AdaptiveResidualBlock, ConvUnit, ResidualBlock


@dataclass(frozen=True)
class AutoEncoderShape:
    """The sizes of one auto-encoder.

    Args:
        channels: image channels, 1 to 4.
        width: feature maps after the first convolution; each halving of the image doubles them.
        n_downsample: halvings of the content encoder; content has 1 / 2^n of the image's side.
        n_style_downsample: halvings of the style encoder before it averages over the image.
        n_residual: residual blocks in the content encoder, and again in the decoder.
        style_dim: numbers in a style code.
        mlp_width: hidden units of the MLP that turns a style code into AdaIN parameters.
        edge_kernel: side of the first and last convolution, 7 in the paper.
        upsample_kernel: side of the convolutions after up-sampling, 5 in the paper.
    """

    channels: int
    width: int
    n_downsample: int
    n_style_downsample: int
    n_residual: int
    style_dim: int
    mlp_width: int
    edge_kernel: int = 7
    upsample_kernel: int = 5

    @property
    def content_channels(self) -> int:
        """Gives the channels of a content code."""
        return self.width * self.size_multiple

    @property
    def size_multiple(self) -> int:
        """Gives the number that image sides must be multiples of, in pixels."""
        return int(2**self.n_downsample)


class ContentEncoder(nn.Module):
    """Image -> content code; instance norm everywhere, so that most of the style is removed."""

    def __init__(self, shape: AutoEncoderShape) -> None:
        super().__init__()
        edge = shape.edge_kernel
        layers: list[nn.Module] = [ConvUnit(shape.channels, shape.width, edge, padding=edge // 2, norm="instance")]
        width = shape.width
        for _ in range(shape.n_downsample):
            layers.append(ConvUnit(width, 2 * width, 4, stride=2, padding=1, norm="instance"))
            width *= 2
        layers += [ResidualBlock(width) for _ in range(shape.n_residual)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x content_channels x H/2^n x W/2^n for x: N x C x H x W in [-1, 1]."""
        out: Tensor = self.layers(x)
        return out


class StyleEncoder(nn.Module):
    """Image -> style code: convolutions without norm, the mean over the image, one linear map."""

    def __init__(self, shape: AutoEncoderShape) -> None:
        super().__init__()
        edge = shape.edge_kernel
        layers: list[nn.Module] = [ConvUnit(shape.channels, shape.width, edge, padding=edge // 2)]
        width = shape.width
        for step in range(shape.n_style_downsample):
            wider = 2 * width if step < 2 else width
            layers.append(ConvUnit(width, wider, 4, stride=2, padding=1))
            width = wider
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, shape.style_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x style_dim float32 codes for x: N x C x H x W in [-1, 1]."""
        pooled = self.layers(x).mean(dim=(2, 3), keepdim=True)
        codes: Tensor = self.head(pooled)
        return codes.flatten(1).float()


class StyleMlp(nn.Module):
    """Style code -> shift and scale of every AdaIN layer: three linear layers, ReLU after two."""

    def __init__(self, style_dim: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(style_dim, width), nn.Linear(width, width), nn.Linear(width, outputs)])

    def forward(self, style: Tensor) -> Tensor:
        """Gives N x outputs for style: N x style_dim."""
        first, second, last = self.layers
        out: Tensor = last(F.relu(second(F.relu(first(style)))))
        return out


class Decoder(nn.Module):
    """(content, AdaIN parameters) -> image in [-1, 1]."""

    def __init__(self, shape: AutoEncoderShape) -> None:
        super().__init__()
        width = shape.content_channels
        kernel, edge = shape.upsample_kernel, shape.edge_kernel
        self.blocks = nn.ModuleList([AdaptiveResidualBlock(width) for _ in range(shape.n_residual)])
        self.upsampling = nn.ModuleList()
        for _ in range(shape.n_downsample):
            self.upsampling.append(ConvUnit(width, width // 2, kernel, padding=kernel // 2, norm="layer", doubled=True))
            width //= 2
        last: Activation = "tanh"
        self.to_image = ConvUnit(width, shape.channels, edge, padding=edge // 2, activation=last)

    @staticmethod
    def adain_count(shape: AutoEncoderShape) -> int:
        """Gives how many AdaIN numbers the decoder takes for one image."""
        return shape.n_residual * AdaptiveResidualBlock.parameter_count(shape.content_channels)

    def forward(self, content: Tensor, adain: Tensor) -> Tensor:
        """Gives K N x C x H x W in [-1, 1].

        Args:
            content: N x content_channels x h x w.
            adain: K N x adain_count, K in a row for each content; each block's slice holds shift, scale, shift, scale.
        """
        x = content
        for block, slice_of_block in zip(self.blocks, adain.chunk(len(self.blocks), dim=1), strict=True):
            x = block(x, slice_of_block)
        for unit in self.upsampling:
            x = unit(x)
        out: Tensor = self.to_image(x)
        return out


class AutoEncoder(nn.Module):
    """One domain's encoder and decoder; nothing is shared between domains."""

    def __init__(self, shape: AutoEncoderShape) -> None:
        super().__init__()
        self.content_encoder = ContentEncoder(shape)
        self.style_encoder = StyleEncoder(shape)
        self.style_mlp = StyleMlp(shape.style_dim, shape.mlp_width, Decoder.adain_count(shape))
        self.decoder = Decoder(shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives (content, style) of x: N x C x H x W in [-1, 1], sides multiples of size_multiple."""
        return self.content_encoder(x), self.style_encoder(x)

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Gives float32 K N x C x H x W in [-1, 1] of content N x Q x h x w and style K N x style_dim."""
        image: Tensor = self.decoder(content, self.style_mlp(style))
        return image.float()
