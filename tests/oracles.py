"""Slow and obvious versions of layers and losses: one image, one channel, one patch at a time, in double precision.

They call a method's networks, on single images, but none of its losses, norms or batching.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from munitaug.method import Method
from munitaug.methods import Munit
from munitaug.networks.autoencoder import AutoEncoder
from munitaug.networks.discriminator import MultiScaleDiscriminator
from munitaug.random import torch_generator
from munitaug.types import Pair

Floats = npt.NDArray[np.float64]
SIDES = (("a", "b"), ("b", "a"))
"""(domain of the term, the other domain)."""


def adain_by_loops(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Gives AdaIN, one sample and channel at a time; biased variance, eps inside the root."""
    out = torch.zeros_like(x)
    for sample in range(x.shape[0]):
        for channel in range(x.shape[1]):
            values = [float(value) for value in x[sample, channel].flatten()]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    normal = (float(x[sample, channel, row, column]) - mean) / math.sqrt(variance + 1e-5)
                    out[sample, channel, row, column] = float(scale[sample, channel]) * normal + float(
                        shift[sample, channel]
                    )
    return out


def munit_layer_norm_by_numpy(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Gives MUNIT's layer norm: unbiased deviation over one sample, eps added outside the root."""
    samples = []
    for sample in x.double().numpy():
        normal = (sample - np.mean(sample)) / (np.std(sample, ddof=1) + 1e-5)
        samples.append([g * plane + s for g, s, plane in zip(gain.tolist(), shift.tolist(), normal, strict=True)])
    return torch.tensor(np.array(samples), dtype=x.dtype)


def mean_absolute(x: Tensor, y: Tensor) -> float:
    """Gives the mean of |x - y| over all numbers, by a loop."""
    pairs = zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)
    differences: list[float] = [abs(one - other) for one, other in pairs]
    return sum(differences) / len(differences)


def real_score_loss(score: float, kind: str) -> float:
    """Gives what a discriminator pays for the score of a real patch."""
    prices: dict[str, float] = {
        "lsgan": (score - 1.0) * (score - 1.0),
        "nsgan": -math.log(1.0 / (1.0 + math.exp(-score))),
        "hinge": max(0.0, 1.0 - score),
    }
    return prices[kind]


def fake_score_loss(score: float, kind: str) -> float:
    """Gives what a discriminator pays for the score of a generated patch."""
    return {
        "lsgan": score**2,
        "nsgan": -math.log(1.0 - 1.0 / (1.0 + math.exp(-score))),
        "hinge": max(0.0, 1.0 + score),
    }[kind]


def generator_score_loss(score: float, kind: str) -> float:
    """Gives what a generator pays for the score of its patch."""
    return -score if kind == "hinge" else real_score_loss(score, kind)


def mean_over_patches(maps: Sequence[Tensor], kind: str, pays: str) -> float:
    """Gives the sum over scales of the mean over patches of a price: "real", "fake" or "generator"."""
    price = {"real": real_score_loss, "fake": fake_score_loss, "generator": generator_score_loss}[pays]
    total = 0.0
    for scores in maps:
        prices = [price(score, kind) for score in scores.flatten().tolist()]
        total += sum(prices) / len(prices)
    return total


