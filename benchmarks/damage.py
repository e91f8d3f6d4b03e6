"""Damaging files at random and reading them in a child process, where a crash or a hang is seen and counted.

A study gives a function that reads what it damaged and says "right" or "wrong", or raises. What it raised counts as
"refused" if it is one of the package's errors and names the damaged file, else as "stray" with its type.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

TIME_LIMIT_S = 120.0
"""For one file; generous, because other work may hold the cores."""
MEMORY_LIMIT_BYTES = 6 * 2**30
REFUSALS = ("CheckpointError", "AugmentedFileError", "DomainError")
Read = Callable[[Path], bool]
"""Reads everything below a folder; tells whether it is all as it was."""


class Damage(NamedTuple):
    """What is done to a file: ``kind`` at ``place``, in bytes from 0 on; ``size`` bytes, drawn from ``seed``."""

    kind: str
    place: int
    size: int
    seed: int


KINDS = ("flip", "bytes", "overwrite", "zero", "repeat", "cut", "delete", "insert", "append", "empty")


def draw_damage(draws: random.Random, length: int) -> Damage:
    """Gives some damage for a file of ``length`` bytes; cuts to nothing are rare, as they always look the same."""
    kind = draws.choices(KINDS, [3] * (len(KINDS) - 1) + [0.1])[0]
    return Damage(kind, draws.randrange(max(1, length)), draws.choice((1, 2, 8, 100, 4096)), draws.getrandbits(32))


def damaged(content: bytes, damage: Damage) -> bytes:
    """Gives the content with the damage done."""
    kind, place, size, seed = damage
    draws, changed, end = random.Random(seed), bytearray(content), place + size
    match kind:
        case "flip" if content:
            changed[place] ^= 1 << draws.randrange(8)
        case "bytes" if content:
            for _ in range(min(size, 20)):
                changed[draws.randrange(len(changed))] = draws.randrange(256)
        case "overwrite":
            changed[place:end] = draws.randbytes(len(changed[place:end]))
        case "zero":
            changed[place:end] = bytes(len(changed[place:end]))
        case "repeat" if content:
            start = draws.randrange(len(content))
            piece = content[start : start + size]
            changed[place : place + len(piece)] = piece
        case "cut":
            del changed[place:]
        case "delete":
            del changed[place:end]
        case "insert":
            changed[place:place] = draws.randbytes(size)
        case "append":
            changed += draws.randbytes(size)
        case "empty":
            changed.clear()
    return bytes(changed)


@dataclass(frozen=True)
class Victim:
    """Files that are damaged one at a time, and what reads them.

    Args:
        folder: that holds them; the reader gets it.
        names: of the files below it that are damaged.
        read: of the folder.
    """

    folder: Path
    names: tuple[str, ...]
    read: Read


Make = Callable[[Path], list[Victim]]
"""Makes the victims in a folder; the same each time, in each process."""


def survey(make: Make, folder: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damages ``count`` times one file, has it read in a child process, and puts it back.

    Args:
        make: a function at the top of a module, as the child calls it too.
        folder: empty, for the victims.
        count: of damaged files.
        seed: decides them.

    Returns:
        How often each outcome came ("right", "refused ...", "wrong", "stray ...", "crash", "hang"), and a line for each
        file of which something is to be said (the last four).
    """
    outcomes: Counter[str] = Counter()
    remarks: list[str] = []
    reader = _Reader(make, folder)
    with reader.running():
        for number in tqdm(range(count), desc=make.__name__, unit="file", mininterval=5.0):
            outcome = reader.ask(f"{seed}/{number}")
            outcomes[outcome.split(":")[0]] += 1
            if not outcome.startswith(("right", "refused")):
                remarks.append(f"{make.__name__} {seed}/{number}: {outcome}")
    return outcomes, remarks


class _Reader:
    """A child process that damages and reads; started anew after a crash or hang."""

    def __init__(self, make: Make, folder: Path) -> None:
        self.make, self.folder = make, folder
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._stop()

    def ask(self, name: str) -> str:
        """Gives the outcome of one damaged file."""
        if self.pipe is None:
            self._start()
        assert self.pipe is not None
        assert self.process is not None
        try:
            self.pipe.send(name)
            if self.pipe.poll(TIME_LIMIT_S):
                return str(self.pipe.recv())
            outcome = f"hang: over {TIME_LIMIT_S:.0f} s"
        except (EOFError, ConnectionError):
            self.process.join()
            outcome = f"crash: exit code {self.process.exitcode}"
        self._stop()
        return outcome

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_answer, args=(other, self.make, self.folder), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()  # it is ready

    def _stop(self) -> None:
        if self.process is not None and self.pipe is not None:
            self.pipe.close()
            self.process.kill()
            self.process.join()
        self.process = self.pipe = None


def _answer(pipe: Connection, make: Make, folder: Path) -> None:
    torch.set_num_threads(1)
    _limit_memory()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    victims = make(folder)
    files = [(victim, victim.folder / name) for victim in victims for name in victim.names]
    whole = {file: file.read_bytes() for _, file in files}
    pipe.send("ready")
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        draws = random.Random(name)
        victim, file = draws.choice(files)
        damage = draw_damage(draws, len(whole[file]))
        file.write_bytes(damaged(whole[file], damage))
        outcome = read_outcome(victim, file)
        file.write_bytes(whole[file])
        pipe.send(outcome if outcome.startswith("right") else f"{outcome} [{file.name}, {damage}]")


def read_outcome(victim: Victim, file: Path) -> str:
    """Gives "right", "wrong", "refused TYPE" or "stray TYPE: message" of a damaged file."""
    try:
        return "right" if victim.read(victim.folder) else "wrong:"
    except Exception as error:
        kind, text = type(error).__name__, str(error)
        if kind in REFUSALS and (file.name in text or file.parent.name in text):
            return f"refused {kind}:"
        return f"stray {kind}: {text[:300]}"


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MEMORY_LIMIT_BYTES if hardest == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hardest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hardest))
