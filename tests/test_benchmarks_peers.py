"""The comparison with other libraries: what they train, what stands in a row, and which cells are still to be run."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import peers
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.plain import classic
from benchmarks.pairs import PairData
from benchmarks.peers import (
    FeaturesOf,
    Job,
    decided_by,
    information_score,
    is_finished,
    pytorch_adapt_dann,
    pytorch_adapt_mcc,
    results_file,
    run_cell,
    table,
)
from benchmarks.rows import parse_result
from munitaug.adaptation import FitSettings, SmallClassifier, Task
from munitaug.data.domain import ArrayDomain
from tests.runs import toy_accuracy, toy_domain, toy_images, toy_task
from tests.test_benchmarks_conditions import cell, hide

QUICK = FitSettings(steps=30, batch_size=16, lr=5e-3)
THEIRS: dict[str, ConditionFunction] = {"dann": pytorch_adapt_dann, "mcc": pytorch_adapt_mcc}
needs_pytorch_adapt = pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning")


def job(folder: Path, peer: str = "stub", **changes: Any) -> Job:
    values: dict[str, Any] = {
        "pair": "toy:toy",
        "peer": peer,
        "seed": 1,
        "settings": QUICK,
        "protocol": "full",
        "data_root": None,
        "photographs": None,
        "device": "cpu",
        "cache": folder / "rendered",
    }
    return Job(**(values | changes))


def toy_pair(target: ArrayDomain | None = None) -> PairData:
    return PairData(
        toy_domain("source", 30),
        target or toy_domain("target", 30, seed=1, contrast=0.5),
        toy_domain("test", 20, seed=2, contrast=0.5),
        None,
        16,
        1,
    )


@pytest.fixture
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "open_pair", lambda name, **options: toy_pair())
    monkeypatch.setitem(peers.PEERS, "stub", lambda given: classic(given))


@needs_pytorch_adapt
@pytest.mark.parametrize("name", THEIRS)
def test_pytorch_adapt_trains_repeats_and_reports_snapshots(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_adapt")
    seen: list[tuple[str, int]] = []
    here = replace(cell(tmp_path, settings=QUICK), on_snapshot=lambda stage, step, net: seen.append((stage, step)))
    first = THEIRS[name](here)
    torch.manual_seed(5)  # what is drawn elsewhere must not matter
    again = THEIRS[name](here).state_dict()
    assert not first.training
    assert toy_accuracy(first, 0.5) > 0.9
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())
    assert seen == 2 * [(name, step) for step in (6, 12, 18, 24, 30)]


@needs_pytorch_adapt
@pytest.mark.parametrize("name", THEIRS)
def test_pytorch_adapt_uses_target_images(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_adapt")
    task, quick = toy_task(), replace(QUICK, steps=4)
    first = THEIRS[name](cell(tmp_path, task, quick)).state_dict()
    other = THEIRS[name](cell(tmp_path, replace(task, target_images=-task.target_images), quick)).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


@needs_pytorch_adapt
def test_mcc_makes_predictions_on_the_target_surer(tmp_path: Path) -> None:
    """Of images of little contrast, on which a classifier of the source is unsure."""
    pytest.importorskip("pytorch_adapt")
    task = toy_task(contrast=0.2)

    def sureness(classifier: nn.Module) -> float:
        with torch.no_grad():
            return float(classifier(task.target_images).softmax(dim=1).max(dim=1).values.mean())

    assert sureness(pytorch_adapt_mcc(cell(tmp_path, task, QUICK))) > sureness(classic(cell(tmp_path, task, QUICK)))


@needs_pytorch_adapt
def test_the_score_is_entropy_of_the_mean_less_mean_entropy() -> None:
    pytest.importorskip("pytorch_adapt")

    class Two(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()[: len(images)]

    mean = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    each = [-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)), -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))]
    assert information_score(Two(), torch.zeros(2, 1, 16, 16)) == pytest.approx(mean - sum(each) / 2, abs=1e-5)


@pytest.mark.parametrize("condition", THEIRS.values())
def test_a_missing_pytorch_adapt_says_what_to_install(
    condition: ConditionFunction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "pytorch_adapt")
    with pytest.raises(ImportError, match=r'pip install "munitaug\[peers\]"'):
        condition(cell(tmp_path))


def test_features_and_last_layer_are_the_classifier() -> None:
    torch.manual_seed(0)
    classifier, images = SmallClassifier(1, 3, width=4).eval(), torch.randn(5, 1, 16, 16)
    features = FeaturesOf(classifier, QUICK)(images)
    torch.testing.assert_close(classifier.head(features), classifier(images))


@pytest.mark.usefixtures("_toys")
def test_a_row_has_what_the_report_reads(tmp_path: Path) -> None:
    row = run_cell(job(tmp_path))
    result = parse_result(json.dumps(row))
    assert (result.setting.pair, result.setting.protocol, result.setting.size) == ("toy:toy", "full", "16")
    assert (result.condition, result.seed, result.setting.classifier) == ("stub", 1, "lenet")
    assert result.correct is not None
    assert result.confusion is not None
    assert len(result.correct) == row["test_images"] == 20
    assert int(result.confusion.sum()) == 20
    assert result.accuracy == pytest.approx(100.0 * int(result.confusion.trace()) / 20)
    assert {"plan", "seconds", "device", "torch", "commit", "date", "command"} <= row.keys()


def test_the_targets_labels_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = toy_images(30, 1, 0.5)
    seen: list[Task] = []

    def spy(given: Cell) -> nn.Module:
        seen.append(given.task)
        assert given.oracle_task is None
        return given.new_classifier()

    monkeypatch.setitem(peers.PEERS, "stub", spy)
    for given in (labels, 2 - labels):
        target = ArrayDomain("target", images, given)
        monkeypatch.setattr(peers, "open_pair", lambda name, target=target, **options: toy_pair(target))
        run_cell(job(tmp_path))
    assert torch.equal(seen[0].target_images, seen[1].target_images)
    assert torch.equal(seen[0].source_labels, seen[1].source_labels)


@needs_pytorch_adapt
@pytest.mark.usefixtures("_toys")
def test_snapshots_bear_the_validators_score(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_adapt")
    row = run_cell(job(tmp_path, "pytorch-adapt-mcc"))
    assert [entry["step"] for entry in row["snapshots"]] == [6, 12, 18, 24, 30]
    assert all(0.0 <= entry["scores"]["im-pytorch-adapt"] <= math.log(3.0) for entry in row["snapshots"])
    assert row["snapshots"][-1]["accuracy"] == row["accuracy"]


@pytest.mark.usefixtures("_toys")
def test_finished_cells_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "_missing_package", lambda peer: "")
    words = ["peers", "--pair", "toy:toy", "--peers", "skada-dann", "--steps", "2", "--processes", "1"]
    runs: list[int] = []

    def stub(given: Cell) -> nn.Module:
        runs.append(given.seed)
        return given.new_classifier().eval()

    monkeypatch.setitem(peers.PEERS, "skada-dann", stub)
    for seeds in ("1", "2", "2"):
        places = ["--seeds", seeds, "--out", str(tmp_path), "--runs", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", words + places)
        peers.main()
    assert runs == [0, 1]
    stored = results_file(tmp_path, "toy:toy")
    assert stored.name == "peers-toy-toy.jsonl"
    assert len(stored.read_text(encoding="utf-8").splitlines()) == 2
    assert "skada-dann" in capsys.readouterr().out


def test_other_settings_are_other_cells(tmp_path: Path) -> None:
    row = {"condition": "stub", "seed": 1, "plan": decided_by(QUICK, "full", {}), "accuracy": 1.0}
    results_file(tmp_path, "toy:toy").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert is_finished(job(tmp_path), tmp_path)
    images = {"source": "30 images, 0123456789abcdef"}
    for changed in (
        {"seed": 2},
        {"peer": "other"},
        {"protocol": "sampled"},
        {"settings": replace(QUICK, steps=31)},
        {"images": images},
    ):
        assert not is_finished(job(tmp_path, **changed), tmp_path)


def test_a_missing_library_leaves_its_peers_out_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "skada")
    hide(monkeypatch, "pytorch_adapt")
    monkeypatch.setattr(sys, "argv", ["peers", "--seeds", "1", "--out", str(tmp_path)])
    peers.main()
    printed = capsys.readouterr()
    assert printed.err.count('pip install "munitaug[peers]"') == len(peers.PEERS)
    assert "no rows" in printed.out


def test_a_pair_that_cannot_be_opened_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "_missing_package", lambda peer: "")
    words = ["peers", "--pair", "mnist:usps", "--seeds", "1", "--out", str(tmp_path), "--data-root", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    peers.main()
    assert "mnist:usps is left out: mnist:usps cannot be opened" in capsys.readouterr().err


def test_the_table_holds_rows_of_these_settings_alone() -> None:
    plan = decided_by(QUICK, "full", {})
    rows = [
        {"condition": "skada-dann", "seed": seed, "accuracy": value, "plan": plan}
        for seed, value in ((0, 90.0), (1, 92.0))
    ]
    rows.append({"condition": "skada-coral", "seed": 0, "accuracy": 50.0, "plan": decided_by(QUICK, "sampled", {})})
    printed = table(rows, plan)
    assert "91.0" in printed
    assert "skada-coral" not in printed
