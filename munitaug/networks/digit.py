"""The small networks for digits that DistanceGAN and GcGAN were published with.

Benaim & Wolf 2017 and Fu et al. 2019; layer by layer after sagiebenaim/DistanceGAN, folder cyclegan_arch/mnist_to_svhn
(read, not copied). Made for 32 px; other sizes work, as said at the classes.

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.blocks import reflect_pad

SLOPE = 0.05
LAST_KERNEL = 4


class DigitGenerator(nn.Module):
    """Two halvings, two convolutions, two transposed convolutions; batch norm, no biases.

    562,176 parameters with 3 channels in, 1 out and width 64, as published for SVHN -> MNIST.

    Args:
        channels_in: of the source images.
        channels_out: of the translations.
        width: feature maps of the first convolution.
    """

    size_multiple = 4

    def __init__(self, channels_in: int, channels_out: int, width: int = 64) -> None:
        super().__init__()
        wide = 2 * width
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(channels_in, width, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(width, wide, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(wide, wide, 3, padding=1, bias=False),
                nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            ]
        )
        self.encoder_norms = nn.ModuleList([nn.BatchNorm2d(size) for size in (width, wide, wide, wide)])
        self.decoder = nn.ConvTranspose2d(wide, width, 4, stride=2, padding=1, bias=False)
        self.decoder_norm = nn.BatchNorm2d(width)
        self.to_image = nn.ConvTranspose2d(width, channels_out, 4, stride=2, padding=1, bias=False)

    def encode(self, x: Tensor) -> Tensor:
        """Gives N x 2 width x H/4 x W/4 features of x: N x channels_in x H x W in [-1, 1], sides multiples of 4."""
        for convolution, norm in zip(self.encoder, self.encoder_norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), SLOPE)
        return x

    def decode(self, features: Tensor) -> Tensor:
        """Gives float32 N x channels_out x H x W in [-1, 1] of what :meth:`encode` gave."""
        image: Tensor = self.to_image(F.leaky_relu(self.decoder_norm(self.decoder(features)), SLOPE))
        return image.tanh().float()

    def forward(self, x: Tensor) -> Tensor:
        """Gives the translation of x."""
        return self.decode(self.encode(x))


class DigitDiscriminator(nn.Module):
    """Strided 4 x 4 convolutions, then a 4 x 4 convolution that leaves one score at 32 px.

    Larger images give a map of scores; maps below 4 x 4, as 16 px images give, repeat their edge first.

    Args:
        channels: image channels.
        width: feature maps of the first layer; each further one doubles them.
        n_layers: strided layers, 3 as published; batch norm in all but the first.
    """

    def __init__(self, channels: int, width: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        widths = [channels, *(width * 2**layer for layer in range(n_layers))]
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(widths[layer], widths[layer + 1], 4, stride=2, padding=1, bias=False)
                for layer in range(n_layers)
            ]
        )
        self.norms = nn.ModuleList([nn.Identity(), *(nn.BatchNorm2d(size) for size in widths[2:])])
        self.score = nn.Conv2d(widths[-1], 1, LAST_KERNEL, bias=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives a list of one map, N x 1 x h x w scores, unbounded, for x: N x channels x H x W in [-1, 1]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), SLOPE)
        return [self.score(reflect_pad(x, 0, at_least=LAST_KERNEL))]
