"""The whole recipe on two ranks: one run folder, restarts, signals, and settings that differ."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from munitaug import ranks
from munitaug.checkpoint import load_method
from munitaug.training.state import load_state
from munitaug.training.trainer import STATE_FILE
from tests.ranks import on_ranks, results
from tests.runs import TINY_TRAINING, train_tiny

pytestmark = pytest.mark.timeout(600)  # seconds where cores are free; processes wait for one another where not
ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def files_of(folder: Path) -> set[str]:
    """Gives what lies in a run folder, without the hash in the name of the weights."""
    files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"weights-\w+", "weights", name) for name in files}


def assert_same_run(folder: Path, whole: Path) -> None:
    (tensors, step), (expected, steps) = (load_state(path / STATE_FILE) for path in (folder, whole))
    assert step == steps
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    assert files_of(folder) == files_of(whole)
    assert load_method(folder).state_dict().keys() == load_method(whole).state_dict().keys()


def test_two_ranks_leave_the_run_folder_that_one_leaves(tmp_path: Path, tiny_run: Path) -> None:
    assert results(2, train_tiny, tmp_path / "run") == [tmp_path / "run" / "checkpoint"] * 2
    assert files_of(tmp_path / "run") == files_of(tiny_run)
    assert (tmp_path / "run" / "config.json").read_text() == (tiny_run / "config.json").read_text()
    assert load_method(tmp_path / "run").style_banks["b"].shape == (12, 3)
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (tmp_path / "run", tiny_run)]
    first, expected = ({**json.loads(log[0]), "seconds": 0} for log in logs)
    assert first == {name: pytest.approx(value, abs=1e-5) for name, value in expected.items()}
    assert [json.loads(line)["step"] for line in logs[0]] == [1, 2, 3, 4]


def other_settings(folder: Path, change: str) -> None:
    mine = ranks.rank()
    if change == "seed":
        train_tiny(folder, replace(TINY_TRAINING, seed=mine))
    elif change == "accumulate":
        train_tiny(folder, replace(TINY_TRAINING, accumulate=1 + mine))
    else:
        train_tiny(folder, images=12 - mine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "training.seed on rank 0 0, on rank 1 1"),
        ("accumulate", "accumulate on rank 0 1, on rank 1 2"),
        ("images", "source.images on rank 0 12, on rank 1 11"),
    ],
)
def test_ranks_with_other_settings_or_data_are_named(tmp_path: Path, change: str, message: str) -> None:
    for error in on_ranks(2, partial(other_settings, change=change), tmp_path / "run"):
        assert isinstance(error, ValueError)
        assert str(error).startswith("ranks must be started alike, but ")
        assert f"{message}; give all the same options" in str(error)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_ranks_cannot_share_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    for error in on_ranks(2, partial(train_tiny, training=replace(TINY_TRAINING, batch_size=3)), tmp_path / "run"):
        assert isinstance(error, ValueError)
        assert "make batch_size a multiple of 2" in str(error)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused_by_the_rank_that_writes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    first, second = on_ranks(2, train_tiny, tmp_path / "run")
    assert isinstance(first, FileExistsError)
    assert isinstance(second, ConnectionError)
    assert "rank 1 of 2 stopped, because another has gone" in str(second)


def test_a_run_goes_on_with_other_turns(tmp_path: Path) -> None:
    """Neither ranks nor turns are settings of the run."""

    def stop(step: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run", replace(TINY_TRAINING, accumulate=2), on_step=stop)
    train_tiny(tmp_path / "run", resume=True)
    train_tiny(tmp_path / "whole")
    half, whole = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert [line["step"] for line in half] == [line["step"] for line in whole]
    terms = [name for name in whole[-1] if "/" in name]
    assert "generator/semantic" in terms
    assert [half[-1][name] for name in terms] == pytest.approx([whole[-1][name] for name in terms], rel=1e-3)


@contextmanager
def launched(output: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Gives a torchrun with two ranks that writes to a file, and ends it with them whatever happens."""
    with output.open("wb") as file:
        process = subprocess.Popen([*LAUNCH, *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_torchrun_starts_killed_ranks_again_and_nothing_is_lost(tmp_path: Path) -> None:
    for name, *flags in (["whole"], ["killed", "--kill"]):
        words = ("--max-restarts", "3", "-m", "tests.recipes.run_ranks", str(tmp_path / name), *flags)
        with launched(tmp_path / "output", *words) as process:
            process.wait()
        output = (tmp_path / "output").read_text()
        assert process.returncode == 0, output
        assert output.count("exitcode: -9") >= (3 if flags else 0), output
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_and_the_run_goes_on_with_one_rank(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with launched(tmp_path / "output", "-m", "tests.recipes.run_ranks", str(folder), "--pause") as process:
        while not (folder / "log.jsonl").exists() or (folder / "log.jsonl").read_text().count("\n") < 3:
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.05)
        process.send_signal(number)
        process.wait()
    output = (tmp_path / "output").read_text()
    assert process.returncode != 0
    _, step = load_state(folder / STATE_FILE)
    assert 3 <= step < 30
    assert output.count(f"munitaug.types.Interrupted: stopped after step {step} of 30") == 2, output
    subprocess.run(
        [sys.executable, "-m", "tests.recipes.run_ranks", str(folder), "--pause", "--resume"], cwd=ROOT, check=True
    )
    assert (folder / "checkpoint" / "checkpoint.json").is_file()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 31))


@pytest.mark.slow
def test_the_command_trains_under_torchrun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = f"train --source synthetic-digits:train:16 --target synthetic-digits:test:16 --out {folder} --size 16"
    words += " --training.max_steps 2 --training.batch_size 4 --training.accumulate 2 --training.device cpu"
    with launched(tmp_path / "output", "-m", "munitaug", *words.split()) as process:
        process.wait()
    output = (tmp_path / "output").read_text()
    assert process.returncode == 0, output
    assert output.count(f"checkpoint: {folder / 'checkpoint'}") == 1
    assert load_state(folder / STATE_FILE)[1] == 2
