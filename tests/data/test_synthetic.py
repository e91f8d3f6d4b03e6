from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import ImageFont

from munitaug.data import backdrops
from munitaug.data.glyphs import FONT_FILES, Bend, Typeset, _font_folder, draw_bend, render_glyphs
from munitaug.data.synthetic import SyntheticDigits, bitmap_to_counts, counts_to_levels
from munitaug.images import resize_uint8
from munitaug.types import DomainError

STILL = Bend(0.0, 0.0, (1.0, 1.0), (0.0, 0.0), np.zeros((2, 32, 32), dtype=np.float32), 0.0)


def centre_of(ink: np.ndarray) -> tuple[float, float]:
    """Gives (x, y) of the middle of the inked rectangle."""
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.5), np.flatnonzero(ink.max(axis=0) > 0.5)
    return (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2


@pytest.mark.parametrize(("protocol", "shape"), [("print", (1, 8, 8)), ("numbers", (3, 32, 32))])
def test_native_images_have_the_size_of_the_protocol(protocol: str, shape: tuple[int, int, int]) -> None:
    domain = SyntheticDigits(protocol, count=3)  # type: ignore[arg-type]
    image, digit = domain[2]
    assert image.shape == shape
    assert image.dtype == torch.uint8
    assert 0 <= digit <= 9
    assert domain.channels == shape[0]


@pytest.mark.parametrize("protocol", ["print", "numbers"])
def test_items_do_not_depend_on_what_was_rendered_before(protocol: str) -> None:
    long = SyntheticDigits(protocol, count=40).render_all()  # type: ignore[arg-type]
    short = SyntheticDigits(protocol, count=12)  # type: ignore[arg-type]
    assert torch.equal(short[11][0], long[11][0])
    assert short[11][1] == long[11][1]


def test_labels_are_known_without_rendering() -> None:
    domain = SyntheticDigits("numbers", count=30)
    assert domain.labels.tolist() == [domain[index][1] for index in range(30)]


def test_digits_are_drawn_uniformly() -> None:
    shares = torch.bincount(SyntheticDigits(count=5000).labels, minlength=10) / 5000
    assert shares.min() > 0.085
    assert shares.max() < 0.115


@pytest.mark.parametrize("other", [{"split": "test"}, {"seed": 1}])
def test_another_split_or_seed_gives_other_images(other: dict[str, object]) -> None:
    first = SyntheticDigits(count=20).render_all().images(range(20))
    second = SyntheticDigits(count=20, **other).render_all().images(range(20))  # type: ignore[arg-type]
    assert not any(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_lengths_follow_protocol_and_split() -> None:
    lengths = [len(SyntheticDigits(p, s)) for p in ("print", "numbers") for s in ("train", "test")]
    assert lengths == [6000, 2000, 12000, 2000]


def test_print_has_seventeen_levels_like_the_real_digits() -> None:
    images = SyntheticDigits("print", count=60).render_all().images(range(60))
    expected = {round(count * 255 / 16) for count in range(17)}
    assert set(images.unique().tolist()) <= expected
    assert len(images.unique()) == 17


def test_print_touches_two_opposite_sides() -> None:
    for image, _ in (SyntheticDigits("print", count=30)[index] for index in range(30)):
        vertical = bool(image[0, 0].any()) and bool(image[0, -1].any())
        horizontal = bool(image[0, :, 0].any()) and bool(image[0, :, -1].any())
        assert vertical or horizontal


def test_print_is_light_ink_on_dark_and_invert_turns_it_over() -> None:
    image = SyntheticDigits("print", count=200).render_all().images(range(200))
    corners = image[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].float().mean()
    centre = image[:, 0, 2:6, 2:6].float().mean()
    assert corners < 60 < centre
    inverted = SyntheticDigits("print", count=1, invert=True)[0][0]
    assert torch.equal(inverted, 255 - image[0])


def test_size_is_reached_by_the_resize_of_the_real_digits() -> None:
    native, large = SyntheticDigits(count=1)[0][0], SyntheticDigits(count=1, size=16)[0][0]
    assert torch.equal(large, resize_uint8(native[None], 16)[0])


def test_counts_are_ink_in_blocks_of_four_by_four() -> None:
    bitmap = np.random.default_rng(0).uniform(size=(32, 32)) < 0.4
    counts = bitmap_to_counts(bitmap)
    for row in range(8):
        for column in range(8):
            slow = sum(int(bitmap[row * 4 + y, column * 4 + x]) for y in range(4) for x in range(4))
            assert counts[row, column] == slow
    assert counts_to_levels(np.array([[0, 8, 16]])).tolist() == [[0, 128, 255]]


def test_there_are_21_fonts_and_each_draws_ten_different_digits() -> None:
    assert len(set(FONT_FILES)) == 21
    for index in range(21):
        drawn = [render_glyphs(Typeset(str(digit), 0, index, 90, 0), STILL) for digit in range(10)]
        assert all(picture.sum() > 80 for picture in drawn)
        assert len({picture.tobytes() for picture in drawn}) == 10


def test_fonts_are_the_ones_matplotlib_ships() -> None:
    assert ImageFont.truetype(_font_folder() / "cmr10.ttf", 20).getname()[0] == "cmr10"


@pytest.mark.parametrize(("text", "centred"), [("7", 0), ("73", 0), ("37", 1), ("174", 1)])
def test_the_labelled_digit_stands_in_the_middle(text: str, centred: int) -> None:
    alone = render_glyphs(Typeset("7", 0, 3, 80, 0), STILL)
    written = render_glyphs(Typeset(text, centred, 3, 80, 0), STILL)
    x, y = centre_of(alone)
    assert abs(x - 63.5) <= 4
    assert abs(y - 63.5) <= 1
    middle = slice(52, 76)
    assert np.abs(written[:, middle] - alone[:, middle]).mean() < 0.02


def test_bend_moves_turns_and_scales() -> None:
    still = render_glyphs(Typeset("1", 0, 0, 80, 0), STILL)
    moved = render_glyphs(Typeset("1", 0, 0, 80, 0), Bend(0.0, 0.0, (1.0, 1.0), (10.0, -6.0), STILL.field, 0.0))
    assert np.abs(moved[:100, 20:] - still[6:106, 10:118]).max() < 1e-4
    small = render_glyphs(Typeset("1", 0, 0, 80, 0), Bend(0.0, 0.0, (0.5, 0.5), (0.0, 0.0), STILL.field, 0.0))
    assert small.sum() == pytest.approx(still.sum() / 4, rel=0.03)
    turned = render_glyphs(Typeset("0", 0, 0, 80, 0), Bend(90.0, 0.0, (1.0, 1.0), (0.0, 0.0), STILL.field, 0.0))
    upright = render_glyphs(Typeset("0", 0, 0, 80, 0), STILL)
    assert np.abs(turned - np.rot90(upright)).max() < 1e-3


def test_bends_stay_within_the_protocol() -> None:
    bends = [draw_bend(np.random.default_rng(seed), 10.0) for seed in range(300)]
    assert max(abs(bend.rotation_deg) for bend in bends) == 15.0
    assert max(abs(bend.shear) for bend in bends) <= 0.25
    assert min(min(bend.scale) for bend in bends) >= 0.8
    assert max(max(bend.scale) for bend in bends) <= 1.25
    assert max(max(map(abs, bend.shift_px)) for bend in bends) <= 10.0
    assert max(bend.elastic_px for bend in bends) <= 14 * 0.35
    assert draw_bend(np.random.default_rng(0)).shift_px == (0.0, 0.0)


def test_ink_can_be_told_from_the_background() -> None:
    weights = (0.299, 0.587, 0.114)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        backdrop = backdrops.draw_backdrop(rng)
        ink = backdrops.draw_ink(rng, backdrop)
        assert backdrop.shape == (32, 32, 3)
        assert 0.0 <= backdrop.min() <= backdrop.max() <= 1.0
        mean = sum(weight * backdrop[..., channel].mean() for channel, weight in enumerate(weights))
        assert abs(sum(weight * level for weight, level in zip(weights, ink, strict=True)) - mean) > 0.15


def test_blur_keeps_a_flat_picture_and_spreads_a_point_as_a_gaussian() -> None:
    assert np.allclose(backdrops.blur(np.full((32, 32, 3), 0.3), 1.2), 0.3)
    point = np.zeros((32, 32, 3))
    point[16, 16] = 1.0
    blurred = backdrops.blur(point, 1.0)
    assert blurred.sum() == pytest.approx(3.0)
    assert blurred[16, 17, 0] / blurred[16, 16, 0] == pytest.approx(np.exp(-0.5))
    assert blurred[17, 16, 2] / blurred[16, 16, 2] == pytest.approx(np.exp(-0.5))


def test_domain_survives_pickle() -> None:
    domain = SyntheticDigits("numbers", count=3, seed=4)
    assert torch.equal(pickle.loads(pickle.dumps(domain))[2][0], domain[2][0])


def test_index_outside_the_domain_is_refused_and_minus_one_is_the_last() -> None:
    domain = SyntheticDigits(count=3)
    assert torch.equal(domain[-1][0], domain[2][0])
    with pytest.raises(IndexError):
        domain[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "cursive"}, '"print" or "numbers"'),
        ({"split": "validation"}, '"train" or "test"'),
        ({"count": 0}, "count must be at least 1, got 0"),
    ],
)
def test_unknown_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        SyntheticDigits(**arguments)  # type: ignore[arg-type]


def test_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    _font_folder.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "munitaug\[benchmarks\]"'):
        _font_folder()
    _font_folder.cache_clear()
