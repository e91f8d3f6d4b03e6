"""Reads what taesungp/contrastive-unpaired-translation trained: ``latest_net_G.pth``.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

from pathlib import Path

from munitaug.interop.resnet import read_resnet_generator
from munitaug.methods.cut import Cut, CutConfig


def read_cut(path: str | Path) -> Cut:
    """Gives a CUT with the published code's generator, and a new discriminator and head; FastCUT's are the same.

    Args:
        path: ``latest_net_G.pth``, which translates A to B (ours: a2b).

    Raises:
        FileNotFoundError: the file is missing.
        CheckpointError: it is damaged or of another network.
    """
    read = read_resnet_generator(path)
    shape = read.shape
    method = Cut(
        CutConfig(
            channels=shape.channels,
            width=shape.width,
            n_residual=shape.n_residual,
            antialias_down=shape.antialias_down,
            antialias_up=shape.antialias_up,
            feature_blocks=tuple(number for number in CutConfig.feature_blocks if number <= shape.n_residual),
        )
    )
    read.copy_to(method.generator)
    return method.eval()
