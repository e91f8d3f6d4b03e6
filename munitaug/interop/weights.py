"""Reading other projects' weights: files of torch.save that hold tensors alone, and copying them by name.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from munitaug.types import CheckpointError

Weights = dict[str, Tensor]
UNUSED = (".norm.running_mean", ".norm.running_var", ".norm.num_batches_tracked")
"""Ends of names that instance norms of PyTorch 0.3 and AdaIN layers saved, and that no network reads."""
SHOWN = 3
KINDS = (
    ("enc_content.", "a MUNIT generator (format munit)"),
    ("enc.model.", "a UNIT generator (format unit)"),
    ("cnns.", "a MUNIT or UNIT discriminator"),
    ("encode_A.", "a UNIT generator of 2017, which has no reader here"),
    ("model.", "a CycleGAN or CUT network (format cyclegan or cut)"),
)
"""What a file holds, by the beginning of its names."""


def read_torch_file(path: str | Path) -> object:
    """Gives what torch.save wrote, on the CPU, if that is made of tensors, numbers and text.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or holds objects that could run code when they are read.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give a file of weights that torch.save wrote")
    _refuse_bomb(file)
    try:
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damaged place of a file leads to
        refused = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it holds a {refused[1]}" if refused else "it may be damaged, or no file of torch.save"
        raise CheckpointError(
            f"{file} cannot be read as tensors ({found}). Other objects can run any code when they are read, so "
            "munitaug reads tensors only: save the network's state_dict() alone"
        ) from error
    return content


def as_weights(content: object, where: str) -> Weights:
    """Gives the content as weights by name.

    Args:
        content: what was read.
        where: the file and the place in it, for errors.

    Raises:
        CheckpointError: it is not a dict of tensors.
    """
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{where} should be a state_dict, that is tensors by name; it is {described(content)}")
    other = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other:
        raise CheckpointError(f"{where} should be a state_dict, that is tensors by name; {listed(other)} is no tensor")
    for name, value in content.items():
        if value.is_sparse or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{where}: {name} claims {_sides(value)} numbers, which the file does not hold")
    return dict(content)


def _refuse_bomb(file: Path) -> None:
    """Refuses an archive that unpacks to more than its size: torch.save never packs.

    Raises:
        CheckpointError: it does.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{file} cannot be read as tensors (it may be damaged: {error})") from error
    if packed:
        raise CheckpointError(f"{file} holds packed entries ({listed(packed)}), as torch.save never makes; look at it")


def described(content: object) -> str:
    """Gives a few words on something that was read."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    names = [str(name) for name in content]
    for beginning, kind in KINDS:
        if any(name.startswith(beginning) for name in names):
            return kind
    return f"a dict of {listed(names)}" if names else "empty"


def listed(names: list[str]) -> str:
    """Gives the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def count_layers(weights: Weights, name: str) -> int:
    """Gives how many layers there are in a row, from 0 on; ``name`` has {} in place of their number."""
    count = 0
    while name.format(count) in weights:
        count += 1
    return count


def size_of(weights: Weights, name: str, axis: int, where: str) -> int:
    """Gives one side of a weight.

    Raises:
        CheckpointError: there is no such weight, or it has no such side.
    """
    if name not in weights:
        raise CheckpointError(f"{where} has no {name}: it is {described(weights)}")
    if weights[name].ndim <= axis:
        raise CheckpointError(f"{where}: {name} has {weights[name].ndim} sides, at least {axis + 1} are needed")
    return int(weights[name].shape[axis])


@torch.no_grad()
def copy_weights(module: nn.Module, weights: Weights, names: Mapping[str, str], where: str) -> None:
    """Copies weights into a module; every one of both sides must find its partner.

    Args:
        module: its parameters are overwritten.
        weights: of the other project.
        names: of the other project's weights, by our parameters' names.
        where: the file and the place in it, for errors.

    Raises:
        CheckpointError: weights are missing, left over, of another shape or not finite.
    """
    own = dict(module.named_parameters())
    assert own.keys() == names.keys(), own.keys() ^ names.keys()
    missing = [name for name in names.values() if name not in weights]
    if missing:
        raise CheckpointError(f"{where} lacks {listed(missing)}: its layers are not those that munitaug knows")
    taken = set(names.values())
    left = [name for name in weights if name not in taken and not name.endswith(UNUSED)]
    if left:
        raise CheckpointError(f"{where} has {listed(left)} too: its layers are not those that munitaug knows")
    for name, parameter in own.items():
        value = weights[names[name]]
        if value.shape != parameter.shape:
            wanted = _sides(parameter)
            raise CheckpointError(
                f"{where}: {names[name]} is {_sides(value)}, but {wanted} was expected from the other weights"
            )
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{where}: {names[name]} has numbers that are not finite; take an earlier checkpoint")
        parameter.copy_(value)


def _sides(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
