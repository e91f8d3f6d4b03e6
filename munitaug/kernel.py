"""The one kernel behind every front end: images in any usual form in, K styled variants in the same form out.

Floor 3: imports default_device, images, networks, translator and types.
"""

from __future__ import annotations

import torch
from torch import Tensor

from munitaug.default_device import on_cpu_by_default
from munitaug.images import check_pixels, images_to_model, match_channels, model_to_images, pad_to_multiple
from munitaug.networks.modes import device_of
from munitaug.networks.precision import full_precision
from munitaug.translator import Translator
from munitaug.types import MIN_SIDE


def translate_images(translator: Translator, images: Tensor, styles: Tensor, strength: Tensor | None = None) -> Tensor:
    """Gives K styled variants of every image, in the dtype, range, channels and on the device it came with.

    No gradient is kept; the result is an ordinary tensor (not an inference tensor), so it can feed training.

    Args:
        translator: in evaluation mode; runs on the device where its parameters are.
        images: N x C x H x W, uint8 in [0, 255] or floating in [0, 1]; C is the translator's channel
            count, or 1 for a 3-channel translator (repeated, and reduced to luminance again), or the reverse.
        styles: N x K x style_dim, float32.
        strength: N x K in [0, 1]; the style used is strength * style + (1 - strength) * style of the image itself
            (the alpha of style augmentation, Jackson et al. 2019, and of philipjackson/style-augmentation). None
            is 1 throughout: the images' own styles are not encoded.

    Returns:
        N x K x C x H x W like ``images``.

    Raises:
        TypeError: dtype is neither uint8 nor floating.
        ValueError: channel count or size that the translator cannot take, or strength for one without styles.
    """
    device = translator_device(translator)
    model_images = match_channels(images_to_model(images.to(device, non_blocking=True)), translator.channels)
    codes = styles.to(device, torch.float32, non_blocking=True)
    with torch.no_grad(), full_precision(device):  # the translator has a precision of its own
        if strength is not None:
            weight = strength.to(device, non_blocking=True).unsqueeze(2)
            codes = weight * codes + (1.0 - weight) * style_codes(translator, model_images).unsqueeze(1)
        translated = translator.translate(model_images, codes)
    matched = match_channels(translated, images.shape[1])
    return model_to_images(matched, images.dtype).to(images.device)


def style_codes(translator: Translator, model_images: Tensor, what: str = "image") -> Tensor:
    """Gives N x style_dim codes of model images N x C x H x W of any sides from 16 px up (padded by reflection).

    Args:
        translator: has a style encoder.
        model_images: N x C x H x W in [-1, 1], on the translator's device, with its channels.
        what: what the error calls the images.

    Raises:
        ValueError: images below 16 px, or a translator without a style encoder.
    """
    if min(model_images.shape[-2:]) < MIN_SIDE:
        raise ValueError(
            f"{what} is {model_images.shape[-1]} x {model_images.shape[-2]} px, but sides of at least {MIN_SIDE} px "
            "are needed; resize it first"
        )
    if len(model_images) == 0:
        return model_images.new_zeros(0, translator.style_dim)
    padded, _ = pad_to_multiple(model_images, translator.size_multiple)
    with full_precision(padded.device):  # the translator has a precision of its own
        return translator.encode_style(padded)


@on_cpu_by_default
def images_to_styles(translator: Translator, images: Tensor, batch_size: int = 64) -> Tensor:
    """Gives M x style_dim codes of target images, on the CPU: a bank for BankStyles or ClassBankStyles.

    Args:
        translator: has a style encoder.
        images: M x C x H x W, uint8 in [0, 255] or floating in [0, 1], sides from 16 px up; grey or RGB as needed.
        batch_size: images encoded at once.

    Raises:
        TypeError: dtype is neither uint8 nor floating.
        ValueError: no such images, another range or below 16 px, channels it cannot take, batch_size below 1, or a
            translator without a style encoder.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be M x C x H x W, got shape {tuple(images.shape)}")
    check_pixels(images)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    device = translator_device(translator)
    codes = [torch.zeros(0, translator.style_dim, dtype=torch.float32)]
    with torch.no_grad():
        for part in images.split(batch_size):
            model_images = match_channels(images_to_model(part.to(device)), translator.channels)
            codes.append(style_codes(translator, model_images).float().cpu())
    return torch.cat(codes)


def translator_device(translator: Translator) -> torch.device:
    """Gives the device of the translator's weights; its style bank may lie elsewhere."""
    return device_of(translator)
