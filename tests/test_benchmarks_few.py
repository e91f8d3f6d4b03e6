"""Accuracy against the number of target images: which rows give which point, and that a picture comes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import few
from benchmarks.rows import Result, parse_result
from tests.test_benchmarks_report import row


def result(condition: str, seed: int, right: int, target_images: int = 0, **changes: Any) -> Result:
    return parse_result(line(condition, seed, right, target_images, **changes))


def line(condition: str, seed: int, right: int, target_images: int = 0, **changes: Any) -> str:
    plan = {"steps": 1} | ({"target_images": target_images} if target_images else {})
    return row(condition, seed, right, more={"plan": plan} | changes)


def test_each_number_of_target_images_is_a_point_and_all_comes_last() -> None:
    rows = [
        *(result("classic", seed, right, 100) for seed, right in ((0, 100), (1, 140))),
        result("classic", 0, 50, 1000),
        result("classic", 0, 150),
        result("adapt", 0, 160, 100),
        result("fda", 0, 160, 100),
        result("classic", 0, 20, protocol="sampled"),
        result("classic", 0, 20, pair="svhn:mnist"),
    ]
    found = few.curves(rows)
    assert list(found) == ["mnist:usps"]
    assert list(found["mnist:usps"]) == ["classic", "adapt"]
    points = found["mnist:usps"]["classic"]
    assert few.in_order(points) == [100, 1000, few.ALL]
    assert [(points[count].mean, points[count].seeds) for count in few.in_order(points)] == [(60, 2), (25, 1), (75, 1)]


def test_a_picture_is_drawn_of_rows_of_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for folder, count in (("few", 100), ("whole", 0)):
        (tmp_path / folder).mkdir()
        lines = [line(name, seed, 150 + seed, count) for name in ("classic", "adapt") for seed in (0, 1)]
        (tmp_path / folder / "digits-mnist-usps.jsonl").write_text("\n".join(lines))
    out = tmp_path / "images" / "few.png"
    folders = [str(tmp_path / "few"), str(tmp_path / "whole")]
    monkeypatch.setattr(sys, "argv", ["few", "--results", *folders, "--out", str(out)])
    few.main()
    assert "classic                  100: 75.25, all: 75.25" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_rows_of_all_target_images_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits-mnist-usps.jsonl").write_text(line("classic", 0, 150))
    monkeypatch.setattr(sys, "argv", ["few", "--results", str(tmp_path), "--out", str(tmp_path / "few.png")])
    with pytest.raises(SystemExit, match="--target-images 100 first"):
        few.main()
    assert not (tmp_path / "few.png").exists()
