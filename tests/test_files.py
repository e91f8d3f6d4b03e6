"""Files are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from munitaug import files
from munitaug.files import (
    UNFINISHED_MARK,
    NoLocksError,
    locked_file,
    making_folder,
    only_writer,
    only_writer_of,
    refuse_existing,
    refuse_no_way,
    replacing,
    sha256_of,
    sync_folder,
    write_text,
)


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")
    write_text(path, "nüe")
    assert path.read_bytes() == "nüe".encode()
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_failing_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def refuse(source: Path, target: Path) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="read-only"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_the_new_file_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, move = os.fsync, os.replace

    def watched_fsync(number: int) -> None:
        events.append("fsync")
        fsync(number)

    def watched_replace(source: Path, target: Path) -> None:
        events.append("replace")
        move(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(tmp_path / "notes.txt", "x")
    assert events[:2] == ["fsync", "replace"]


def test_a_left_over_of_a_kill_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "notes.txt.tmp").write_text("half of a long and old text")
    write_text(tmp_path / "notes.txt", "new")
    assert (tmp_path / "notes.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with making_folder(tmp_path / "deep" / "out") as unfinished:
        (unfinished / "a").write_text("a")
        assert not (tmp_path / "deep" / "out").exists()
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert os.listdir(tmp_path / "deep" / "out") == ["a"]


def test_what_is_left_of_an_unfinished_folder_does_not_get_into_the_next(tmp_path: Path) -> None:
    def fill_half() -> None:
        with making_folder(tmp_path / "out") as unfinished:
            (unfinished / "inside").mkdir()
            (unfinished / "inside" / "a").write_text("a")
            (unfinished / "b").write_text("b")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fill_half()
    assert not (tmp_path / "out").exists()
    with making_folder(tmp_path / "out") as unfinished:
        assert os.listdir(unfinished) == [UNFINISHED_MARK]
    assert os.listdir(tmp_path / "out") == []


def test_an_unfinished_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    diary = tmp_path / "out.unfinished" / "diary.txt"
    diary.parent.mkdir()
    diary.write_text("dear")
    refusal = pytest.raises(FileExistsError, match=r"left by something else .* move it away.*out\.unfinished")
    with refusal, making_folder(tmp_path / "out"):
        pass
    assert diary.read_text() == "dear"
    diary.unlink()
    with making_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["out"]


def test_a_link_in_an_unfinished_folder_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / UNFINISHED_MARK).touch()
    (tmp_path / "out.unfinished" / "link").symlink_to(tmp_path / "kept")
    with making_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path / "out") == []
    assert (tmp_path / "kept").is_dir()


def test_a_way_that_leads_nowhere_is_said_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted")
    (tmp_path / "good").symlink_to(tmp_path)
    refuse_no_way(tmp_path / "good" / "new" / "x.png")
    refuse_no_way(Path("new") / "x.png")
    before = sorted(os.listdir(tmp_path))
    for refuse in (refuse_no_way, refuse_existing, lambda path: making_folder(path).__enter__()):
        with pytest.raises(NotADirectoryError, match=r"is a file, so .*deep.* cannot be; .*: .*file'"):
            refuse(tmp_path / "file" / "deep" / "x.png")
        for place in (tmp_path / "link", tmp_path / "link" / "deep" / "x.png"):
            with pytest.raises(FileNotFoundError, match=r"is a link to .*not-mounted, which is not there; make that"):
                refuse(place)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists already"), making_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(number: int) -> None:
        tried.append(number)
        raise OSError("not here")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    assert len(tried) == 1
    sync_folder(tmp_path / "missing")
    assert len(tried) == 1


def test_a_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
class TestOnlyWriter:
    def test_a_second_writer_is_refused_until_the_first_has_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.0)
        with only_writer(tmp_path):
            with (
                pytest.raises(BlockingIOError, match="another process is writing to"),
                only_writer(tmp_path),
            ):
                pass
            assert os.listdir(tmp_path) == []
        with only_writer(tmp_path):
            pass

    def test_a_second_process_cannot_fill_the_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.0)
        with making_folder(tmp_path / "out") as unfinished:
            (unfinished / "a").write_text("a")
            with (
                pytest.raises(BlockingIOError, match="another process is writing to"),
                making_folder(tmp_path / "out"),
            ):
                pass
        assert os.listdir(tmp_path / "out") == ["a"]

    def test_what_a_killed_writer_left_behind_is_waited_for(self, tmp_path: Path) -> None:
        held, inside = threading.Event(), [1]

        def hold() -> None:
            with only_writer(tmp_path):
                held.set()
                time.sleep(0.3)
                inside.clear()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with only_writer(tmp_path):
            assert inside == []
        thread.join()

    def test_a_second_writer_of_a_file_is_refused_until_the_first_has_left(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.json"
        with only_writer_of(path):
            with pytest.raises(BlockingIOError, match=r"writing to .*rows\.json; wait for it"), only_writer_of(path):
                pass
            with only_writer_of(tmp_path / "other.json"):
                pass
            assert os.listdir(tmp_path) == ["rows.json.lock"]
        with only_writer_of(path):
            pass
        assert os.listdir(tmp_path) == []

    def test_the_lock_of_a_killed_writer_is_taken_over(self, tmp_path: Path) -> None:
        (tmp_path / "rows.json.lock").touch()
        with only_writer_of(tmp_path / "rows.json"):
            pass
        assert os.listdir(tmp_path) == []

    def test_a_lock_that_its_writer_removes_meanwhile_is_made_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock, opened, open_file = tmp_path / "rows.json.lock", [], os.open

        def remove_after_opening(path: Path, flags: int, mode: int = 0o777) -> int:
            opened.append(path)
            descriptor = open_file(path, flags, mode)
            if len(opened) == 1:
                lock.unlink()
            return descriptor

        monkeypatch.setattr(os, "open", remove_after_opening)
        with only_writer_of(tmp_path / "rows.json"):
            assert lock.exists()
            assert opened == [lock, lock]

    def test_where_there_are_no_locks_a_needed_one_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(descriptor: int, kind: int) -> None:
            raise OSError(errno.ENOLCK, "no locks")

        monkeypatch.setattr("fcntl.flock", refuse)
        with only_writer_of(tmp_path / "rows.json"):
            pass
        assert os.listdir(tmp_path) == []
        with pytest.raises(NoLocksError, match="no file locks"), locked_file(tmp_path / "own", "busy"):
            pass


def test_a_file_is_left_alone_unless_it_may_be_replaced_and_a_folder_always(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    refuse_existing(tmp_path / "free")
    refuse_existing(tmp_path / "mine", overwrite=True)
    with pytest.raises(FileExistsError, match=r"exists already and is left as it is; .*mine"):
        refuse_existing(tmp_path / "mine")
    for folder in (tmp_path, Path("")):
        with pytest.raises(FileExistsError, match="is a folder; name a file"):
            refuse_existing(folder, overwrite=True)


def test_a_new_name_is_on_disk_when_the_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(files, "sync_folder", lambda folder: synced.append((folder, sorted(os.listdir(folder)))))
    write_text(tmp_path / "notes.txt", "x")
    with making_folder(tmp_path / "out"):
        pass
    assert synced == [(tmp_path, ["notes.txt"]), (tmp_path, ["notes.txt", "out"])]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no sync")
def test_a_folder_is_on_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "sync", lambda: seen.append(os.listdir(tmp_path)))
    with making_folder(tmp_path / "out") as unfinished:
        (unfinished / "a").write_text("a")
    assert seen == [["out.unfinished"]]
