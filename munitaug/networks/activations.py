"""Activations of convolution units, in the memory of what came in where nobody else needs that.

Floor 1: imports torch only.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "relu", "leaky_relu", "tanh"]
LEAKY_SLOPE = 0.2


def activate(x: Tensor, kind: Activation, in_place: bool = False) -> Tensor:
    """Gives the activation of x; leaky_relu has slope 0.2."""
    if kind == "relu":
        return F.relu(x, in_place)
    if kind == "leaky_relu":
        return F.leaky_relu(x, LEAKY_SLOPE, in_place)
    if kind == "tanh":
        return x.tanh_() if in_place else x.tanh()
    return x


def activate_own(x: Tensor, kind: Activation) -> Tensor:
    """Gives the activation of the result of a convolution or norm that has no other user, written over it.

    Neither of these needs its result for gradients. It saves memory, and on a CPU the time to fetch fresh pages. Views
    stay as they are: their gradients would be copied twice. A compiler decides for itself.
    """
    return activate(x, kind, in_place=not (torch.compiler.is_compiling() or (x.requires_grad and x._is_view())))
