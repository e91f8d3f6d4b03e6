"""The runner of the digit benchmark: rows, what is run again, and that target labels reach the score alone."""

from __future__ import annotations

import json
import queue
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import digits
from benchmarks.conditions import CONDITIONS, USUAL
from benchmarks.conditions.base import Cell
from benchmarks.conditions.cogan import CoganSettings, cogan
from benchmarks.conditions.dtn import DtnSettings, dtn
from benchmarks.conditions.styled import STYLED
from benchmarks.digits import Job, Places, Plan, Snapshots, TestSet, Unlabelled, missing_jobs, run_job
from benchmarks.pairs import PAIRS, FolderPair, PairData, PairMissingError
from benchmarks.rows import unpack_correct
from benchmarks.storing import read_rows
from munitaug.adaptation import FitSettings, SmallClassifier, make_task
from munitaug.data.domain import ArrayDomain
from munitaug.methods import TransGagaConfig
from munitaug.types import UNLABELLED
from tests.runs import toy_images
from tests.test_benchmarks_pairs import write_classes

PLAN = Plan(
    FitSettings(steps=6, self_steps=5, starts=2, start_steps=2, refine_steps=5, batch_size=8), translator_steps=2
)
QUICK_STYLED = ("munit-semantic", "munit-offline-1")
NAMES = ("corner", "right", "left")


def domain(name: str, count: int, seed: int, order: tuple[int, int, int] = (0, 1, 2)) -> ArrayDomain:
    images, labels = toy_images(count, seed)
    return ArrayDomain(name, images, torch.tensor(order)[labels], NAMES)


def pair(train_order: tuple[int, int, int] = (0, 1, 2), test_order: tuple[int, int, int] = (0, 1, 2)) -> PairData:
    return PairData(
        domain("source", 30, 0),
        domain("target", 30, 1, train_order),
        domain("test", 12, 2, test_order),
        domain("held", 12, 3),
        16,
        1,
    )


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives a function that runs a job on a toy pair and gives its rows by condition."""

    def run(data: PairData, conditions: tuple[str, ...], name: str = "runs") -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(digits, "_open", lambda job: data)
        job = Job("toy", 0, conditions, PLAN, Places(runs=tmp_path / name))
        return {row["condition"]: row for row in run_job(job)}

    return run


def test_a_row_says_what_was_right_and_how_it_came_about(rows: Any) -> None:
    row = rows(pair(), ("classic",))["classic"]
    right = unpack_correct(row["correct"], row["test_images"])
    assert row["accuracy"] == pytest.approx(100.0 * right.mean())
    counts = np.array(row["confusion"])
    assert counts.sum() == 12
    assert np.trace(counts) == right.sum()
    assert counts.sum(axis=1).tolist() == [4, 4, 4]  # rows are true classes
    assert row["class_names"] == list(NAMES)
    assert row["last_iterate"] is True
    assert row["plan"]["settings"]["steps"] == 6
    assert {"device", "commit", "date", "command", "torch", "seconds"} <= row.keys()
    json.dumps(row)


def weights_of(
    rows: Any, data: PairData, condition: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """Gives the weights of the classifier that a condition hands to the score."""
    found: list[dict[str, torch.Tensor]] = []

    def score(self: TestSet, classifier: nn.Module) -> dict[str, Any]:
        found.append({key: value.detach().clone() for key, value in classifier.state_dict().items()})
        return {"accuracy": 0.0}

    with monkeypatch.context() as patch:
        patch.setattr(TestSet, "score", score)
        patch.setattr(digits, "_scored", lambda *_: [])
        rows(data, (condition,), name)
    if not found:
        pytest.skip(f"{condition} lacks a package")
    (weights,) = found
    return weights


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(name, marks=pytest.mark.slow if name in STYLED and name not in QUICK_STYLED else ())
        for name in CONDITIONS
        if name != "oracle"
    ],
)
def test_labels_of_the_target_change_no_weights(condition: str, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither labels of test images nor those of the target's training images reach a classifier."""
    monkeypatch.setitem(CONDITIONS, "cogan", lambda cell: cogan(cell, CoganSettings(steps=2, noise=5, width=2)))
    monkeypatch.setitem(CONDITIONS, "dtn", lambda cell: dtn(cell, DtnSettings(steps=2, width=4)))
    monkeypatch.setattr(sys.modules["benchmarks.conditions.references"], "POOL_IMAGES", 20)
    small = TransGagaConfig.preset("small", channels=1)
    monkeypatch.setattr(TransGagaConfig, "preset", lambda *_, **__: replace(small, warm_up_steps=1))  # of two steps
    true = weights_of(rows, pair(), condition, "true", monkeypatch)
    shuffled = pair(train_order=(1, 2, 0), test_order=(2, 0, 1))
    assert same(true, weights_of(rows, shuffled, condition, "shuffled", monkeypatch))


