"""Trials on the development pair: what is held out, what a change may be, and that rows are kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import munitaug
from benchmarks import development
from benchmarks.development import Trial, changed, development_data, render, run_trial
from benchmarks.digits import Places
from munitaug.adaptation import FitSettings
from tests.test_benchmarks_digits import pair

SHORT = FitSettings(steps=6, self_steps=5, starts=2, start_steps=2, refine_steps=5, batch_size=8)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens the toy pair in the place of the development pair; 8 of its images are trained on."""
    monkeypatch.setattr(development, "open_pair", lambda *_, **__: pair())
    monkeypatch.setattr(development, "UNLABELLED_IMAGES", 8)


def trial(tmp_path: Path, *changes: str) -> Trial:
    return Trial(3, changes, SHORT, 2, Places(runs=tmp_path / "runs"))


def test_a_change_names_settings_and_gives_values_of_their_kind() -> None:
    settings = changed(FitSettings(), "refine_steps=1200,threshold=0.8,precision=bfloat16")
    assert (settings.refine_steps, settings.threshold, settings.precision) == (1200, 0.8, "bfloat16")
    assert changed(FitSettings(), "") == FitSettings()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("refine=3", "SETTING of classifier, steps"),
        ("refine_steps", "must be SETTING=VALUE"),
        ("refine_steps=3.5", "refine_steps must be of type int, got '3.5'"),
        ("threshold=1", "threshold"),
    ],
)
def test_a_change_that_is_none_is_refused(change: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        changed(FitSettings(), change)


@pytest.mark.usefixtures("toys")
def test_held_out_images_are_the_training_images_that_are_not_trained_on(tmp_path: Path) -> None:
    whole = pair().target
    seen, held = [], []
    for seed in (0, 1):
        data = development_data(seed, Places(runs=tmp_path))
        assert (len(data.target), len(data.target_test)) == (8, len(whole) - 8)
        both = torch.cat([each.images(range(len(each))) for each in (data.target, data.target_test)])
        assert sorted(map(hash_of, both)) == sorted(map(hash_of, whole.images(range(len(whole)))))
        seen.append(set(map(hash_of, data.target.images(range(8)))))
        held.append(data.target_test)
    assert seen[0] != seen[1]
    assert held[0].require_labels().shape == (len(whole) - 8,)


def hash_of(image: torch.Tensor) -> bytes:
    return image.numpy().tobytes()


@pytest.mark.usefixtures("toys")
def test_changes_of_the_refinement_share_translator_and_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    train = munitaug.train

    def counted(*arguments: Any, **more: Any) -> Any:
        trained.append("translator")
        return train(*arguments, **more)

    monkeypatch.setattr(munitaug, "train", counted)
    rows = list(run_trial(trial(tmp_path, "", "refine_steps=9", "translation_weight=0")))
    assert trained == ["translator"]
    assert [row["change"] for row in rows] == ["", "refine_steps=9", "translation_weight=0"]
    assert len(list((tmp_path / "runs").glob("*/classifier-self-trained-*"))) == SHORT.starts
    assert all(0.0 <= row["accuracy"] <= 100.0 and row["nll"] > 0.0 for row in rows)
    assert len({row["nll"] for row in rows}) == 3, "every change must change something"
    list(run_trial(trial(tmp_path, "lr=0.01")))
    assert trained == ["translator"] * 2, "a change of what comes before the refinement needs its own"


@pytest.mark.usefixtures("toys")
def test_a_row_is_the_same_alone_and_after_others(tmp_path: Path) -> None:
    after = list(run_trial(trial(tmp_path, "refine_steps=9", "")))[1]
    alone = next(iter(run_trial(trial(tmp_path / "other", ""))))
    assert after["nll"] == alone["nll"]


def test_the_table_compares_seeds_that_every_change_has() -> None:
    rows = [
        {"change": "", "seed": 1, "accuracy": 99.0, "nll": 0.04},
        {"change": "", "seed": 2, "accuracy": 98.0, "nll": 0.06},
        {"change": "lr=1", "seed": 2, "accuracy": 98.5, "nll": 0.05},
    ]
    assert render(rows).splitlines()[2:] == [
        "| as it is | 98.00 | 98.00 | 0.0600 | 0.0600 |",
        "| lr=1 | 98.50 | 98.50 | 0.0500 | 0.0500 |",
    ]
    assert render(rows[:1] + rows[2:]) == "no seed has every change yet"


def test_cells_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []

    def run(trial: Trial) -> Iterator[development.Row]:
        asked.append((trial.seed, trial.changes))
        for change in trial.changes:
            row = {"change": change, "seed": trial.seed, "accuracy": 99.0, "nll": 0.05}
            yield row | {"plan": development.decided_by(trial)}

    monkeypatch.setattr(development, "run_trial", run)
    command = ["development", "--out", str(tmp_path / "rows.jsonl"), "--processes", "1", "--seeds", "4", "5"]
    monkeypatch.setattr(sys, "argv", command)
    development.main()
    monkeypatch.setattr(sys, "argv", [*command, "6", "--change", "refine_steps=9"])
    development.main()
    assert asked[:2] == [(4, ("",)), (5, ("",))]
    assert asked[2:] == [(4, ("refine_steps=9",)), (5, ("refine_steps=9",)), (6, ("", "refine_steps=9"))]
    assert "| refine_steps=9 | 99.00, 99.00, 99.00 | 99.00 |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--change", "no=1"])
    with pytest.raises(SystemExit, match="--change: a change must be"):
        development.main()
