"""Borders of equal width on all four sides.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(x: Tensor, pixels: int, mode: Literal["reflect", "replicate"]) -> Tensor:
    """Gives N x C x H x W maps with ``pixels`` more on each side, in their own dtype.

    Autocast on a CPU takes reflection for arithmetic that needs float32, and copies maps to it and back.
    """
    border = (pixels, pixels, pixels, pixels)
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.pad(x, border, mode=mode)
    return F.pad(x, border, mode=mode)