def halved(image: Tensor) -> Tensor:
    """Gives the 3 x 3 means around every second pixel; pixels outside the image do not count."""
    channels, height, width = image.shape
    out = torch.zeros(channels, (height + 1) // 2, (width + 1) // 2, dtype=image.dtype)
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            top, left = max(0, 2 * row - 1), max(0, 2 * column - 1)
            out[:, row, column] = image[:, top : 2 * row + 2, left : 2 * column + 2].mean(dim=(1, 2))
    return out


class MunitOracle:
    """MUNIT's terms for one pair, one image at a time, with a double-precision copy of the networks.

    Args:
        method: whose networks and configuration are taken.
        pair: images with sides that need no padding.
    """

    def __init__(self, method: Munit, pair: Pair) -> None:
        self.config = method.config
        self.pair = pair
        self.images = {"a": pair.a.double(), "b": pair.b.double()}
        self.method = deepcopy(method).double()

    def coder(self, key: str) -> AutoEncoder:
        coder = self.method.auto_encoders[key]
        assert isinstance(coder, AutoEncoder)
        return coder

    def styles(self, purpose: str) -> dict[str, Tensor]:
        """Gives the prior draws of both domains, which are a function of the pair's seed and the purpose."""
        generator = torch_generator(self.pair.seed, "style", purpose)
        shape = (len(self.pair.a), self.config.style_dim)
        style_a = torch.randn(shape, generator=generator).double()
        return {"a": style_a, "b": torch.randn(shape, generator=generator).double()}

    def content(self, key: str, image: Tensor) -> Tensor:
        content: Tensor = self.coder(key).content_encoder(image[None])
        return content

    def style(self, key: str, image: Tensor) -> Tensor:
        style: Tensor = self.coder(key).style_encoder(image[None])
        return style.double()

    def decoded(self, key: str, content: Tensor, style: Tensor) -> Tensor:
        return self.coder(key).decode(content, style.view(1, -1))[0].double()

    def fake(self, key: str, other: str, index: int, style: Tensor) -> Tensor:
        """Gives the image of domain ``key`` with the content of image ``index`` of the other domain."""
        return self.decoded(key, self.content(other, self.images[other][index]), style[index])

    def scores(self, key: str, image: Tensor) -> list[Tensor]:
        discriminator = self.method.discriminators[key]
        assert isinstance(discriminator, MultiScaleDiscriminator)
        maps = []
        for scale in discriminator.scales:
            maps.append(scale(image[None]))
            image = halved(image)
        return maps

    def mean_over_images(self, values: Iterator[float]) -> float:
        return sum(values) / len(self.pair.a)

    @torch.no_grad()
    def generator_terms(self) -> dict[str, float]:
        """Gives every generator term, without its weight."""
        terms: dict[str, float] = {}
        count = range(len(self.pair.a))
        drawn, second = self.styles("generator"), self.styles("mode-seeking")
        for key, other in SIDES:
            own, sources = self.images[key], self.images[other]
            fakes = [self.fake(key, other, i, drawn[key]) for i in count]
            rebuilt = [self.decoded(key, self.content(key, own[i]), self.style(key, own[i])) for i in count]
            cycled = [self.decoded(other, self.content(key, fakes[i]), self.style(other, sources[i])) for i in count]
            others = torch.stack([self.fake(key, other, i, second[key]) for i in count])
            gan = [mean_over_patches(self.scores(key, fake), self.config.gan_loss, "generator") for fake in fakes]
            terms |= {
                f"gan_{key}": self.mean_over_images(iter(gan)),
                f"image_{key}": self.mean_over_images(mean_absolute(rebuilt[i], own[i]) for i in count),
                f"style_{key}": self.mean_over_images(
                    mean_absolute(self.style(key, fakes[i])[0], drawn[key][i]) for i in count
                ),
                f"content_{key}": self.mean_over_images(
                    mean_absolute(self.content(key, fakes[i]), self.content(other, sources[i])) for i in count
                ),
                f"cycle_{key}": self.mean_over_images(mean_absolute(cycled[i], sources[i]) for i in count),
                f"mode_seeking_{key}": mean_absolute(drawn[key], second[key])
                / (mean_absolute(torch.stack(fakes), others) + 1e-5),
            }
        return terms

    @torch.no_grad()
    def discriminator_terms(self) -> dict[str, float]:
        """Gives every adversarial term of the discriminators, without its weight."""
        drawn = self.styles("discriminator")
        terms = {}
        for key, other in SIDES:
            values = []
            for index, real in enumerate(self.images[key]):
                fake = self.fake(key, other, index, drawn[key])
                values.append(mean_over_patches(self.scores(key, real), self.config.gan_loss, "real"))
                values[-1] += mean_over_patches(self.scores(key, fake), self.config.gan_loss, "fake")
            terms[f"gan_{key}"] = self.mean_over_images(iter(values))
        return terms

    def r1(self, key: str) -> float:
        """Gives half the mean squared gradient norm, the gradient by central differences at every pixel."""
        discriminator = self.method.discriminators[key]

        def score(images: Tensor) -> Tensor:
            with torch.no_grad():
                maps: list[Tensor] = discriminator(images)
            return torch.stack([scores.mean(dim=(1, 2, 3)) for scores in maps]).sum(dim=0)

        def squared_norm(image: Tensor) -> float:
            steps = 1e-6 * torch.eye(image.numel(), dtype=torch.float64).view(-1, *image.shape)
            gradient = (score(image + steps) - score(image - steps)) / 2e-6
            return sum(float(slope) ** 2 for slope in gradient)

        return 0.5 * self.mean_over_images(squared_norm(image) for image in self.images[key])

    @torch.no_grad()
    def perceptual(self, key: str, other: str, features: nn.Module) -> float:
        """Gives the mean squared difference of features normalised by numpy, translation against source."""
        network = deepcopy(features).double()
        drawn = self.styles("generator")[key]
        squares: list[float] = []
        for index, source in enumerate(self.images[other]):
            fake = self.fake(key, other, index, drawn)
            for plane, wanted in zip(network(fake[None])[0].numpy(), network(source[None])[0].numpy(), strict=True):
                squares += ((normalised(plane) - normalised(wanted)) ** 2).flatten().tolist()
        return sum(squares) / len(squares)


def normalised(plane: Floats) -> Floats:
    """Gives a plane with mean 0 and variance 1, eps inside the root."""
    out: Floats = (plane - plane.mean()) / np.sqrt(plane.var() + 1e-5)
    return out


def averaged_by_numpy(history: Sequence[Floats], decay: float) -> Floats:
    """Gives the moving average of weights: history[0] before step 0, then the weights after each step."""
    average = np.array(history[0], dtype=np.float64)
    for step, present in enumerate(history[1:]):
        warm = min(decay, (1 + step) / (10 + step))
        average = warm * average + (1 - warm) * present
    return average


def trainable(method: Method) -> dict[str, nn.Parameter]:
    """Gives a method's parameters by name."""
    return dict(method.named_parameters())


def count_parameters(network: nn.Module) -> int:
    """Gives how many trainable numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def squares(maps: list[Tensor], wanted: float) -> float:
    return sum((each - wanted).square().mean().item() for each in maps)
