"""CoGAN: two generators and two discriminators that share all but the layers nearest the images, and a classifier.

Liu & Tuzel, "Coupled generative adversarial networks", NeurIPS 2016, section 4: the generators make a pair of images
of one noise vector; the discriminators are LeNet-like; a classifier on their last hidden layer learns source labels
and, because all layers but the first are shared, reads target images through the target's first layer. Own code. What
the paper leaves open is as in mingyuliutw/CoGAN, folder cogan_pytorch (read, not copied): sizes of the discriminators,
initial weights, Adam, the weights of classification (10) and of the distance between the features of a generated pair
(0.01).

Where we leave them: generators are smaller (widths 128, 64, 32 instead of 1024 to 128), 1500 steps instead of 10000
to 25000, images in [-1, 1], classification on classically augmented source images as in every condition here, and the
last iterate counts (the published figures are the best of the log). Noise is uniform and one draw serves both updates
of a step, where they draw normal noise for each; and Xavier's weights of the discriminators' hidden layer are those of
a linear layer, 2.6 times as large as those of the convolution that they have in its place.

The classifier is CoGAN's own, so no snapshots are kept for the validators, which know the benchmark's classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.conditions.base import Cell
from munitaug.adaptation import ClassicAugmentation, source_batches
from munitaug.random import seed_of, torch_generator

Side = Literal["source", "target"]
XAVIER_GAIN, BIAS = 2.0**0.5, 0.1


@dataclass(frozen=True)
class CoganSettings:
    """How CoGAN is trained.

    Args:
        steps: updates of the discriminators, each followed by one of the generators.
        lr: learning rate of both Adams.
        weight_decay: of both.
        label_weight: of the cross-entropy on source labels.
        pair_weight: of the distance between the discriminators' features of a generated pair.
        noise: numbers in a noise vector.
        width: feature maps of the generators' last hidden layer; those before have 2 and 4 times as many.

    Raises:
        ValueError: a number outside its range.
    """

    steps: int = 1500
    lr: float = 2e-4
    weight_decay: float = 5e-4
    label_weight: float = 10.0
    pair_weight: float = 0.01
    noise: int = 100
    width: int = 32

    def __post_init__(self) -> None:
        for name in ("steps", "noise", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "weight_decay", "label_weight", "pair_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


class CoupledGenerators(nn.Module):
    """Noise -> a pair of images; all layers but the last are shared.

    Args:
        channels: image channels.
        size: height and width in pixels, a multiple of 4.
        noise: numbers in a noise vector.
        width: feature maps of the last shared layer.

    Raises:
        ValueError: the size is not a multiple of 4.
    """

    def __init__(self, channels: int, size: int, noise: int, width: int) -> None:
        super().__init__()
        if size % 4:
            raise ValueError(f"CoGAN makes images whose sides are multiples of 4 px, got {size}; choose another size")
        start = size // 4
        self.shared = nn.Sequential(
            nn.Linear(noise, 4 * width * start * start, bias=False),
            nn.Unflatten(1, (4 * width, start, start)),
            nn.BatchNorm2d(4 * width, affine=False),
            nn.PReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width, affine=False),
            nn.PReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width, affine=False),
            nn.PReLU(),
        )
        self.last = nn.ModuleDict({side: nn.Conv2d(width, channels, 5, padding=2) for side in ("source", "target")})

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Gives (source-like, target-like) images N x C x size x size in [-1, 1] of noise: N x noise."""
        features = self.shared(noise)
        return self.last["source"](features).tanh(), self.last["target"](features).tanh()


class CoupledDiscriminators(nn.Module):
    """Images -> real or not, and classes; all layers but the first are shared.

    Args:
        channels: image channels.
        size: height and width in pixels, at least 16.
        classes: outputs of the classifier.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        left = ((size - 4) // 2 - 4) // 2  # pixels after two 5 x 5 convolutions, each with its pooling
        self.first = nn.ModuleDict({side: nn.Conv2d(channels, 20, 5) for side in ("source", "target")})
        self.second = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(50 * left * left, 500)
        self.hidden_slope = nn.PReLU()
        self.real = nn.Linear(500, 1)
        self.classes = nn.Linear(500, classes)

    def features(self, x: Tensor, side: Side) -> Tensor:
        """Gives N x 500 features of x: N x C x size x size in [-1, 1], read as an image of this side."""
        x = F.max_pool2d(self.first[side](x), 2)
        x = F.max_pool2d(self.second(x), 2)
        features: Tensor = self.hidden_slope(self.hidden(x.flatten(1)))
        return features


class TargetClassifier(nn.Module):
    """The classifier as it reads target images.

    Args:
        discriminators: trained.
    """

    def __init__(self, discriminators: CoupledDiscriminators) -> None:
        super().__init__()
        self.discriminators = discriminators

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x classes logits of x: N x C x size x size in [-1, 1]."""
        logits: Tensor = self.discriminators.classes(self.discriminators.features(x, "target"))
        return logits


