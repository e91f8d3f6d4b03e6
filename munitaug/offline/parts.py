"""The parts folder of an output file: finished pieces of a run that survive a kill, and how they become the output.

``aug.h5.parts`` beside ``aug.h5`` holds the plan, the parts that are finished and locks. A part is written as ``.tmp``,
synced and renamed. Without shards the parts are joined to one file; shards are moved beside the output, whose index
makes them one. Until then an output that is to be replaced stays as it is.

Floor 4: imports data, files, settings, types and its own room.
"""

from __future__ import annotations

import errno
import glob
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import final

from munitaug.data.augmented_file import (
    AttributeValue,
    AugmentedFileError,
    AugmentedFileWriter,
    open_for_reading,
    read_contents,
)
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.data.shards import check_shard_name, read_shards, shard_path, write_index
from munitaug.files import locked_file, refuse_existing, refuse_full_disk, replacing, sync_folder, write_text
from munitaug.offline.disk import is_disk_full, locked_folder
from munitaug.offline.plan import Entries, Plan, Stripe
from munitaug.settings import differences
from munitaug.types import Interrupted

PLAN_NAME = "plan.json"
MERGE_NAME = "merged.h5"
MOVING_NAME = "moving"
"""Stands in the folder from the moment when the first shard leaves it."""
LEAST_ROOM_BYTES = 64 * 1024
"""Room that there must be before a larger part is begun: HDF5 crashes where its first bytes have none."""
_NAMED_DIFFERENCES = 12
_LONGEST_DIFFERENCE = 200


class PartUnfinishedError(Exception):
    """The writer of a part was left before it had all rows."""


