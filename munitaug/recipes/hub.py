"""Checkpoints as folders that the Hugging Face Hub takes: save, load, push. A local folder needs no package for it.

Floor 6: imports floors 1-5; huggingface_hub where the network is used.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import ModuleType

import torch

from munitaug.checkpoint import (
    CARD_NAME,
    INDEX_NAME,
    checkpoint_sha256,
    find_checkpoint,
    load_method,
    read_index,
    save_method,
    shared_translator,
)
from munitaug.files import write_text
from munitaug.method import Method
from munitaug.translator import Translator
from munitaug.types import CheckpointError, direction_name

REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
PATTERNS = [INDEX_NAME, "weights-*.safetensors"]
"""All that is ever downloaded: a JSON file and tensors."""


def save_pretrained(model: str | Path | Method, folder: str | Path) -> Path:
    """Writes a checkpoint with a model card into a folder, ready for the Hub; gives the folder.

    Args:
        model: checkpoint or run folder, or a method.
        folder: made if missing; an older checkpoint there is replaced.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FileExistsError: the folder holds something else.
    """
    path = Path(folder).expanduser()
    if isinstance(model, Method):
        save_method(model, path)
    else:
        provenance = read_index(find_checkpoint(model)).get("provenance", {})
        save_method(load_method(model), path, provenance)
    write_text(path / CARD_NAME, model_card(path))
    return path


def from_pretrained(
    repo_id_or_folder: str | Path,
    *,
    direction: str = "a2b",
    device: str | torch.device = "cpu",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> Translator:
    """Gives a frozen translator of a local folder or of a repository of the Hub; MUNITTransform takes it at once.

    Of a repository only checkpoint.json and the safetensors file are downloaded, and their SHA-256 is checked.

    Args:
        repo_id_or_folder: a checkpoint or run folder if there is one, else "owner/name".
        direction: "a2b" or "b2a".
        device: where its weights live.
        revision: branch, tag or commit of the repository.
        cache_dir: where downloads are kept; None for the Hub's own place.

    Raises:
        CheckpointError: there is no such folder, what is there is no checkpoint of ours, or it is damaged.
        ImportError: huggingface_hub is missing.
        ValueError: unknown direction.
    """
    if Path(repo_id_or_folder).expanduser().exists():
        return shared_translator(repo_id_or_folder, direction, device)
    if not REPOSITORY.fullmatch(str(repo_id_or_folder)):
        raise CheckpointError(f"there is no folder {repo_id_or_folder}, and a repository is called owner/name")
    folder = _hub(str(repo_id_or_folder)).snapshot_download(
        str(repo_id_or_folder), revision=revision, cache_dir=cache_dir, allow_patterns=PATTERNS
    )
    return shared_translator(folder, direction, device)


def push_to_hub(model: str | Path | Method, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Puts a checkpoint with a model card into a repository of the Hub, made if missing; gives its address.

    Args:
        model: checkpoint or run folder, or a method.
        repo_id: "owner/name".
        private: of a new repository.
        token: of the Hub; None for the one that you are logged in with.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ImportError: huggingface_hub is missing.
    """
    hub = _hub(repo_id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(model, Path(scratch) / "checkpoint")
        api = hub.HfApi(token=token)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message="Add a munitaug translator")
    return str(address)


def model_card(folder: Path) -> str:
    """Gives the text of README.md for a checkpoint folder: what it is and how to use it; the licence is left open."""
    index, method = read_index(folder), load_method(folder)
    provenance = index.get("provenance", {})
    domains = [provenance.get(key, {}).get("name", "not stated") for key in ("source", "target")]
    directions = ", ".join(direction_name(*direction) for direction in method.directions)
    steps = provenance.get("training", {}).get("max_steps", "not stated")
    return f"""---
library_name: munitaug
tags:
- image-to-image
- data-augmentation
- {index["method"]}
---

# {index["method"]}: {domains[0]} to {domains[1]}

An unpaired image translator for data augmentation, made with munitaug {index.get("versions", {}).get("munitaug", "")}.

- Method: {index["method"]}; directions: {directions}
- Source: {domains[0]}; target: {domains[1]}; training steps: {steps}
- Channels: {method.config.channels}
- SHA-256 of the weights: {checkpoint_sha256(folder)}
- Licence: not stated; say here what the images and your work allow.

```python
import munitaug

translator = munitaug.from_pretrained("owner/name")  # or this folder
transform = munitaug.MUNITTransform(translator)
```
"""


def _hub(repo_id: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f'{repo_id} is no folder here, and the Hugging Face Hub needs: pip install "munitaug[hub]"'
        ) from error
    hub: ModuleType = huggingface_hub
    return hub
