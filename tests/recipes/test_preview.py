"""The sheet of contents and styles: which rows it has, what they show, what is refused."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from munitaug.checkpoint import shared_translator
from munitaug.data.domain import ArrayDomain
from munitaug.kernel import images_to_styles, translate_images
from munitaug.methods import DistanceGan
from munitaug.recipes import preview
from munitaug.recipes.sheets import SheetRow, SheetSection
from munitaug.types import DomainError, LabelMissingError
from tests.methods.cases import TINY_DISTANCE
from tests.runs import toy_domain, toy_images


def flat_domain(count: int = 12) -> ArrayDomain:
    """Images of one level, 20 times their class."""
    labels = torch.tensor([0] * (count - 3) + [1, 2, 3])
    images = (20 * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).contiguous()
    return ArrayDomain("flat", images, labels)


class SeesOneClass(nn.Module):
    """Sees one class of four in every image."""

    def __init__(self, seen: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.nn.functional.one_hot(torch.tensor(seen), 4).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), -1)


class Drawn:
    """What the sheet was asked to draw."""

    def __init__(self) -> None:
        self.sections: list[SheetSection] = []
        self.legend = ""

    def __call__(self, sections: list[SheetSection], legend: str = "") -> Image.Image:
        self.sections, self.legend = sections, legend
        return Image.new("RGB", (4, 4))

    @property
    def headings(self) -> list[str]:
        return [section.heading for section in self.sections]

    @property
    def rows(self) -> dict[str, SheetRow]:
        """Gives the rows by caption; a caption that comes again names the last one."""
        return {row.caption: row for section in self.sections for row in section.rows}

    @property
    def captions(self) -> list[str]:
        return [row.caption for section in self.sections for row in section.rows]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Takes the place of the drawing."""
    drawn = Drawn()
    monkeypatch.setattr(import_module("munitaug.recipes.preview"), "draw_sheet", drawn)
    return drawn


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "sheet.png"


def levels(row: SheetRow) -> list[int]:
    return [int(image[0, 0, 0]) for image in row.images]


def test_a_sheet_is_a_picture(tiny_run: Path, out: Path) -> None:
    path = preview(tiny_run, toy_domain(), out, target=toy_domain(), variants=2, columns=5)
    with Image.open(path) as picture:
        assert (path, picture.format, picture.mode) == (out, "PNG", "RGB")
        assert picture.height > 4 * 48
        assert picture.width > 5 * 48


def test_sheet_has_rows_for_originals_styles_and_target(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, toy_domain(), out, target=toy_domain("real"), variants=2, columns=3, style="bank")
    assert drawn.captions == ["source", "bank 1", "bank 2", "real target"]
    assert drawn.headings == ["", "Styles of the bank", "Real images of real"]
    assert {tuple(row.images.shape) for row in drawn.rows.values()} == {(3, 1, 16, 16)}
    assert drawn.legend == ""


def test_contents_are_spread_over_the_classes(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, flat_domain(), out, variants=1, columns=4)
    assert sorted(levels(drawn.rows["source"])) == [0, 20, 40, 60]


def test_real_images_of_the_target_are_drawn_as_they_are(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, toy_domain(), out, target=flat_domain(), variants=1, columns=4)
    assert sorted(levels(drawn.rows["real target"])) == [0, 20, 40, 60]


def test_unlabelled_contents_and_fewer_images_than_columns(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, toy_domain(count=3, labelled=False), out, variants=1, columns=12)
    assert {len(row.images) for row in drawn.rows.values()} == {3}