@final
class PartsFolder:
    """The finished pieces of one run.

    Args:
        output: what they are to become.
        plan: of the run.
        stripe: which of several processes this is.
    """

    def __init__(self, output: Path, plan: Plan, stripe: Stripe) -> None:
        self.output = output
        self.path = output.parent / f"{output.name}.parts"
        self.plan = plan
        self.stripe = stripe

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, all but the other ranks of this run, and explains a full disk.

        Raises:
            BlockingIOError: another process writes to this output.
            OSError: the disk is full.
        """
        rank = self.stripe.rank
        is_one_of_many = self.stripe.ranks > 1
        refusal = f"another process is writing to {self.path} as rank {rank}; wait for it, or choose another output"
        own = locked_file(self.path / f"rank-{rank:05d}", refusal) if is_one_of_many else nullcontext()
        with locked_folder(self.path, shared=is_one_of_many), own:
            try:
                yield
            except (OSError, RuntimeError) as error:
                if not is_disk_full(error):
                    raise
                message = f"disk full: {self.progress()}; free space and run the same command again"
                raise OSError(errno.ENOSPC, message, str(self.output)) from error

    def refuse_finished(self, overwrite: bool) -> None:
        """Refuses an output that exists before anything is touched, unless an unfinished run is beside it.

        A late rank of a run that the others have finished is not refused.

        Raises:
            FileExistsError: it exists and may not be replaced, or is a folder.
            ValueError: shards cannot be called like it.
        """
        if self.plan.shards:
            check_shard_name(self.output)
        if (self.path / PLAN_NAME).exists():
            return
        with suppress(OSError):
            self.path.rmdir()  # left empty by a kill at the very end; one with anything in it stays
        if self.stripe.ranks == 1 or not self._is_output_of_plan():
            refuse_existing(self.output, overwrite)

    def begin(self, overwrite: bool) -> list[int]:
        """Takes up the run that was stopped here, or begins one; gives the parts that this rank still has to make.

        A part that is damaged is removed and made again. None is missing where the output is finished already. A run
        with other arguments of which nothing was finished is forgotten, if this is the only process.

        Args:
            overwrite: parts of another plan, and in the end an output that exists, may be replaced. Several ranks keep
                an output of this plan, which one of them may just have made, unless it is damaged; all of it is read.

        Raises:
            FileExistsError: the output, or a file called as one of its shards, exists and is not what this plan makes;
                or there are parts that no run has left.
            ValueError: the folder holds finished parts of another plan.
        """
        with self._one_at_a_time():
            kept = self._kept_plan()
            if kept is None and not overwrite and self._holds_parts():
                message = f"holds parts of another origin, without {PLAN_NAME}; move it away, or choose another output"
                raise FileExistsError(errno.EEXIST, message, str(self.path))
            if kept is not None and kept != self.plan.entries():
                if not overwrite and (self.stripe.ranks > 1 or self._holds_parts()):
                    self._refuse(kept)
                kept = None
            may_be_there = kept is not None or self.stripe.ranks > 1
            if may_be_there and self._is_output_of_plan() and not (overwrite and self._is_damaged()):
                self.remove()
                return []
            refuse_existing(self.output, overwrite or (kept is not None and (self.path / MOVING_NAME).exists()))
            if kept is None:
                for shard in range(self.plan.shards):
                    refuse_existing(self._beside(shard), overwrite)
                self._remove_parts()
                write_text(self.path / PLAN_NAME, json.dumps(self.plan.entries(), sort_keys=True, indent=1))
            if self.stripe.ranks == 1:
                for unfinished in self.path.glob("*.tmp"):
                    unfinished.unlink()
            return [part for part in range(self.plan.parts) if self.stripe.has(part) and not self._is_finished(part)]

    def progress(self) -> str:
        """Gives, in words, how many images are safe and where."""
        finished = [part for part in range(self.plan.parts) if self._place(part).exists()]
        count = sum(len(self.plan.part_items(part)) for part in finished) * self.plan.rows_per_item
        return f"{count} of {self.plan.rows} images are safe in {self.path}"

    def interruption(self) -> Interrupted:
        """Gives the error that says how to go on."""
        return Interrupted(f"stopped: {self.progress()}; run the same command again to continue")

    @contextmanager
    def writing(self, part: int) -> Iterator[AugmentedFileWriter]:
        """Gives the writer of a part, which is on the disk after the block, whole or not at all.

        Raises:
            PartUnfinishedError: the block ended before all rows were written.
            BlockingIOError: another process writes this shard.
        """
        file = self._file(part)
        rows = len(self.plan.part_items(part)) * self.plan.rows_per_item
        refusal = f"another process is writing {file}; start each run once, all with the same number of ranks"
        lock = locked_file(file.with_name(file.name + ".lock"), refusal) if self.plan.shards else nullcontext()
        with lock, replacing(file) as unfinished:
            refuse_full_disk(unfinished, min(LEAST_ROOM_BYTES, rows * self.plan.layout.image_bytes))
            with AugmentedFileWriter(unfinished, rows, self.plan.layout) as writer:
                yield writer
                if writer.filled < rows:
                    raise PartUnfinishedError
                writer.seal(self._attributes(part))

    def finish(self, should_stop: Callable[[], bool] | None = None) -> None:
        """Makes the output of the parts if all are there: with several ranks, the last one does it.

        Raises:
            Interrupted: somebody asked to stop.
            OSError: there is no room for parts and output together, or a part was damaged on the disk.
        """
        with self._one_at_a_time():
            parts = range(self.plan.parts)
            if not (self.path / PLAN_NAME).exists() or not all(self._place(part).exists() for part in parts):
                return  # another rank has been here, or is not through
            damaged = [part for part in parts if not self._is_finished(part)]
            if damaged:
                names = ", ".join(self._file(part).name for part in damaged)
                message = f"{names} in {self.path} is not what was written; run the same command again to make it anew"
                raise OSError(errno.EIO, message)
            self.merge(should_stop)
            self.remove()

    def merge(self, should_stop: Callable[[], bool] | None = None) -> None:
        """Joins all parts to the output, which appears at once and complete.

        Raises:
            Interrupted: somebody asked to stop.
            OSError: there is no room for parts and output together.
        """
        replaced = self._shards_of_output()
        merged = self.path / MERGE_NAME
        with replacing(merged) as unfinished:
            if self.plan.shards:
                names = [self._beside(part).name for part in range(self.plan.parts)]
                places = [self._place(part) for part in range(self.plan.parts)]
                write_index(unfinished, places, names, self.plan.header)
            else:
                self._check_room()
                self._join(unfinished, should_stop)
        self._move_shards()
        merged.replace(self.output)
        sync_folder(self.output.parent)
        for name in replaced - {self._beside(part).name for part in range(self.plan.shards)}:
            self.output.with_name(name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes all that is in the folder, last of all the plan: with it a killed run knows that it was through."""
        self._remove_parts()
        (self.path / MOVING_NAME).unlink(missing_ok=True)
        (self.path / PLAN_NAME).unlink(missing_ok=True)

    def _one_at_a_time(self) -> AbstractContextManager[None]:
        """Lets the ranks through one by one."""
        return nullcontext() if self.stripe.ranks == 1 else locked_file(self.path / "one-at-a-time", None)

    def _join(self, unfinished: Path, should_stop: Callable[[], bool] | None) -> None:
        with AugmentedFileWriter(unfinished, self.plan.rows, self.plan.layout) as writer:
            for part in range(self.plan.parts):
                if should_stop is not None and should_stop():
                    raise self.interruption()
                try:
                    writer.append_file(self._file(part))
                except AugmentedFileError as error:
                    self._file(part).unlink(missing_ok=True)
                    raise OSError(errno.EIO, f"{error}; run the same command again to make it anew") from error
            writer.seal(self.plan.header)

    def _check_room(self) -> None:
        needed = sum(self._file(part).stat().st_size for part in range(self.plan.parts))
        if shutil.disk_usage(self.path).free < needed:
            raise OSError(errno.ENOSPC, f"joining the parts needs {needed / 1e6:.1f} MB", str(self.output))

    def _move_shards(self) -> None:
        if self.plan.shards:
            write_text(self.path / MOVING_NAME, "")
        for part in range(self.plan.shards):
            with suppress(FileNotFoundError):  # moved by a run that was killed here
                self._file(part).replace(self._beside(part))
        sync_folder(self.output.parent)

    def _shards_of_output(self) -> set[str]:
        """Gives the names of the shards of an output that is to be replaced."""
        try:
            with open_for_reading(self.output) as file:
                return {shard.name for shard in read_shards(read_contents(file, self.output), self.output)}
        except (OSError, AugmentedFileError):
            return set()

    def _remove_parts(self) -> None:
        for file in (*self._part_files(), *self.path.glob("*.tmp"), *self.path.glob("*.lock")):
            file.unlink(missing_ok=True)

    def _part_files(self) -> list[Path]:
        """Gives the finished parts in the folder, of whatever plan."""
        shards = glob.escape(shard_path(self.output, 0, 0).name).replace("00000", "*")
        return [*self.path.glob("part-*.h5"), *self.path.glob(shards)]

    def _holds_parts(self) -> bool:
        """Tells whether a part of some plan is finished, here or moved already."""
        return (self.path / MOVING_NAME).exists() or bool(self._part_files())

    def _file(self, part: int) -> Path:
        return self.path / (self._beside(part).name if self.plan.shards else f"part-{part:05d}.h5")

    def _beside(self, part: int) -> Path:
        """Gives where a shard lies in the end."""
        return shard_path(self.output, part, self.plan.shards)

    def _place(self, part: int) -> Path:
        """Gives where a finished part lies."""
        file = self._file(part)
        is_moving = self.plan.shards > 0 and not file.exists() and (self.path / MOVING_NAME).exists()
        return self._beside(part) if is_moving else file

    def _attributes(self, part: int) -> dict[str, AttributeValue]:
        return {**self.plan.header, "piece": f"{part} of {self.plan.parts}"}

    def _is_finished(self, part: int) -> bool:
        path = self._place(part)
        try:
            with open_for_reading(path) as file:
                contents = read_contents(file, path)
            rows = len(self.plan.part_items(part)) * self.plan.rows_per_item
            if _unsealed(contents.attributes) == self._attributes(part) and len(contents.labels) == rows:
                return True
        except FileNotFoundError:
            return False
        except AugmentedFileError:
            pass
        if path.parent == self.path:
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
        changed = differences(_decoded(kept), _decoded(self.plan.entries()))
        lines = [line if len(line) <= _LONGEST_DIFFERENCE else f"{line[:_LONGEST_DIFFERENCE]}..." for line in changed]
        rest = len(lines) - _NAMED_DIFFERENCES
        named = "\n  ".join([*lines[:_NAMED_DIFFERENCES], *([f"and {rest} more"] if rest > 0 else [])])
        raise ValueError(
            f"{self.path} holds an unfinished run with other arguments:\n  {named}\n"
            "continue it with the same arguments, or begin anew with overwrite (--overwrite), or remove that folder"
        )

    def _is_output_of_plan(self) -> bool:
        """Tells whether the run was killed after its output was in place, before its parts were gone."""
        try:
            with open_for_reading(self.output) as file:
                contents = read_contents(file, self.output)
            names = [shard.name for shard in read_shards(contents, self.output)]
        except (FileNotFoundError, AugmentedFileError):
            return False
        wanted = [self._beside(part).name for part in range(self.plan.shards)]
        is_right = _unsealed(contents.attributes) == self.plan.header and len(contents.labels) == self.plan.rows
        return is_right and names == wanted and all(self.output.with_name(name).exists() for name in names)

    def _is_damaged(self) -> bool:
        try:
            AugmentedDataset(self.output).check()
        except AugmentedFileError:
            return True
        return False


def _decoded(entries: Entries) -> Entries:
    """Gives the entries with ``config`` as the values in it, so that each can be compared."""
    try:
        return {**entries, "config": json.loads(str(entries["config"]))}
    except (KeyError, ValueError):  # of a damaged plan
        return entries


def _unsealed(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Gives the attributes without those that are made when a file is finished."""
    return {name: value for name, value in attributes.items() if name not in ("complete", "content_sha256", "shards")}
