"""The whole product in one call, as small as it can be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from munitaug.adaptation import CONDITIONS, FitSettings
from munitaug.checkpoint import checkpoint_sha256
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.recipes import DemoSettings, demo
from munitaug.stopping import stop_on_signals
from munitaug.types import Interrupted

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

TINY = DemoSettings(
    steps=3,
    seeds=1,
    source_count=60,
    variants=2,
    generate_count=12,
    fit=FitSettings(steps=4, start_steps=2, refine_steps=2, batch_size=8),
)


@pytest.fixture(scope="module", autouse=True)
def one_process() -> object:
    """Chains one after another here: starting processes takes longer than the work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    demo(folder, settings=TINY, progress=False)
    return folder


def test_demo_leaves_every_file(finished: Path) -> None:
    names = {entry.name for entry in finished.iterdir()}
    assert names >= {
        "config.json",
        "log.jsonl",
        "samples",
        "state",
        "checkpoint",
        "preview.png",
        "augmented.h5",
        "results.json",
        "accuracy.png",
    }
    assert not [name for name in names if name.endswith((".tmp", ".parts"))]


def test_results_are_a_list_of_rows(finished: Path) -> None:
    rows = json.loads((finished / "results.json").read_text())
    assert [(row["condition"], row["seed"]) for row in rows] == [(condition, 0) for condition in CONDITIONS]
    assert all(set(row) == {"condition", "seed", "accuracy"} for row in rows)
    assert all(isinstance(row["accuracy"], float) for row in rows)


def test_preview_has_rows_of_originals_six_styles_and_real_targets(finished: Path) -> None:
    with Image.open(finished / "preview.png") as picture:
        assert picture.height == 8 + 8 * 52 + 2 * 30 + 8  # source, 6 styles, 1 real; 2 headings


def test_augmented_file_holds_the_variants(finished: Path) -> None:
    augmented = AugmentedDataset(finished / "augmented.h5")
    assert len(augmented) == 24
    assert augmented[0][0].shape == (1, 16, 16)


def test_a_finished_demo_can_be_resumed(finished: Path) -> None:
    before = (finished / "results.json").read_bytes(), checkpoint_sha256(finished)
    demo(finished, settings=TINY, resume=True, progress=False)
    assert before == ((finished / "results.json").read_bytes(), checkpoint_sha256(finished))


def test_a_demo_killed_in_between_goes_on(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise RuntimeError("power cut")

    for module, name in (("train", "train_classifier"), ("demo", "generate")):
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules[f"munitaug.recipes.{module}"], name, killed)
            with pytest.raises(RuntimeError, match="power cut"):
                demo(tmp_path / "run", settings=TINY, resume=(tmp_path / "run").exists(), progress=False)
    demo(tmp_path / "run", settings=TINY, resume=True, progress=False)
    assert checkpoint_sha256(tmp_path / "run") == checkpoint_sha256(finished)
    assert (tmp_path / "run" / "results.json").read_bytes() == (finished / "results.json").read_bytes()


@pytest.mark.parametrize("part", ["train", "generate"])
def test_a_stop_at_the_last_step_of_a_part_is_heard(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    module = sys.modules["munitaug.recipes.demo"]
    copied = shutil.copytree(finished, tmp_path / "run")
    if part == "train":
        shutil.rmtree(copied / "checkpoint")

    def too_late(*_: object, **__: object) -> None:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module, part, too_late)
    with pytest.raises(Interrupted, match=r"stopped; what is made is in .*--resume to continue"):
        demo(copied, settings=TINY, resume=True, progress=False)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already; continue it with --resume"):
        demo(tmp_path, settings=TINY, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["steps", "seeds", "source_count", "variants", "generate_count"])
def test_nothing_of_something_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        DemoSettings(**{name: 0})  # type: ignore[arg-type]


def test_a_negative_semantic_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="semantic_weight must be at least 0"):
        DemoSettings(semantic_weight=-1.0)
