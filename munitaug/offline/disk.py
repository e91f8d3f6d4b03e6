"""One writer at a time, and what a full disk looks like.

Floor 4: imports files.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from munitaug.files import is_in_place, lock_file

if sys.platform != "win32":
    import fcntl

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
LOCK_NAME = "lock"


def is_disk_full(error: BaseException) -> bool:
    """Tells whether the error means that there is no room: disk, quota or file size limit.

    HDF5 reports it as OSError or RuntimeError, sometimes only in the text.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return any(int(number) in NO_ROOM for number in re.findall(r"errno = (\d+)", str(error)))


@contextmanager
def locked_folder(folder: Path, shared: bool = False) -> Iterator[None]:
    """Makes the folder and keeps other processes from it; a folder that holds nothing at the end is removed.

    The lock ends with the process, however that ends. On Windows there is no lock and the empty folder stays.

    Args:
        folder: whose parent folders are made too.
        shared: lets in others that share it, and nobody who does not.

    Raises:
        BlockingIOError: another process holds it.
        OSError: a file system without locks.
    """
    if sys.platform == "win32":
        if shared:
            raise OSError(errno.ENOLCK, "on Windows one process writes an output; there are no locks to share it with")
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    refusal = f"another process is writing to {folder}; wait for it, or choose another output file"
    descriptor = lock_file(folder / LOCK_NAME, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, refusal)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while others share it
            if [entry.name for entry in folder.iterdir()] == [LOCK_NAME] and is_in_place(
                descriptor, folder / LOCK_NAME
            ):
                (folder / LOCK_NAME).unlink()
            folder.rmdir()  # refused, rightly, while anything is in it
        os.close(descriptor)
