"""Checkpoints: a folder with checkpoint.json and one safetensors file of weights. No pickle is ever read.

The weights file carries its hash in its name and in checkpoint.json, which is replaced atomically and last:
a kill while saving leaves the previous checkpoint whole. checkpoint.json states the hash of its own content too;
checkpoints from before it did are read without that check.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from munitaug._version import __version__
from munitaug.default_device import on_cpu_by_default
from munitaug.files import replacing, sha256_of, write_text
from munitaug.method import Method, MethodClass, OptimiserSettings
from munitaug.methods import METHODS
from munitaug.training.config import resolve_device
from munitaug.translator import Precision, Translator
from munitaug.types import CheckpointError, DomainKey, direction_name, split_direction

FORMAT = "munitaug-checkpoint"
FORMAT_VERSION = 1
INDEX_NAME = "checkpoint.json"
CARD_NAME = "README.md"
BESIDE_A_CHECKPOINT = (CARD_NAME, ".gitattributes", ".cache")
"""What the Hugging Face Hub keeps in the same folder."""
DIRECTIONS = ("a2b", "b2a")
WEIGHTS_NAME = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
INDEX_KEYS = {"format", "format_version", "method", "config", "directions", "weights", "versions", "provenance"}
INDEX_SUM = "index_sha256"
LONGEST_INDEX_BYTES = 2**26
LARGEST_SETTING = 2**16
"""Of whole numbers in a configuration, where no weight is as large."""
INTERRUPTED_SAVE = ("weights.safetensors", "weights.safetensors.tmp", f"{INDEX_NAME}.tmp")
Json = Any  # the value of a JSON document


def save_method(method: Method, path: str | Path, provenance: Mapping[str, Json] | None = None) -> Path:
    """Writes a method's weights, configuration and style banks; an older checkpoint there is replaced.

    Args:
        method: what was trained; a wrapper such as SemanticConsistency saves the method inside.
        path: of the folder, made if missing.
        provenance: JSON-able facts to keep with it (domains, steps, seed, ...).

    Returns:
        The folder.

    Raises:
        FileExistsError: path is a file, or a folder that holds something else.
        OSError: the disk is full or read-only; an older checkpoint stays whole.
        TypeError: a fact is nothing that JSON holds.
    """
    core, folder = method.core, Path(path).expanduser()
    facts = json.loads(json.dumps(dict(provenance or {})))  # refused before anything is written
    _refuse_foreign_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights/{name}": _plain(tensor) for name, tensor in _lasting(core.state_dict()).items()}
    tensors |= {f"style_bank/{key}": _plain(bank).clone() for key, bank in core.style_banks.items()}
    scratch = folder / "weights.safetensors"
    with replacing(scratch) as temporary:
        temporary.write_bytes(save(tensors))
    digest = sha256_of(scratch)
    weights = folder / f"weights-{digest[:16]}.safetensors"
    os.replace(scratch, weights)
    index = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": core.name,
        "config": dataclasses.asdict(core.config),  # type: ignore[call-overload]
        "directions": [direction_name(*direction) for direction in core.directions],
        "weights": {"file": weights.name, "sha256": digest, "bytes": weights.stat().st_size},
        "versions": {"munitaug": __version__, "torch": torch.__version__},
        "provenance": facts,
    }
    write_text(folder / INDEX_NAME, json.dumps(index | {INDEX_SUM: index_sha256(index)}, indent=2) + "\n")
    for other in folder.iterdir():
        if other != weights and WEIGHTS_NAME.fullmatch(other.name):
            other.unlink()
    return folder


@on_cpu_by_default
def load_method(path: str | Path) -> Method:
    """Gives the method of a checkpoint, in evaluation mode, on the CPU.

    Args:
        path: the checkpoint folder, or a run folder that has one inside.

    Raises:
        CheckpointError: missing, damaged, truncated, of another format version, or a pickle in disguise.
    """
    folder = find_checkpoint(path)
    index = read_index(folder)
    name = index["method"]
    if not isinstance(name, str) or name not in METHODS:
        raise CheckpointError(
            f"{folder} holds a {name!r} model, which this munitaug ({__version__}) does not know; "
            f"it knows {', '.join(METHODS)}"
        )
    method_class = METHODS[name]
    try:
        tensors = _read_weights(folder, index)
        method = _method_of_size(method_class, _config_fields(index["config"]), tensors)
        own = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
        method.load_state_dict(own | {key: value for key, value in method.state_dict().items() if _is_extra(key)})
        _refuse_numbers_that_are_none(folder, tensors)
        method.directions = tuple(split_direction(direction) for direction in index.get("directions", DIRECTIONS))
    except CheckpointError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: weights and configuration do not fit together: {error}") from error
    for key, value in sorted(tensors.items()):  # safetensors gives them in no fixed order
        if key.startswith("style_bank/"):
            method.style_banks[key.removeprefix("style_bank/")] = value
    return method.eval()


def find_checkpoint(path: str | Path) -> Path:
    """Gives the checkpoint folder at a path: itself, or ``checkpoint`` inside a run folder.

    Raises:
        CheckpointError: there is none, or the path is a file.
    """
    folder = Path(path).expanduser()
    if folder.is_file():
        raise CheckpointError(_foreign_file_message(folder))
    for candidate in (folder, folder / "checkpoint"):
        if (candidate / INDEX_NAME).is_file():
            return candidate
    what = f"has no {INDEX_NAME}" if folder.exists() else "does not exist"
    raise CheckpointError(f"{folder} {what}: give the checkpoint folder that munitaug train wrote")


def read_index(folder: Path) -> dict[str, Json]:
    """Gives checkpoint.json of a checkpoint folder.

    Raises:
        CheckpointError: it is damaged, foreign or of another format version.
    """
    if (folder / INDEX_NAME).stat().st_size > LONGEST_INDEX_BYTES:
        raise CheckpointError(f"{folder / INDEX_NAME} is over {LONGEST_INDEX_BYTES} bytes; the checkpoint is damaged")
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
        digest = index_sha256(index) if isinstance(index, dict) else ""
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers of thousands of digits, endless brackets
        raise CheckpointError(f"{folder / INDEX_NAME} is not JSON ({error}); the checkpoint is damaged") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise CheckpointError(f"{folder / INDEX_NAME} is not a {FORMAT}")
    if index.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format version {index.get('format_version')!r}, this munitaug ({__version__}) "
            f"reads version {FORMAT_VERSION}; use the munitaug that wrote it"
        )
    weights = index["weights"] if isinstance(index.get("weights"), dict) else {}
    missing = [key for key in ("method", "config") if key not in index]
    missing += [f"weights.{key}" for key in ("file", "sha256", "bytes") if key not in weights]
    if missing:
        raise CheckpointError(f"{folder / INDEX_NAME} lacks {', '.join(missing)}; the checkpoint is damaged")
    unknown = sorted(index.keys() - INDEX_KEYS - {INDEX_SUM})
    if unknown or index.get(INDEX_SUM, digest) != digest:
        what = f"holds {', '.join(unknown)}" if unknown else "does not have the SHA-256 that it states"
        raise CheckpointError(f"{folder / INDEX_NAME} {what}: it is damaged, or was changed by hand")
    return index


def index_sha256(index: Mapping[str, Json]) -> str:
    """Gives the SHA-256 of what checkpoint.json says, all but that number itself; blanks and order do not matter."""
    content = {key: value for key, value in index.items() if key != INDEX_SUM}
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


def checkpoint_sha256(path: str | Path) -> str:
    """Gives the SHA-256 of a checkpoint's weights, as checkpoint.json states it."""
    return str(read_index(find_checkpoint(path))["weights"]["sha256"])


