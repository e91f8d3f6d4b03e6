"""A run that was killed and resumed has the weights of one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from munitaug import tensor_files
from munitaug.stopping import stop_on_signals
from munitaug.training.state import load_state
from munitaug.training.trainer import STATE_FILE
from munitaug.types import Interrupted
from tests.tiny import TINY_TRAINING, tiny_trainer

ROOT = Path(__file__).resolve().parents[2]
STEPS = 7
CONFIG = replace(TINY_TRAINING, max_steps=STEPS, save_every_steps=3)
MANY_STEPS = 60


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing of the package catches it."""


def logged_steps(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text().splitlines() if (folder / "log.jsonl").exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def assert_equal_runs(folder: Path, whole: Path, steps: int) -> None:
    """Compares everything that a run leaves: weights, moments, averages, log."""
    (tensors, step), (expected, _) = load_state(folder / STATE_FILE), load_state(whole / STATE_FILE)
    assert step == steps
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    assert logged_steps(folder) == list(range(1, steps + 1))
    for mine, other in zip(*((f / "log.jsonl").read_text().splitlines() for f in (folder, whole)), strict=True):
        assert {**json.loads(mine), "seconds": 0} == {**json.loads(other), "seconds": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tiny_trainer(folder, CONFIG).run(progress=False)
    return folder


def run_until_killed(folder: Path, step: int, resume: bool) -> None:
    def kill(done: int, terms: dict[str, float]) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        tiny_trainer(folder, CONFIG).run(resume=resume, on_step=kill, progress=False)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_run_cut_after_any_step_resumes_exactly(tmp_path: Path, whole: Path, step: int) -> None:
    run_until_killed(tmp_path, step, resume=False)
    tiny_trainer(tmp_path, CONFIG).run(resume=True, progress=False)
    assert_equal_runs(tmp_path, whole, STEPS)


def test_a_run_cut_again_and_again_resumes_exactly(tmp_path: Path, whole: Path) -> None:
    run_until_killed(tmp_path, 2, resume=False)
    for step in (1, 3, 4, 5):
        run_until_killed(tmp_path, step, resume=True)
    tiny_trainer(tmp_path, CONFIG).run(resume=True, progress=False)
    assert_equal_runs(tmp_path, whole, STEPS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_once_and_the_run_resumes_exactly(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    def send(done: int, terms: dict[str, float]) -> None:
        if done == 4:
            os.kill(os.getpid(), number)

    def interrupted_run() -> None:
        with stop_on_signals() as should_stop:
            tiny_trainer(tmp_path, CONFIG).run(on_step=send, should_stop=should_stop, progress=False)

    with pytest.raises(Interrupted, match="stopped after step 5 of 7"):
        interrupted_run()
    assert load_state(tmp_path / STATE_FILE)[1] == 5
    tiny_trainer(tmp_path, CONFIG).run(resume=True, progress=False)
    assert_equal_runs(tmp_path, whole, STEPS)


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_kill_while_saving_never_loses_the_previous_state(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    replace_file = os.replace
    saves = 0

    def dying_save(*arguments: object) -> None:
        nonlocal saves
        saves += 1
        save_file(*arguments)  # type: ignore[arg-type]
        if saves == 3 and moment == "before":
            path = Path(str(arguments[1]))
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise Killed

    def dying_replace(source: Path, target: Path) -> None:
        if saves == 3 and moment == "after" and target.name == STATE_FILE.name:
            replace_file(source, target)
        if saves == 3 and moment != "before" and target.name == STATE_FILE.name:
            raise Killed
        replace_file(source, target)

    monkeypatch.setattr(tensor_files, "save_file", dying_save)
    monkeypatch.setattr(os, "replace", dying_replace)
    with pytest.raises(Killed):
        tiny_trainer(tmp_path, CONFIG).run(progress=False)
    monkeypatch.undo()
    # a real kill runs no handler, so its half-written file stays
    (tmp_path / STATE_FILE).with_name("state.safetensors.tmp").write_bytes(b"half")
    assert load_state(tmp_path / STATE_FILE)[1] == (6 if moment == "after" else 3)
    tiny_trainer(tmp_path, CONFIG).run(resume=True, progress=False)
    assert_equal_runs(tmp_path, whole, STEPS)


def start(folder: Path, *arguments: str, steps: int = MANY_STEPS) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.training.run_tiny", str(folder), str(steps), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)


def kill_after(process: subprocess.Popen[bytes], folder: Path, step: int, delay_s: float) -> None:
    """Sends SIGKILL a moment after the step was logged."""
    deadline = time.monotonic() + 60
    while max(logged_steps(folder), default=0) < step and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_process_killed_at_random_moments_resumes_exactly(tmp_path: Path) -> None:
    tiny_trainer(tmp_path / "whole", replace(CONFIG, max_steps=MANY_STEPS)).run(progress=False)
    folder = tmp_path / "killed"
    rng = np.random.default_rng()
    reached = 0
    for kills in range(4):
        process = start(folder, *(["--resume"] if kills else []))
        reached = min(reached + int(rng.integers(1, 14)), MANY_STEPS - 3)
        kill_after(process, folder, reached, float(rng.uniform(0, 0.05)))
        assert process.returncode == -signal.SIGKILL
    last = start(folder, "--resume")
    errors = last.communicate(timeout=60)[1]
    assert last.returncode == 0, errors.decode()
    assert_equal_runs(folder, tmp_path / "whole", MANY_STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_gets_a_signal_resumes_exactly(tmp_path: Path, whole: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--signal", str(int(number)), "4", steps=STEPS)
    errors = process.communicate(timeout=60)[1].decode()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert load_state(tmp_path / STATE_FILE)[1] == 3
    else:
        assert process.returncode == 1
        assert "munitaug.types.Interrupted: stopped after step 5 of 7" in errors
        assert load_state(tmp_path / STATE_FILE)[1] == 5
    tiny_trainer(tmp_path, CONFIG).run(resume=True, progress=False)
    assert_equal_runs(tmp_path, whole, STEPS)
