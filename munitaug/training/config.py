"""How long, how much at once, and on what a training runs; no method is known here.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal

import torch

from munitaug.settings import Limits, check_settings

PrecisionChoice = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training run.

    Args:
        max_steps: updates of every phase.
        batch_size: images per domain and step, of all ranks together.
        accumulate: gradient accumulation: a rank takes its images in so many equal turns, one at a time in memory.
        seed: decides initial weights, order of images and every random draw.
        device: "cpu", "cuda", "cuda:1", ... or "auto" for a GPU where there is one.
        precision: "float32" (which torch's own settings let a GPU's convolutions do in TF32), "bfloat16" (autocast;
            statistics and losses stay float32), or "auto": bfloat16 on GPUs that have it, float32 on CPUs, where it
            was measured slower at these sizes.
        channels_last: keep 4-D weights and images in N x H x W x C memory order.
        compile: compile the phases' losses with torch.compile.
        domains_at_once: on a CPU, where torch has two threads, give each domain one of them rather than every operation
            both, in methods that allow it (munit, cyclegan); not with ``compile``.
        cuda_graph: record a whole step on the GPU and replay it, which pays for small images; for methods whose steps
            can be recorded (``Method.recording_obstacle`` says why not), whole batches and one rank.
        clip_norm: largest gradient norm of a phase; 0 does not clip.
        flip: mirror images at random; wrong for digits and text.
        crop: random square crop of this side in px; 0 keeps whole images.
        workers: data-loading processes; 0 loads in the main process.
        keep_mib: memory for decoded images, MiB for each domain: one that fits is decoded once and kept, as bytes;
            another is decoded anew for each batch. 0 keeps none. It does not change the result.
        log_every_steps: steps between lines of log.jsonl.
        sample_every_steps: steps between sample grids; 0 draws none.
        save_every_steps: steps between state files.
        tensorboard: also write TensorBoard events (needs the tensorboard extra).

    Raises:
        ValueError: a number outside its range, or a device that is not there.
    """

    max_steps: int = 2000
    batch_size: int = 16
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    channels_last: bool = False
    compile: bool = False
    domains_at_once: bool = True
    cuda_graph: bool = False
    clip_norm: float = 0.0
    flip: bool = False
    crop: int = 0
    workers: int = 0
    keep_mib: int = 2048
    log_every_steps: int = 20
    sample_every_steps: int = 500
    save_every_steps: int = 500
    tensorboard: bool = False

    def __post_init__(self) -> None:
        none = Limits(0)
        check_settings(self, seed=Limits(), crop=none, workers=none, keep_mib=none, sample_every_steps=none)
        device = resolve_device(self.device)
        object.__setattr__(self, "device", str(self.device))  # torch.device is taken, and is no JSON
        self.turn_size(1)
        if self.cuda_graph and device.type != "cuda":
            raise ValueError(f"cuda_graph needs a GPU, got device {str(device)!r}; leave it out on a CPU")
        if self.cuda_graph and self.accumulate > 1:
            raise ValueError(f"cuda_graph takes whole batches, got accumulate {self.accumulate}; leave out one of them")
        if self.cuda_graph and self.compile:
            raise ValueError("cuda_graph and compile were not tried together; leave out one of them")

    def turn_size(self, ranks: int) -> int:
        """Gives the images of each domain that a rank takes at a turn.

        Raises:
            ValueError: the batch cannot be cut into equal parts.
        """
        parts = ranks * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"a batch of {self.batch_size} images cannot be cut into {parts} equal parts (ranks: {ranks}, "
                f"accumulate: {self.accumulate}); make batch_size a multiple of {parts}"
            )
        return self.batch_size // parts


def resolve_device(name: str | torch.device) -> torch.device:
    """Gives the device of a name; "auto" is a GPU where there is one.

    Raises:
        TypeError: it is no name.
        ValueError: unknown name, or a GPU that is not there.
    """
    if not isinstance(name, str | torch.device):
        raise TypeError(f'device must be "auto", "cpu", "cuda" or "cuda:N", got {name!r}')
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "auto", "cpu", "cuda" or "cuda:N", got {name!r}') from error
    if device.type == "cuda":  # asked without a tensor there: processes forked after one could not use a GPU
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} was asked for, but torch sees no GPU; use cpu")
        if device.index is not None and device.index >= (present := torch.cuda.device_count()):
            raise ValueError(f"device {name!r} was asked for, but torch sees {present} GPUs, from cuda:0; use cuda")
        return device
    try:
        if device.type == "meta":
            raise NotImplementedError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({shorten(str(error), 100)}); use cpu") from error
    return device


def resolve_precision(precision: PrecisionChoice, device: torch.device) -> torch.dtype:
    """Gives the autocast dtype: torch.bfloat16, or torch.float32 for none."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda":
        with nullcontext() if device.index is None else torch.cuda.device(device):  # the current one is asked about
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.float32
