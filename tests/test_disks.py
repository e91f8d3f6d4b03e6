"""Disks that are full or read-only, for real: small file systems in memory. Skipped where they cannot be mounted."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import TINY_MODEL, refusal, run_cli
from tests.test_bad_input import refusal_after_bar

SOURCE, TARGET, SIZE = "synthetic-digits:train:20", "synthetic-digits:test:20", ("--size", "16")
TRAIN = ("train", "--source", SOURCE, "--target", TARGET, *SIZE, "--model", TINY_MODEL, "--training.device", "cpu")
STEPS = ("--training.batch_size", "2", "--training.save_every_steps", "2", "--training.sample_every_steps", "0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    gc.collect()  # in Python 3.13 a refused command's traceback may hold what it had read till then
    subprocess.run(["umount", str(folder)], check=True)  # refused while a file of it is open


def weights(run: Path) -> bytes:
    (file,) = (run / "checkpoint").glob("weights-*")
    return file.read_bytes()


def test_a_disk_that_fills_during_training_loses_no_saved_step(disk: Path, tmp_path: Path) -> None:
    words = (*TRAIN, *STEPS, "--training.max_steps", "6")
    assert run_cli(*words, "--out", tmp_path / "whole").code == 0
    run, ballast = disk / "run", disk / "ballast"
    room = os.statvfs(disk)
    state = (tmp_path / "whole" / "state" / "state.safetensors").stat().st_size
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - state - 20_000))  # room for one state, not for two
    message = refusal_after_bar(*words, "--out", run)
    assert "No space left on device; what was saved before stays" in message
    assert "run the same command with --resume" in message
    assert not (run / "checkpoint").exists()
    assert not list(run.rglob("*.tmp"))
    ballast.unlink()
    assert run_cli(*words, "--out", run, "--resume").code == 0
    assert weights(run) == weights(tmp_path / "whole")


@pytest.mark.parametrize("room", [0, 8_000, 40_000])
def test_a_full_disk_is_said_with_the_file_that_had_no_room(disk: Path, tiny_run: Path, room: int) -> None:
    """Libraries that write may end the process in place of saying so; what they began goes."""
    space = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, space.f_bavail * space.f_frsize - 4096 - room)))
    while room == 0 and os.statvfs(disk).f_bavail:
        with open(disk / "ballast", "ab") as file:
            file.write(bytes(4096))
    images = ("--input", "synthetic-digits:train:300", *SIZE)
    for words, name in (
        (("generate", tiny_run, *images, "--compression", "none", "--batch-size", "2"), "aug.h5"),
        (("preview", tiny_run, *images), "sheet.png"),
        (("export", tiny_run, *SIZE), "graph.pt2"),
    ):
        done = run_cli(*words, "--out", disk / name)
        message = done.err.splitlines()[-1]
        assert done.code == 2, message
        assert "No space left on device" in message or "disk full" in message, message
        assert str(disk / name) in message, message
        assert not (disk / name).exists()
        assert not list(disk.rglob("*.tmp"))


def test_a_read_only_folder_is_named_and_stays_as_it_is(disk: Path, tiny_run: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    images = ("--input", SOURCE, *SIZE)
    domains = ("--source", SOURCE, "--target", TARGET, "--test", TARGET, *SIZE)
    judged = ("--checkpoint", tiny_run, "--source", SOURCE, "--judge", SOURCE, *SIZE)
    for words in (
        (*TRAIN, "--out", disk / "run"),
        ("generate", tiny_run, *images, "--out", disk / "aug.h5"),
        ("preview", tiny_run, *images, "--out", disk / "sheet.png"),
        ("evaluate", *domains, "--out", disk / "rows.json"),
        ("adapt", *domains, "--out", disk / "run"),
        ("export", tiny_run, *SIZE, "--out", disk / "graph.pt2"),
        ("evaluate", "--label-preservation", *judged, "--out", disk / "labels.json"),
    ):
        message = refusal(*words)
        assert "Read-only file system" in message, words
        assert str(disk) in message, words
    assert list(disk.iterdir()) == []


def test_a_run_in_a_folder_that_became_read_only_is_not_resumed(disk: Path) -> None:
    words = (*TRAIN, *STEPS, "--out", disk / "run", "--training.max_steps", "2")
    assert run_cli(*words).code == 0
    before = {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "Read-only file system" in refusal_after_bar(*words, "--resume")
    assert {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()} == before
