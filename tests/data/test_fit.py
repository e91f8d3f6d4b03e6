"""Framing of native images; channels, sizes and polarity are tested with the domains that use them."""

from __future__ import annotations

import pytest
import torch

from munitaug.data.fit import frame_images
from munitaug.types import DomainError


def test_an_image_stands_in_the_middle_of_a_black_frame() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(2, 3, 2, 2)
    framed = frame_images(image, 5)
    expected = [[0, 0, 0, 0, 0], [0, 1, 2, 0, 0], [0, 3, 4, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert framed.shape == (2, 3, 5, 5)
    assert framed[1, 2].tolist() == expected


def test_an_image_of_the_frames_size_stays_and_a_larger_one_is_refused() -> None:
    image = torch.arange(18, dtype=torch.uint8).reshape(1, 2, 3, 3)
    assert torch.equal(frame_images(image, 3), image)
    with pytest.raises(DomainError, match=r"3 x 3 px .* do not fit into 2 px"):
        frame_images(image, 2)
