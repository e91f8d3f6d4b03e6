"""A MUNIT that takes milliseconds, pairs and domains for it; importable by processes that tests start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from munitaug.data.domain import ArrayDomain
from munitaug.data.loader import UnpairedLoader
from munitaug.method import Method, OptimiserSettings
from munitaug.methods import Munit, MunitConfig
from munitaug.training import TrainConfig, Trainer
from munitaug.translator import Translator
from munitaug.types import Content, Pair

TINY = MunitConfig(
    width=4,
    n_downsample=2,
    n_style_downsample=2,
    n_residual=1,
    style_dim=3,
    mlp_width=8,
    edge_kernel=3,
    upsample_kernel=3,
    discriminator_width=4,
    n_discriminator_layers=2,
    n_scales=2,
    optimiser=OptimiserSettings(lr=1e-3, ema_decay=0.9),
)
TINY_TRAINING = TrainConfig(
    max_steps=6, batch_size=2, device="cpu", log_every_steps=1, save_every_steps=2, sample_every_steps=0
)
CLASSES = 3


def tiny_pair(count: int = 2, channels: int = 3, side: int = 16, seed: int = 5) -> Pair:
    """Gives random images in [-1, 1] with labels below CLASSES."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, channels, side, side, generator=generator) * 2 - 1 for _ in "ab")
    return Pair(a, b, torch.arange(count) % CLASSES, seed=seed)


def tiny_classifier(channels: int) -> nn.Module:
    """Gives a classifier of CLASSES classes with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
        )


def tiny_domain(name: str, seed: int, channels: int = 3, side: int = 16) -> ArrayDomain:
    """Gives 7 random labelled images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (7, channels, side, side), generator=generator, dtype=torch.uint8)
    return ArrayDomain(name, images, torch.arange(7) % CLASSES)


def tiny_loader(config: TrainConfig = TINY_TRAINING, channels: int = 3) -> UnpairedLoader:
    """Gives the pairs of two random domains."""
    a, b = tiny_domain("a", 1, channels), tiny_domain("b", 2, channels)
    return UnpairedLoader(a, b, batch_size=config.batch_size, seed=config.seed, workers=config.workers)


def tiny_trainer(folder: Path, config: TrainConfig = TINY_TRAINING, method: Method | None = None) -> Trainer:
    """Gives a trainer of a tiny MUNIT, or of the method, in a run folder."""
    return Trainer(method or Munit(TINY, seed=config.seed), tiny_loader(config), config, folder)


def counted_decodes(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gives a list that fills with the number of style codes of each call of the translator's decoder."""
    counts: list[int] = []
    decode = translator.decode

    def counted(content: Content, style: Tensor) -> Tensor:
        counts.append(len(style))
        return decode(content, style)

    monkeypatch.setattr(translator, "decode", counted)
    return counts


def without_averaging(config: MunitConfig = TINY) -> MunitConfig:
    """Gives the configuration with averaged weights switched off."""
    return replace(config, optimiser=replace(config.optimiser, ema_decay=0.0))
