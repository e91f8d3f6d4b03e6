"""The only place where value ranges, layouts and channel counts change.

Inside the package a batch of images is N x C x H x W, float32, in [-1, 1] ("model images").
Outside it may be uint8 in [0, 255], floating in [0, 1], a PIL image or an H x W x C array.

Floor 1: imports torch, torchvision's functions, numpy and PIL.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as PIL and torchvision use for RGB to grey."""
LOWEST_UNIT, HIGHEST_UNIT = -0.5, 2.0
"""What is still taken for an image in [0, 1]: bicubic resizing overshoots by up to 0.45."""


def uint8_to_model(images: Tensor) -> Tensor:
    """Gives float32 images in [-1, 1] of uint8 images in [0, 255]; same shape."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def model_to_uint8(images: Tensor) -> Tensor:
    """Gives uint8 images in [0, 255] of model images: clamped, then rounded to the nearest level.

    torchvision's ``to_dtype`` multiplies by 255.999 and wraps around outside [0, 1]; this does neither.
    """
    return images.to(torch.float32).add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0).to(torch.uint8)


def unit_to_model(images: Tensor) -> Tensor:
    """Gives float32 images in [-1, 1] of floating images in [0, 1]; same shape."""
    return images.to(torch.float32) * 2.0 - 1.0


def model_to_unit(images: Tensor) -> Tensor:
    """Gives float32 images in [0, 1] of model images, clamped."""
    return images.to(torch.float32).add(1.0).mul_(0.5).clamp_(0.0, 1.0)


def images_to_model(images: Tensor) -> Tensor:
    """Gives model images of uint8 [0, 255] or floating [0, 1] images; same shape.

    Raises:
        TypeError: any other dtype.
    """
    check_dtype(images)
    if images.dtype == torch.uint8:
        return uint8_to_model(images)
    return unit_to_model(images)


def check_dtype(images: Tensor, what: str = "images") -> None:
    """Refuses a dtype that images cannot have; ``what`` is what the error calls them.

    Raises:
        TypeError: neither uint8 nor floating.
    """
    if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
        raise TypeError(
            f"{what} must be uint8 in [0, 255] or floating in [0, 1], got {images.dtype}; convert first, for example "
            "with torchvision.transforms.v2.ToDtype(torch.uint8, scale=True) or albumentations.ToFloat(max_value=...)"
        )


def check_pixels(images: Tensor, what: str = "images") -> None:
    """Refuses what cannot be images in [0, 255] or [0, 1]; ``what`` is what the error calls them.

    Floating values a little outside [0, 1] pass, as resizing makes them; they are clamped later. On a GPU only the
    dtype is looked at, because to look at values is to wait for it.

    Raises:
        TypeError: neither uint8 nor floating.
        ValueError: floating images on the CPU that hold NaN or are of another range, [0, 255] or [-1, 1] for example.
    """
    check_dtype(images, what)
    if images.dtype == torch.uint8 or images.device.type != "cpu" or images.numel() == 0:
        return
    low, high = (float(end) for end in images.as_subclass(Tensor).detach().aminmax())
    if low >= LOWEST_UNIT and high <= HIGHEST_UNIT:
        return
    if low != low:
        remedy = "look at what computes them"
    elif low < LOWEST_UNIT:
        remedy = "translate first and normalise afterwards: put v2.Normalize behind the translation"
    else:
        remedy = "give uint8, or convert uint8 with torchvision.transforms.v2.ToDtype(torch.float32, scale=True)"
    raise ValueError(f"{what} of {images.dtype} must be in [0, 1], got values from {low:.4g} to {high:.4g}; {remedy}")


def check_pil_mode(image: Image.Image, modes: tuple[str, ...], what: str) -> None:
    """Refuses a PIL image of another mode; ``what`` is what the error calls it.

    Raises:
        ValueError: the mode is none of these.
    """
    if image.mode in modes:
        return
    remedy = 'use image.convert("RGB") first'
    if image.mode[0] in "IF":
        remedy = (
            'image.convert("RGB") would clip its values, so scale them to 8 bits first; 16-bit grey, for example, with '
            'PIL.Image.fromarray((numpy.asarray(image) // 257).astype("uint8"))'
        )
    raise ValueError(f'{what} has mode "{image.mode}", but one of {", ".join(modes)} is needed; {remedy}')


def model_to_images(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Gives model images in ``dtype``: uint8 in [0, 255] or a floating type in [0, 1]."""
    return model_to_uint8(images) if dtype == torch.uint8 else model_to_unit(images).to(dtype)


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Gives the images with 1 or 3 channels: grey is repeated, colour is reduced to BT.601 luminance.

    Args:
        images: ... x C x H x W of a floating type, any range.
        channels: wanted channel count.

    Raises:
        ValueError: the change is not between 1 and 3 channels.
    """
    present = images.shape[-3]
    if present == channels:
        return images
    if present == 1 and channels == 3:
        return images.expand(*images.shape[:-3], 3, *images.shape[-2:]).contiguous()
    if present == 3 and channels == 1:
        red, green, blue = images.split(1, dim=-3)
        grey: Tensor = LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue  # a tensor would have to be sent
        return grey
    raise ValueError(
        f"image has {present} channels, but {channels} are needed; only 1 (grey) and 3 (RGB) can be "
        "turned into one another: convert the image first"
    )


def array_to_tensor(array: npt.NDArray[np.generic]) -> Tensor:
    """Gives C x H x W of an H x W or H x W x C array; a copy, same dtype."""
    planes = array[:, :, None] if array.ndim == 2 else array
    return torch.from_numpy(planes.transpose(2, 0, 1).copy())


def tensor_to_array(image: Tensor) -> npt.NDArray[np.generic]:
    """Gives H x W x C of a C x H x W tensor; contiguous, same dtype."""
    array: npt.NDArray[np.generic] = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    return array


def tensor_to_pil(image: Tensor) -> Image.Image:
    """Gives a PIL image (L, LA, RGB or RGBA) of a uint8 C x H x W tensor with 1 to 4 channels."""
    array = tensor_to_array(image)
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def resize_uint8(images: Tensor, size: int) -> Tensor:
    """Gives uint8 N x C x size x size images, antialiased bilinear; the same object if nothing changes."""
    if images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(
        images.to(torch.float32), size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.round_().clamp_(0.0, 255.0).to(torch.uint8)


def resize_model_images(images: Tensor, size: int) -> Tensor:
    """Gives N x C x size x size images in [-1, 1], antialiased bilinear; the same object if nothing changes."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


