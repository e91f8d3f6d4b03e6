"""VGG-16 features up to relu5_3 for the domain-invariant perceptual term, from a local weights file.

Nothing is downloaded. Deviation: NVlabs/MUNIT feeds Caffe-style weights (BGR, 0..255, means subtracted);
torchvision's weights want RGB with ImageNet mean and deviation, which is what we feed. As there, the
pooling before block 5 is left out.

Floor 1: imports torch and torchvision only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
POOL_BEFORE_BLOCK_5 = 23
RELU_5_3 = 29


class VggFeatures(nn.Module):
    """N x 3 x H x W images in [-1, 1], sides from 16 px up -> N x 512 x H/8 x W/8 features.

    Its weights mean nothing until :func:`load_vgg_features` has filled them.
    """

    def __init__(self) -> None:
        from torchvision.models import vgg16  # not above: every command would take twice the time to start

        super().__init__()
        with torch.device("meta"):  # the unused classifier would take 0.5 GB
            layers = list(vgg16(weights=None).features)[: RELU_5_3 + 1]
        del layers[POOL_BEFORE_BLOCK_5]
        self.layers = nn.Sequential(*layers).to_empty(device="cpu")
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Gives relu5_3 features."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        out: Tensor = self.layers((x * 0.5 + 0.5 - mean) / deviation)
        return out


def load_vgg_features(path: str | Path) -> VggFeatures:
    """Gives frozen VGG-16 features with torchvision's weights (vgg16-*.pth, or the same as safetensors).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no torchvision VGG-16.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; save torchvision's VGG-16 weights (models.VGG16_Weights) there first"
        )
    try:
        is_safe = file.suffix == ".safetensors"
        weights = load_file(file) if is_safe else torch.load(file, map_location="cpu", weights_only=True)
        network = VggFeatures()
        kept = [index for index in range(RELU_5_3 + 1) if index != POOL_BEFORE_BLOCK_5]
        for position, index in enumerate(kept):
            for name, parameter in network.layers[position].named_parameters():
                parameter.data.copy_(weights[f"features.{index}.{name}"])
    except Exception as error:
        raise ValueError(f"{file} holds no torchvision VGG-16 weights ({error})") from error
    return network.eval().requires_grad_(False)
