"""Labels that survive translation, as a file, a table and a picture; and who judges."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from munitaug.adaptation import FitSettings
from munitaug.checkpoint import checkpoint_sha256, read_index
from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.recipes import DataOptions, LabelReport, label_preservation
from munitaug.recipes import labels as recipe
from munitaug.recipes.label_report import StyledBy
from munitaug.types import DomainError, LabelMissingError
from tests.runs import TINY_FIT, toy_domain, toy_images


class SeesCorner(nn.Module):
    """Sees the toy class by where the bright square is, so that it errs on no toy image."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, 0, top : top + 5, left : left + 5].mean(dim=(1, 2)) for top, left in ((2, 2), (2, 9), (9, 2))]
        others = [torch.full_like(corners[0], -9.0)] * (self.classes - 3)
        return self.scale * torch.stack([*corners, *others][: self.classes], dim=1)


def run(checkpoint: Path, out: Path, **changes: object) -> LabelReport:
    arguments: dict[str, object] = {
        "source": toy_domain("source", 12),
        "judge": SeesCorner(),
        "variants": 2,
        "fit": TINY_FIT,
        "device": "cpu",
        "progress": False,
    }
    return label_preservation(checkpoint, out=out, **(arguments | changes))  # type: ignore[arg-type]


def learn_nothing(monkeypatch: pytest.MonkeyPatch) -> list[ImageDomain]:
    """Puts a judge that knows the toy classes in the place of training; gives the domains it would have learnt from."""
    lessons: list[ImageDomain] = []

    def train(domain: ImageDomain, *, settings: FitSettings, seed: int, device: str, progress: bool) -> nn.Module:
        del settings, seed, device, progress
        lessons.append(domain)
        return SeesCorner()

    monkeypatch.setattr(recipe, "train_classifier", train)
    return lessons


def test_everything_is_counted_and_written(tiny_run: Path, tmp_path: Path) -> None:
    report = run(tiny_run, tmp_path / "deep" / "labels.json", judge_test=toy_domain("exam", 9, seed=3), seed=5)
    assert [sum(row) for row in report.translated.counts] == [8, 8, 8]
    assert report.untranslated.counts == ((4, 0, 0), (0, 4, 0), (0, 0, 4))
    assert report.judged.counts == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    assert report.styled == StyledBy("munit", checkpoint_sha256(tiny_run), "a2b", "prior", None, 2, 5)
    assert (report.judge, report.judge_images, report.judge_test) == ("SeesCorner", None, "exam")
    written = json.loads((tmp_path / "deep" / "labels.json").read_text())
    assert written["confusion"]["translated"] == [list(row) for row in report.translated.counts]
    assert written["styled"]["checkpoint_sha256"] == checkpoint_sha256(tiny_run)
    with Image.open(tmp_path / "deep" / "labels.png") as picture:
        assert picture.format == "PNG"


