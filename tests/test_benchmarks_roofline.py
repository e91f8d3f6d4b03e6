"""Operations and bytes against what is worked out by hand, and one small piece of each kind of work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import roofline
from benchmarks.roofline import WORK, Least, Peaks, Work, count, main

PEAKS = Peaks(operations=1e9, bytes_copied=1e8, bytes_to_disk=1e7, bytes_compressed=1e7)


def test_a_convolution_is_counted_by_hand() -> None:
    x, weight = torch.zeros(2, 3, 8, 8), torch.zeros(5, 3, 3, 3)
    least = count(lambda: F.conv2d(x, weight).relu())
    assert least.operations == 2 * 2 * 5 * 6 * 6 * 3 * 3 * 3
    assert least.bytes_moved == 4 * (x.numel() + weight.numel() + 2 * 5 * 6 * 6)


def test_adam_moves_seven_numbers_per_weight() -> None:
    weight = torch.nn.Parameter(torch.zeros(10, 3))
    weight.grad = torch.ones(10, 3)
    optimiser = torch.optim.Adam([weight], fused=True)
    assert count(optimiser.step).bytes_moved == 7 * 4 * 30


@pytest.mark.parametrize(("least", "seconds"), [(Least(2e9, 1e8), 2.0), (Least(1e9, 3e8), 3.0)])
def test_the_floor_is_the_larger_time(least: Least, seconds: float) -> None:
    assert least.floor_seconds(PEAKS) == seconds


@pytest.mark.parametrize("kind", ["train", "translate", "generate"])
def test_each_kind_of_work_is_measured(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORK, "tiny", Work(kind, "small", 16, 2, 1 if kind == "train" else 2))
    monkeypatch.setattr(roofline, "measure_peaks", lambda device, precision: PEAKS)
    out = tmp_path / "roofline.jsonl"
    main(["--work", "tiny", "--repeats", "1", "--threads", "1", "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["name"] == "tiny"
    assert row["gigaoperations"] > 0.0
    assert row["megabytes"] > 0.0
    assert row["measured_ms"] > 0.0
    assert row["share"] == pytest.approx(row["floor_ms"] / row["measured_ms"], rel=0.01)
    assert row["peaks"]["operations"] == 1e9
    assert {"device", "commit", "date", "command"} <= row.keys()


def test_peaks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roofline.MATRIX_SIDE, "cpu", 64)
    monkeypatch.setitem(roofline.WIDE_MAPS, "cpu", (1, 4, 8))
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 2**12)
    monkeypatch.setattr(roofline, "DISK_BYTES", 2**12)
    peaks = roofline.measure_peaks("cpu", "float32")
    assert min(vars(peaks).values()) > 0.0
