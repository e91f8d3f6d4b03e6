"""Bringing native images to the channels, size, frame and polarity that were asked for.

Floor 2: imports types and images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from munitaug.images import match_channels, resize_uint8
from munitaug.types import DomainError

_IMAGES_AT_ONCE = 4096
MOST_SIDE = 2**14
"""Side in px that images are brought to at most."""


def check_side(size: int | None) -> None:
    """Refuses sides that no image is brought to.

    Raises:
        DomainError: the side is not positive, or beyond MOST_SIDE.
    """
    if size is not None and size < 1:
        raise DomainError(f"size must be a positive number of pixels, got {size}")
    if size is not None and size > MOST_SIDE:
        raise DomainError(f"size must be at most {MOST_SIDE} px, got {size}")


def fit_images(images: Tensor, *, channels: int | None, size: int | None, invert: bool) -> Tensor:
    """Gives uint8 N x channels x size x size of native images; the same object if nothing changes.

    Colour becomes grey by BT.601 luminance, grey is repeated, sizes change by antialiased bilinear
    interpolation.

    Args:
        images: uint8 N x C x H x W in [0, 255].
        channels: wanted channels; ``None`` keeps them.
        size: wanted height and width in pixels; ``None`` keeps them.
        invert: exchanges dark and light.

    Raises:
        DomainError: channels are neither 1 nor 3, or the size is out of range.
    """
    wanted = images.shape[1] if channels is None else channels
    if wanted != images.shape[1] and wanted not in (1, 3):
        raise DomainError(f"channels must be 1 (grey) or 3 (RGB) for the digit domains, got {wanted}")
    check_side(size)
    if (wanted, size or images.shape[2], size or images.shape[3]) == tuple(images.shape[1:]):
        return 255 - images if invert else images
    fitted = torch.cat([_fit(chunk, wanted, size) for chunk in images.split(_IMAGES_AT_ONCE)])
    return 255 - fitted if invert else fitted


def frame_images(images: Tensor, size: int) -> Tensor:
    """Gives uint8 N x C x size x size: every image in the middle of a black frame; itself if nothing changes.

    Where the room is odd, the larger part is below and to the right.

    Args:
        images: uint8 N x C x H x W in [0, 255]; neither side over ``size``.
        size: height and width in pixels.

    Raises:
        DomainError: the images are larger than the frame.
    """
    height, width = images.shape[-2:]
    if max(height, width) > size:
        raise DomainError(f"images of {width} x {height} px (width x height) do not fit into {size} px")
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))


def _fit(images: Tensor, channels: int, size: int | None) -> Tensor:
    grey_first = images if channels > images.shape[1] else _match(images, channels)
    return _match(grey_first if size is None else resize_uint8(grey_first, size), channels)


def _match(images: Tensor, channels: int) -> Tensor:
    """Gives uint8 images with 1 or 3 channels, luminance rounded to the nearest level."""
    if images.shape[1] == channels:
        return images
    return match_channels(images.to(torch.float32), channels).round_().clamp_(0.0, 255.0).to(torch.uint8)