def test_training_labels_of_the_target_reach_the_oracle_and_test_labels_do_not(
    rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, test, train = (
        weights_of(rows, data, "oracle", name, monkeypatch)
        for name, data in (
            ("true", pair()),
            ("test", pair(test_order=(2, 0, 1))),
            ("train", pair(train_order=(1, 2, 0))),
        )
    )
    assert same(true, test)
    assert not same(true, train)


def test_snapshots_are_scored_without_target_labels(rows: Any) -> None:
    true, shuffled = (
        rows(data, ("self-training",), name) for data, name in ((pair(), "a"), (pair(test_order=(2, 0, 1)), "b"))
    )
    first, second = true["self-training"]["snapshots"], shuffled["self-training"]["snapshots"]
    assert [(s["stage"], s["step"]) for s in first] == [
        ("start", 0),
        *(("self-training", step) for step in range(1, 6)),
    ]
    assert [s["scores"] for s in first] == [s["scores"] for s in second]
    assert [s["accuracy"] for s in first] != [s["accuracy"] for s in second]
    assert first[0]["scores"]["im"] != first[-1]["scores"]["im"]


def test_a_domain_without_labels_hides_them() -> None:
    hidden = Unlabelled(domain("target", 6, 1))
    assert hidden.labels is None
    assert hidden[3][1] == UNLABELLED
    assert torch.equal(hidden[3][0], domain("target", 6, 1)[3][0])
    assert vars(hidden).keys() == {"name", "channels", "class_names", "_images"}


def test_what_is_there_is_not_run_again(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, places = tmp_path / "digits-toy.jsonl", Places(runs=tmp_path / "runs")
    (job, other) = missing_jobs("toy", ["classic", "source"], 2, PLAN, places, path)
    assert (job.seed, other.seed) == (0, 1)
    assert job.conditions == ("source", "classic")  # in the order of the table
    row = rows(pair(), ("classic",))["classic"]
    path.write_text(json.dumps(row) + "\n")
    assert [j.conditions for j in missing_jobs("toy", ["classic", "source"], 2, PLAN, places, path)] == [
        ("source",),
        ("source", "classic"),
    ]
    longer = replace(PLAN, translator_steps=3)
    assert missing_jobs("toy", ["classic"], 1, longer, places, path)[0].conditions == ("classic",)


def test_rows_of_named_pairs_keep_their_plan() -> None:
    """Otherwise all that is stored would be run again."""
    stored = list((Path(digits.__file__).parent / "results").glob("digits-*.jsonl"))
    assert len(stored) >= 4
    for path in stored:
        for row in read_rows(path):
            told = row["plan"]
            settings = FitSettings(**told["settings"])
            plan = Plan(settings, told["translator_steps"], told["translator_preset"], told["protocol"])
            assert digits.decided_by(plan) == told


def test_images_of_ones_own_are_in_the_plan_and_those_of_named_pairs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, test = (write_classes(tmp_path / name, ("cat", "dog"), 3) for name in ("source", "target"))
    places = Places(runs=tmp_path / "runs", folders=FolderPair(source, f"{test}/cat", test, size=16, channels=1))
    first, again = (digits.plan_of("mine", PLAN, places) for _ in range(2))
    assert first == again
    assert first.images.keys() == {"source", "target", "test"}
    assert first.images["source"].startswith("6 images, ")
    write_classes(tmp_path / "source", ("cat", "dog"), 4)
    more = digits.plan_of("mine", PLAN, places)
    assert {role for role in first.images if first.images[role] != more.images[role]} == {"source"}
    monkeypatch.setattr(digits, "_open", lambda job: pair())
    assert digits.plan_of("synthetic:digits", PLAN, Places()) == PLAN
    assert digits.plan_of("mnist:mnist-m", PLAN, Places()).images.keys() == {"source", "target", "test", "source_test"}


def test_rows_and_caches_of_other_images_are_not_taken_for_ones_own(rows: Any, tmp_path: Path) -> None:
    path, places = tmp_path / "digits-toy.jsonl", Places(runs=tmp_path / "runs")
    row = rows(pair(), ("classic",))["classic"]
    plans = [replace(PLAN, images={"source": f"30 images, {each}"}) for each in ("one", "two")]
    path.write_text(json.dumps(row | {"plan": digits.decided_by(plans[0])}) + "\n")
    assert missing_jobs("toy", ["classic"], 1, plans[0], places, path) == []
    for plan in (plans[1], PLAN):
        assert [job.conditions for job in missing_jobs("toy", ["classic"], 1, plan, places, path)] == [("classic",)]
    jobs = [Job("toy", 0, ("classic",), plan, places) for plan in (*plans, PLAN)]
    assert len({digits.make_cell(job)[0].folder for job in jobs}) == 3


def test_rows_of_few_target_images_are_rows_of_their_own(tmp_path: Path) -> None:
    path, places = tmp_path / "digits-toy.jsonl", Places(runs=tmp_path / "runs")
    few = replace(PLAN, target_images=7)
    path.write_text(json.dumps({"condition": "classic", "seed": 0, "plan": digits.decided_by(few)}) + "\n")
    assert missing_jobs("toy", ["classic"], 1, few, places, path) == []
    assert len(missing_jobs("toy", ["classic"], 1, PLAN, places, path)) == 1
    assert "target_images" not in digits.decided_by(PLAN)


def test_cells_of_one_process_have_one_thread_as_those_of_a_pool(rows: Any, tmp_path: Path) -> None:
    rows(pair(), ())  # opens the toy pair from now on
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (row,) = digits._run([Job("toy", 0, ("classic",), PLAN, Places(runs=tmp_path / "runs"))], 2)
    finally:
        torch.set_num_threads(before)
    assert row["threads"] == 1


def test_a_start_is_trained_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def train(cell: Cell) -> nn.Module:
        calls.append(1)
        return cell.new_classifier().eval()

    task = make_task(domain("source", 6, 0), Unlabelled(domain("target", 6, 1)))
    refuse: Any = None
    cell = Cell("toy", task, None, PLAN.settings, 0, tmp_path, refuse, refuse, refuse)
    first, again = cell.once("start", train), cell.once("start", train)
    assert calls == [1]
    assert torch.equal(first.get_parameter("head.weight"), again.get_parameter("head.weight"))
    assert not again.training


def test_snapshots_thin_out_and_keep_both_ends() -> None:
    snapshots, model = Snapshots(), SmallClassifier(1, 3, 4)
    for step in range(40):
        snapshots("stage", step, model)
    steps = [step for _, step, _ in snapshots.kept]
    assert len(steps) <= digits.SNAPSHOTS_AT_MOST
    assert steps[0] == 0
    assert steps[-1] == 39
    assert steps == sorted(steps)


def test_a_missing_package_leaves_its_condition_out(
    rows: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(cell: Cell) -> nn.Module:
        raise ImportError('pip install "munitaug[peers]"')

    monkeypatch.setitem(CONDITIONS, "dann", missing)
    assert list(rows(pair(), ("dann", "classic"))) == ["classic"]
    out = capsys.readouterr()
    assert "toy, dann: left out" in out.out + out.err


def test_rows_come_until_all_jobs_are_through_however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "POLL_SECONDS", 0.01)
    rows: queue.Queue[dict[str, Any]] = queue.Queue()
    jobs: list[Future[None]] = [Future(), Future()]
    rows.put({"seed": 0})
    coming = digits._as_they_come(rows, jobs)
    assert next(coming) == {"seed": 0}
    jobs[0].set_result(None)
    rows.put({"seed": 1})
    jobs[1].set_result(None)
    assert list(coming) == [{"seed": 1}]


def test_what_a_job_raises_ends_the_run() -> None:
    failed, waiting = Future[None](), Future[None]()
    failed.set_exception(ValueError("no memory"))
    with pytest.raises(ValueError, match="no memory"):
        list(digits._as_they_come(queue.Queue(), [failed, waiting]))
    assert waiting.cancelled()


def test_what_runs_beside_a_failing_job_is_not_lost() -> None:
    rows: queue.Queue[dict[str, Any]] = queue.Queue()
    failed, running = Future[None](), Future[None]()
    running.set_running_or_notify_cancel()
    failed.set_exception(ValueError("no memory"))
    rows.put({"seed": 0})
    coming = digits._as_they_come(rows, [failed, running])
    assert next(coming) == {"seed": 0}
    rows.put({"seed": 1})
    running.set_result(None)
    assert next(coming) == {"seed": 1}
    with pytest.raises(ValueError, match="no memory"):
        next(coming)


def test_usual_conditions_and_the_names_of_the_issue_are_there() -> None:
    assert set(USUAL) <= CONDITIONS.keys()
    assert {
        "source",
        "classic",
        "fda",
        "munit",
        "munit-semantic",
        "self-training",
        "adapt",
        "oracle",
    } <= CONDITIONS.keys()
    assert list(CONDITIONS)[-1] == "oracle"
    assert {"svhn:mnist", "mnist:usps", "usps:mnist", "synthetic:digits", "mnist:mnist-m"} <= PAIRS.keys()


def test_the_command_line_runs_what_it_can_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(job: Job) -> PairData:
        if job.pair == "svhn:mnist":
            raise PairMissingError("no files")
        return pair()

    monkeypatch.setattr(digits, "_open", opened)
    words = ["digits", "--pair", "svhn:mnist", "synthetic:digits", "--conditions", "source", "classic", "--seeds", "2"]
    words += ["--steps", "3", "--processes", "1", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    digits.main()
    out = capsys.readouterr().out
    assert "svhn:mnist is left out: no files" in out
    assert "classic" in out
    lines = (tmp_path / "out" / "digits-synthetic-digits.jsonl").read_text().splitlines()
    assert len(lines) == 4
    digits.main()
    assert (tmp_path / "out" / "digits-synthetic-digits.jsonl").read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--conditions", "magic"], "unknown conditions magic"),
        (["--pair", "mnist:moon"], "unknown pairs"),
        (["--pair", "mine", "--source", "a"], "needs --source, --target and --test"),
    ],
)
def test_unknown_words_are_named(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["digits", *words])
    with pytest.raises(SystemExit, match=message):
        digits.main()
