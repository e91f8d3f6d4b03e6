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
        except SafetensorError as error:  # which is what a full disk is to safetensors
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


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
