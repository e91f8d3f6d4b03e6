"""Augmentation beside a training step is set against both run apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed_loader
from benchmarks.speed_loader import main

TINY = ["--batch", "2", "--batches", "2", "--rounds", "1", "--size", "16"]


def test_the_ratio_is_of_medians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"step": [3.0, 9.0, 2.0], "generator": [1.0], "together": [3.0]}
    monkeypatch.setattr(speed_loader, "seconds", lambda transform, options: times)
    out = tmp_path / "speed.jsonl"
    main([*TINY, "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["name"], row["ratio"], row["step_ms"]) == ("loader-overhead", 0.75, 1500.0)
    assert {"device", "commit", "date", "command", "size_px", "batch_size", "classifier"} <= row.keys()
    assert "0.750" in capsys.readouterr().out


def test_all_three_runs_are_timed(tmp_path: Path) -> None:
    out = tmp_path / "speed.jsonl"
    main([*TINY, "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert min(row["step_ms"], row["generator_ms"], row["together_ms"]) > 0.0
    assert row["ratio"] == pytest.approx(row["together_ms"] / (row["step_ms"] + row["generator_ms"]), rel=0.01)
