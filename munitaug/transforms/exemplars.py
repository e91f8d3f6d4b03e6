"""Style codes of exemplar images: "make it look like this one".

Floor 6: imports data, images, kernel, styles and translator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from munitaug.data.decode import match_mode, to_eight_bit
from munitaug.images import array_to_tensor, check_pil_mode, check_pixels, images_to_model, match_channels
from munitaug.kernel import style_codes, translator_device
from munitaug.styles import BankStyles, StyleSource
from munitaug.translator import Translator

Exemplar = PIL.Image.Image | Tensor | npt.NDArray[np.generic]


def exemplar_styles(translator: Translator, exemplars: Exemplar | Sequence[Exemplar]) -> BankStyles:
    """Gives a style source with the codes of exemplar images of the target domain.

    Args:
        translator: has a style encoder.
        exemplars: one image or several, of any sizes: PIL images, C x H x W tensors or H x W (x C) arrays, uint8
            in [0, 255] or floating in [0, 1]; a N x C x H x W tensor or a N x H x W x C array counts as N. PIL images
            become 8-bit grey or RGB as files of a domain do: 16 bits are scaled, transparency is laid on white.

    Raises:
        TypeError: something that is not an image, or of a dtype that images cannot have.
        ValueError: no image, one below 16 px, of another range of values or of a PIL mode that has no one meaning as
            RGB, or a translator without a style encoder.
    """
    batches = [_exemplar_to_batch(exemplar) for exemplar in _to_sequence(exemplars)]
    for batch in batches:
        check_pixels(batch, "exemplar image")
    images = [image for batch in batches for image in batch]
    if not images:
        raise ValueError('style got no exemplar image; give at least one, or style="prior"')
    return BankStyles(torch.cat([_encode(translator, image) for image in images]))


class CallStyles(StyleSource):
    """Styles of the exemplar images of one call: one image is drawn for each variant, and only those are encoded.

    Args:
        translator: has a style encoder.
        images: C x H x W each, uint8 in [0, 255] or floating in [0, 1]; at least one.
    """

    def __init__(self, translator: Translator, images: Sequence[Tensor]) -> None:
        self.translator = translator
        self.images = images

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k codes of drawn exemplars."""
        drawn, place = torch.randint(len(self.images), (n, k), generator=generator).unique(return_inverse=True)
        codes = [_encode(self.translator, self.images[index]) for index in drawn.tolist()]
        return torch.cat([torch.zeros(0, self.translator.style_dim, dtype=torch.float32), *codes])[place]


def _to_sequence(exemplars: Exemplar | Sequence[Exemplar]) -> Sequence[Exemplar]:
    if isinstance(exemplars, PIL.Image.Image | Tensor | np.ndarray):
        return [exemplars]
    if isinstance(exemplars, Sequence):
        return exemplars
    raise _not_an_image(exemplars)


def _exemplar_to_batch(exemplar: Exemplar) -> Tensor:
    if isinstance(exemplar, PIL.Image.Image):
        if exemplar.mode == "F":
            check_pil_mode(exemplar, ("L", "RGB", "RGBA"), "exemplar image")
        picture = to_eight_bit(exemplar)
        picture = match_mode(picture, 1 if picture.mode in ("L", "LA") else 3)
        return array_to_tensor(np.array(picture)).unsqueeze(0)
    if isinstance(exemplar, Tensor) and exemplar.ndim in (3, 4):
        batch = exemplar.as_subclass(Tensor)
        return batch if batch.ndim == 4 else batch.unsqueeze(0)
    if isinstance(exemplar, np.ndarray) and exemplar.ndim in (2, 3, 4):
        arrays = exemplar if exemplar.ndim == 4 else exemplar[None]
        return torch.stack([array_to_tensor(np.array(array)) for array in arrays])
    raise _not_an_image(exemplar)


def _encode(translator: Translator, image: Tensor) -> Tensor:
    device = translator_device(translator)
    with torch.no_grad():
        model_image = match_channels(images_to_model(image.unsqueeze(0).to(device)), translator.channels)
        return style_codes(translator, model_image, "exemplar image").float().cpu()


def _not_an_image(found: object) -> TypeError:
    shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor | np.ndarray) else ""
    return TypeError(
        'style must be "prior", "bank", "mixture", a StyleSource, or exemplar images (PIL, C x H x W tensor, '
        f"H x W x C array, or a sequence of them), got {type(found).__name__}{shape}"
    )
