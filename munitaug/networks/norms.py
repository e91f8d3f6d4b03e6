"""Normalisation layers of MUNIT, written as plain arithmetic where the published form is unusual.

Floor 1: imports torch only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks.activations import Activation, activate_own
from munitaug.networks.pixels_first import as_pixels, is_pixels_first, pixels_last

EPSILON = 1e-5
UNSEEN = 2.0**-12
"""Shares of a number below this vanish in bfloat16, which rounds by up to eight times as much."""
NOT_ZERO = 1e-20
"""Added to a variance that is divided by, so that constant maps give zeros; far below what matters elsewhere."""


def instance_norm(x: Tensor, activation: Activation = "none") -> Tensor:
    """Gives x with zero mean and unit (biased) variance per sample and channel, activated; N x C x H x W.

    Groups of one channel are the same thing; on a CPU that operation takes a third of the time where channels come
    first, and up to ten times as long where they come last. Where pixels come first, every channel of every sample is a
    column of its own, which is what batch norm normalises.
    """
    if is_pixels_first(x):
        return _columns_normalised(x, activation)
    rounded = x.device.type != "cpu" and x.dtype != torch.float32  # means and deviations, by a GPU's group norm
    if x.is_contiguous() and not rounded:
        count, channels, height, width = x.shape
        groups = torch.native_group_norm(x, None, None, count, channels, height * width, channels, EPSILON)
        return activate_own(groups[0], activation)
    return activate_own(F.instance_norm(x, eps=EPSILON), activation)


def _columns_normalised(
    x: Tensor, activation: Activation, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """Gives instance norm of maps that lie pixels first, times scale plus shift, N C numbers each; activated."""
    columns = as_pixels(x).flatten(2).flatten(0, 1)
    normalised = torch.batch_norm(columns, scale, shift, None, None, True, 0.0, EPSILON, False)
    return as_pixels(activate_own(normalised, activation).view(as_pixels(x).shape))


def adaptive_instance_norm(x: Tensor, shift: Tensor, scale: Tensor, activation: Activation = "none") -> Tensor:
    """Gives ``scale * instance_norm(x) + shift``, activated, with one shift and scale per sample and channel.

    Huang & Belongie 2017, eq. 8; MUNIT section 4.1 (2018) takes shift and scale from the style code.

    Args:
        x: N x C x H x W features.
        shift: N x C, or K N x C for K results of each sample in a row, without K copies of it; scale: the same (no "+1"
            is added: published code adds none).
        activation: of the result.
    """
    if is_pixels_first(x) and len(shift) == len(x):
        return _columns_normalised(x, activation, scale.flatten(), shift.flatten())
    if is_pixels_first(x):
        normalised = as_pixels(instance_norm(x)).unsqueeze(3)
        styled = normalised * scale.view(len(x), -1, x.shape[1]) + shift.view(len(x), -1, x.shape[1])
        return as_pixels(activate_own(styled, activation).flatten(2, 3))
    shape = (x.shape[0], -1, x.shape[1], 1, 1)  # not len(x), which fixes the number in an exported graph
    styled = instance_norm(x).unsqueeze(1) * scale.view(shape) + shift.view(shape)
    return activate_own(styled, activation).flatten(0, 1)


class MunitLayerNorm(nn.Module):
    """Normalises each sample over C, H and W, then applies a gain and a shift per channel.

    As in NVlabs/MUNIT networks.py (class LayerNorm): the deviation is the unbiased one, and eps is added
    to the deviation, outside the root. The gain starts at U(0, 1), the shift at 0.

    (x - mean) / (unbiased deviation + eps) is (x - mean) / biased deviation, which torch has as one operation, times
    1 / (sqrt(n / (n - 1)) + eps / biased deviation). The gradient leaves out how that last factor moves with x: a share
    of eps / deviation, 1e-5 of it.

    In bfloat16 on a CPU gain and shift enter that operation as well, with the factor that it has where eps is nothing
    beside the deviation: one pass over the maps, and one for gradients, in place of nine.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Gives normalised features; N x C x H x W, same dtype as came in."""
        x = pixels_last(x)
        if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._in_steps(x)
        count = x[0].numel()
        out, _, inverse = torch.native_group_norm(
            x, self.gain * math.sqrt((count - 1) / count), self.shift, len(x), x.shape[1], x[0, 0].numel(), 1, NOT_ZERO
        )
        unseen = EPSILON * inverse < UNSEEN
        if unseen.all():
            return out
        return torch.where(unseen[:, :, None, None], out, self._in_steps(x))  # each sample in its own way

    def _in_steps(self, x: Tensor) -> Tensor:
        """Gives the norm at any deviation.

        A GPU is given float32, channels first: in bfloat16 it would round means and deviations (torch before 2.15), and
        another order it would refuse (torch 2.11).
        """
        count = x[0].numel()
        maps = x if x.device.type == "cpu" else x.float().contiguous()
        normalised, _, inverse = torch.native_group_norm(
            maps, None, None, x.shape[0], x.shape[1], x.shape[2] * x.shape[3], 1, NOT_ZERO
        )
        share = 1.0 / (math.sqrt(count / (count - 1)) + EPSILON * inverse.detach().float())
        scale = share.view(-1, 1, 1, 1) * self.gain[:, None, None]
        return torch.addcmul(self.shift[:, None, None].to(x.dtype), normalised.to(x.dtype), scale.to(x.dtype))
