"""Files of tensors that say what they hold and know when they were damaged: safetensors with a SHA-256. No pickle.

Floor 2: imports files and types.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from munitaug.files import replacing
from munitaug.types import CheckpointError

SUM_KEY = "content_sha256"
FACTS_NAME = "__metadata__"
"""Where the header of a safetensors file has what is not tensors."""
LENGTH_BYTES = 8
"""Of the number before a safetensors file's header."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Writes tensors and a few words on them, atomically, with the SHA-256 of both.

    Args:
        path: of the file; its folder is made if missing.
        tensors: by name, on any device.
        facts: by name.

    Raises:
        OSError: the disk is full or the folder is read-only; the previous file stays.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, {**facts, SUM_KEY: content_sha256(plain, facts)})
            _order_facts(temporary)
        except SafetensorError as error:  # which is what a full disk is to safetensors
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def _order_facts(path: Path) -> None:
    """Puts the facts of a file in the order of their names, so that equal content is equal bytes.

    safetensors writes them in an order that differs from one process to the next. Tensors stay where they are: the
    header's length does.
    """
    with open(path, "rb+") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header[FACTS_NAME] = dict(sorted(header[FACTS_NAME].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
        if len(ordered) == length:  # else safetensors spells JSON in a way of its own; the file is right as it is
            file.seek(LENGTH_BYTES)
            file.write(ordered)


def load_tensors(path: Path, known_facts: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Gives (tensors, facts) of a file. One from before there was a SHA-256 is read without that check.

    Args:
        path: of the file.
        known_facts: the names that facts may have.

    Raises:
        CheckpointError: no whole file of tensors, or not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole file of tensors ({error})") from error
    stated = facts.pop(SUM_KEY, None)
    unknown = facts.keys() - set(known_facts)
    if (stated is not None or unknown) and stated != content_sha256(tensors, facts):
        raise CheckpointError(f"{path} does not have the SHA-256 that it states: it is damaged or was changed")
    return tensors, facts


def content_sha256(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """Gives the SHA-256 of facts and contiguous tensors; their order does not matter."""
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
