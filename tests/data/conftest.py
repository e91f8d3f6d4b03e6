"""Image files and small domains for the tests of munitaug/data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from munitaug.data.domain import ArrayDomain

WriteImage = Callable[..., Path]


@pytest.fixture
def write_image(tmp_path: Path) -> WriteImage:
    """Writes a random image below tmp_path and gives its path."""

    def write(name: str, mode: str = "RGB", size: tuple[int, int] = (20, 18), seed: int = 0) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        shape = (size[1], size[0]) if bands == 1 else (size[1], size[0], bands)
        pixels = np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)
        Image.frombytes(mode, size, pixels.tobytes()).save(file)
        return file

    return write


@pytest.fixture
def numbered_domain() -> Callable[..., ArrayDomain]:
    """Gives a domain whose image i is filled with the value i and labelled i modulo 10."""

    def make(count: int, channels: int = 1, side: int = 16, name: str = "numbered") -> ArrayDomain:
        values = torch.arange(count, dtype=torch.uint8)
        images = values[:, None, None, None].expand(count, channels, side, side).contiguous()
        return ArrayDomain(name, images, values % 10, tuple("0123456789"))

    return make


@pytest.fixture
def data_root() -> Path:
    """Gives the folder of the real digit files; tests that need a file which is not there are skipped."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("MUNITAUG_DATA", beside))
    if not root.is_dir():
        pytest.skip("no folder of digit files; name one with the variable MUNITAUG_DATA")
    return root