def test_equal_calls_give_equal_files(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        run(tiny_run, tmp_path / name, judge=toy_domain("judge", 30))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_judge_is_tested_on_a_fifth_of_each_class_that_it_did_not_learn_from(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = learn_nothing(monkeypatch)
    images, labels = toy_images(45, seed=7)
    report = run(tiny_run, tmp_path / "labels.json", judge=ArrayDomain("folder", images, labels))
    assert [sum(row) for row in report.judged.counts] == [3, 3, 3]  # a fifth of 15 each
    assert (report.judge_images, report.judge_test) == (("folder", 36), "a held-out fifth of folder")
    assert report.judge == "lenet classifier"
    taught = {image.numpy().tobytes() for image in lessons[0].images(range(36))}
    assert len(taught) == 36
    assert taught < {image.numpy().tobytes() for image in images}


def test_of_classes_too_small_for_a_fifth_nothing_is_held_out(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = learn_nothing(monkeypatch)
    report = run(tiny_run, tmp_path / "labels.json", judge=toy_domain("few", 12))
    assert (len(lessons[0]), report.judge_test, report.judged.total) == (12, None, 0)
    assert "its own accuracy is not known" in report.table()


def test_a_named_judge_is_tested_on_its_test_split(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(recipe, "train_classifier", lambda domain, **settings: SeesCorner(classes=10))
    data = DataOptions(channels=1, size=16)
    report = run(tiny_run, tmp_path / "labels.json", judge="digits:train:50", data=data)
    assert (report.judge_images, report.judge_test, report.judged.total) == (
        ("digits:train", 50),
        "digits:test",
        797,
    )


def test_the_judge_learns_by_default_from_what_the_checkpoint_was_trained_towards(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    index = read_index(tiny_run / "checkpoint")
    recorded = {**index, "provenance": {"source": {"name": "mnist:train"}, "target": {"name": "digits:train"}}}
    monkeypatch.setattr(recipe, "read_index", lambda folder: recorded)
    monkeypatch.setattr(recipe, "train_classifier", lambda domain, **settings: SeesCorner(classes=10))
    report = run(tiny_run, tmp_path / "labels.json", judge=None, data=DataOptions(channels=1, size=16))
    assert report.judge_images == ("digits:train", 1000)


def test_without_a_name_in_the_checkpoint_the_judge_must_be_given(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not name the images it was trained towards, .* --judge SPEC"):
        run(tiny_run, tmp_path / "labels.json", judge=None)


def test_a_translator_without_styles_has_one_variant(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(nn.Module):
        channels, size_multiple, style_dim = 1, 1, 0
        style_bank = torch.zeros(0, 0)

        def translate(self, x: Tensor, style: Tensor) -> Tensor:
            return x.unsqueeze(1).expand(-1, style.shape[1], *x.shape[1:])

    monkeypatch.setattr(recipe, "shared_translator", lambda *place: Same())
    report = run(tiny_run, tmp_path / "labels.json", variants=4)
    assert report.styled.variants == 1
    assert report.translated.counts == report.untranslated.counts == ((4, 0, 0), (0, 4, 0), (0, 0, 4))


@pytest.mark.parametrize("present", ["labels.json", "labels.png"])
def test_files_are_replaced_only_when_asked(tiny_run: Path, tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("mine")
    with pytest.raises(FileExistsError, match=f"exists already and is left as it is; .*{present}"):
        run(tiny_run, tmp_path / "labels.json")
    assert [path.name for path in tmp_path.iterdir()] == [present]
    run(tiny_run, tmp_path / "labels.json", overwrite=True)
    assert (tmp_path / present).read_bytes() != b"mine"


REFUSALS: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"variants": 0}, ValueError, "variants must be at least 1, got 0"),
    ({"style": "dream"}, ValueError, "style must be one of"),
    ({"source": toy_domain("bare", 6, labelled=False)}, LabelMissingError, "bare has no labels"),
    ({"judge": toy_domain("bare", 6, labelled=False)}, LabelMissingError, "bare has no labels"),
    ({"judge_test": toy_domain("bare", 6, labelled=False)}, LabelMissingError, "bare has no labels"),
    ({"judge": SeesCorner(classes=2)}, ValueError, "the judge knows 2 classes, but labels go up to 2"),
    ({"out": "labels.png"}, ValueError, "give a name.json"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSALS)
def test_what_does_not_suit_is_refused_before_anything_is_written(
    tiny_run: Path, tmp_path: Path, changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    out = tmp_path / str(changes.get("out", "labels.json"))
    with pytest.raises(kind, match=message):
        run(tiny_run, out, **{name: value for name, value in changes.items() if name != "out"})
    assert list(tmp_path.iterdir()) == []


def test_a_judge_of_other_classes_or_another_size_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    images, labels = toy_images(6, seed=0)
    named = ArrayDomain("source", images, labels, ("left", "right", "below"))
    with pytest.raises(DomainError, match="not the same"):
        run(
            tiny_run,
            tmp_path / "labels.json",
            source=named,
            judge=ArrayDomain("judge", images, labels, ("a", "b", "c")),
        )
    large = ArrayDomain("large", images.repeat_interleave(2, dim=2), labels)
    with pytest.raises(ValueError, match=r"images of large are 16 x 32 px, those of source 16 x 16; .* --size 16"):
        run(tiny_run, tmp_path / "labels.json", judge=large)


def test_a_missing_package_is_named_before_the_work(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"munitaug\[benchmarks\]"):
        run(tiny_run, tmp_path / "labels.json")
    assert list(tmp_path.iterdir()) == []
