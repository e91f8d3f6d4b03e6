"""A function on several ranks: processes of the test, joined through gloo, and what each gives back or raises."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch

from munitaug import ranks

T = TypeVar("T")
LIMIT_S = 500.0
CONTEXT = multiprocessing.get_context("forkserver")  # forked from a process that has imported, but computed nothing
CONTEXT.set_forkserver_preload(["tests.methods.cases", "munitaug.recipes"])


def on_ranks(count: int, function: Callable[[Path], T], folder: Path) -> list[T | Exception]:
    """Gives what the function returned or raised on each rank; it must stand in a module.

    Args:
        count: ranks.
        function: called with the folder on every rank.
        folder: for the function.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    processes = [
        CONTEXT.Process(target=_be_rank, args=(rank, count, port, function, folder, sender))
        for rank, (_, sender) in enumerate(pipes)
    ]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()
    try:
        return [_answer(receiver) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.join(LIMIT_S)
            process.kill()


def results(count: int, function: Callable[[Path], T], folder: Path) -> list[T]:
    """Gives what the function returned on each rank; raises what the first raised."""
    answers = []
    for answer in on_ranks(count, function, folder):
        if isinstance(answer, Exception):
            raise answer
        answers.append(answer)
    return answers


def _answer(receiver: Connection) -> T | Exception:
    if not receiver.poll(LIMIT_S):
        return TimeoutError("the rank gave no answer")
    try:
        answer: T | Exception = pickle.loads(receiver.recv_bytes())
    except EOFError:
        return ProcessLookupError("the rank died")
    return answer


def _be_rank(rank: int, count: int, port: int, function: Callable[[Path], T], folder: Path, sender: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with ranks.together(torch.device("cpu")):
            sender.send_bytes(pickle.dumps(function(folder)))
            ranks.wait()  # one that has finished must not look like one that has died
    except Exception as error:
        error.__cause__ = None
        sender.send_bytes(pickle.dumps(error))
