"""What a checkpoint says about itself.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from munitaug.checkpoint import find_checkpoint, load_method, read_index
from munitaug.types import direction_name


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint holds.

    Args:
        folder: where it is.
        method: name in METHODS.
        channels: image channels.
        size_multiple: images are padded to multiples of this, in px.
        style_dim: numbers in a style code; 0 for one-to-one methods.
        translator_parameters: weights used by one direction.
        all_parameters: weights of the whole method.
        style_bank_sizes: codes kept of real images, by domain.
        directions: that it translates: of "a2b" and "b2a", or of "x:y" between domains with names.
        sha256: of the weights.
        config: the method's configuration.
        provenance: domains, steps, seed and versions it was trained with.
    """

    folder: Path
    method: str
    channels: int
    size_multiple: int
    style_dim: int
    translator_parameters: int
    all_parameters: int
    style_bank_sizes: dict[str, int]
    directions: tuple[str, ...]
    sha256: str
    config: dict[str, Any]
    provenance: dict[str, Any]


def checkpoint_facts(path: str | Path) -> CheckpointFacts:
    """Gives the facts of a checkpoint, after reading and checking all of it.

    Args:
        path: checkpoint or run folder.

    Raises:
        CheckpointError: it cannot be read.
    """
    folder = find_checkpoint(path)
    index = read_index(folder)
    method = load_method(folder)
    translator = method.translator(*method.directions[0])
    return CheckpointFacts(
        folder=folder,
        method=method.name,
        channels=translator.channels,
        size_multiple=translator.size_multiple,
        style_dim=translator.style_dim,
        translator_parameters=sum(parameter.numel() for parameter in translator.parameters()),
        all_parameters=sum(parameter.numel() for parameter in method.parameters()),
        style_bank_sizes={key: len(bank) for key, bank in method.style_banks.items()},
        directions=tuple(direction_name(*direction) for direction in method.directions),
        sha256=str(index["weights"]["sha256"]),
        config=dict(index["config"]),
        provenance=dict(index.get("provenance", {})) | {"versions": index.get("versions", {})},
    )
