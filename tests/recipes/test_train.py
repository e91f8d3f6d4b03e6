"""Training from two domains to a checkpoint: what is left behind, refused, and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from munitaug import files
from munitaug.adaptation import FitSettings, SmallClassifier
from munitaug.checkpoint import load_method
from munitaug.data.domain import ArrayDomain
from munitaug.recipes import SemanticOptions, train
from munitaug.recipes.classifier import load_classifier, save_classifier
from munitaug.types import CheckpointError, DomainError, LabelMissingError
from tests.runs import SIDE, TINY_FIT, TINY_GREY, TINY_TRAINING, toy_domain, toy_images

SEMANTIC = SemanticOptions(1.0, TINY_FIT)


def run(folder: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "source": toy_domain("source"),
        "target": toy_domain("target", seed=1, labelled=False),
        "out": folder,
        "config": TINY_GREY,
        "training": TINY_TRAINING,
        "semantic": SEMANTIC,
        "progress": False,
    }
    return train(**(arguments | changes))  # type: ignore[arg-type]


def weights_of(run_folder: Path) -> dict[str, Tensor]:
    method = load_method(run_folder)
    banks = {f"bank/{key}": bank for key, bank in method.style_banks.items()}
    return {**method.state_dict(), **banks}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stop_after(step: int) -> object:
    def on_step(done: int, terms: dict[str, float]) -> None:
        del terms
        if done == step:
            raise RuntimeError("power cut")

    return on_step


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_a_run_folder_holds_what_is_promised(tiny_run: Path) -> None:
    facts = json.loads((tiny_run / "config.json").read_text())
    assert facts["method"] == "munit"
    assert facts["config"]["width"] == TINY_GREY.width
    assert facts["training"]["max_steps"] == 4
    assert facts["semantic"]["weight"] == 1.0
    shape, fingerprint = [1, SIDE, SIDE], toy_domain("source").fingerprint()[:16]
    assert facts["source"] == {"name": "source", "images": 12, "shape": shape, "fingerprint": fingerprint}
    lines = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["generator/semantic"] > 0.0
    assert [file.name for file in sorted((tiny_run / "samples").iterdir())] == [
        "step-00000002.png",
        "step-00000004.png",
    ]
    with Image.open(tiny_run / "samples" / "step-00000002.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode == "L"
    assert (tiny_run / "state" / "state.safetensors").is_file()
    assert (tiny_run / "checkpoint" / "checkpoint.json").is_file()
    assert not list(tiny_run.rglob("*.tmp"))


def test_style_banks_of_both_domains_are_kept(tiny_run: Path) -> None:
    method = load_method(tiny_run)
    assert {key: tuple(bank.shape) for key, bank in method.style_banks.items()} == {"a": (12, 3), "b": (12, 3)}
    codes = method.translator("a", "b").encode_style(toy_domain("target", seed=1).images(range(12)).float() / 127.5 - 1)
    distances = torch.cdist(method.style_banks["b"], codes.detach())
    assert float(distances.amin(dim=1).max()) < 1e-4  # every code is the code of a target image


def test_the_classifier_of_the_semantic_term_is_kept_beside_the_checkpoint_not_in_it(tiny_run: Path) -> None:
    classifier = load_classifier(tiny_run)
    assert classifier(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
    assert not [name for name in weights_of(tiny_run) if not name.startswith(("auto_enc", "discr", "bank"))]


def test_training_repeats(tiny_run: Path, tmp_path: Path) -> None:
    run(tmp_path / "again")
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "again"))


@pytest.mark.parametrize("semantic", [SemanticOptions(), SemanticOptions(5.0, TINY_FIT)])
def test_the_weight_of_the_semantic_term_matters(tiny_run: Path, tmp_path: Path, semantic: SemanticOptions) -> None:
    run(tmp_path / "run", semantic=semantic)
    assert (tmp_path / "run" / "classifier.safetensors").exists() is (semantic.weight > 0)
    name = "auto_encoders.b.decoder"
    here, there = weights_of(tiny_run), weights_of(tmp_path / "run")
    assert any(not torch.equal(here[key], there[key]) for key in here if key.startswith(name))


def test_labels_of_the_target_are_not_looked_at(tiny_run: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", target=toy_domain("target", seed=1, labelled=True))
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))


@pytest.mark.parametrize("step", [1, 3])
def test_killed_and_resumed_equals_uninterrupted(tiny_run: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "run", on_step=stop_after(step))
    assert not (tmp_path / "run" / "checkpoint").exists()
    run(tmp_path / "run", resume=True)
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_killed_before_the_first_state_can_be_resumed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["munitaug.recipes.train"], "train_classifier", killed)
        with pytest.raises(RuntimeError, match="power cut"):
            run(tmp_path / "run")
    assert contents(tmp_path / "run").keys() == {"config.json"}
    run(tmp_path / "run", resume=True)
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))


def test_a_run_resumed_with_other_loading_processes_is_the_same(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "run", on_step=stop_after(2))
    run(tmp_path / "run", training=dataclasses.replace(TINY_TRAINING, workers=2, keep_mib=0), resume=True)
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = contents(tmp_path / "run")
    run(tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_an_existing_run_is_refused_and_left_alone(tiny_run: Path) -> None:
    before = contents(tiny_run)
    with pytest.raises(FileExistsError, match="exists already; continue it with --resume"):
        run(tiny_run)
    assert contents(tiny_run) == before


def test_a_second_writer_is_refused_and_the_first_goes_on(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.0)

    def second(done: int, terms: dict[str, float]) -> None:
        del terms
        if done == 2:
            with pytest.raises(BlockingIOError, match=r"another process is writing to .*run; wait for it, or choose"):
                run(tmp_path / "run", resume=True)

    run(tmp_path / "run", on_step=second)
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))


def test_resuming_with_other_settings_names_them(tiny_run: Path) -> None:
    before = contents(tiny_run)
    changed = dataclasses.replace(TINY_TRAINING, batch_size=3)
    with pytest.raises(CheckpointError, match=r"other settings: training.batch_size was 4, now 3\. Resume with the"):
        run(tiny_run, training=changed, resume=True)
    assert contents(tiny_run) == before


def test_resuming_with_another_source_is_refused(tiny_run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"source\.images was 12, now 9"):
        run(tiny_run, source=toy_domain("source", 9), resume=True)


def test_named_domains_and_presets_are_opened(tmp_path: Path) -> None:
    spec = "synthetic-digits:train:8"
    with pytest.raises(ValueError, match="preset must be one of paper, modern, small, got 'huge'"):
        run(tmp_path / "run", source=spec, target=spec, config=None, preset="huge")


REFUSED: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"method": "gan"}, ValueError, "method must be one of munit.*, got 'gan'"),
    ({"method": "cyclegan"}, ValueError, "cyclegan takes a CycleGanConfig, got a MunitConfig"),
    ({"source": toy_domain("mute", labelled=False)}, LabelMissingError, "mute has no labels"),
    ({"semantic": SemanticOptions(1.0, FitSettings(classifier="lenett"))}, ValueError, "classifier must be"),
    (
        {"config": dataclasses.replace(TINY_GREY, channels=3)},
        ValueError,
        "the configuration is for 3 channels, but source has 1",
    ),
    (
        {"target": ArrayDomain("rgb", torch.zeros(2, 3, 16, 16, dtype=torch.uint8))},
        DomainError,
        "source has 1 channels and rgb has 3",
    ),
    ({"config": dataclasses.replace(TINY_GREY, weight_perceptual=1.0)}, ValueError, "--vgg-weights FILE"),
    ({"vgg_weights": "nowhere.pth"}, OSError, "nowhere.pth"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED)
def test_refusals_come_before_the_run_folder(
    tmp_path: Path, changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_negative_semantic_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        SemanticOptions(-1.0)


def test_crops_of_larger_images_train_and_fill_the_style_bank(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (6, 1, 24, 20), dtype=torch.uint8)
    domain = ArrayDomain("large", images)
    training = dataclasses.replace(TINY_TRAINING, crop=16, max_steps=1, sample_every_steps=0)
    run(tmp_path / "run", source=domain, target=domain, semantic=SemanticOptions(), training=training)
    method = load_method(tmp_path / "run")
    assert method.style_banks["b"].shape == (6, 3)
    centre = images[:, :, 4:20, 2:18].float() / 127.5 - 1.0
    codes = method.translator("a", "b").encode_style(centre).detach()
    assert float(torch.cdist(method.style_banks["b"], codes).amin(dim=1).max()) < 1e-4


def test_a_classifier_of_a_file_is_asked_in_place_of_a_new_one(tmp_path: Path) -> None:
    """Another classifier, other translations; none is trained or kept in the run folder."""
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        files.append(tmp_path / f"{seed}.safetensors")
        save_classifier(files[-1], SmallClassifier(1, 3), "lenet", 1, 3)
    given = [SemanticOptions(5.0, TINY_FIT, str(file)) for file in files]
    for name, semantic in zip(("first", "second"), given, strict=True):
        run(tmp_path / name, semantic=semantic)
        assert not (tmp_path / name / "classifier.safetensors").exists()
    run(tmp_path / "again", semantic=given[0])
    assert_equal(weights_of(tmp_path / "first"), weights_of(tmp_path / "again"))
    first, second = (weights_of(tmp_path / name) for name in ("first", "second"))
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("channels", "classes", "message"),
    [(3, 3, "does not take images of source, 1 channels of 16 x 16 px"), (1, 7, "knows 7 classes, but source has 3")],
)
def test_a_classifier_that_does_not_suit_is_refused(channels: int, classes: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_classifier(file, SmallClassifier(channels, classes), "lenet", channels, classes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", semantic=SemanticOptions(1.0, TINY_FIT, str(file)))
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match="is missing"):
        run(tmp_path / "run", semantic=SemanticOptions(1.0, TINY_FIT, str(tmp_path / "none.safetensors")))


def test_files_that_were_replaced_meanwhile_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier and feature weights decide a run as much as its settings do."""
    monkeypatch.setattr(import_module("munitaug.recipes.train"), "load_vgg_features", lambda path: nn.Identity())
    file, vgg = tmp_path / "classifier.safetensors", tmp_path / "vgg.safetensors"
    save_classifier(file, SmallClassifier(1, 3), "lenet", 1, 3)
    vgg.write_text("one")
    semantic = SemanticOptions(1.0, TINY_FIT, str(file))
    run(tmp_path / "run", semantic=semantic, vgg_weights=vgg)
    run(tmp_path / "run", semantic=semantic, vgg_weights=vgg, resume=True)
    vgg.write_text("another")
    with pytest.raises(CheckpointError, match="started with other settings: vgg_sha256 was "):
        run(tmp_path / "run", semantic=semantic, vgg_weights=vgg, resume=True)
    save_classifier(file, SmallClassifier(1, 3), "lenet", 1, 3)
    with pytest.raises(CheckpointError, match=r"semantic\.classifier_sha256 was "):
        run(tmp_path / "run", semantic=semantic, vgg_weights=vgg, resume=True)


