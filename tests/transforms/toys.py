"""Toy translators whose output can be worked out by hand, and data sets of them; importable by spawned workers."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from munitaug.styles import StyleSource
from munitaug.translator import Translator
from munitaug.types import Content


class BrightnessTranslator(Translator):
    """Gives grey images whose brightness tells the first number of the style: (tanh(s) + 1) / 2 in [0, 1]."""

    def __init__(self, channels: int = 3, style_bank: Tensor | None = None) -> None:
        super().__init__(channels, size_multiple=4, style_dim=2, style_bank=style_bank)
        self.weight = nn.Parameter(torch.ones(1))
        self.encoded_batches: list[int] = []

    def encode_content(self, x: Tensor) -> Content:
        self.encoded_batches.append(len(x))
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return torch.tanh(style[:, 0] * self.weight).view(-1, 1, 1, 1).expand_as(content)

    def encode_style(self, y: Tensor) -> Tensor:
        return torch.stack([torch.atanh(y.mean(dim=(1, 2, 3)).clamp(-0.99, 0.99)), torch.zeros(len(y))], dim=1)


class ShiftTranslator(BrightnessTranslator):
    """Keeps the content and adds 0.2 in [-1, 1] to it, whatever the style."""

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return content + 0.2 * self.weight


class OneToOneTranslator(Translator):
    """Has no styles; gives the negative."""

    def __init__(self) -> None:
        super().__init__(channels=3, size_multiple=4, style_dim=0)

    def encode_content(self, x: Tensor) -> Content:
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return -content

    def encode_style(self, y: Tensor) -> Tensor:
        raise ValueError('this method has no styles; give style="prior"')


class BrightnessClassifier(nn.Module):
    """Two classes: 0 for images darker than the middle grey, 1 for brighter ones; remembers the shapes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        mean = self.slope * images.mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)


class StylesByClass(StyleSource):
    """Gives the label itself as both numbers of the style."""

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        raise AssertionError("labels were at hand")

    def sample_for(self, labels: Tensor, k: int, generator: torch.Generator) -> Tensor:
        return labels.float().view(-1, 1, 1).expand(-1, k, 2)


def frozen(translator: Translator) -> Translator:
    return translator.eval().requires_grad_(False)


class EqualImages(Dataset[Tensor]):
    """Equal float images, through each of the transforms; an item is the brightness that each of them gave."""

    def __init__(self, *transforms: nn.Module, length: int = 6) -> None:
        self.transforms = transforms
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        images: list[Tensor] = [transform(torch.zeros(3, 16, 16)) for transform in self.transforms]
        return torch.stack([image.mean(dtype=torch.float64) for image in images])


class CallsBrightness(nn.Module):
    """Makes an albumentations transform look like a torchvision one."""

    def __init__(self, transform: object) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: Tensor) -> Tensor:
        array: npt.NDArray[np.float32] = image.permute(1, 2, 0).numpy()
        assert callable(self.transform)
        return torch.from_numpy(self.transform(image=array)["image"]).permute(2, 0, 1)


def give_checkpoints(
    monkeypatch: pytest.MonkeyPatch, translator: Translator, back: Translator | None = None
) -> list[tuple[str, str, str]]:
    """Makes every checkpoint path hold the translator, and ``back`` (or the same one) for b2a.

    Gives the list of (path, direction, device) asked for.
    """
    asked: list[tuple[str, str, str]] = []

    def shared_translator(path: str, direction: str, device: torch.device) -> Translator:
        asked.append((path, direction, str(device)))
        return back if back is not None and direction == "b2a" else translator

    checkpoint = ModuleType("munitaug.checkpoint")
    vars(checkpoint)["shared_translator"] = shared_translator
    vars(checkpoint)["identity_sha256"] = lambda path: "0" * 64
    vars(checkpoint)["inverted_directions"] = lambda path, directions: []
    monkeypatch.setitem(sys.modules, "munitaug.checkpoint", checkpoint)
    return asked
