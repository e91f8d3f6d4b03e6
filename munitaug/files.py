"""Files that are either whole or not there, and have one writer: atomic replacement, synced to disk, and locks.

Floor 1: imports the standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

if sys.platform != "win32":
    import fcntl

LOCK_PATIENCE_S = 10.0
"""How long a folder may still be held by processes that a killed writer has left behind."""


UNFINISHED_MARK = ".munitaug-unfinished"
"""Stands in a folder that is being filled, and so may be emptied to begin anew."""


class NoLocksError(OSError):
    """The file system has no locks."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write; on leaving it is synced and takes the place of ``path`` at once.

    A kill at any moment leaves either the old file or the new one. If the block raises, the temporary
    file is removed and the old one stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and is_nameless(error):  # as those of writing are, of a full disk above all
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


def is_nameless(error: OSError) -> bool:
    """Tells whether an error of the system does not say of which file it is."""
    return type(error) is OSError and error.errno is not None and error.filename is None


@contextmanager
def making_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, ``<folder>.unfinished``; on leaving it is synced and takes its name at once.

    If the block raises, or the process is killed, the unfinished folder stays; the next call empties it.

    Raises:
        FileExistsError: ``folder`` exists, or an unfinished one that no such call has left.
        FileNotFoundError: a link on the way leads nowhere.
        NotADirectoryError: a file is in the way.
        BlockingIOError: another process is filling it.
    """
    if folder.exists():
        raise FileExistsError(errno.EEXIST, "exists already and is left as it is; choose another folder", str(folder))
    refuse_no_way(folder)
    unfinished = folder.with_name(folder.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    mark = unfinished / UNFINISHED_MARK
    with only_writer(unfinished):
        if any(unfinished.iterdir()) and not mark.exists():
            message = "has been left by something else and would be emptied; move it away, or choose another output"
            raise FileExistsError(errno.EEXIST, message, str(unfinished))
        mark.touch()
        for entry in unfinished.iterdir():
            if entry != mark:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        try:
            yield unfinished
        except OSError as error:
            if is_nameless(error):
                raise OSError(error.errno, error.strerror, str(unfinished)) from error
            raise
        if sys.platform != "win32":
            os.sync()  # all at once: a call for each of many small files takes far longer
        unfinished.rename(folder)
        (folder / UNFINISHED_MARK).unlink()  # only now: without it, what a kill leaves would be taken for another's
    sync_folder(folder.parent)


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Leaves a file alone that is not to be replaced, and a folder in any case; a file could be made there.

    Raises:
        FileExistsError: there is such a file, or the path is a folder, as an empty one is.
        FileNotFoundError: a link on the way leads nowhere.
        NotADirectoryError: a file is in the way.
    """
    if path.is_dir():
        raise FileExistsError(errno.EEXIST, "is a folder; name a file", str(path))
    if path.exists() and not overwrite:
        message = "exists already and is left as it is; choose another output, or overwrite it"
        raise FileExistsError(errno.EEXIST, message, str(path))
    refuse_no_way(path)


def refuse_no_way(path: Path) -> None:
    """Checks that a file or folder could be made at a path, as far as this can be seen without making one.

    Raises:
        FileNotFoundError: it is a link that leads nowhere, or lies beyond one: a disk may not be mounted.
        NotADirectoryError: a file is in the way.
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.is_symlink() and not place.exists():
            message = f"is a link to {place.readlink()}, which is not there; make that, or choose another output"
            raise FileNotFoundError(errno.ENOENT, message, str(place))
        if place != path and place.exists():
            raise NotADirectoryError(
                errno.ENOTDIR, f"is a file, so {path} cannot be; choose another output", str(place)
            )


def refuse_full_disk(path: Path, size: int) -> None:
    """Writes a new file of zeros, which whoever asks writes over: some libraries crash where not even that has room.

    Args:
        path: of the file.
        size: in bytes.

    Raises:
        OSError: the disk is full.
    """
    with open(path, "wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def continued_lines(path: Path, keep: Callable[[Any], bool]) -> TextIO:
    """Opens a file of JSON lines, or a new one, to append to; lines that are not to be kept are dropped first.

    Args:
        path: of the file, whose folder is there.
        keep: says of what a line holds whether it stays. A line that is no JSON is dropped, and one on which ``keep``
            raises TypeError, ValueError or LookupError: a kill or a power cut may have spoilt some.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    write_text(path, "".join(line + "\n" for line in lines if _is_kept(line, keep)))
    return open(path, "a", encoding="utf-8")


def _is_kept(line: str, keep: Callable[[Any], bool]) -> bool:
    try:
        return keep(json.loads(line))
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder while the block runs, and leaves no file there.

    The lock ends with the process, however that ends. Windows and some network file systems have none.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def only_writer_of(path: Path) -> Iterator[None]:
    """Keeps other processes that ask for it from a file while the block runs; ``path.lock`` is beside it till the end.

    The lock ends with the process, however that ends. Windows and some network file systems have none.

    Raises:
        BlockingIOError: another process has it.
    """
    refusal = f"another process is writing to {path}; wait for it, or choose another file"
    with locked_file(path.with_name(path.name + ".lock"), refusal, needed=False):
        yield


@contextmanager
def locked_file(path: Path, refusal: str | None, *, needed: bool = True) -> Iterator[None]:
    """Keeps other processes out of what the file stands for; the file is gone at the end. Windows has no such lock.

    Args:
        path: of a file of no other use; its folder is made if missing.
        refusal: what is said when another process has it; ``None`` waits for that one instead.
        needed: a file system without locks is an error; if not, the block runs without.

    Raises:
        BlockingIOError: another process has it.
        NoLocksError: a file system without locks.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor: int | None = None
    try:
        descriptor = lock_file(path, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB, refusal or "")
    except NoLocksError:
        if needed:
            raise
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        if descriptor is not None:
            os.close(descriptor)


def lock_file(path: Path, kind: int, refusal: str) -> int:
    """Gives the descriptor of a locked file, made with its folder if need be; not on Windows.

    Raises:
        BlockingIOError: another process has it, in the words of ``refusal``.
        NoLocksError: a file system without locks.
    """
    assert sys.platform != "win32"
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the writer before us has just removed the folder
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BlockingIOError(errno.EAGAIN, refusal) from error
        except OSError as error:
            os.close(descriptor)
            message = "this file system has no file locks (flock); write to another one, and copy from there"
            raise NoLocksError(error.errno, message, str(path)) from error
        if is_in_place(descriptor, path):
            return descriptor
        os.close(descriptor)


def is_in_place(descriptor: int, path: Path) -> bool:
    """Tells whether the locked file is still the one at this path, not one that its writer has removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            message = f"another process is writing to {folder}; wait for it, or choose another folder"
            raise BlockingIOError(errno.EAGAIN, message) from error
        except OSError:
            pass  # a file system without locks
        return


def sync_folder(folder: Path) -> None:
    """Makes renames inside the folder survive a power cut, where the system can."""
    with suppress(OSError):  # Windows and some network file systems refuse; the rename itself has happened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Gives the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