class Padding(NamedTuple):
    """How many pixels were added on each side, so that they can be cropped off again."""

    left: int
    right: int
    top: int
    bottom: int


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, Padding]:
    """Gives images reflected at the border until both sides are multiples, and the padding to crop.

    Args:
        images: N x C x H x W; each side larger than the padding it needs (true for sides >= multiple).
        multiple: of pixels.
    """
    height, width = images.shape[-2:]
    extra_height, extra_width = -height % multiple, -width % multiple
    padding = Padding(
        extra_width // 2, extra_width - extra_width // 2, extra_height // 2, extra_height - extra_height // 2
    )
    if not any(padding):
        return images, padding
    return F.pad(images, tuple(padding), mode="reflect"), padding


def crop_padding(images: Tensor, padding: Padding) -> Tensor:
    """Gives the images without the border that :func:`pad_to_multiple` added."""
    height, width = images.shape[-2:]
    return images[..., padding.top : height - padding.bottom, padding.left : width - padding.right]


def images_to_grid(images: Tensor, columns: int, gap_px: int = 2, scale: int = 1) -> Tensor:
    """Gives one uint8 C x H' x W' picture of many images of one size, row by row, on white.

    Args:
        images: N x C x H x W, uint8.
        columns: images in a row.
        gap_px: white pixels between images and around them.
        scale: each pixel is drawn as scale x scale pixels.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cell_height, cell_width = height * scale + gap_px, width * scale + gap_px
    grid = torch.full((channels, rows * cell_height + gap_px, columns * cell_width + gap_px), 255, dtype=torch.uint8)
    large = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    for index in range(count):
        top, left = gap_px + index // columns * cell_height, gap_px + index % columns * cell_width
        grid[:, top : top + height * scale, left : left + width * scale] = large[index]
    return grid
