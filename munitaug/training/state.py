"""The state file of a run: everything that a killed run needs to go on as if nothing had happened.

One safetensors file (no pickle), replaced atomically: a kill during saving leaves the previous state whole.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from munitaug.tensor_files import load_tensors, save_tensors
from munitaug.types import CheckpointError

STATE_FORMAT_VERSION = 1


def save_state(path: Path, tensors: dict[str, Tensor], step: int) -> None:
    """Writes the tensors and the number of finished steps.

    Raises:
        OSError: the disk is full or the folder is read-only; the previous file stays.
    """
    facts = {"format": "munitaug-state", "format_version": str(STATE_FORMAT_VERSION), "step": str(step)}
    save_tensors(path, tensors, facts)


def load_state(path: Path) -> tuple[dict[str, Tensor], int]:
    """Gives (tensors, finished steps).

    Raises:
        CheckpointError: the file is missing, damaged or of another format version.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no state file {path} to resume from; start without --resume")
    try:
        tensors, facts = load_tensors(path, ("format", "format_version", "step"))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a whole state file: {error}; begin anew in another folder") from error
    if facts.get("format") != "munitaug-state" or facts.get("format_version") != str(STATE_FORMAT_VERSION):
        raise CheckpointError(
            f"{path} is {facts.get('format', 'no munitaug state')} version {facts.get('format_version', '?')}, "
            f"this munitaug reads munitaug-state version {STATE_FORMAT_VERSION}"
        )
    if not facts.get("step", "").isdecimal():
        raise CheckpointError(f"{path} does not say after which step it was saved; begin anew in another folder")
    return tensors, int(facts["step"])


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Gives the optimiser's state as flat tensors named prefix/parameter index/entry."""
    state = optimiser.state_dict()["state"]
    return {
        f"{prefix}/{index}/{entry}": torch.as_tensor(value)
        for index, entries in state.items()
        for entry, value in entries.items()
    }


def restore_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the tensors that :func:`optimiser_tensors` named back into the optimiser.

    Moments take the memory order of their parameter: fused Adam walks through both as they lie in memory.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + "/"):
            index, entry = name[len(prefix) + 1 :].split("/")
            parameter = parameters[int(index)]
            ordered = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            state.setdefault(int(index), {})[entry] = ordered.detach()
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
