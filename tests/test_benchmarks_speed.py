"""The speed benchmark: every way is measured, and every figure has its circumstances beside it."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from benchmarks import speed


def test_every_way_is_measured_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "speed.jsonl"
    arguments = ["transform", "--sizes", "16", "--variants", "2", "--batches", "2", "--batch-size", "2"]
    speed.main([*arguments, "--repeats", "1", "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    rates = {line["way"]: line for line in lines if "images_per_cpu_second" in line}
    assert set(rates) == {"loop", "per sample", "in data set", "in collate", "after loader", "ahead"}
    (overhead,) = [line for line in lines if line.get("name") == "loader-overhead"]
    assert overhead["ratio"] > 0.0
    steps = {line["way"] for line in lines if "milliseconds_per_batch" in line}
    assert steps == {f"{way}, with a training step" for way in ("step alone", "after loader", "ahead")}
    for line in lines:
        assert (line["size_px"], line["variants"], line["preset"], line["threads"]) == (16, 2, "small", 1)
        assert line["command"].startswith("python -m benchmarks.speed transform --sizes 16")
        assert line["device"]
        assert line["torch"]
    assert all(line["images_per_cpu_second"] > 0 and line["images_per_second"] > 0 for line in rates.values())
    printed = capsys.readouterr().out
    assert "images per CPU-second" in printed
    assert "step alone" in printed


def test_the_overhead_of_the_loader_is_set_against_step_and_generator_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_measure_way", lambda cell, *_: (1.0, 8.0))  # 4 images: half a second a batch
    monkeypatch.setattr(
        speed, "_measure_steps", lambda *_: {"step alone": 1500.0, "after loader": 1.0, "ahead": 3000.0}
    )
    out = tmp_path / "speed.jsonl"
    arguments = ["transform", "--sizes", "16", "--variants", "2", "--batches", "1", "--batch-size", "2"]
    speed.main([*arguments, "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (row["name"], row["ratio"]) == ("loader-overhead", 1.5)
    assert {"device", "commit", "date", "command", "size_px", "batch_size", "preset"} <= row.keys()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_cpu_time_counts_children_that_have_ended() -> None:
    before = speed._cpu_seconds()
    spent_here = time.process_time()
    child = multiprocessing.get_context("fork").Process(target=burn, args=(0.15,))
    child.start()
    child.join()
    spent_here = time.process_time() - spent_here
    assert speed._cpu_seconds() - before - spent_here > 0.1


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_workers_beside_a_gpu_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["transform", "--device", "cuda", "--workers", "2"])
    assert "forked workers cannot use a GPU" in capsys.readouterr().err
