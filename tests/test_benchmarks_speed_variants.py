"""Variants at once are the variants one by one, and are compared with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import munitaug
from benchmarks import speed_variants
from benchmarks.speed_variants import ONE_BY_ONE, Work, main, ways_of
from munitaug.methods import Munit
from tests.tiny import TINY


def test_all_ways_make_the_same_images(tmp_path: Path) -> None:
    munitaug.save(Munit(TINY, seed=3), tmp_path / "checkpoint")
    ways = ways_of(tmp_path / "checkpoint", Work(batch=2, variants=4, side=16), "cpu")
    with torch.inference_mode():
        images = {name: way() for name, way in ways.items()}
    assert images[ONE_BY_ONE].shape == (2, 4, 3, 16, 16)
    assert torch.allclose(images["variants-4"], images[ONE_BY_ONE], atol=1e-5)
    assert torch.allclose(images["variants-4-bf16"], images[ONE_BY_ONE], atol=0.1)


def test_ratios_are_of_medians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = {ONE_BY_ONE: [0.9, 8.0, 1.0], "variants-8": [0.5, 0.1, 0.6], "variants-8-bf16": [0.25, 0.25, 9.0]}
    monkeypatch.setattr(speed_variants, "seconds", lambda ways, options: taken)
    out = tmp_path / "out" / "speed.jsonl"
    main(["--batches", "2", "--size", "16", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    told = [(row["name"], row["ratio"], row["images_per_second"]) for row in rows]
    assert told == [("variants-8-vs-one-by-one", 2.0, 32.0), ("variants-8-bf16-vs-one-by-one", 4.0, 64.0)]
    assert {"device", "commit", "date", "command", "size_px", "batch_size", "compiled"} <= rows[0].keys()
    assert "4.00x" in capsys.readouterr().out