def identity_sha256(path: str | Path) -> str:
    """Gives the SHA-256 of all that a checkpoint says of itself: weights, configuration, directions, provenance."""
    return index_sha256(read_index(find_checkpoint(path)))


def was_inverted(index: Mapping[str, Json], key: DomainKey) -> bool:
    """Tells whether training exchanged dark and light in the images of a domain, as far as a checkpoint says so.

    Args:
        index: of the checkpoint, see :func:`read_index`.
        key: of the domain: "a", "b", or its name in a method of more domains.
    """
    names = index["config"].get("domains") or "ab"
    facts = index.get("provenance", {}).get("source" if key in ("a", names[0]) else "target")
    return isinstance(facts, dict) and facts.get("inverted") is True  # others may have written something else there


def inverted_directions(path: str | Path, directions: Iterable[str]) -> list[str]:
    """Gives those of the directions of a checkpoint that start from images whose dark and light were exchanged."""
    index = read_index(find_checkpoint(path))
    return [direction for direction in directions if was_inverted(index, split_direction(direction)[0])]


@on_cpu_by_default
def shared_translator(
    path: str | Path,
    direction: str = "a2b",
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    compile: bool = False,
) -> Translator:
    """Gives a frozen translator of a checkpoint; equal calls in one process share one copy.

    Args:
        path: checkpoint or run folder.
        direction: "a2b" or "b2a".
        device: where its weights live.
        precision: "bfloat16" translates faster on a GPU, and on a CPU that has AVX-512 BF16 or AMX; images then differ
            by a few levels of 255. Batches of other sizes may differ in the last level.
        compile: compile its networks (torch.compile) at the first batch of each size, which takes half a minute, and
            translate faster from then on; up to 64 sizes in a process. Every process compiles for itself, but one
            forked from a process that has compiled does not. On a CPU that needs a C++ compiler.

    Raises:
        CheckpointError: see :func:`load_method`.
        ValueError: unknown direction, device or precision, a GPU that is not there, or no C++ compiler where one is
            needed.
    """
    split_direction(direction)
    device = resolve_device(device)
    if compile and device.type == "cpu":
        _check_cpp_compiler()
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    folder = find_checkpoint(path).resolve()
    way = _Way(direction, str(device), precision, compile)
    return _cached_translator(str(folder), identity_sha256(folder), way)


