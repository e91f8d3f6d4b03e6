"""A convolution of maps doubled by repetition, in less than half of the multiplications.

Of the 25 values under a 5 x 5 kernel at most 9 differ, because each is repeated 2 x 2 times; of the 9 under a 3 x 3
kernel at most 4. So the kernel's weights are summed where they meet the same value: one smaller kernel for each of the
four places within a repeated value (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
take such kernels as weights of their own). The sums are exact. Reflection at the border of the doubled maps shows a 3 x
3 kernel what repetition does; for 5 x 5 it needs a correction along the border.

Floor 1: imports torch only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensor

from munitaug.networks.blocks_of_pixels import spread, spread_runs
from munitaug.networks.doubled_borders import reflected
from munitaug.networks.padding import pad
from munitaug.networks.pixels_first import is_channels_last
from munitaug.networks.precision import full_precision
from munitaug.networks.winograd import winograd_conv, winograd_pays

KERNELS = (3, 5)


def doubled_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives ``conv2d(reflect_pad(doubled x, k // 2), weight, bias)``, up to rounding.

    Args:
        x: N x C x H x W; a side of 1 px, which leaves nothing to reflect, repeats its edge.
        weight: O x C x k x k, k one of KERNELS.
        bias: O.

    Returns:
        N x O x 2H x 2W.
    """
    if weight.shape[-1] == 3:
        return _with_kernels_of_two(pad(x, 1, "replicate"), weight, bias)
    inside, beside = which_taps(weight)
    kernels = summed_kernels(weight, inside)
    out = _spread_conv(x, kernels, bias)
    return out if min(x.shape[-2:]) == 1 else reflected(out, x, weight, beside)


def _spread_conv(x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """Gives the convolution with 2 x 2 kernels, each for its place within a repeated value, over a repeated border."""
    places, channels_out, *taps = kernels.shape
    fast = winograd_pays(x, (places * channels_out, *taps))
    if not (fast or is_channels_last(x)):
        by_map, biases = kernels.transpose(0, 1).flatten(0, 1), bias.repeat_interleave(places)
        return spread(F.conv2d(pad(x, 1, "replicate"), by_map, biases))
    by_place, biases = kernels.flatten(0, 1), bias.repeat(places)
    if fast:
        return spread_runs(winograd_conv(x, by_place, biases, "replicate"))
    return spread_runs(F.conv2d(pad(x, 1, "replicate"), by_place, biases))


def _with_kernels_of_two(padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives the convolution with a 3 x 3 kernel: each of the four places sees the next values on its own side."""
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    first, second, third = weight.unbind(2)
    rows = [torch.stack([first, second + third], 2), torch.stack([first + second, third], 2)]
    kernels = []
    for first, second, third in (kernel.unbind(3) for kernel in rows):
        kernels += [torch.stack([first, second + third], 3), torch.stack([first + second, third], 3)]
    maps = F.conv2d(padded, torch.cat(kernels), bias.repeat(4)).unflatten(1, (2, 2, -1))
    places = [
        torch.stack([maps[:, row, column, :, row:, column:][..., :height, :width] for column in range(2)], dim=-1)
        for row in range(2)
    ]
    return torch.stack(places, dim=3).flatten(4, 5).flatten(2, 3)


def summed_kernels(weight: Tensor, which: Tensor) -> Tensor:
    """Gives 4 x O x C x 3 x 3 of O x C x 5 x 5: for each of 2 x 2 places, row by row.

    In autocast's dtype where that is on, but summed in float32.

    Args:
        weight: O x C x 5 x 5.
        which: 25 x 36, the first of which_taps.
    """
    kind = weight.device.type
    with full_precision(weight.device):
        sums: Tensor = weight.flatten(2) @ which  # out, in, row, column, 3, 3
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        sums = sums.to(torch.get_autocast_dtype(kind))
    by_place: Tensor = sums.unflatten(2, (4, 3, 3)).permute(2, 0, 1, 3, 4)
    return by_place


def which_taps(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gives 25 x 36 and 25 x 28, of zeros and ones: the sums of taps that doubled maps ask for, as products.

    36 for 2 x 2 places x 3 x 3 taps; 12 for both outermost rows x 2 places x 3 taps, 12 for columns, 4 for corners.
    """
    if not torch.compiler.is_compiling():
        return _kept_taps(weight.device, weight.dtype)
    with full_precision(weight.device):
        return _made_taps(weight.device, weight.dtype)


def _kept_taps(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Gives the tables on a device, made once: a GPU would wait for each copy."""
    if (device, dtype) in _KEPT_TAPS:
        return _KEPT_TAPS[device, dtype]
    with torch.inference_mode(False):  # training may use them next
        inside, beside = (table.to(device, dtype) for table in WHICH_TAPS)
    if not isinstance(inside, FakeTensor):  # a stand-in, of what traces this
        _KEPT_TAPS[device, dtype] = inside, beside
    return inside, beside


def _made_taps(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    taps = torch.eye(5, device=device, dtype=dtype)
    first, second, third, fourth, fifth = taps.unbind(1)
    of_first = torch.stack([first + second, third + fourth, fifth], 1)
    of_both = torch.stack([of_first, torch.stack([first, second + third, fourth + fifth], 1)])  # place, tap, sum
    ends = taps[::4]
    borders = [
        torch.einsum("ek,plt->klept", ends, of_both),
        torch.einsum("el,pkt->klept", ends, of_both),
        torch.einsum("ek,fl->klef", ends, ends),
    ]
    inside = torch.einsum("pka,qlb->klpqab", of_both, of_both).reshape(25, 36)
    return inside, torch.cat([part.reshape(25, -1) for part in borders], 1)


WHICH_TAPS = _made_taps(torch.device("cpu"), torch.float32)
_KEPT_TAPS: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
