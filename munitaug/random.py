"""Randomness as a function of position: a seed is made from named parts, never from what ran before.

Floor 1: imports torch and numpy only.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

COPIED_AT_ONCE_BYTES = 64 * 1024


def seed_of(*parts: int | str) -> int:
    """Gives a 63-bit seed that depends on every part and on their order, the same on every machine.

    Args:
        parts: integers (of any sign and size, Python's or NumPy's) and strings, such as ``(run_seed, "style", step)``.

    Raises:
        TypeError: a part is neither.
    """
    named = (part if isinstance(part, str) else operator.index(part) for part in parts)
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in named)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def torch_generator(*parts: int | str, device: torch.device | None = None) -> torch.Generator:
    """Gives a torch generator seeded by :func:`seed_of`.

    By default it is the CPU's, whose draws are moved to other devices afterwards and are the same for all. One of a GPU
    draws other numbers, and is for those that are too many to be drawn on a CPU.
    """
    return torch.Generator(device or "cpu").manual_seed(seed_of(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Gives a numpy generator seeded by :func:`seed_of`."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))


def random_permutation(length: int, *parts: int | str) -> Tensor:
    """Gives a permutation of ``range(length)`` (int64) that is a function of the parts."""
    return torch.randperm(length, generator=torch_generator(*parts))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds torch's global generators of the CPU and of one GPU for a while; those of other GPUs are let alone.

    For what draws from no other: dropout, and the initial weights of other libraries' networks.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        seed_global(seed, device)
        yield


def seed_global(seed: int, device: torch.device | None = None) -> None:
    """Seeds torch's global generators of the CPU and of one GPU; ``torch.manual_seed`` would seed those of all GPUs."""
    torch.default_generator.manual_seed(operator.index(seed))
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def on_device(drawn: Tensor, device: torch.device) -> Tensor:
    """Gives what was drawn on the CPU on another device, without waiting for what a GPU was asked before.

    The drawn tensor may be freed or changed at once unless it is pinned: its numbers are copied before this returns.
    From pageable memory a GPU's driver does so at once up to 64 KiB; of more it may wait for the stream (CUDA Runtime
    API, "API synchronization behavior"), so more is copied into pinned memory first, which torch frees in time.

    Args:
        drawn: on the CPU; from elsewhere it is waited for.
        device: where it is wanted.
    """
    from_cpu = drawn.device.type == "cpu"
    if from_cpu and device.type == "cuda" and drawn.nbytes > COPIED_AT_ONCE_BYTES and not drawn.is_pinned():
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=from_cpu and device.type != "mps")
