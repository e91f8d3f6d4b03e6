"""What a network inside a forked process must take care of: threads and CUDA.

Floor 6: imports torch only.
"""

from __future__ import annotations

import os

import torch


def one_thread_after_fork() -> None:
    """Makes every process that is forked from this one run torch with one thread.

    GNU OpenMP does not survive a fork: once the parent has run a multi-threaded operation, a child that runs
    torch with more than one thread waits for ever (pytorch issues 17199, 75147). DataLoader workers are set to
    one thread by torch itself; multiprocessing.Pool and others are not. A child may raise the number again only
    after an ``exec``.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def refuse_cuda_after_fork(device: torch.device, owner_pid: int) -> None:
    """Refuses to run on a CUDA device that belongs to the parent of this process.

    Args:
        device: where the translator runs.
        owner_pid: the process that put it there.

    Raises:
        RuntimeError: the device is a CUDA device and this process was forked after it was taken.
    """
    if device.type == "cuda" and os.getpid() != owner_pid:
        raise RuntimeError(
            f"the transform runs on {device}, but CUDA cannot be used in a forked DataLoader worker; "
            'give device="cpu" to the transform, or multiprocessing_context="spawn" to the DataLoader, or '
            "num_workers=0 and translate whole batches on the GPU in the main process"
        )