class _Way(NamedTuple):
    """How a checkpoint's translator is used."""

    direction: str
    device: str
    precision: Precision
    compiled: bool


@lru_cache(maxsize=8)
def _cached_translator(folder: str, digest: str, way: _Way) -> Translator:
    del digest  # part of the cache's key: a checkpoint that was replaced is read anew
    translator = frozen_translator(load_method(folder), way.direction).to(way.device)
    translator.precision, translator.compiled = way.precision, way.compiled
    return translator


def _check_cpp_compiler() -> None:
    """Refuses where torch.compile has no C++ compiler; looks where torch looks.

    Raises:
        ValueError: there is none.
    """
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    name = os.environ.get("CXX", usual)
    if shutil.which(name) is None:
        raise ValueError(
            f"compiling for a CPU needs a C++ compiler, but there is no {name!r}; install one, name another in the "
            "environment variable CXX, or translate without compiling"
        )


def frozen_translator(method: Method, direction: str) -> Translator:
    """Gives a method's translator for use: in evaluation mode, its weights without gradients.

    Raises:
        ValueError: unknown direction, or one that the method does not translate.
    """
    core = method.core
    source, target = (core.domain_key(key) for key in split_direction(direction))
    return core.translator(source, target).eval().requires_grad_(False)


def frozen_restyler(method: Method) -> Translator | None:
    """Gives what restyles images of the domain that a method translates into first, frozen; None if it cannot."""
    core = method.core
    restyler = core.restyler(core.directions[0][1])
    return None if restyler is None else restyler.eval().requires_grad_(False)


def _read_weights(folder: Path, index: dict[str, Json]) -> dict[str, Tensor]:
    facts = index["weights"]
    path = folder / Path(str(facts["file"])).name
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the checkpoint is damaged")
    if path.stat().st_size != facts["bytes"]:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, {INDEX_NAME} says {facts['bytes']}: it is truncated or replaced"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise CheckpointError(f"{path} does not have the SHA-256 that {INDEX_NAME} states: it is damaged or replaced")
    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); munitaug reads nothing else") from error


def _method_of_size(method_class: MethodClass, fields: dict[str, Json], tensors: Mapping[str, Tensor]) -> Method:
    """Gives a new method of a configuration, if there are weights enough for it: no small file makes a large network.

    Raises:
        ValueError: there are not.
    """
    largest = max(LARGEST_SETTING, *(side for tensor in tensors.values() for side in tensor.shape))
    too_large = [name for name, value in fields.items() if isinstance(value, int) and value > largest]
    if too_large:
        raise ValueError(f"{too_large[0]} is {fields[too_large[0]]}, but no weight has such a side")
    config = method_class.config_class(**fields)
    with torch.device("meta"):
        claimed = sum(parameter.numel() for parameter in method_class(config).parameters())
    held = sum(tensor.numel() for tensor in tensors.values())
    if claimed > held:
        raise ValueError(f"the configuration is of {claimed} weights, but there are {held} numbers")
    return method_class(config).float()  # whatever torch's default dtype is


def _refuse_numbers_that_are_none(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuses weights of which every translation would be black or worse.

    Raises:
        CheckpointError: a weight or a style code is not finite.
    """
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(f"{folder}: {broken[0]} holds numbers that are not finite; train or convert it again")


def _config_fields(fields: dict[str, Json]) -> dict[str, Json]:
    """Gives constructor arguments of a saved configuration: lists become tuples, the optimiser its dataclass."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    optimiser = dict(fields["optimiser"])
    optimiser["betas"] = tuple(optimiser["betas"])
    return {**values, "optimiser": OptimiserSettings(**optimiser)}


def _lasting(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights and buffers of a state, without what serves further training only."""
    return {name: tensor for name, tensor in state.items() if not _is_extra(name)}


def _is_extra(name: str) -> bool:
    return name.split(".")[-1] == "_extra_state"


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _refuse_foreign_folder(folder: Path) -> None:
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file; a checkpoint is a folder: choose another path")
    if not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir())
    known = {*INTERRUPTED_SAVE, *(BESIDE_A_CHECKPOINT if INDEX_NAME in names else ())}
    foreign = [name for name in names if name not in known and not WEIGHTS_NAME.fullmatch(name)]
    if INDEX_NAME in foreign:
        foreign = [] if FORMAT in (folder / INDEX_NAME).read_text(encoding="utf-8", errors="replace") else [INDEX_NAME]
    if foreign:
        raise FileExistsError(
            f"{folder} exists and holds something that is no checkpoint ({foreign[0]}); choose another path"
        )


def _foreign_file_message(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # after the length of the header, of any bytes
        return f"{path} is a file of tensors; give the checkpoint folder that it lies in, with its {INDEX_NAME}"
    if head[:1] == b"\x80" or head[:4] == b"PK\x03\x04":
        return (
            f"{path} is a pickle (torch.save), which can run any code when it is read; munitaug never unpickles. "
            "Give a checkpoint folder that munitaug train wrote"
        )
    return f"{path} is a file; a munitaug checkpoint is a folder with {INDEX_NAME}"
