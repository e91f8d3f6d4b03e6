"""Does it help? Rows in a file, and their picture."""

from __future__ import annotations

import json
import math
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from munitaug.adaptation import CONDITIONS, Row, Summary
from munitaug.data.domain import ArrayDomain
from munitaug.files import only_writer_of
from munitaug.recipes import DataOptions, draw_accuracies, evaluate
from munitaug.types import CheckpointError, DomainError, LabelMissingError
from tests.runs import TINY_FIT, toy_domain, toy_images


def run(out: Path, **changes: object) -> list[Row]:
    arguments: dict[str, object] = {
        "source": toy_domain("source", 15),
        "target": toy_domain("target", 15, seed=1),
        "out": out,
        "test": toy_domain("test", 9, seed=2),
        "seeds": 1,
        "fit": TINY_FIT,
        "processes": 1,
        "progress": False,
    }
    return evaluate(**(arguments | changes))  # type: ignore[arg-type]


def conditions_of(rows: list[Row]) -> list[str]:
    return [row["condition"] for row in rows]


def test_with_a_checkpoint_all_conditions_are_run_and_written(tiny_run: Path, tmp_path: Path) -> None:
    rows = run(tmp_path / "deep" / "rows.json", checkpoint=tiny_run)
    assert conditions_of(rows) == list(CONDITIONS)
    assert json.loads((tmp_path / "deep" / "rows.json").read_text()) == rows
    assert [set(row) for row in rows] == [{"condition", "seed", "accuracy"}] * 6


def test_without_a_checkpoint_nothing_is_translated(tmp_path: Path) -> None:
    assert conditions_of(run(tmp_path / "rows.json")) == ["source", "classic", "self-training", "oracle"]


