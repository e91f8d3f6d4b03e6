"""Levers are timed step by step and compared with plain training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import speed_train
from benchmarks.speed_train import LEVERS, main, step_seconds


def test_ratios_are_of_medians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"float32": [1.0, 3.0, 2.0], "bfloat16": [0.5, 0.25, 9.0]}
    monkeypatch.setattr(speed_train, "step_seconds", lambda lever, options: times[lever])
    out = tmp_path / "speed.jsonl"
    main(["--levers", "bfloat16", "--rounds", "2", "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["name"], row["ratio"], row["steps"]) == ("train-step-bfloat16-vs-float32", 4.0, 6)
    assert {"device", "commit", "date", "command", "preset", "size_px"} <= row.keys()
    assert "4.00x" in capsys.readouterr().out


def test_a_recorded_step_is_compared_with_one_of_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"float32": [4.0], "bfloat16": [2.0], "bfloat16+graph": [0.5]}
    monkeypatch.setattr(speed_train, "step_seconds", lambda lever, options: times[lever])
    out = tmp_path / "speed.jsonl"
    main(["--levers", "bfloat16", "bfloat16+graph", "--rounds", "1", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["name"]: row["ratio"] for row in rows} == {
        "train-step-bfloat16-vs-float32": 2.0,
        "train-step-bfloat16+graph-vs-float32": 8.0,
        "graph-vs-eager": 4.0,
    }


def test_steps_are_timed_after_warming_up() -> None:
    options = argparse.Namespace(steps=3, batch=2, size=16, device="cpu", method="munit", preset="small")
    seconds = step_seconds("bfloat16", options)
    assert len(seconds) == 3
    assert min(seconds) > 0.0


def test_levers_are_settings_of_training() -> None:
    assert LEVERS["all"] == LEVERS["bfloat16+channels-last"] | LEVERS["compile"] | {"precision": "bfloat16"}
