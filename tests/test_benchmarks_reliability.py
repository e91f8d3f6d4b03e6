"""The reliability studies: what crashes, hangs, lies or strays is seen as such, and small studies find nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks import damage
from benchmarks.damage import Victim, read_outcome, survey
from munitaug.types import CheckpointError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")


def bad_reader(folder: Path) -> bool:
    """Misbehaves in a way that the damaged file decides."""
    match (folder / "file").read_bytes()[:1]:
        case b"a":
            return True
        case b"":
            raise CheckpointError(f"{folder / 'file'} is empty")
        case byte if byte < b"a":
            os.kill(os.getpid(), signal.SIGSEGV)
        case byte if byte < b"\x80":
            raise KeyError("x")
    return False


def victims(folder: Path) -> list[Victim]:
    (folder / "file").write_bytes(b"a")
    return [Victim(folder, ("file",), bad_reader)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_crashes_lies_and_strays_are_told_apart(tmp_path: Path) -> None:
    outcomes, remarks = survey(victims, tmp_path / "victims", 8, 0)
    assert sum(outcomes.values()) == 8
    assert outcomes.keys() >= {"right", "refused CheckpointError", "crash", "wrong", "stray KeyError"}
    assert len(remarks) == 8 - outcomes["right"] - outcomes["refused CheckpointError"]
    assert any(f"crash: exit code -{int(signal.SIGSEGV)}" in remark for remark in remarks)


def sleep_long(folder: Path) -> bool:
    time.sleep(60)
    return folder.exists()


def sleepers(folder: Path) -> list[Victim]:
    (folder / "file").write_bytes(b"a")
    return [Victim(folder, ("file",), sleep_long)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "TIME_LIMIT_S", 0.3)
    outcomes, _ = survey(sleepers, tmp_path / "victims", 1, 0)
    assert outcomes == {"hang": 1}


def test_an_error_that_names_no_file_is_a_stray(tmp_path: Path) -> None:
    def refuse(place: Path) -> bool:
        raise CheckpointError("something is wrong")

    assert read_outcome(Victim(tmp_path, ("f.h5",), refuse), tmp_path / "f.h5") == (
        "stray CheckpointError: something is wrong"
    )


def studied(name: str, count: int, out: Path) -> dict[str, Any]:
    """Gives the row of a small study, made in a process of its own: one in which torch has trained cannot be forked."""
    command = [sys.executable, "-m", "benchmarks.reliability", "--what", name, "--count", str(count), "--out", str(out)]
    done = subprocess.run(
        command, cwd=Path(benchmarks.__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert isinstance(row, dict)
    return row


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("checkpoints", 60),
        ("images", 200),
        ("kills-train", 4),
        ("kills-generate", 4),
        ("interrupts-train", 4),
        ("interrupts-generate", 4),
    ],
)
def test_a_small_study_finds_no_flaw(name: str, count: int, tmp_path: Path) -> None:
    row = studied(name, count, tmp_path / "rows.jsonl")
    assert row["flaws"] == 0, row
    assert row["name"] == name
    assert row["count"] == count
    assert (
        sum(number for key, number in row["outcomes"].items() if not key.startswith(("stopped", "right end"))) >= count
    )
    assert {"device", "commit", "date", "command"} <= row.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("memory-train", 30), ("memory-generate", 400)])
def test_memory_is_watched(name: str, count: int, tmp_path: Path) -> None:
    row = studied(name, count, tmp_path / "rows.jsonl")
    assert 10.0 < row["early_mib"] <= row["largest_mib"]
    assert row["growth_mib"] == pytest.approx(row["late_mib"] - row["early_mib"], abs=0.11)
