"""What the judge sees in translated, restyled and inverted images, on patterns whose classes are plain."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import digits, flips
from benchmarks.digits import Job, Places, Plan
from benchmarks.flips import Seen, look, measure, render
from munitaug.adaptation import FitSettings
from tests.test_benchmarks_digits import pair

PLAN = Plan(
    FitSettings(steps=6, self_steps=5, starts=2, start_steps=2, refine_steps=5, batch_size=8), translator_steps=2
)


class BrightCorner(nn.Module):
    """Sees the class whose pixel, of the first three of the first row, is brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x[:, 0, 0, :3]


def images_of(classes: list[int]) -> Tensor:
    images = torch.full((len(classes), 1, 16, 16), -1.0)
    for image, seen in zip(images, classes, strict=True):
        image[0, 0, seen] = 1.0
    return images


def test_shares_are_of_all_images() -> None:
    seen = look(BrightCorner(), images_of([0, 1, 2, 0]), torch.tensor([0, 1, 2, 1]))
    assert seen.kept_percent == 75.0
    assert seen.inverted_percent == 25.0  # of the fourth, inverted, pixels 1 and 2 are bright and the first counts: 1
    assert Seen(torch.tensor([2]), torch.tensor([2]), torch.tensor([2])).inverted_percent == 0.0


def test_flips_are_shares_of_the_true_class() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    seen = Seen(labels, torch.tensor([0, 0, 0, 1, 2, 2, 2, 0]), labels)
    assert seen.flips()[:3] == [(1, 2, 100.0), (2, 0, 50.0), (0, 1, 25.0)]


def test_a_cell_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_open", lambda job: pair())
    job = Job("toy", 0, (), PLAN, Places(runs=tmp_path / "runs"))
    row = measure(job, tmp_path / "sheet.png")
    assert row["images"] == [12, 12]
    assert all(0.0 <= row[name] <= 100.0 for name in flips.COLUMNS)
    assert row["kept"] + row["inverted"] <= 100.0
    assert (tmp_path / "sheet.png").is_file()
    assert measure(job, None) == row


def test_the_table_is_printed_and_cells_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flips.jsonl"
    numbers = dict.fromkeys(flips.COLUMNS, 50.0)
    asked: list[int] = []

    def measured(job: Job, sheet: Path | None) -> dict[str, float]:
        asked.append(job.seed)
        assert (sheet is None) == (job.seed > 0)
        return numbers | {"kept": 40.0 + 20.0 * job.seed}

    monkeypatch.setattr(flips, "measure", measured)
    monkeypatch.setattr(sys, "argv", ["flips", "--pair", "mnist:usps", "--seeds", "2", "--out", str(out)])
    flips.main()
    flips.main()
    assert asked == [0, 1]
    assert [json.loads(line)["seed"] for line in out.read_text().splitlines()] == [0, 1]
    assert "| mnist:usps | 2 | 50.0 (50.0 to 50.0) | 50.0 (40.0 to 60.0) |" in capsys.readouterr().out


def test_one_seed_has_no_spread() -> None:
    row = dict.fromkeys(flips.COLUMNS, 12.34) | {"pair": "a:b", "seed": 0}
    assert render([row]).splitlines()[-1] == "| a:b | 1 |" + " 12.3 |" * len(flips.COLUMNS)
