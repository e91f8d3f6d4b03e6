"""A row's commit says when the code differed from it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.circumstances import commit_of, without_places

ROOT = Path(__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    someone = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *someone, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "speed.jsonl").write_text("{}\n")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def test_a_commit_without_changes_is_named_by_its_short_name(repository: Path) -> None:
    assert commit_of(repository) == git(repository, "rev-parse", "--short", "HEAD")


def test_a_changed_file_makes_it_dirty_from_any_folder_and_staged_too(repository: Path) -> None:
    clean = commit_of(repository)
    (repository / "code.py").write_text("a = 2\n")
    assert commit_of(repository / "benchmarks") == f"{clean}-dirty"
    git(repository, "add", ".")
    assert commit_of(repository) == f"{clean}-dirty"


def test_new_files_and_appended_rows_leave_it_clean(repository: Path) -> None:
    clean = commit_of(repository)
    (repository / "notes.txt").write_text("new\n")
    (repository / "benchmarks" / "results" / "speed.jsonl").write_text("{}\n{}\n")
    assert commit_of(repository) == commit_of(repository / "benchmarks") == clean


def test_without_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == ""


def test_a_command_names_places_of_this_machine_by_their_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = [
        "--pair",
        "mnist:usps",
        "--data-root",
        "/data/digits",
        "--out",
        str(tmp_path / "results"),
        "--runs=~/runs",
    ]
    assert without_places([*written, "--source", "../photos", "photos/day", "--seeds", "5"]) == [
        *["--pair", "mnist:usps", "--data-root", "DATA", "--out", "results", "--runs=RUNS"],
        *["--source", "SOURCE", "photos/day", "--seeds", "5"],
    ]
    assert without_places(["/data/photos", "--steps", "-1"]) == ["PATH", "--steps", "-1"]


def test_stored_commands_hold_no_place_of_a_machine() -> None:
    rows = [line for path in (ROOT / "benchmarks" / "results").glob("*.jsonl") for line in path.open(encoding="utf-8")]
    commands = {str(json.loads(row).get("command", "")) for row in rows}
    assert len(commands) > 20
    assert [command for command in commands if re.search(r"(^|[\s=])([/~]|\.\./)", command)] == []
