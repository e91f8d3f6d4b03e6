"""A translator whose result can be worked out by hand, and runs with it; importable by processes that tests start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from munitaug.data.domain import ArrayDomain
from munitaug.offline import generate
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from munitaug.translator import Translator
from munitaug.types import Content

ITEMS, SIDE = 22, 16


class Toy(Translator):
    """Adds the mean of the style to every pixel; dropout shows whether it is in training mode."""

    def __init__(self, style_dim: int = 3, channels: int = 3) -> None:
        super().__init__(channels, 4, style_dim)
        self.dropout = torch.nn.Dropout(0.5)
        self.strength = torch.nn.Parameter(torch.tensor(0.5))

    def encode_content(self, x: Tensor) -> Content:
        content: Tensor = self.dropout(x)
        return content

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        shift = style.mean(dim=1) if self.style_dim else torch.full((len(content),), 0.1)
        return (content + self.strength * shift[:, None, None, None]).tanh()

    def encode_style(self, y: Tensor) -> Tensor:
        raise ValueError("the toy has no style encoder")


def make_domain(labelled: bool = True, items: int = ITEMS) -> ArrayDomain:
    images = torch.randint(0, 256, (items, 3, SIDE, SIDE), generator=torch_generator("toy"), dtype=torch.uint8)
    labels = torch.arange(items) % 10 if labelled else None
    return ArrayDomain("toy", images, labels, tuple("0123456789") if labelled else ())


def run(path: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "translator": Toy(),
        "domain": make_domain(),
        "path": path,
        "styles": PriorStyles(3),
        "variants": 2,
        "batch_size": 4,
        "progress": False,
        "provenance": {"method": "toy"},
    }
    return generate(**(arguments | changes))  # type: ignore[arg-type]


def contents(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {**{name: file[name][:].tolist() for name in file}, **dict(file.attrs)}


def stop_after(batches: int) -> Callable[[], bool]:
    asked = iter(range(batches))
    return lambda: next(asked, None) is None