def test_without_target_labels_there_is_no_oracle(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows.json", target=toy_domain("target", 15, seed=1, labelled=False))
    assert conditions_of(rows) == ["source", "classic", "self-training"]


def test_rows_of_different_settings_are_not_mixed(tmp_path: Path) -> None:
    run(tmp_path / "rows.json", conditions=["source"])
    before = (tmp_path / "rows.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"fit\.steps was \d+, now 77"):
        run(tmp_path / "rows.json", conditions=["classic"], resume=True, fit=replace(TINY_FIT, steps=77))
    with pytest.raises(CheckpointError, match=r"source.images was 15, now 12"):
        run(tmp_path / "rows.json", conditions=["classic"], resume=True, source=toy_domain("source", 12))
    assert (tmp_path / "rows.json").read_bytes() == before


def test_a_checkpoint_may_come_later_but_not_change(tiny_run: Path, tmp_path: Path) -> None:
    run(tmp_path / "rows.json", conditions=["source"])
    run(tmp_path / "rows.json", conditions=["munit"], resume=True, checkpoint=tiny_run)
    settings = json.loads((tmp_path / "rows.settings.json").read_text())
    assert len(settings["checkpoint_sha256"]) == 64
    (tmp_path / "rows.settings.json").write_text(json.dumps(settings | {"checkpoint_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="checkpoint_sha256 was '0000"):
        run(tmp_path / "rows.json", conditions=["adapt"], resume=True, checkpoint=tiny_run)


def test_resuming_adds_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    first = run(tmp_path / "rows.json", conditions=["source"])
    both = run(tmp_path / "rows.json", conditions=["classic"], resume=True)
    assert conditions_of(both) == ["source", "classic"]
    assert both[0] == first[0]
    assert json.loads((tmp_path / "rows.json").read_text()) == both


def test_rows_of_unknown_settings_are_not_added_to(tmp_path: Path) -> None:
    run(tmp_path / "rows.json", conditions=["source"])
    (tmp_path / "rows.settings.json").unlink()
    before = (tmp_path / "rows.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"rows\.settings\.json is missing, so it is not known"):
        run(tmp_path / "rows.json", conditions=["classic"], resume=True)
    assert (tmp_path / "rows.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"fit": {}}'])
def test_settings_that_are_none_are_left_alone_and_named(tmp_path: Path, content: str) -> None:
    """Somebody's own file may be called so, too."""
    beside = tmp_path / "rows.settings.json"
    beside.write_text(content)
    with pytest.raises(CheckpointError, match=r"rows\.settings\.json does not hold the settings that evaluate writes"):
        run(tmp_path / "rows.json", conditions=["source"])
    (tmp_path / "rows.json").write_text('[{"condition": "source", "seed": 0, "accuracy": 50.0}]')
    with pytest.raises(CheckpointError, match=r"rows\.settings\.json does not hold the settings that evaluate writes"):
        run(tmp_path / "rows.json", conditions=["classic"], resume=True)
    assert beside.read_text() == content


def test_outputs_of_different_names_have_settings_of_their_own(tmp_path: Path) -> None:
    for name in ("rows-0.5", "rows-0.7.json"):
        run(tmp_path / name, conditions=["source"])
    expected = ["rows-0.5", "rows-0.5.settings.json", "rows-0.7.json", "rows-0.7.settings.json"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == expected


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(FileExistsError, match="exists already; add missing cells with --resume"):
        run(tmp_path / "rows.json")
    assert (tmp_path / "rows.json").read_text() == "[]"


def test_a_foreign_file_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("my diary")
    with pytest.raises(ValueError, match="is not a list of results"):
        run(tmp_path / "rows.json", resume=True)
    assert (tmp_path / "rows.json").read_text() == "my diary"


def test_a_named_target_is_scored_on_its_own_test_split(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    spec = "synthetic-digits:train:40"
    rows = run(
        tmp_path / "rows.json",
        source=spec,
        target="digits:train:40",
        test=None,
        conditions=["source"],
        data=DataOptions(channels=1, size=16),
    )
    right = rows[0]["accuracy"] * 797 / 100.0  # of scikit-learn's 797 test images
    assert right == pytest.approx(round(right), abs=0.01)


@pytest.mark.parametrize("target", [toy_domain("folder"), "synthetic-digits:test:9"])
def test_a_target_without_a_test_split_needs_one(tmp_path: Path, target: object) -> None:
    with pytest.raises(DomainError, match="names no test split of its own; give labelled target test images with --t"):
        run(tmp_path / "rows.json", target=target, test=None)


def test_an_unlabelled_test_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelMissingError, match="test has no labels"):
        run(tmp_path / "rows.json", test=toy_domain("test", labelled=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["test", "target"])
def test_labels_that_mean_other_classes_are_refused(tmp_path: Path, place: str) -> None:
    images, labels = toy_images(9, 3)
    here = ArrayDomain("here", images, labels, ("cat", "dog", "horse"))
    there = ArrayDomain("there", images, labels.clamp(max=1), ("cat", "horse"))
    chosen = {"target": here, "test": here} | {place: there}
    with pytest.raises(DomainError, match=r"here has 3 classes and there has 2, and they are not the same \(dog\)"):
        run(tmp_path / "rows.json", source=here, **chosen)
    assert list(tmp_path.iterdir()) == []


def summaries(count: int, half_width: float) -> list[Summary]:
    return [Summary(name, 40.0 + 10 * place, half_width, 30.0, 3) for place, name in enumerate(CONDITIONS[:count])]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("half_width", [math.nan, 0.0, 3.0, 400.0])
def test_picture_is_drawn_whatever_the_intervals_are(tmp_path: Path, count: int, half_width: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib warns when a layout collapses
        draw_accuracies(summaries(count, half_width), "A title", tmp_path / "accuracy.png")
    with Image.open(tmp_path / "accuracy.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (910, int((0.55 * count + 1.4) * 130))
        colours = picture.convert("RGB").getcolors(2**20)
    assert colours is not None
    bars = {(0x1F, 0x6F, 0x8B), (0xB9, 0xC4, 0xC9)} & {colour for _, colour in colours}
    assert len(bars) == (2 if count == 6 else 1)


def test_axis_of_the_picture_stays_within_percents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, path: Path, **changes: Any) -> None:
        figures.append(self)
        save(self, path, **changes)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_accuracies(summaries(6, 400.0), "wide", tmp_path / "wide.png")
    draw_accuracies([Summary("adapt", 96.0, 1.0, 95.0, 3)], "narrow", tmp_path / "narrow.png")
    wide, narrow = (figure.axes[0] for figure in figures)
    assert wide.get_xlim() == pytest.approx((0.0, 107.0))
    assert narrow.get_xlim() == pytest.approx((80.0, 101.4))
    assert max(text.get_position()[0] for text in wide.texts) < 101.0
    assert [text.get_text() for text in wide.texts] == ["40.0", "50.0", "60.0", "70.0", "80.0", "90.0"]


def test_missing_matplotlib_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install \"munitaug\[benchmarks\]\""):
        draw_accuracies(summaries(1, 1.0), "", tmp_path / "accuracy.png")


def test_images_of_the_wrong_channels_are_refused(tmp_path: Path) -> None:
    rgb = ArrayDomain("rgb", torch.zeros(3, 3, 16, 16, dtype=torch.uint8), torch.arange(3))
    with pytest.raises(DomainError, match="source has 1 channels and rgb has 3"):
        run(tmp_path / "rows.json", target=rgb)


def test_a_second_writer_of_the_rows_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    with only_writer_of(out), pytest.raises(BlockingIOError, match=r"another process is writing to .*rows\.json"):
        run(out)
    assert not out.exists()
    run(out, conditions=["source"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.json", "rows.settings.json"]


@pytest.mark.parametrize("mean", [None, math.nan])
def test_nothing_to_draw_is_refused(tmp_path: Path, mean: float | None) -> None:
    drawn = [] if mean is None else [Summary("source", mean, 1.0, 50.0, 3)]
    with pytest.raises(ValueError, match="at least one summary to draw"):
        draw_accuracies(drawn, "title", tmp_path / "x.png")
