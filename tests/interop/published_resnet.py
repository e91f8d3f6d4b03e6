"""Generators laid out as CycleGAN's and CUT's published code lays them out, from facts: places, shapes, filters."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Smoothing(nn.Module):
    """A fixed filter, saved with the weights as ``filt``: channels x 1 x side x side."""

    def __init__(self, channels: int, row: tuple[float, ...]) -> None:
        super().__init__()
        values = torch.tensor([[one * other / 16 for one in row] for other in row])
        self.register_buffer("filt", values.repeat(channels, 1, 1, 1))


class Halving(Smoothing):
    """Filters by (1, 2, 1) / 4, reflected, and takes every second value."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        everywhere = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.get_buffer("filt"), groups=x.shape[1])
        return everywhere[:, :, ::2, ::2]


class Doubling(Smoothing):
    """Puts zeros between values and filters by (1, 3, 3, 1) / 4, border repeated."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1, 3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        spread = F.conv_transpose2d(padded, self.get_buffer("filt"), stride=2, groups=x.shape[1])
        return spread[:, :, 3 : 3 + 2 * x.shape[2], 3 : 3 + 2 * x.shape[3]]


class Block(nn.Module):
    """A residual block; with dropout its second convolution stands one place later."""

    def __init__(self, width: int, dropout: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv_block(x)
        return x + change


class Published(nn.Module):
    """The generator, its layers in one list called ``model``."""

    def __init__(
        self,
        channels: int = 3,
        width: int = 4,
        blocks: int = 3,
        smooth_down: bool = False,
        smooth_up: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), nn.InstanceNorm2d(width)]
        layers.append(nn.ReLU())
        for size in (width, 2 * width):
            layers.append(nn.Conv2d(size, 2 * size, 3, stride=1 if smooth_down else 2, padding=1))
            layers += [nn.InstanceNorm2d(2 * size), nn.ReLU()] + ([Halving(2 * size)] if smooth_down else [])
        layers += [Block(4 * width, dropout) for _ in range(blocks)]
        for size in (4 * width, 2 * width):
            if smooth_up:
                layers += [Doubling(size), nn.Conv2d(size, size // 2, 3, padding=1)]
            else:
                layers.append(nn.ConvTranspose2d(size, size // 2, 3, stride=2, padding=1, output_padding=1))
            layers += [nn.InstanceNorm2d(size // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def published(seed: int = 0, **sizes: int | bool) -> Published:
    """Gives a generator with random weights and biases that fill the range of its outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Published(**sizes).eval()  # type: ignore[arg-type]
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def some_images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(2, channels, 24, 32, generator=generator) * 2 - 1
