"""DTN: an image is translated by what a fixed network sees in it; then a classifier is trained on translations.

Taigman, Polyak & Wolf, "Unsupervised cross-domain image generation", ICLR 2017. f, four convolutions trained on source
labels and then fixed, turns an image into 128 numbers; g makes a target image of them, and G = g after f. g is trained
so that f sees in G(x) what it saw in the source image x (f-constancy, eq. 5), that G leaves target images as they are
(TID, eq. 6), and against a discriminator of three answers: translated source, translated target, real target (eqs. 3,
4). Weights for digits are those of the paper's SVHN -> MNIST: 15 and 15, no smoothing. Own code from the paper;
yunjey/domain-transfer-network was read for the sizes of g and of the discriminator, not copied.

Where we leave it: g and the discriminator are smaller; f is trained on the benchmark's source, not on SVHN's extra
half million; and where the paper classifies by nearest neighbours, here the classifier of all conditions is trained on
translated source images with the same steps and classic augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import munitaug
from benchmarks.conditions.base import Cell
from munitaug.adaptation import ClassicAugmentation, fit, source_batches, styled_batches
from munitaug.random import seed_of, torch_generator
from munitaug.types import Content

FEATURES = 128
TRANSLATED_SOURCE, TRANSLATED_TARGET, REAL_TARGET = 0, 1, 2
"""The three answers of the discriminator: D1, D2 and D3 of the paper."""


@dataclass(frozen=True)
class DtnSettings:
    """How DTN's translation is trained.

    Args:
        steps: updates of the discriminator, each followed by one of g.
        lr: learning rate of both Adams.
        constancy_weight: of f-constancy (alpha).
        identity_weight: of TID (beta).
        width: feature maps of g's last hidden layer and of the discriminator's first.

    Raises:
        ValueError: a number outside its range.
    """

    steps: int = 1500
    lr: float = 3e-4
    constancy_weight: float = 15.0
    identity_weight: float = 15.0
    width: int = 32

    def __post_init__(self) -> None:
        for name in ("steps", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "constancy_weight", "identity_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


class FixedFeatures(nn.Module):
    """f and the head on which it is trained: four 3 x 3 convolutions with pooling and ReLU, 128 features.

    Args:
        channels: image channels.
        classes: outputs of the head.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, 64, 128, 256, FEATURES)
        self.convolutions = nn.ModuleList([nn.Conv2d(inside, out, 3, padding=1) for inside, out in pairwise(widths)])
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """Gives N x 128 features, >= 0, of x: N x C x H x W in [-1, 1], sides from 16 px up."""
        for convolution in self.convolutions:
            x = F.max_pool2d(convolution(x), 2).relu()
        return x.amax(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x classes logits of x."""
        logits: Tensor = self.head(self.features(x))
        return logits


class FeatureTranslator(munitaug.Translator):
    """G = g after f, as a translator without styles.

    Args:
        fixed: f, trained; its weights are not changed any more.
        channels: image channels.
        size: height and width in pixels, a multiple of 4.
        width: feature maps of the last hidden layer of g.

    Raises:
        ValueError: the size is not a multiple of 4.
    """

    reads_styles = False

    def __init__(self, fixed: FixedFeatures, channels: int, size: int, width: int) -> None:
        if size % 4:
            raise ValueError(f"DTN makes images whose sides are multiples of 4 px, got {size}; choose another size")
        super().__init__(channels, size_multiple=4, style_dim=0)
        self.fixed = fixed.eval().requires_grad_(False)
        start = size // 4
        self.generator = nn.Sequential(
            nn.Linear(FEATURES, 4 * width * start * start, bias=False),
            nn.Unflatten(1, (4 * width, start, start)),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
        )

    def encode_content(self, x: Tensor) -> Tensor:
        """Gives f(x), N x 128."""
        return self.fixed.features(x)

    def decode(self, content: Content, style: Tensor) -> Tensor:
        """Gives g of N x 128 features, N x C x size x size in [-1, 1]; style, N x 0, holds nothing."""
        assert isinstance(content, Tensor)
        images: Tensor = self.generator(content)
        return images.float()

    def encode_style(self, y: Tensor) -> Tensor:
        """Refuses: there are no styles.

        Raises:
            ValueError: always.
        """
        raise ValueError("DTN gives one translation per image and has no styles")


def ternary_discriminator(channels: int, width: int) -> nn.Module:
    """Gives a network images -> N x 3 logits of the three answers; batch norm in all but the first."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width * 4, 3),
    )