def cogan(cell: Cell, settings: CoganSettings = CoganSettings()) -> nn.Module:
    """Trains CoGAN on source and target together, the classifier beside it on source labels.

    Raises:
        ValueError: image sides are not multiples of 4 px.
    """
    task, size = cell.task, cell.task.source_images.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(cell.seed, "cogan"))
        generators = CoupledGenerators(task.channels, size, settings.noise, settings.width)
        discriminators = CoupledDiscriminators(task.channels, size, task.classes)
        _draw_weights(generators)
        _draw_weights(discriminators)
    generators, discriminators = generators.to(task.source_images.device), discriminators.to(task.source_images.device)
    labelled = source_batches(task, cell.settings, cell.seed, ClassicAugmentation())
    optimisers = [_adam(module, settings) for module in (discriminators, generators)]
    for step in range(settings.steps):
        source, target, noise = _draw(cell, settings, step)
        images, labels = labelled(step)
        loss = _discriminator_terms(generators, discriminators, source, target, noise, settings)
        logits = discriminators.classes(discriminators.features(images, "source"))
        _update(optimisers[0], loss + settings.label_weight * F.cross_entropy(logits, labels))
        _update(optimisers[1], generator_loss(_scores(discriminators, *generators(noise))[0]))
    return TargetClassifier(discriminators).eval()


def _draw_weights(module: nn.Module) -> None:
    """Draws weights as published: with torch's own, which are smaller, the discriminators stay at chance."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=XAVIER_GAIN)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, BIAS)


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Gives mean -log D over real images plus mean -log(1 - D) over made ones (eq. 3); scores are logits of D."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def generator_loss(made: Tensor) -> Tensor:
    """Gives mean -log D over made images: the form of eq. 3 whose gradient does not vanish (Goodfellow et al. 2014)."""
    return F.softplus(-made).mean()


def pair_distance(source: Tensor, target: Tensor) -> Tensor:
    """Gives the mean squared distance between the features, N x S, of the two images of a pair; 0 when equal."""
    return (source - target).square().sum(dim=1).mean()


def _draw(cell: Cell, settings: CoganSettings, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gives source images, target images and noise in [-1, 1] of one step."""
    generator = torch_generator(cell.seed, "cogan", step)
    count, task = cell.settings.batch_size, cell.task
    source = task.source_images[torch.randint(len(task.source_images), (count,), generator=generator)]
    target = task.target_images[torch.randint(len(task.target_images), (count,), generator=generator)]
    noise = torch.rand(count, settings.noise, generator=generator) * 2.0 - 1.0
    return source, target, noise.to(source.device)


def _discriminator_terms(
    generators: CoupledGenerators,
    discriminators: CoupledDiscriminators,
    source: Tensor,
    target: Tensor,
    noise: Tensor,
    settings: CoganSettings,
) -> Tensor:
    """Gives the adversarial loss of the discriminators and the weighted distance of generated pairs."""
    with torch.no_grad():
        pair = generators(noise)
    real, _ = _scores(discriminators, source, target)
    made, features = _scores(discriminators, *pair)
    return discriminator_loss(real, made) + settings.pair_weight * pair_distance(*features.chunk(2))


def _scores(discriminators: CoupledDiscriminators, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gives (2N x 1 scores, 2N x 500 features): source-like images first."""
    features = torch.cat([discriminators.features(source, "source"), discriminators.features(target, "target")])
    return discriminators.real(features), features


def _adam(module: nn.Module, settings: CoganSettings) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        module.parameters(), lr=settings.lr, betas=(0.5, 0.999), weight_decay=settings.weight_decay, fused=True
    )


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
