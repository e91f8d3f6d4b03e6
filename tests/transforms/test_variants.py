"""Draw first, apply after: strength, mixes of directions, styles by class, and what a draw is made of."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from munitaug.styles import BankStyles, ClassBankStyles
from munitaug.transforms import MUNITTransform
from munitaug.transforms.variants import Draw, VariantMaker
from tests.transforms.toys import (
    BrightnessTranslator,
    OneToOneTranslator,
    ShiftTranslator,
    StylesByClass,
    frozen,
    give_checkpoints,
)

MIX = {"a2b": 0.7, "b2a": 0.3}
GREY = torch.full((1, 3, 16, 16), 0.5)


def maker(checkpoint: Any = None, **options: Any) -> VariantMaker:
    plain: dict[str, Any] = {
        "style": "prior", "direction": "a2b", "device": "cpu", "seed": 0, "truncation": None, "strength": 1.0,
        "guard": None,
    }  # fmt: skip
    return VariantMaker(frozen(BrightnessTranslator()) if checkpoint is None else checkpoint, **(plain | options))


class Lazy(BrightnessTranslator):
    """Refuses to encode styles."""

    def encode_style(self, y: Tensor) -> Tensor:
        raise AssertionError("encode_style was called")


class TestDraw:
    def test_shapes_and_ranges(self) -> None:
        draw = maker(strength=(0.25, 0.5)).draw(5, 3)
        assert draw.styles.shape == (5, 3, 2)
        assert draw.strength.shape == (5, 3)
        assert 0.25 <= draw.strength.min() < draw.strength.max() <= 0.5
        assert draw.direction.tolist() == [0] * 5
        assert draw.retry_seed == 0

    def test_a_generator_that_is_given_decides_everything(self) -> None:
        made = maker(strength=(0.0, 1.0))
        first = made.draw(4, 2, generator=torch.Generator().manual_seed(3))
        made.draw(9, 9)
        again = made.draw(4, 2, generator=torch.Generator().manual_seed(3))
        assert all(torch.equal(a, b) for a, b in zip(first[:3], again[:3], strict=True))

    def test_options_that_are_off_draw_nothing(self) -> None:
        generators = [torch.Generator().manual_seed(3) for _ in range(2)]
        plain = maker().draw(4, 2, generator=generators[0])
        assert torch.equal(plain.styles, torch.randn(4, 2, 2, generator=generators[1]))
        assert torch.equal(generators[0].get_state(), generators[1].get_state())

    def test_translating_is_pure(self) -> None:
        made = maker(strength=(0.0, 1.0))
        images, draw = torch.rand(3, 3, 17, 19), made.draw(3, 2)
        assert torch.equal(made.translate(images, draw), made.translate(images, draw))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_a_draw_does_not_depend_on_the_default_dtype(self, dtype: torch.dtype) -> None:
        drawn = maker(strength=(0.25, 0.5)).draw(5, 3)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            again = maker(strength=(0.25, 0.5)).draw(5, 3)
        finally:
            torch.set_default_dtype(before)
        assert again.styles.dtype == again.strength.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(drawn[:3], again[:3], strict=True))

    def test_nothing_is_drawn_for_no_image(self) -> None:
        made = maker(strength=(0.0, 1.0))
        assert made.translate(torch.zeros(0, 3, 16, 16), made.draw(0, 2)).shape == (0, 2, 3, 16, 16)

    def test_a_repeated_draw_is_for_the_frames_of_a_clip(self) -> None:
        draw = Draw(torch.arange(4.0).view(2, 1, 2), torch.tensor([[0.1], [0.2]]), torch.tensor([0, 1]), 9).repeat(3)
        assert draw.styles[:, 0, 0].tolist() == [0, 0, 0, 2, 2, 2]
        assert draw.strength[:, 0].tolist() == pytest.approx([0.1] * 3 + [0.2] * 3)
        assert draw.direction.tolist() == [0, 0, 0, 1, 1, 1]
        assert draw.retry_seed == 9


class TestStrength:
    def test_full_strength_encodes_no_style_of_the_image(self) -> None:
        made = maker(frozen(Lazy()))
        made.translate(GREY, made.draw(1, 2))

    def test_half_of_the_style_is_that_of_the_image(self) -> None:
        munit = MUNITTransform(frozen(BrightnessTranslator()), style=BankStyles(torch.zeros(1, 2)), strength=0.5)
        # 0.75 is 0.5 in [-1, 1]; its style is atanh(1/2) = ln(3) / 2. Half of it is ln(3) / 4, whose tanh is
        # (sqrt(3) - 1) / (sqrt(3) + 1) = 2 - sqrt(3).
        translated = munit(torch.full((3, 17, 21), 0.75))
        assert torch.allclose(translated, torch.full((3, 17, 21), (3 - math.sqrt(3)) / 2), atol=1e-5)

    def test_no_strength_gives_back_the_brightness(self) -> None:
        for level in (0.1, 0.5, 0.8):
            translated = MUNITTransform(frozen(BrightnessTranslator()), strength=0.0)(torch.full((3, 16, 16), level))
            assert torch.allclose(translated, torch.full((3, 16, 16), level), atol=1e-5)

    def test_a_range_is_drawn_uniformly_for_every_variant(self) -> None:
        strength = maker(strength=(0.2, 0.6)).draw(100, 100).strength
        assert strength.mean() == pytest.approx(0.4, abs=4 * 0.4 / math.sqrt(12 * 10_000))
        assert len(strength.unique()) > 9_900

    def test_each_variant_is_blended_by_its_own_strength(self) -> None:
        munit = MUNITTransform(
            frozen(BrightnessTranslator()),
            style=BankStyles(torch.tensor([[math.atanh(0.5), 0.0]])),
            strength=(0.0, 1.0),
            num_variants=64,
        )
        brightness = munit(torch.full((3, 16, 16), 0.5)).mean(dim=(1, 2, 3))
        assert 0.5 <= brightness.min() < 0.55 < 0.7 < brightness.max() <= 0.75
        assert len(brightness.unique()) == 64

    def test_a_generator_without_styles_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"no styles \(one output per input\); leave strength at 1"):
            maker(OneToOneTranslator().eval(), strength=0.5)
        maker(OneToOneTranslator().eval(), strength=1.0)


class TestMix:
    @pytest.fixture(autouse=True)
    def _checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        give_checkpoints(monkeypatch, frozen(BrightnessTranslator()), frozen(ShiftTranslator()))

    def test_directions_are_drawn_by_their_weights(self) -> None:
        made = maker("digits", direction=MIX)
        assert made.directions == ("a2b", "b2a")
        share = float((made.draw(2_000, 1).direction == 1).double().mean())
        assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 2_000))

    def test_all_variants_of_an_image_share_their_direction(self) -> None:
        variants = MUNITTransform("digits", direction=MIX, num_variants=4, seed=0)(GREY.repeat(64, 1, 1, 1))
        # The way back adds a tenth and knows no style; the way there gives a brightness for each style.
        went_back = ((variants - 0.6).abs() < 1e-6).flatten(1)
        assert torch.equal(went_back.all(dim=1), went_back.any(dim=1))
        assert 5 < int(went_back.all(dim=1).sum()) < 40

    def test_each_direction_has_its_bank(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codes = [torch.tensor([[math.atanh(level), 0.0]]) for level in (0.5, -0.5)]
        give_checkpoints(monkeypatch, *(frozen(BrightnessTranslator(style_bank=code)) for code in codes))
        made = maker("digits", direction=MIX, style="bank")
        images = torch.full((32, 3, 16, 16), 128, dtype=torch.uint8)
        draw = made.draw(32, 1)
        brightness = made.translate(images, draw).double().mean(dim=(1, 2, 3, 4))
        expected = torch.where(draw.direction == 0, 0.75 * 255, 0.25 * 255).double()
        assert set(draw.direction.tolist()) == {0, 1}
        assert (brightness - expected).abs().max() <= 0.5

    def test_a_pickle_keeps_the_mix(self) -> None:
        munit = MUNITTransform("digits", direction=MIX, seed=2)
        batch = torch.zeros(16, 3, 16, 16)
        loaded = pickle.loads(pickle.dumps(munit))
        assert torch.equal(loaded(batch), copy.deepcopy(munit)(batch))

    def test_a_mix_of_one_draws_nothing(self) -> None:
        image = torch.zeros(4, 3, 16, 16)
        single, mix = (MUNITTransform("digits", direction=d, seed=1) for d in ("a2b", {"a2b": 2.0}))
        assert torch.equal(single(image), mix(image))

    def test_a_translator_has_one_direction(self) -> None:
        with pytest.raises(ValueError, match="direction is a mix of a2b, b2a, but a Translator has one"):
            maker(direction=MIX)

    def test_exemplars_belong_to_one_direction(self) -> None:
        with pytest.raises(ValueError, match="exemplar images belong to the target of one direction"):
            maker("digits", direction=MIX, style=np.zeros((16, 16, 3), np.uint8))

    def test_codes_of_different_lengths_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        give_checkpoints(monkeypatch, frozen(BrightnessTranslator()), frozen(OneToOneTranslator()))
        with pytest.raises(ValueError, match="style codes of different lengths"):
            maker("digits", direction=MIX)


class TestStylesByClass:
    def test_labels_choose_the_styles(self) -> None:
        draw = maker(style=StylesByClass()).draw(3, 2, labels=torch.tensor([4, 0, 7]))
        assert draw.styles[:, :, 0].tolist() == [[4, 4], [0, 0], [7, 7]]

    def test_labels_are_needed(self) -> None:
        with pytest.raises(ValueError, match="styles by class need the labels"):
            maker(style=StylesByClass()).draw(3, 2)

    def test_the_transform_refuses_them(self) -> None:
        with pytest.raises(ValueError, match=r"StylesByClass goes by the class.*MUNITBatchTransform.*VariantDataset"):
            MUNITTransform(frozen(BrightnessTranslator()), style=StylesByClass())


def test_exemplars_of_a_call_are_refused_where_no_call_brings_them() -> None:
    with pytest.raises(ValueError, match=r'style="exemplar" needs images.*style=\[image, ...\]'):
        MUNITTransform(frozen(BrightnessTranslator()), style="exemplar")
    with pytest.raises(ValueError, match="none came with it"):
        maker(style="exemplar").draw(1, 1)
    with pytest.raises(ValueError, match="truncation is for style="):
        maker(style="exemplar", truncation=0.5)


def test_banks_by_class_are_styles_by_class() -> None:
    bank = ClassBankStyles(torch.tensor([[1.0, 0.0], [2.0, 0.0], [2.5, 0.0]]), torch.tensor([0, 1, 1]))
    styles = maker(style=bank).draw(2, 32, labels=torch.tensor([0, 1])).styles[:, :, 0]
    assert set(styles[0].tolist()) == {1.0}
    assert set(styles[1].tolist()) == {2.0, 2.5}
    with pytest.raises(ValueError, match="ClassBankStyles goes by the class of the image"):
        MUNITTransform(frozen(BrightnessTranslator()), style=bank)


def test_each_image_of_a_mix_gets_its_own_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    give_checkpoints(monkeypatch, frozen(BrightnessTranslator()), frozen(ShiftTranslator()))
    made, images = maker("digits", direction=MIX, strength=(0.0, 1.0)), torch.rand(16, 3, 16, 16)
    draw = made.draw(16, 2)
    together = made.translate(images, draw)
    alone = []
    for i in range(16):
        styles, strength, direction = (rows[i : i + 1] for rows in (draw.styles, draw.strength, draw.direction))
        alone.append(made.translate(images[i : i + 1], Draw(styles, strength, direction, draw.retry_seed)))
    torch.testing.assert_close(together, torch.cat(alone))