def dtn(cell: Cell, settings: DtnSettings = DtnSettings()) -> nn.Module:
    """Trains f on source labels, g on both domains, and the benchmark's classifier on translated source images.

    Raises:
        ValueError: image sides are not multiples of 4 px.
    """
    translator = train_translator(cell, settings)
    batches = styled_batches(cell.task, cell.settings, cell.seed, ClassicAugmentation(), translator, with_source=False)
    return fit(cell.new_classifier(), batches, cell.settings)


def train_translator(cell: Cell, settings: DtnSettings) -> FeatureTranslator:
    """Gives the trained translator, in evaluation mode.

    Raises:
        ValueError: image sides are not multiples of 4 px.
    """
    task = cell.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(cell.seed, "dtn"))
        fixed = FixedFeatures(task.channels, task.classes)
        translator = FeatureTranslator(fixed, task.channels, task.source_images.shape[-1], settings.width)
        discriminator = ternary_discriminator(task.channels, settings.width)
    translator, discriminator = translator.to(task.source_images.device), discriminator.to(task.source_images.device)
    labelled = source_batches(task, cell.settings, cell.seed, ClassicAugmentation())
    fit(fixed.requires_grad_(True), labelled, cell.settings)
    fixed.requires_grad_(False)
    optimisers = [_adam(module, settings.lr) for module in (discriminator, translator.generator)]
    for step in range(settings.steps):
        source, target = _draw(cell, step)
        seen = fixed.features(torch.cat([source, target]))
        of_source, of_target = translator.generator(seen).chunk(2)
        _update(optimisers[0], discriminator_loss(discriminator, of_source.detach(), of_target.detach(), target))
        adversarial = generator_loss(discriminator, of_source, of_target)
        constancy = feature_constancy(seen[: len(source)], fixed.features(of_source))
        kept = target_identity(target, of_target)
        _update(optimisers[1], adversarial + settings.constancy_weight * constancy + settings.identity_weight * kept)
    return translator.eval()


def discriminator_loss(
    discriminator: nn.Module, made_of_source: Tensor, made_of_target: Tensor, target: Tensor
) -> Tensor:
    """Gives the sum of three mean cross-entropies: each kind of image shall be known (eq. 3)."""
    return (
        _told(discriminator, made_of_source, TRANSLATED_SOURCE)
        + _told(discriminator, made_of_target, TRANSLATED_TARGET)
        + _told(discriminator, target, REAL_TARGET)
    )


def generator_loss(discriminator: nn.Module, made_of_source: Tensor, made_of_target: Tensor) -> Tensor:
    """Gives the sum of two mean cross-entropies: both kinds of translation shall pass for real (eq. 4)."""
    return _told(discriminator, made_of_source, REAL_TARGET) + _told(discriminator, made_of_target, REAL_TARGET)


def feature_constancy(before: Tensor, after: Tensor) -> Tensor:
    """Gives the mean squared difference of f before and after translation, N x 128 each (eq. 5); 0 when equal."""
    return F.mse_loss(after, before)


def target_identity(target: Tensor, made: Tensor) -> Tensor:
    """Gives the mean squared difference of target images and their translations (TID, eq. 6); 0 when equal."""
    return F.mse_loss(made, target)


def _told(discriminator: nn.Module, images: Tensor, answer: int) -> Tensor:
    logits = discriminator(images)
    return F.cross_entropy(logits, torch.full((len(images),), answer, device=images.device))


def _draw(cell: Cell, step: int) -> tuple[Tensor, Tensor]:
    """Gives source and target images of one step."""
    generator = torch_generator(cell.seed, "dtn", step)
    count, task = cell.settings.batch_size, cell.task
    source = task.source_images[torch.randint(len(task.source_images), (count,), generator=generator)]
    target = task.target_images[torch.randint(len(task.target_images), (count,), generator=generator)]
    return source, target


def _adam(module: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
