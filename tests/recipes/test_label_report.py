"""What a count of kept labels says: its table, its document, its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from munitaug.adaptation.label_preservation import Confusion
from munitaug.recipes import label_report
from munitaug.recipes.label_report import LabelReport, StyledBy, draw_confusion

STYLED = StyledBy("munit", "abc", "a2b", "prior", None, 2, 0)
REPORT = LabelReport(
    source="photos",
    class_names=("cat", "dog", "2"),
    images=8,
    styled=STYLED,
    judge="lenet classifier",
    judge_images=("paintings", 40),
    judge_test="more paintings",
    translated=Confusion(((9, 1, 0), (0, 3, 3), (0, 0, 0))),
    untranslated=Confusion(((5, 0, 0), (1, 2, 0), (0, 0, 0))),
    judged=Confusion(((4, 0, 0), (0, 2, 2), (0, 0, 2))),
)


def test_the_table_has_a_line_for_each_class_that_is_there() -> None:
    lines = REPORT.table().splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["cat", "10", "90.0", "100.0", "100.0", "dog", "(10.0%)"],
        ["dog", "6", "50.0", "66.7", "50.0", "2", "(50.0%)"],
        ["all", "16", "75.0", "87.5", "80.0"],
    ]
    assert lines[4] == "12 of 16 variants (75.0%) of photos keep their label."
    assert lines[5].startswith("Judge: lenet classifier taught by 40 images of paintings; of 10 images of more paintin")
    assert "gets 80.0% right. Its own errors count as lost labels." in lines[5]
    starts = [lines[0].index(title) + len(title) for title in ("variants", "kept %", "untranslated %", "judge alone %")]
    assert all(lines[1][:start].rstrip() == lines[1][:start] for start in starts)


def test_the_document_has_every_number_and_null_where_there_is_none() -> None:
    document = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    assert document["overall"] == {
        "variants": 16,
        "kept": 12,
        "kept_percent": 75.0,
        "untranslated_percent": 87.5,
        "judge_alone_percent": 80.0,
    }
    assert document["judge_images"] == {"name": "paintings", "count": 40}
    assert [entry["kept_percent"] for entry in document["classes"]] == [90.0, 50.0, None]
    assert [entry["usual_mistake"] for entry in document["classes"]] == [1, 2, None]
    assert replace(REPORT, judge_images=None).to_json()["judge_images"] is None


def test_the_picture_shows_counts_and_shares_of_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[tuple[float, float], str] = {}
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **style: written.update({(y, x): text}))
    draw_confusion(REPORT, tmp_path / "picture.png")
    shown = {place: text for place, text in written.items() if text}
    assert shown == {(0, 0): "9\n90.0%", (0, 1): "1\n10.0%", (1, 1): "3\n50.0%", (1, 2): "3\n50.0%"}


def test_the_picture_is_blue_where_labels_are_kept_and_red_where_not(tmp_path: Path) -> None:
    colours = label_report._cell_colours(torch.tensor([[100.0, 0.0], [40.0, 60.0]]))
    assert colours[0, 1].tolist() == [1.0, 1.0, 1.0]
    assert colours[0, 0].tolist() == pytest.approx(label_report.BLUE)
    assert colours[1, 0, 0] > colours[1, 0, 2]
    assert colours[1, 1, 2] > colours[1, 1, 0]


def test_many_classes_are_drawn_without_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **style: written.append(text))
    counts = Confusion(tuple(tuple(int(row == column) for column in range(21)) for row in range(21)))
    names = tuple(f"a rather long name {label}" for label in range(21))
    draw_confusion(
        replace(REPORT, class_names=names, translated=counts, untranslated=counts, judged=counts), tmp_path / "many.png"
    )
    assert written == []
    with Image.open(tmp_path / "many.png") as picture:
        assert picture.width > 1000
