"""Reads what junyanz/pytorch-CycleGAN-and-pix2pix trained: ``latest_net_G_A.pth``, ``latest_net_G_B.pth``.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

from pathlib import Path

from munitaug.interop.resnet import read_resnet_generator
from munitaug.methods.cyclegan import CycleGan, CycleGanConfig
from munitaug.types import CheckpointError


def read_cyclegan(path_a: str | Path, path_b: str | Path | None = None) -> CycleGan:
    """Gives a CycleGAN with the published code's generators, and new discriminators.

    Args:
        path_a: ``latest_net_G_A.pth``, which translates A to B (ours: a2b); also a single ``latest_net_G.pth``.
        path_b: ``latest_net_G_B.pth``, which translates B to A (b2a). Without it, ``directions`` is a2b alone, and the
            other generator is new.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointError: a file is damaged or of another network, or the two are of different sizes.
    """
    first = read_resnet_generator(path_a)
    second = None if path_b is None else read_resnet_generator(path_b)
    if second is not None and second.shape != first.shape:
        raise CheckpointError(
            f"{path_a} and {path_b} hold generators of different sizes ({first.shape}, {second.shape}); give both of "
            "one training"
        )
    shape = first.shape
    method = CycleGan(
        CycleGanConfig(
            channels=shape.channels,
            width=shape.width,
            n_residual=shape.n_residual,
            antialias_down=shape.antialias_down,
            antialias_up=shape.antialias_up,
        )
    )
    first.copy_to(method.generators["a"])
    if second is None:
        method.directions = (("a", "b"),)
    else:
        second.copy_to(method.generators["b"])
    return method.eval()
