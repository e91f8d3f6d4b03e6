"""What is made here lies on the CPU unless it is told otherwise, whatever ``torch.set_default_device`` said outside.

Draws come from generators of the CPU, images from files lie there, and networks go to their device once they are made.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def on_cpu_by_default(function: Callable[P, T]) -> Callable[P, T]:
    """Gives the function with the CPU as torch's default device while it runs."""

    @wraps(function)
    def on_cpu(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.get_default_device().type == "cpu":
            return function(*args, **kwargs)
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return on_cpu