def test_equal_seeds_give_equal_sheets(tiny_run: Path, tmp_path: Path) -> None:
    first, again, other = (
        preview(tiny_run, toy_domain(), tmp_path / f"{name}.png", seed=seed).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first != other


def test_a_translator_may_be_given(tiny_run: Path, tmp_path: Path) -> None:
    translator = shared_translator(tiny_run)
    first = preview(translator, toy_domain(), tmp_path / "a.png").read_bytes()
    assert first == preview(tiny_run, toy_domain(), tmp_path / "b.png").read_bytes()


def test_both_directions_can_be_drawn(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, toy_domain(), out, variants=2, direction="b2a", style="bank", exemplars=toy_domain(count=1))
    assert drawn.captions == ["source", "bank 1", "bank 2", "exemplar 1"]


def test_an_existing_picture_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already .*; choose another output, or overwrite it"):
        preview(tiny_run, toy_domain(), path)
    assert path.read_text() == "mine"
    preview(tiny_run, toy_domain(), path, overwrite=True)
    with Image.open(path) as picture:
        assert picture.format == "PNG"


class TestExemplars:
    def test_each_leads_a_row_in_its_style(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        exemplars = toy_domain("wanted", count=2, seed=5)
        preview(tiny_run, toy_domain(), out, variants=1, columns=3, exemplars=exemplars)
        translator = shared_translator(tiny_run)
        assert drawn.headings[-1] == "Styles of exemplars from wanted"
        for number in range(2):  # a domain with no more images than rows is taken in its order
            row, image = drawn.rows[f"exemplar {number + 1}"], exemplars[number][0]
            code = images_to_styles(translator, image.unsqueeze(0)).expand(3, 1, -1)
            assert row.leading is not None
            assert torch.equal(row.leading, image)
            assert torch.equal(row.images, translate_images(translator, drawn.rows["source"].images, code).squeeze(1))

    def test_some_of_many_are_drawn_without_reading_labels(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        labelled, unlabelled = toy_domain(count=9), toy_domain(count=9, labelled=False)
        chosen = []
        for exemplars in (labelled, unlabelled):
            preview(tiny_run, toy_domain(), out, variants=1, columns=1, exemplars=exemplars, exemplar_rows=4)
            chosen.append([drawn.rows[f"exemplar {number}"].leading for number in (1, 2, 3, 4)])
            out.unlink()
        for one, other in zip(*chosen, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)

    def test_they_may_differ_in_size(self, tiny_run: Path, out: Path, drawn: Drawn, tmp_path: Path) -> None:
        folder = tmp_path / "exemplars"
        folder.mkdir()
        for side in (16, 30):
            Image.new("L", (side, side + 2), 200).save(folder / f"{side}.png")
        preview(tiny_run, toy_domain(), out, variants=1, columns=1, exemplars=str(folder))
        shapes = [row.leading.shape for row in drawn.rows.values() if row.leading is not None]
        assert shapes == [(1, 18, 16), (1, 32, 30)]


class TestWays:
    def test_between_drawn_styles_ends_where_they_are(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        preview(tiny_run, toy_domain(), out, variants=2, columns=3, interpolate=5)
        rows = drawn.rows
        assert drawn.captions[3:] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
        assert drawn.headings[-1] == "From style 1 to style 2, spherical interpolation"
        assert torch.equal(rows["0.00"].images, rows["prior 1"].images)
        assert torch.equal(rows["1.00"].images, rows["prior 2"].images)
        assert not torch.equal(rows["0.50"].images, rows["0.00"].images)

    def test_of_one_drawn_style_goes_to_a_second_that_has_no_row(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        preview(tiny_run, toy_domain(), out, variants=1, columns=3, interpolate=2)
        assert drawn.captions == ["source", "prior 1", "0.00", "1.00"]
        assert not torch.equal(drawn.rows["1.00"].images, drawn.rows["prior 1"].images)

    def test_between_codes_of_images_goes_straight(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        exemplars = toy_domain(count=2, seed=5)
        preview(tiny_run, toy_domain(), out, variants=1, columns=2, exemplars=exemplars, exemplar_rows=1, interpolate=3)
        translator, contents = shared_translator(tiny_run), drawn.rows["source"].images
        middle = images_to_styles(translator, exemplars.images([0, 1])).mean(dim=0).expand(2, 1, -1)
        difference = drawn.rows["0.50"].images.float() - translate_images(translator, contents, middle).squeeze(1)
        assert drawn.captions == ["source", "prior 1", "exemplar 1", "0.00", "0.50", "1.00"]
        assert drawn.headings[-1] == "From exemplar 1 to exemplar 2, linear interpolation"
        assert difference.abs().max() <= 1.0  # one rounding
        leading = [drawn.rows[caption].leading for caption in ("0.00", "0.50", "1.00")]
        assert leading[1] is None
        assert leading[2] is not None
        assert torch.equal(leading[2], exemplars[1][0])

    def test_of_the_bank_goes_straight(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        preview(tiny_run, toy_domain(), out, variants=2, columns=2, style="bank", interpolate=2)
        assert drawn.headings[-1] == "From style 1 to style 2, linear interpolation"

    def test_between_exemplars_needs_two(self, tiny_run: Path, out: Path) -> None:
        with pytest.raises(ValueError, match="needs 2 of them, but toy has 1"):
            preview(tiny_run, toy_domain(), out, exemplars=toy_domain(count=1), interpolate=3)


class TestJudge:
    def test_marks_what_lost_its_label_and_notes_say_how_many_kept_it(
        self, tiny_run: Path, out: Path, drawn: Drawn
    ) -> None:
        preview(tiny_run, flat_domain(), out, variants=2, columns=4, judge=SeesOneClass(2), target=flat_domain())
        wanted = tuple(None if level == 40 else "2" for level in levels(drawn.rows["source"]))
        assert wanted.count(None) == 1
        assert drawn.rows["prior 1"].marks == drawn.rows["prior 2"].marks == wanted
        assert drawn.rows["prior 1"].note == "1 of 4 kept"
        assert drawn.rows["source"].marks == drawn.rows["real target"].marks == ()
        assert "SeesOneClass sees the class in the tag" in drawn.legend
        assert drawn.legend.endswith("Styles of the prior: 2 of 8 (25%)")

    def test_learns_from_labelled_images(
        self, tiny_run: Path, out: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def train(domain: ArrayDomain, *, seed: int, device: str, progress: bool) -> nn.Module:
            asked.append(f"{domain.name} {seed} {device} {progress}")
            return SeesOneClass(0)

        monkeypatch.setattr("munitaug.recipes.judge.train_classifier", train)
        judge = toy_domain("judges", 15)
        preview(tiny_run, flat_domain(), out, variants=1, judge=judge, seed=3, progress=False)
        assert asked == ["judges 3 cpu False"]
        assert "a small classifier of judges sees" in drawn.legend

    def test_needs_labels_to_hold_translations_against(self, tiny_run: Path, out: Path) -> None:
        with pytest.raises(LabelMissingError, match="toy has no labels"):
            preview(tiny_run, toy_domain(labelled=False), out, judge=SeesOneClass(0))

    def test_needs_labels_to_learn_from(self, tiny_run: Path, out: Path) -> None:
        with pytest.raises(LabelMissingError, match="judges has no labels"):
            preview(tiny_run, toy_domain(), out, judge=toy_domain("judges", labelled=False))

    def test_needs_the_classes_that_it_is_to_judge(self, tiny_run: Path, out: Path) -> None:
        images, labels = toy_images(6, 0)
        source, judge = (
            ArrayDomain(name, images, labels, classes)
            for name, classes in (("pets", ("cat", "dog", "horse")), ("judges", ("dog", "cat", "horse")))
        )
        with pytest.raises(DomainError, match="pets and judges have the same classes in another order"):
            preview(tiny_run, source, out, judge=judge)
        assert not out.exists()


class TestNearest:
    def test_shows_real_images_beside_the_first_style(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        target = toy_domain("real", 20, seed=9)
        preview(tiny_run, toy_domain(), out, target=target, variants=2, columns=3, nearest=True)
        first, near = drawn.sections[2].rows
        assert torch.equal(first.images, drawn.rows["prior 1"].images)
        for image, found in zip(first.images, near.images, strict=True):
            distances = [float((image.double() - target[place][0].double()).square().sum()) for place in range(20)]
            assert torch.equal(found, target[distances.index(min(distances))][0])
        assert drawn.headings[2].startswith("Nearest real images in real by pixels: median distance ")

    def test_goes_by_the_judge_where_there_is_one(self, tiny_run: Path, out: Path, drawn: Drawn) -> None:
        preview(tiny_run, flat_domain(), out, target=toy_domain(), judge=SeesOneClass(1), nearest=True)
        heading = drawn.headings[2]
        assert "by features of the judge: median distance 0.00, from real to other real images 0.00" in heading
        assert "Nearest" not in drawn.legend  # its first row is one of the styles: counted there

    def test_needs_images_to_search(self, tiny_run: Path, out: Path) -> None:
        with pytest.raises(ValueError, match="give --target"):
            preview(tiny_run, toy_domain(), out, nearest=True)


def test_a_sheet_that_is_called_otherwise_than_png_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a sheet is a PNG, got sheet\.jpg; name it sheet\.png"):
        preview(tiny_run, toy_domain(), tmp_path / "sheet.jpg")
    assert list(tmp_path.iterdir()) == []


def test_strength_0_leaves_every_image_its_own_style(tiny_run: Path, out: Path, drawn: Drawn) -> None:
    preview(tiny_run, toy_domain(), out, variants=2, columns=3, strength=0.0)
    translator, contents = shared_translator(tiny_run), drawn.rows["source"].images
    own = translate_images(translator, contents, images_to_styles(translator, contents).unsqueeze(1)).squeeze(1)
    assert torch.equal(drawn.rows["prior 1"].images, own)
    assert torch.equal(drawn.rows["prior 2"].images, own)
    assert drawn.headings[1] == "Styles of the prior, strength 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": 0}, "variants and columns must be at least 1"),
        ({"columns": 0}, "variants and columns must be at least 1"),
        ({"interpolate": 1}, "interpolate must be 0 or at least 2"),
        ({"interpolate": -1}, "interpolate must be 0 or at least 2"),
        ({"exemplar_rows": 0}, "exemplar_rows at least 1"),
        ({"strength": 1.5}, r"strength must be in \[0, 1\], got 1.5"),
        ({"strength": float("nan")}, r"strength must be in \[0, 1\], got nan"),
    ],
)
def test_wishes_that_cannot_be_are_refused(tiny_run: Path, out: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preview(tiny_run, toy_domain(), out, **changes)  # type: ignore[arg-type]
    assert not out.parent.exists()


class TestWithoutStyles:
    translator = DistanceGan(replace(TINY_DISTANCE, channels=1)).eval().translator("a", "b")

    def test_there_is_one_row(self, out: Path, drawn: Drawn) -> None:
        preview(self.translator, toy_domain(), out, target=toy_domain("real"), variants=4, nearest=True)
        assert drawn.captions == ["source", "translated", "translated", "nearest real", "real target"]
        assert drawn.headings[1] == "Translations"

    @pytest.mark.parametrize(
        "wish",
        [{"interpolate": 3}, {"strength": 0.5}, {"style": "bank"}, {"exemplars": toy_domain()}],
        ids=lambda wish: next(iter(wish)),
    )
    def test_wishes_about_styles_are_refused(self, out: Path, wish: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="train a multimodal method"):
            preview(self.translator, toy_domain(), out, **wish)  # type: ignore[arg-type]
