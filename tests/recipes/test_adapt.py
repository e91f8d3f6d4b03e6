"""The whole way to a classifier: what is left behind, refused and resumed, and that target labels are never seen."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from munitaug.adaptation import Scorer
from munitaug.data.domain import ArrayDomain
from munitaug.recipes import Adapted, adapt, load_classifier
from munitaug.training import Trainer
from munitaug.types import CheckpointError, DomainError, Interrupted, LabelMissingError
from tests.runs import TINY_FIT, TINY_TRAINING, run_cli, toy_domain, toy_images

TWO_STEPS = replace(TINY_TRAINING, max_steps=2)


def run(folder: Path, **changes: object) -> Adapted:
    arguments: dict[str, object] = {
        "source": toy_domain("source"),
        "target": toy_domain("target", seed=1, labelled=False),
        "out": folder,
        "test": toy_domain("test", seed=2),
        "training": TWO_STEPS,
        "fit": TINY_FIT,
        "progress": False,
    }
    return adapt(**(arguments | changes))  # type: ignore[arg-type]


def weights(adapted: Adapted) -> dict[str, Tensor]:
    return load_classifier(adapted.classifier).state_dict()


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    return run(tmp_path_factory.mktemp("adapt") / "run")


def test_a_run_leaves_translator_classifier_log_and_score(adapted: Adapted) -> None:
    folder = adapted.classifier.parent
    assert (adapted.translator / "checkpoint.json").is_file()
    (row,) = json.loads((folder / "results.json").read_text())
    assert row == {"condition": "adapt", "seed": 0, "accuracy": adapted.accuracy}
    assert adapted.log.is_file()
    assert json.loads((folder / "config.json").read_text())["semantic_weight"] == 1.0


def test_a_stop_at_the_translators_last_step_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Trainer._log_and_draw

    def signalled(self: Trainer, done: int, *others: Any) -> None:
        record(self, done, *others)
        if done == self.config.max_steps and self.folder == tmp_path / "run" / "translator":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_log_and_draw", signalled)
    with pytest.raises(Interrupted, match="stopped before the classifier was trained; the translator is in"):
        run(tmp_path / "run")
    assert not (tmp_path / "run" / "classifiers").exists()
    assert (tmp_path / "run" / "translator" / "checkpoint").is_dir()
    run(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "classifier.safetensors").is_file()


def test_the_classifier_of_the_file_is_the_one_that_was_scored(adapted: Adapted) -> None:
    classifier = load_classifier(adapted.classifier.parent)
    assert Scorer(toy_domain("test", seed=2)).accuracy_percent(classifier) == pytest.approx(adapted.accuracy, abs=1e-3)
    assert not classifier.training


def test_a_run_repeats(adapted: Adapted, tmp_path: Path) -> None:
    assert equal(weights(adapted), weights(run(tmp_path / "again")))
    other = run(tmp_path / "other", training=replace(TWO_STEPS, seed=1))
    assert not equal(weights(adapted), weights(other))


def test_target_labels_change_nothing(adapted: Adapted, tmp_path: Path) -> None:
    """Neither those of target training images nor those of the test images."""
    images, labels = toy_images(12, 1)
    labelled = ArrayDomain("target", images, 2 - labels)
    test_images, test_labels = toy_images(12, 2)
    shuffled = run(tmp_path / "shuffled", target=labelled, test=ArrayDomain("test", test_images, 2 - test_labels))
    assert equal(weights(adapted), weights(shuffled))
    assert shuffled.accuracy != adapted.accuracy or adapted.accuracy == pytest.approx(100.0 / 3.0, abs=0.1)


def test_without_test_images_there_is_no_score(tmp_path: Path) -> None:
    assert run(tmp_path / "run", test=None).accuracy is None
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_run_stopped_between_classifiers_goes_on_to_the_same_one(
    adapted: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = __import__("munitaug.adaptation.stages", fromlist=["self_trained"])
    train = stages.self_trained
    made: list[object] = []

    def stop_at_the_second(*arguments: object) -> object:
        if made:
            raise KeyboardInterrupt
        made.append(train(*arguments))
        return made[0]

    def stop(*_: object) -> None:
        raise AssertionError("a classifier that is there must not be trained again")

    kept = tmp_path / "run" / "classifiers"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "self_trained", stop_at_the_second)
        with pytest.raises(Interrupted, match="--resume to continue"):
            run(tmp_path / "run")
    assert [file.name for file in kept.iterdir()] == ["self-trained-0.safetensors"]
    assert not (tmp_path / "run" / "classifier.safetensors").exists()
    run(tmp_path / "run", resume=True)
    (tmp_path / "run" / "classifier.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(stages, "self_trained", stop)
        again = run(tmp_path / "run", resume=True)
    assert equal(weights(adapted), weights(again))


def test_the_log_has_each_update_once_however_often_a_run_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = __import__("munitaug.recipes.adapt", fromlist=["LOG_EVERY"])
    monkeypatch.setattr(recipe, "LOG_EVERY", 1)
    whole = run(tmp_path / "whole").log.read_text(encoding="utf-8").splitlines()
    assert len(whole) == len(set(whole))
    assert {json.loads(line)["classifier"] for line in whole} == {"self-trained-0", "self-trained-1", "final"}
    log = recipe._Log.__call__
    for stop_at in (3, 9, 6):
        with monkeypatch.context() as patch:
            left = [stop_at]

            def stopped(self: object, *update: object, left: list[int] = left) -> None:
                log(self, *update)
                left[0] -= 1
                if not left[0]:
                    raise KeyboardInterrupt

            patch.setattr(recipe._Log, "__call__", stopped)
            with pytest.raises(Interrupted):
                run(tmp_path / "run", resume=(tmp_path / "run").exists())
            with open(tmp_path / "run" / "log.jsonl", "a", encoding="utf-8") as file:
                file.write('{"classifier": "self-')  # as a kill leaves it
    assert run(tmp_path / "run", resume=True).log.read_text(encoding="utf-8").splitlines() == whole


def test_a_run_stopped_in_the_translator_goes_on(adapted: Adapted, tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "classifier.safetensors").unlink()
    for file in (tmp_path / "run" / "classifiers").iterdir():
        file.unlink()
    (tmp_path / "run" / "translator" / "checkpoint" / "checkpoint.json").unlink()
    again = run(tmp_path / "run", resume=True)
    assert equal(weights(adapted), weights(again))


def test_what_does_not_change_the_result_may_change(adapted: Adapted, tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "classifier.safetensors").unlink()
    (tmp_path / "run" / "translator" / "checkpoint" / "checkpoint.json").unlink()
    again = run(tmp_path / "run", training=replace(TWO_STEPS, keep_mib=0), resume=True)
    assert equal(weights(adapted), weights(again))


def test_what_is_there_is_left_alone(adapted: Adapted) -> None:
    before = adapted.classifier.read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        run(adapted.classifier.parent)
    with pytest.raises(CheckpointError, match=r"semantic_weight was 1\.0, now 2\.0"):
        run(adapted.classifier.parent, semantic_weight=2.0, resume=True)
    assert adapted.classifier.read_bytes() == before


def test_what_cannot_restyle_helps_by_translations_of_the_source(adapted: Adapted, tmp_path: Path) -> None:
    """With restyled views the classifiers to choose from know no translation; without, they depend on it."""

    def first(folder: Path) -> dict[str, Tensor]:
        return load_classifier(folder / "classifiers" / "self-trained-0.safetensors").state_dict()

    def begun(name: str, **changes: object) -> dict[str, Tensor]:
        return first(run(tmp_path / name, **changes).classifier.parent)

    restyled = first(adapted.classifier.parent)
    assert equal(restyled, begun("longer", training=replace(TINY_TRAINING, max_steps=3)))
    unweighted = begun("unweighted", fit=replace(TINY_FIT, restyle_weight=0.0))
    cyclegan = begun("cyclegan", method="cyclegan")
    assert not equal(restyled, unweighted)
    assert not equal(restyled, cyclegan)
    assert not equal(unweighted, cyclegan)


def test_restyled_views_change_the_classifier(adapted: Adapted, tmp_path: Path) -> None:
    other = run(tmp_path / "longer", training=replace(TINY_TRAINING, max_steps=3))
    assert not equal(weights(adapted), weights(other))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": toy_domain("source", labelled=False)}, LabelMissingError, "source has no labels"),
        ({"test": toy_domain("test", labelled=False)}, LabelMissingError, "test has no labels"),
        ({"method": "pix2pix"}, ValueError, "method must be one of munit"),
        ({"semantic_weight": -1.0}, ValueError, "weight must be at least 0"),
        ({"target": ArrayDomain("rgb", torch.zeros(4, 3, 16, 16, dtype=torch.uint8))}, DomainError, "channels"),
    ],
    ids=["unlabelled-source", "unlabelled-test", "method", "weight", "channels"],
)
def test_what_does_not_suit_is_refused_before_a_folder_is_made(
    changes: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_what_holds_no_classifier_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "classifier.safetensors"
    with pytest.raises(CheckpointError, match="is missing"):
        load_classifier(file)
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="holds no classifier of munitaug adapt"):
        load_classifier(tmp_path)


def test_the_command_line_says_where_everything_is(tmp_path: Path) -> None:
    words = [
        "adapt",
        "--source",
        "synthetic-digits:train:40",
        "--target",
        "digits:train:40",
        "--test",
        "digits:test:30",
    ]
    words += ["--size", "16", "--training.max_steps", "2", "--training.device", "cpu", "--fit.steps", "2"]
    outcome = run_cli(*words, "--fit.start_steps", "2", "--fit.batch_size", "8", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert f"classifier: {tmp_path / 'run' / 'classifier.safetensors'}" in outcome.out
    assert "accuracy on digits:test:30: " in outcome.out
