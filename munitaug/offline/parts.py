"""The parts folder of an output file: finished pieces of a run that survive a kill, and how they become one file.

``aug.h5.parts`` beside ``aug.h5`` holds the plan, the parts that are finished and a lock. A part is written in memory
and put on the disk in one go, so HDF5 never meets a full disk half way through one.

Floor 4: imports data, types and its own room.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

import h5py

from munitaug.data.hdf5 import (
    AugmentedFileError,
    Rows,
    append_file,
    check_header,
    create_columns,
    open_for_reading,
    read_attributes,
    seal,
    write_rows,
)
from munitaug.offline.disk import LOCK_NAME, is_disk_full, locked_folder, publish, write_durably
from munitaug.offline.plan import Entries, Plan, differences
from munitaug.types import Interrupted

PART_FORMAT = "munitaug-augmented-part"
PLAN_NAME = "plan.json"
MERGE_NAME = "merged.h5.tmp"


@final
class PartsFolder:
    """The finished pieces of one run.

    Args:
        output: the file they are to become.
        plan: of the run.
    """

    def __init__(self, output: Path, plan: Plan) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".parts")
        self.plan = plan
        self._digest = hashlib.sha256(json.dumps(plan.entries(), sort_keys=True).encode()).hexdigest()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, and explains a full disk.

        Raises:
            BlockingIOError: another process writes to this output.
            OSError: the disk is full.
        """
        with locked_folder(self.path):
            try:
                yield
            except (OSError, RuntimeError) as error:
                if not is_disk_full(error):
                    raise
                message = f"disk full: {self.progress()}; free space and run the same command again"
                raise OSError(errno.ENOSPC, message, str(self.output)) from error

    def refuse_finished(self, overwrite: bool) -> None:
        """Refuses an output that exists before anything is touched, unless an unfinished run is beside it.

        Raises:
            FileExistsError: it exists and may not be replaced, or is a folder.
        """
        if (self.path / PLAN_NAME).exists():
            return
        with suppress(OSError):
            self.path.rmdir()  # left empty by a kill at the very end; one with anything in it stays
        _refuse_existing(self.output, overwrite)

    def begin(self, overwrite: bool) -> bool:
        """Takes up the run that was stopped here, or begins one; tells whether the output is finished already.

        Args:
            overwrite: parts of another plan, and in the end an output that exists, may be replaced.

        Raises:
            FileExistsError: the output exists and is not what this plan makes.
            ValueError: the folder holds parts of another plan.
        """
        kept = self._kept_plan()
        if kept is not None and kept != self.plan.entries():
            if not overwrite:
                self._refuse(kept)
            kept = None
        if kept is not None and self._is_output_of_plan():
            return True
        _refuse_existing(self.output, overwrite)
        if kept is None:
            self._remove_parts()
            write_durably(self.path / PLAN_NAME, json.dumps(self.plan.entries(), sort_keys=True, indent=1).encode())
        for unfinished in self.path.glob("*.tmp"):
            unfinished.unlink()
        return False

    def missing(self) -> list[int]:
        """Gives the parts that are still to be made; a damaged one is removed and counts as missing."""
        return [part for part in range(self.plan.parts) if not self._is_finished(part)]

    def progress(self) -> str:
        """Gives, in words, how many images are safe and where."""
        finished = [part for part in range(self.plan.parts) if self._file(part).exists()]
        count = sum(len(self.plan.part_items(part)) for part in finished) * self.plan.rows_per_item
        return f"{count} of {self.plan.rows} images are safe in {self.path}"

    def stop_if(self, should_stop: Callable[[], bool] | None) -> None:
        """Ends the run if somebody asked for it.

        Raises:
            Interrupted: somebody did.
        """
        if should_stop is not None and should_stop():
            raise Interrupted(f"stopped: {self.progress()}; run the same command again to continue")

    def write(self, part: int, rows: Rows) -> None:
        """Puts a part on the disk, whole or not at all."""
        with h5py.File("part", "w", driver="core", backing_store=False, block_size=2**20) as file:
            create_columns(file, len(rows.labels), self.plan.layout)
            write_rows(file, 0, rows)
            seal(file, {"format": PART_FORMAT, "plan": self._digest, "part": part})
            file.flush()
            content = file.id.get_file_image()
        write_durably(self._file(part), content)

    def merge(self, should_stop: Callable[[], bool] | None = None) -> None:
        """Joins all parts to the output file, which appears at once and complete.

        Raises:
            Interrupted: somebody asked to stop.
            OSError: there is no room for parts and output together.
        """
        needed = sum(self._file(part).stat().st_size for part in range(self.plan.parts))
        if shutil.disk_usage(self.path).free < needed:
            raise OSError(errno.ENOSPC, f"joining the parts needs {needed / 1e6:.1f} MB", str(self.output))
        merged = self.path / MERGE_NAME
        try:
            self._write_merged(merged, should_stop)
            publish(merged, self.output)
        except BaseException:
            merged.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Deletes all that is in the folder, last of all the plan: with it a killed run knows that it was through."""
        self._remove_parts()
        (self.path / LOCK_NAME).unlink(missing_ok=True)
        (self.path / PLAN_NAME).unlink(missing_ok=True)

    def _write_merged(self, merged: Path, should_stop: Callable[[], bool] | None) -> None:
        target = h5py.File(merged, "w")
        try:
            create_columns(target, self.plan.rows, self.plan.layout)
            row = 0
            for part in range(self.plan.parts):
                self.stop_if(should_stop)
                with h5py.File(self._file(part), "r") as source:
                    row = append_file(target, row, source)
            seal(target, self.plan.header)
            target.close()
        except BaseException:
            for _ in range(2):  # with a full disk the first close fails too, the second lets the file go
                with suppress(OSError, RuntimeError):
                    target.close()
            raise

    def _remove_parts(self) -> None:
        for file in (*self.path.glob("part-*.h5"), *self.path.glob("*.tmp")):
            file.unlink(missing_ok=True)

    def _file(self, part: int) -> Path:
        return self.path / f"part-{part:05d}.h5"

    def _is_finished(self, part: int) -> bool:
        path = self._file(part)
        try:
            with open_for_reading(path) as file:
                attributes = read_attributes(file)
                rows = len(self.plan.part_items(part)) * self.plan.rows_per_item
                wanted = {"format": PART_FORMAT, "plan": self._digest, "part": part, "complete": 1}
                if attributes == wanted and len(file["images"]) == rows:
                    return True
        except FileNotFoundError:
            return False
        except (AugmentedFileError, KeyError):
            pass
        path.unlink()
        return False

    def _kept_plan(self) -> Entries | None:
        path = self.path / PLAN_NAME
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_bytes())
        except ValueError:
            kept = None
        return kept if isinstance(kept, dict) else {}

    def _refuse(self, kept: Entries) -> None:
        lines = "\n  ".join(differences(kept, self.plan.entries()))
        raise ValueError(
            f"{self.path} holds an unfinished run with other arguments:\n  {lines}\n"
            "continue it with the same arguments, or begin anew with overwrite (--overwrite), or remove that folder"
        )

    def _is_output_of_plan(self) -> bool:
        """Tells whether the run was killed after its output was in place, before its parts were gone."""
        try:
            with open_for_reading(self.output) as file:
                attributes = check_header(file, self.output)
                return attributes == {**self.plan.header, "complete": 1} and len(file["labels"]) == self.plan.rows
        except (FileNotFoundError, AugmentedFileError):
            return False


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise FileExistsError(errno.EEXIST, "is a folder; name a file, for example aug.h5", str(output))
    if output.exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "exists already and is left as it is; choose another output, or overwrite it", str(output)
        )