def test_a_classifier_that_has_no_weight_is_not_asked_for(tmp_path: Path) -> None:
    run(tmp_path / "run", semantic=SemanticOptions(0.0, TINY_FIT, str(tmp_path / "nowhere.safetensors")))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("dog", "cat", "horse"), r"have the same classes in another order \(cat, dog, horse and dog, cat, horse\)"),
        (("cat", "dog", "cow"), r"and they are not the same \(cow, horse\)"),
    ],
)
def test_a_classifier_of_other_classes_is_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """By number they would do, and every translation would be pushed towards another class."""
    images, labels = toy_images(6, 0)
    source = ArrayDomain("pets", images, labels, ("cat", "dog", "horse"))
    file = tmp_path / "other.safetensors"
    save_classifier(file, SmallClassifier(1, 3), "lenet", 1, 3, names)
    with pytest.raises(DomainError, match=message):
        run(tmp_path / "run", source=source, semantic=SemanticOptions(1.0, TINY_FIT, str(file)))
    assert not (tmp_path / "run").exists()
    save_classifier(file, SmallClassifier(1, 3), "lenet", 1, 3, source.class_names)
    run(tmp_path / "run", source=source, semantic=SemanticOptions(1.0, TINY_FIT, str(file)))


def test_a_run_that_another_process_began_meanwhile_is_refused(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking at the folder and having it for itself, a process may wait for one that does the whole run."""
    lock = files._lock

    def wait_for_a_whole_run(descriptor: int, folder: Path) -> None:
        monkeypatch.undo()
        shutil.copytree(tiny_run, folder, dirs_exist_ok=True)
        lock(descriptor, folder)

    monkeypatch.setattr(files, "_lock", wait_for_a_whole_run)
    with pytest.raises(FileExistsError, match="exists already; continue it with --resume"):
        run(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tiny_run)


def test_a_clock_that_jumps_changes_nothing(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([0.0, 4e9, -4e9, 1e-3, -86400.0])
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + next(jumps))
    monkeypatch.setattr("tqdm.std.time", time.time)
    run(tmp_path / "run", progress=True)
    assert_equal(weights_of(tiny_run), weights_of(tmp_path / "run"))
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds)
    assert 0.0 <= seconds[0] <= seconds[-1] < 100.0
