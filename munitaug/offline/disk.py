"""Files that are either whole or absent, one writer at a time, and what a full disk looks like.

Floor 4: imports nothing of the package.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
LOCK_NAME = "lock"


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file so that, whenever the machine stops, it is there as a whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish(unfinished: Path, path: Path) -> None:
    """Moves a written and closed file to its place, once its bytes are on the disk."""
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts the folder's entries on the disk; nothing where folders cannot be synced (Windows)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Tells whether the error means that there is no room: disk, quota or file size limit.

    HDF5 reports it as OSError or RuntimeError, sometimes only in the text.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return any(int(number) in NO_ROOM for number in re.findall(r"errno = (\d+)", str(error)))


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes from it; a folder that holds nothing at the end is removed.

    The lock ends with the process, however that ends. On Windows there is no lock and the empty folder stays.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    descriptor = _locked_descriptor(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            if [entry.name for entry in folder.iterdir()] == [LOCK_NAME] and _is_in_place(
                descriptor, folder / LOCK_NAME
            ):
                (folder / LOCK_NAME).unlink()
            folder.rmdir()  # refused, rightly, while anything is in it
        os.close(descriptor)


def _locked_descriptor(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the writer before us has just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BlockingIOError(
                errno.EAGAIN, f"another process is writing to {folder}; wait for it, or choose another output file"
            ) from error
        if _is_in_place(descriptor, folder / LOCK_NAME):
            return descriptor
        os.close(descriptor)


def _is_in_place(descriptor: int, path: Path) -> bool:
    """Tells whether the locked file is still the one at this path, not one that its writer has removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
