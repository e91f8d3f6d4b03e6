"""Classifiers that are trained on styled images: a small LeNet-like one, or any timm model by name.

Floor 4: imports floors 1-3; timm only where it is used.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.random import seeded

SMALL = "lenet"


class SmallClassifier(nn.Module):
    """A LeNet-like network with batch norm: three 3 x 3 convolutions, pooling, one hidden layer.

    Args:
        channels: image channels.
        classes: outputs.
        width: feature maps of the first convolution; the others have 2 and 4 times as many.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(inside, outside, 3, padding=1) for inside, outside in pairwise(widths)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(outside) for outside in widths[1:]])
        self.hidden = nn.Linear(widths[-1] * 4, 128)
        self.hidden_norm = nn.BatchNorm1d(128)
        self.head = nn.Linear(128, classes)

    def features(self, x: Tensor) -> Tensor:
        """Gives N x 128 features of x: N x C x H x W in [-1, 1], sides from 16 px up."""
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = F.relu(norm(convolution(x)))
            if index < 2:
                x = F.max_pool2d(x, 2)
        x = F.adaptive_max_pool2d(x, 2).flatten(1)
        return F.relu(self.hidden_norm(self.hidden(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x classes logits of x: N x C x H x W in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


def build_classifier(name: str, channels: int, classes: int, seed: int) -> nn.Module:
    """Gives a new classifier; its weights are a function of the seed.

    Args:
        name: "lenet", or a timm model name (random weights; nothing is downloaded).
        channels: image channels.
        classes: outputs.
        seed: decides the weights.

    Raises:
        ValueError: timm knows no such model.
        ImportError: timm is missing.
    """
    with seeded(seed):
        if name == SMALL:
            return SmallClassifier(channels, classes)
        try:
            import timm
        except ImportError as error:
            raise ImportError(f'classifier {name!r} needs timm: pip install "munitaug[benchmarks]"') from error
        if name not in timm.list_models():
            raise ValueError(f"classifier must be {SMALL!r} or a timm model, got {name!r}; see timm.list_models()")
        model: nn.Module = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes)
        return model
