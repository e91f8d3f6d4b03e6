"""The one kernel behind every front end: images in any usual form in, K styled variants in the same form out.

Floor 3: imports images and translator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from munitaug.images import images_to_model, match_channels, model_to_images
from munitaug.translator import Translator


def translate_images(translator: Translator, images: Tensor, styles: Tensor) -> Tensor:
    """Gives K styled variants of every image, in the dtype, range, channels and on the device it came with.

    No gradient is kept; the result is an ordinary tensor (not an inference tensor), so it can feed training.

    Args:
        translator: in evaluation mode; runs on the device where its parameters are.
        images: N x C x H x W, uint8 in [0, 255] or floating in [0, 1]; C is the translator's channel
            count, or 1 for a 3-channel translator (repeated, and reduced to luminance again), or the reverse.
        styles: N x K x style_dim, float32.

    Returns:
        N x K x C x H x W like ``images``.

    Raises:
        TypeError: dtype is neither uint8 nor floating.
        ValueError: channel count or size that the translator cannot take.
    """
    device = translator_device(translator)
    model_images = match_channels(images_to_model(images.to(device, non_blocking=True)), translator.channels)
    with torch.no_grad():
        translated = translator.translate(model_images, styles.to(device, non_blocking=True))
    matched = match_channels(translated, images.shape[1])
    return model_to_images(matched, images.dtype).to(images.device)


def translator_device(translator: Translator) -> torch.device:
    """Gives the device of the translator's weights."""
    return translator.style_bank.device
