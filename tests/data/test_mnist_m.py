"""MNIST-M: digits over crops of photographs, drawn again exactly from (seed, split, index)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from munitaug.data import mnist_m
from munitaug.data.domain import ArrayDomain
from munitaug.data.mnist_m import MnistM, blend, read_photographs
from munitaug.types import DomainError


def digits(count: int = 6, level: int = 0, channels: int = 1) -> ArrayDomain:
    images = torch.full((count, channels, 20, 20), level, dtype=torch.uint8)
    return ArrayDomain("digits", images, torch.arange(count) % 3, ("0", "1", "2"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One photograph whose red level is its row, and whose green level is its column."""
    picture = np.zeros((60, 90, 3), dtype=np.uint8)
    picture[:, :, 0], picture[:, :, 1] = np.arange(60)[:, None], np.arange(90)[None, :]
    Image.fromarray(picture).save(tmp_path / "ramp.png")
    return tmp_path


def test_blending_is_the_absolute_difference_per_channel() -> None:
    background = torch.tensor([10, 200, 255], dtype=torch.uint8).view(3, 1, 1)
    blended = [blend(background, torch.full((1, 1, 1), level, dtype=torch.uint8)).flatten() for level in (0, 60, 255)]
    assert [each.tolist() for each in blended] == [[10, 200, 255], [50, 140, 195], [245, 55, 0]]


def test_the_background_is_a_whole_crop_of_the_photograph(folder: Path) -> None:
    """Over a black digit the crop is seen as it is: rows and columns that follow one another."""
    domain = MnistM(digits(20), folder)
    corners = set()
    for index in range(20):
        image = domain[index][0].long()
        top, left = int(image[0, 0, 0]), int(image[1, 0, 0])
        assert torch.equal(image[0], torch.arange(top, top + 20)[:, None].expand(20, 20))
        assert torch.equal(image[1], torch.arange(left, left + 20)[None, :].expand(20, 20))
        assert top + 20 <= 60
        assert left + 20 <= 90
        corners.add((top, left))
    assert len(corners) > 15


def test_an_image_depends_on_seed_split_and_index_alone(folder: Path) -> None:
    first = MnistM(digits(), folder)
    assert torch.equal(first[4][0], MnistM(digits(9), folder)[4][0])
    assert not torch.equal(first[4][0], first[3][0])
    assert not torch.equal(first[4][0], MnistM(digits(), folder, seed=1)[4][0])
    assert not torch.equal(first[4][0], MnistM(digits(), folder, "test")[4][0])


def test_rendered_at_once_it_is_the_same(folder: Path) -> None:
    domain = MnistM(digits(level=90), folder, size=16)
    whole = domain.render_all()
    assert whole.images([0]).shape == (1, 3, 16, 16)
    assert torch.equal(whole.images(range(6)), domain.images(range(6)))
    assert whole.require_labels().tolist() == [0, 1, 2, 0, 1, 2]
    assert domain[5][1] == 2
    with pytest.raises(IndexError):
        domain[6]


def test_large_photographs_are_shrunk_and_a_large_folder_is_thinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5):
        Image.fromarray(np.full((30, 962 if index == 0 else 40, 3), index, dtype=np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    (tmp_path / "notes.txt").write_text("no photograph")
    assert read_photographs(tmp_path, (15, 20))[0].shape == (3, 15, 481)
    monkeypatch.setattr(mnist_m, "MOST_PHOTOGRAPHS", 3)
    assert [int(each.max()) for each in read_photographs(tmp_path, (15, 20))] == [0, 2, 4]


def test_what_cannot_be_a_background_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"ramp\.png is 90 x 60 px .* needs 20 x 70; remove it"):
        read_photographs(folder, (70, 20))
    with pytest.raises(DomainError, match="is no folder of photographs"):
        MnistM(digits(), tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DomainError, match="holds no photograph"):
        MnistM(digits(), tmp_path / "empty")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DomainError, match=r"broken\.jpg cannot be used as a background"):
        MnistM(digits(), tmp_path)


def test_coloured_digits_are_refused(folder: Path) -> None:
    with pytest.raises(DomainError, match="made of grey digits, but digits has 3 channels"):
        MnistM(digits(channels=3), folder)
