"""The ResNet generator of CycleGAN (Zhu et al. 2017, appendix 7.2; Johnson et al. 2016) and CUT's variant of it.

After junyanz/pytorch-CycleGAN-and-pix2pix and taesungp/contrastive-unpaired-translation, models/networks.py (read, not
copied). CUT halves and doubles maps through a smoothing filter where CycleGAN strides.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from munitaug.networks.blocks import ResidualBlock, reflect_pad
from munitaug.networks.norms import instance_norm
from munitaug.networks.resampling import SmoothHalving, double_smoothly

EDGE_PADDING = 3
"""Of the 7 x 7 convolutions at both ends, in pixels."""
N_HALVINGS = 2
SIZE_MULTIPLE = 4


@dataclass(frozen=True)
class ResnetShape:
    """The sizes of one generator.

    Args:
        channels: image channels, 1 to 4.
        width: feature maps of the first convolution.
        n_residual: residual blocks; published are 9 from 256 px on, 6 at 128 px.
        antialias_down: halve through a smoothing filter in place of a stride.
        antialias_up: double through a smoothing filter in place of a transposed convolution.
        extra_planes: planes that the generator takes beside the image's channels, such as noise.

    Raises:
        ValueError: a number outside its range.
    """

    channels: int
    width: int
    n_residual: int
    antialias_down: bool = False
    antialias_up: bool = False
    extra_planes: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 4:
            raise ValueError(f"channels must be 1 to 4, got {self.channels}")
        if self.extra_planes < 0:
            raise ValueError(f"extra_planes must be >= 0, got {self.extra_planes}")
        for name in ("width", "n_residual"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def input_planes(self) -> int:
        """Gives the channels and planes that the generator takes."""
        return self.channels + self.extra_planes

    @property
    def size_multiple(self) -> int:
        """Gives the number that image sides must be multiples of, in pixels."""
        return SIZE_MULTIPLE

    def feature_widths(self, blocks: Collection[int]) -> tuple[int, ...]:
        """Gives the channels of each map of :meth:`ResnetGenerator.features`."""
        halved = tuple(self.width * 2 ** (index + 1) for index in range(N_HALVINGS))
        return (self.input_planes, *halved, *(self.width * 2**N_HALVINGS for _ in blocks))


class ResnetGenerator(nn.Module):
    """Two halvings, residual blocks, two doublings; instance norm without affine, so all convolutions have biases.

    11,378,179 parameters with 3 channels, width 64 and 9 residual blocks, 7,837,699 with 6.

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: ResnetShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.width * 2**index for index in range(N_HALVINGS + 1)]
        stride = 1 if shape.antialias_down else 2
        self.first = nn.Conv2d(shape.input_planes, widths[0], 2 * EDGE_PADDING + 1)
        self.down = nn.ModuleList([nn.Conv2d(narrow, wide, 3, stride, padding=1) for narrow, wide in pairwise(widths)])
        self.smooth_halving = SmoothHalving() if shape.antialias_down else nn.Identity()
        self.blocks = nn.ModuleList([ResidualBlock(widths[-1]) for _ in range(shape.n_residual)])
        self.up = nn.ModuleList(
            [
                nn.Conv2d(wide, narrow, 3, padding=1)
                if shape.antialias_up
                else nn.ConvTranspose2d(wide, narrow, 3, 2, padding=1, output_padding=1)
                for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True)
            ]
        )
        self.last = nn.Conv2d(widths[0], shape.channels, 2 * EDGE_PADDING + 1)

    def encode(self, x: Tensor) -> Tensor:
        """Gives N x 4 width x H/4 x W/4 features of x: N x input_planes x H x W, sides multiples of 4."""
        return self._walk(x, (), len(self.blocks))[0]

    def encode_with_features(self, x: Tensor, blocks: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        """Gives what :meth:`encode` gives, and what :meth:`features` gives."""
        return self._walk(x, blocks, len(self.blocks))

    def features(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Gives the maps on the way to the content that CUT compares.

        These are the pixels, both down-sampling convolutions and chosen residual blocks; in the published code, layers
        0, 4, 8, 12 and 16. The pixels carry the reflected border of the first convolution, and the convolutions' maps
        are taken before the norm.

        Args:
            x: N x channels x H x W in [-1, 1], sides multiples of 4.
            blocks: which residual blocks, from 1.
        """
        return self._walk(x, blocks, max(blocks, default=0))[1]

    def _walk(self, x: Tensor, blocks: Collection[int], last_block: int) -> tuple[Tensor, list[Tensor]]:
        """Gives the features after a residual block, and the maps on the way."""
        padded = reflect_pad(x, EDGE_PADDING)
        maps = [padded]
        x = instance_norm(self.first(padded), "relu")
        for convolution in self.down:
            maps.append(convolution(x))
            x = instance_norm(maps[-1], "relu")
            x = self.smooth_halving(x)
        for number, block in enumerate(self.blocks[:last_block], start=1):
            x = block(x)
            if number in blocks:
                maps.append(x)
        return x, maps

    def decode(self, features: Tensor) -> Tensor:
        """Gives float32 N x channels x H x W in [-1, 1] of what :meth:`encode` gave."""
        x = features
        for convolution in self.up:
            x = instance_norm(convolution(double_smoothly(x) if self.shape.antialias_up else x), "relu")
        image: Tensor = self.last(reflect_pad(x, EDGE_PADDING))
        return image.tanh().float()

    def forward(self, x: Tensor) -> Tensor:
        """Gives the translation of x."""
        return self.decode(self.encode(x))
