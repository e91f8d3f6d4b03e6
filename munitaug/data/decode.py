"""One image file to one uint8 tensor, with every surprise of file formats refused or resolved here.

Floor 2: imports types, images and data; PIL.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from munitaug.images import array_to_tensor, resize_uint8
from munitaug.types import MIN_SIDE

MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
"""What a file may be, whatever its name says (JPEG with MPO, its form of several pictures).

PIL knows more formats, among them some that start other programs (EPS).
"""
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_LEVELS_PER_BYTE = 257


class UnreadableError(ValueError):
    """The file is damaged, or so large that decoding it may be an attack."""


class UnsuitableError(ValueError):
    """The file can be read, but is not a picture that networks here can take."""


def decode_file(file: Path | BytesIO) -> Image.Image:
    """Gives the first frame of a file as an upright 8-bit L, LA, RGB or RGBA image.

    EXIF orientation is applied. 1-bit becomes L; a palette becomes RGB; 16-bit grey v becomes round(v / 257), so that
    65535 is 255. Each has an alpha channel where the file says that a level or colour is transparent. Where a TIFF says
    that 0 is white, the picture is inverted.

    Raises:
        UnreadableError: the file is damaged, truncated or larger than PIL's limit on pixels.
        UnsuitableError: CMYK, floating or another colour space without an obvious meaning as RGB.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and opened.width * opened.height > limit:
                raise UnreadableError(f"{opened.width} x {opened.height} px is over PIL's limit of {limit} pixels")
            opened.load()
            inverted = _is_inverted(opened)
            upright = ImageOps.exif_transpose(opened)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("not an image of any known format") from error
    except Exception as error:  # PIL's readers raise a dozen unrelated types for a damaged file
        raise UnreadableError(f"{error}" or type(error).__name__) from error
    picture = to_eight_bit(upright)
    return ImageOps.invert(picture) if inverted else picture


def _is_inverted(opened: Image.Image) -> bool:
    """Says whether 0 is white in the file and still is in PIL's image of it, as in a TIFF of 16-bit grey."""
    tags = getattr(opened, "tag_v2", {})
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return white_is_zero and opened.format == "TIFF" and opened.mode in _SIXTEEN_BIT_MODES


def match_mode(image: Image.Image, channels: int) -> Image.Image:
    """Gives the image with 1 to 4 channels; transparency that is not wanted is laid on white, never just dropped."""
    wanted = MODE_OF_CHANNELS[channels]
    if image.mode == wanted:
        return image
    if image.mode in ("LA", "RGBA") and wanted in ("L", "RGB"):
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colour).convert("RGB")
    return image.convert(wanted)


def image_to_tensor(image: Image.Image, size: int | None) -> Tensor:
    """Gives uint8 C x H x W, or C x size x size: the centre square, resized antialiased bilinear.

    Where there is transparency, colours are weighted by it, so that those of transparent pixels do not show.
    """
    picture = array_to_tensor(np.array(image))
    if size is None:
        return picture
    height, width = picture.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[None, :, top : top + side, left : left + side]
    return (resize_uint8 if len(picture) % 2 else _resize_transparent)(square, size)[0]


def _resize_transparent(images: Tensor, size: int) -> Tensor:
    """Gives uint8 N x C x size x size of images whose last channel is alpha."""
    if images.shape[-2:] == (size, size):
        return images
    colours, alpha = images[:, :-1].float(), images[:, -1:].float()
    weighted = F.interpolate(
        torch.cat([colours * alpha, alpha], dim=1),
        size=(size, size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    colours, alpha = weighted[:, :-1], weighted[:, -1:]
    straight = torch.where(alpha > 0.0, colours / alpha, 0.0)
    return torch.cat([straight, alpha], dim=1).round_().clamp_(0.0, 255.0).to(torch.uint8)


def check_size(image: Image.Image, size: int | None) -> None:
    """Checks that there is a picture in the image.

    Raises:
        UnsuitableError: a single pixel, or a side below 16 px that no ``size`` enlarges.
    """
    if image.width * image.height == 1:
        raise UnsuitableError("1 x 1 px carries no picture; remove the file")
    if size is None and min(image.size) < MIN_SIDE:
        raise UnsuitableError(
            f"{image.width} x {image.height} px (width x height), but networks need sides of at least {MIN_SIDE} px; "
            "remove the file, or give a size, for example --size 64"
        )


def to_eight_bit(image: Image.Image) -> Image.Image:
    """Gives the image as 8-bit L, LA, RGB or RGBA; see :func:`decode_file`.

    Raises:
        UnsuitableError: a mode without an obvious meaning as RGB, or grey beyond 16 bits.
    """
    if image.mode in _SIXTEEN_BIT_MODES:
        return _sixteen_to_eight_bit(image)
    if image.mode == "1":
        return image.convert("LA" if image.has_transparency_data else "L")
    if image.mode == "P" or (image.mode in ("L", "RGB") and image.has_transparency_data):
        colour = "RGBA" if image.mode != "L" else "LA"
        return image.convert(colour if image.has_transparency_data else "RGB")
    if image.mode == "PA":
        return image.convert("RGBA")
    if image.mode in MODE_OF_CHANNELS.values():
        return image
    remedy = "convert it to 8-bit RGB or grey first, for example with PIL: Image.open(...).convert('RGB')"
    if image.mode[0] in "IF":
        remedy = "scale its values to 0 to 255 and save them as 8-bit grey first; PIL's convert would cut them off"
    raise UnsuitableError(f"colour mode {image.mode}, which has no one meaning on a screen; {remedy}")


def _sixteen_to_eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnsuitableError(
            f"32-bit grey with values from {values.min()} to {values.max()}; expected at most 16 bits: 0 to 65535"
        )
    levels = Image.fromarray(((values + _LEVELS_PER_BYTE // 2) // _LEVELS_PER_BYTE).astype(np.uint8))
    if not image.has_transparency_data:
        return levels
    alpha = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return Image.merge("LA", (levels, alpha))
