"""What is not to be done in lower precision, though autocast is on.

Floor 1: imports torch only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Gives a context in which operations on a device keep the dtypes of what they are given.

    Products of matrices (``@``, ``einsum``) of float32 are lowered by autocast too, and differences of such products
    lose what they are there for.
    """
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
