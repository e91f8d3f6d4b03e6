"""What stands beside every figure: how it came about."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch


def circumstances(module: str, device: str = "cpu", arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Gives device, threads, torch, commit ("-dirty" where tracked files were changed), date and command.

    Args:
        module: that runs, for example "benchmarks.digits".
        device: "cpu" or "cuda".
        arguments: of the command; None takes those of this process.
    """
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit_of(Path.cwd()),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python -m", module, *without_places(sys.argv[1:] if arguments is None else arguments)]),
    }


def without_places(arguments: Sequence[str]) -> list[str]:
    """Gives a command's words with names in place of paths outside this folder, which another machine does not have.

    A path that follows an option is named after it, as in ``--data-root DATA`` or ``--out OUT``; one without an option
    is called PATH. Paths inside this folder become relative to it.
    """
    words: list[str] = []
    name = "PATH"
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("--"):
            name = option.removeprefix("--").removesuffix("-root").upper()
            words.append(f"{option}={_placeless(value, name)}" if equals else option)
        else:
            words.append(_placeless(argument, name))
    return words


def _placeless(word: str, name: str) -> str:
    """Gives a word as it is, unless it is a path: one inside this folder as relative to it, any other as a name."""
    path = Path(word)
    if not path.is_absolute() and not word.startswith("~") and ".." not in path.parts:
        return word
    absolute, here = path.expanduser().resolve(), Path.cwd().resolve()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else name


def commit_of(folder: Path) -> str:
    """Gives the short name of a folder's commit, with "-dirty" where tracked files differ from it; "" without git.

    Stored rows are left out of account: a run that appends to them makes nothing but them differ.
    """
    commit = _git(folder, "rev-parse", "--short", "HEAD")
    places = ("--", ":(top)", ":(top,exclude)benchmarks/results")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", *places)
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *words: str) -> str:
    """Gives what git prints; nothing where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def device_name(device: str) -> str:
    """Gives the GPU's name, or the processor's and how many cores there are."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
