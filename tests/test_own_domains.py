"""Domains of the user's own classes: what they may give, and what is refused before anything is trained or written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import munitaug
from munitaug.data import ArrayDomain
from munitaug.types import DomainError
from tests.runs import TINY_FIT, TINY_GREY, TINY_TRAINING
from tests.tiny import TINY

COUNT = 12


class Own(munitaug.ImageDomain):
    """Gives whatever it was told to."""

    def __init__(self, item: Callable[[int], Any], labels: Any = None, channels: int = 1) -> None:
        super().__init__("own", channels)
        self._item = item
        self._labels = labels

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return self._item(index)

    @property
    def labels(self) -> Any:
        return self._labels


def grey(index: int) -> tuple[Tensor, int]:
    return torch.full((1, 16, 16), 20 * index, dtype=torch.uint8), index % 3


WRONG = {
    "floats": lambda index: (torch.rand(1, 16, 16), -1),
    "int16": lambda index: (torch.zeros(1, 16, 16, dtype=torch.int16), -1),
    "numpy": lambda index: (np.zeros((1, 16, 16), np.uint8), -1),
    "pil": lambda index: (PIL.Image.new("L", (16, 16)), -1),
    "two dimensions": lambda index: (torch.zeros(16, 16, dtype=torch.uint8), -1),
    "another number of channels": lambda index: (torch.zeros(3, 16, 16, dtype=torch.uint8), -1),
    "the image alone": lambda index: None,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "checkpoint"
    munitaug.save(munitaug.methods.Munit(TINY_GREY), path)
    return path


@pytest.mark.parametrize("item", WRONG.values(), ids=WRONG)
def test_images_of_another_kind_are_refused_before_the_work(
    item: Callable[[int], Any], tmp_path: Path, checkpoint: Path
) -> None:
    good, wrong = Own(grey, [0, 1, 2] * 4), Own(item, [0, 1, 2] * 4)
    message = r"own: item \d+ must be \(uint8 tensor 1 x H x W in \[0, 255\], class or -1\), got "
    for source, target in ((wrong, good), (good, wrong)):
        with pytest.raises(TypeError, match=message):
            munitaug.train(source, target, tmp_path / "run", config=TINY_GREY, training=TINY_TRAINING, progress=False)
        with pytest.raises(TypeError, match=message):
            munitaug.adapt(source, target, tmp_path / "adapted", training=TINY_TRAINING, progress=False)
    with pytest.raises(TypeError, match=message):
        munitaug.generate(checkpoint, wrong, tmp_path / "made.h5", variants=1, progress=False)
    with pytest.raises(TypeError, match=message):
        munitaug.train_classifier(wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_of_another_kind_later_is_refused_when_its_turn_comes(tmp_path: Path) -> None:
    wrong = Own(lambda index: grey(index) if index in (0, COUNT - 1) else (torch.rand(1, 16, 16), -1))
    for keep_mib in (0, 100):
        training = munitaug.TrainConfig(**{**vars(TINY_TRAINING), "keep_mib": keep_mib})
        folder = tmp_path / f"run-{keep_mib}"
        with pytest.raises(TypeError, match=r"own: item \d+ must .* got torch\.float32"):
            munitaug.train(Own(grey), wrong, folder, config=TINY_GREY, training=training, progress=False)


def test_a_domains_own_images_are_not_written_to(tmp_path: Path) -> None:
    kept = [grey(index) for index in range(COUNT)]
    domain = Own(kept.__getitem__)
    munitaug.train(domain, domain, tmp_path / "run", config=TINY_GREY, training=TINY_TRAINING, progress=False)
    assert all(torch.equal(image, grey(index)[0]) for index, (image, _) in enumerate(kept))


@pytest.mark.parametrize("as_labels", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "numpy", "tensor"])
def test_labels_may_be_any_sequence_of_whole_numbers(
    as_labels: Callable[[list[int]], Any], tmp_path: Path, checkpoint: Path
) -> None:
    domain = Own(grey, as_labels([0, 1, 2] * 4))
    assert domain.is_labelled
    assert domain.fingerprint() == Own(grey, torch.tensor([0, 1, 2] * 4)).fingerprint()
    munitaug.train_classifier(domain, settings=TINY_FIT)
    munitaug.train(
        domain,
        domain,
        tmp_path / "run",
        config=TINY_GREY,
        training=TINY_TRAINING,
        semantic=munitaug.SemanticOptions(1.0, TINY_FIT),
        progress=False,
    )
    munitaug.generate(checkpoint, domain, tmp_path / "made.h5", variants=1, progress=False)
    made = munitaug.AugmentedDataset(tmp_path / "made.h5")
    assert [made[index][1] for index in range(len(made))] == [0, 1, 2] * 4


def test_labels_below_those_that_are_not_known_are_refused() -> None:
    with pytest.raises(DomainError, match="labels must be classes from 0 on, or -1 where none is known, got -100"):
        Own(grey, [0, -100, *[1] * 10]).checked_labels()


def test_a_folder_is_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    PIL.Image.new("L", (16, 16), 7).save(tmp_path / "photos" / "1.png")
    monkeypatch.chdir(tmp_path)
    domain = munitaug.open_domain("photos")
    assert domain.name == "photos"
    monkeypatch.chdir(tmp_path.parent)
    assert int(domain[0][0].max()) == 7


def test_home_is_meant_by_its_sign_for_what_is_read_and_for_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    domain = Own(grey)
    munitaug.train(domain, domain, "~/run", config=TINY_GREY, training=TINY_TRAINING, progress=False)
    munitaug.generate("~/run", domain, "~/made.h5", variants=1, progress=False)
    munitaug.preview("~/run", domain, "~/grid.png", variants=2, columns=3, progress=False)
    assert munitaug.MUNITTransform("~/run", seed=1)(grey(3)[0]).shape == (1, 16, 16)
    assert len(munitaug.AugmentedDataset("~/made.h5")) == COUNT
    assert munitaug.from_pretrained("~/run").style_dim == TINY_GREY.style_dim
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        munitaug.convert("none.pt", "~/run", format="munit")
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before
    assert {"run", "made.h5", "grid.png"} <= {path.name for path in tmp_path.iterdir()}
    assert os.listdir(".") == []


def test_further_domains_are_a_list(tmp_path: Path) -> None:
    config = munitaug.methods.MultiDomainConfig.preset("small", channels=1)
    for others in ("photos/x", Path("photos/x"), Own(grey)):
        with pytest.raises(TypeError, match=r"others must be a list of domains, got .*; give \[...\] around it"):
            munitaug.train(Own(grey), Own(grey), tmp_path / "run", others=others, method="multidomain", config=config)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["training", "data", "semantic"])
def test_settings_of_another_class_are_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a .*, got "):
        munitaug.train(Own(grey), Own(grey), tmp_path / "run", **{name: {}})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="munit takes a MunitConfig, got a dict"):
        munitaug.train(Own(grey), Own(grey), tmp_path / "run", config={})  # type: ignore[arg-type]


def test_numbers_and_devices_of_other_libraries_are_taken(tmp_path: Path) -> None:
    training = munitaug.TrainConfig(**{**vars(TINY_TRAINING), "device": torch.device("cpu")})
    semantic = munitaug.SemanticOptions(np.float32(1), TINY_FIT)  # type: ignore[arg-type]
    domain = Own(grey, [0, 1, 2] * 4)
    run = munitaug.train(
        domain, domain, tmp_path / "run", config=TINY_GREY, training=training, semantic=semantic, progress=False
    )
    made = tmp_path / "made.h5"
    munitaug.generate(run, domain, made, variants=1, truncation=np.float32(0.5), progress=False)  # type: ignore[arg-type]
    adapted = munitaug.adapt(
        domain,
        domain,
        tmp_path / "adapted",
        training=training,
        semantic_weight=np.float32(1),  # type: ignore[arg-type]
        fit=TINY_FIT,
        progress=False,
    )
    assert made.is_file()
    assert adapted.classifier.is_file()
    with pytest.raises(TypeError, match="device must be"):
        munitaug.TrainConfig(device=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_training_works_whatever_mode_of_gradients_it_is_called_in(mode: Callable[[], Any], tmp_path: Path) -> None:
    domain = Own(grey, [0, 1, 2] * 4)
    outside = munitaug.train_classifier(domain, settings=TINY_FIT).state_dict()
    with mode():
        inside = munitaug.train_classifier(domain, settings=TINY_FIT).state_dict()
        munitaug.adapt(domain, domain, tmp_path / "run", training=TINY_TRAINING, fit=TINY_FIT, progress=False)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(value, inside[name]) for name, value in outside.items())


def test_a_target_of_one_image_is_refused_before_the_translator_is_trained(tmp_path: Path) -> None:
    one = ArrayDomain("one", torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="the target must hold two images or more"):
        munitaug.adapt(Own(grey, [0, 1, 2] * 4), one, tmp_path / "run", training=TINY_TRAINING, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_conditions_and_seeds_may_be_any_series(tmp_path: Path) -> None:
    domain = Own(grey, [0, 1, 2] * 4)
    rows = munitaug.evaluate(
        domain,
        domain,
        tmp_path / "rows.json",
        test=domain,
        conditions=(name for name in ("source", "classic")),  # type: ignore[arg-type]
        seeds=np.arange(2),  # type: ignore[arg-type]
        fit=TINY_FIT,
        processes=1,
        progress=False,
    )
    assert [(row["condition"], row["seed"]) for row in rows] == [
        ("source", 0),
        ("source", 1),
        ("classic", 0),
        ("classic", 1),
    ]


def test_variants_of_a_stream_are_refused_at_once() -> None:
    class Stream(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self) -> Any:
            return iter([])

    translator = munitaug.methods.Munit(TINY).translator("a", "b")
    streams: tuple[Any, ...] = (Stream(), iter([1, 2]), {"a": 1}, "photos")
    for stream in streams:
        with pytest.raises(TypeError, match="dataset must have a length and items by number, got"):
            munitaug.VariantDataset(stream, translator)
    data = munitaug.VariantDataset([(torch.zeros(3, 16, 16), 0)], translator)
    with pytest.raises(TypeError, match=r"epoch must be a whole number, got 1\.5"):
        data.set_epoch(1.5)  # type: ignore[arg-type]
