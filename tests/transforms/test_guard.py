"""The guard: which variants it lets pass, what stands in for the others, and what it counts."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import PIL.Image
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from munitaug.styles import StyleSource
from munitaug.transforms import MUNITTransform
from munitaug.transforms.guard import GuardCounts, LabelGuard
from munitaug.transforms.variants import VariantMaker
from munitaug.types import Content
from tests.transforms.toys import BrightnessClassifier, BrightnessTranslator, EqualImages, frozen

DARK = torch.full((3, 16, 16), 0.25)
BRIGHT = torch.full((3, 16, 16), 0.75)


def guarded(guard: LabelGuard | None, translator: BrightnessTranslator | None = None, **options: Any) -> MUNITTransform:
    held = BrightnessTranslator() if translator is None else translator
    return MUNITTransform(frozen(held), guard=guard, **({"seed": 0, "num_variants": 64} | options))


def maker(guard: LabelGuard) -> VariantMaker:
    return VariantMaker(
        frozen(BrightnessTranslator()),
        style="prior",
        direction="a2b",
        device="cpu",
        seed=0,
        truncation=None,
        strength=1.0,
        guard=guard,
    )


def brightness(images: Tensor) -> Tensor:
    return images.double().mean(dim=(-1, -2, -3))


class Constant(nn.Module):
    """Gives something that may be no logits."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> object:
        return self.value


class TestWhatPasses:
    def test_every_variant_keeps_the_predicted_label(self) -> None:
        variants = guarded(LabelGuard(BrightnessClassifier(), tries=40))(torch.stack([DARK, BRIGHT]))
        assert (brightness(variants[0]) < 0.5).all()
        assert (brightness(variants[1]) > 0.5).all()

    def test_variants_that_keep_their_label_are_left_as_they_are(self) -> None:
        without, guard = guarded(None)(DARK), LabelGuard(BrightnessClassifier(), tries=40)
        protected = guarded(guard)(DARK)
        kept = brightness(without) < 0.5
        assert torch.equal(protected[kept], without[kept])
        assert guard.counts == (int(kept.sum()), 64 - int(kept.sum()), 0)

    def test_redrawn_variants_differ_from_one_another(self) -> None:
        variants = guarded(LabelGuard(BrightnessClassifier(), tries=40))(DARK)
        assert len(brightness(variants).unique()) == 64

    def test_only_the_rejected_are_translated_again(self) -> None:
        translator = BrightnessTranslator()
        lost = int((brightness(guarded(None)(DARK)) > 0.5).sum())
        guarded(LabelGuard(BrightnessClassifier(), tries=1), translator)(DARK)
        assert translator.encoded_batches == [1, lost]

    def test_labels_go_before_predictions(self) -> None:
        made = maker(LabelGuard(BrightnessClassifier(), tries=40))
        images = torch.stack([DARK, DARK, BRIGHT])
        variants = made.translate(images, made.draw(3, 16), labels=torch.tensor([1, -1, -1]))
        bright = brightness(variants) > 0.5
        assert bright.all(dim=1).tolist() == [True, False, True]
        assert bright.any(dim=1).tolist() == [True, False, True]

    def test_the_outcome_is_a_function_of_the_draw(self) -> None:
        made = maker(LabelGuard(BrightnessClassifier()))
        images = torch.stack([DARK, BRIGHT])
        draw = made.draw(2, 8)
        first = made.translate(images, draw)
        torch.rand(5)
        assert torch.equal(made.translate(images, draw), first)
        assert not torch.equal(made.translate(images, draw._replace(retry_seed=draw.retry_seed + 1)), first)

    def test_redraws_leave_the_stream_where_it_would_be(self) -> None:
        strict, lenient = (
            guarded(LabelGuard(BrightnessClassifier(), tries=tries, fallback="last")) for tries in (9, 0)
        )
        strict(DARK), lenient(DARK)
        # The last call begins at the same place, so what is accepted at once is the same.
        first, second = strict(BRIGHT), lenient(BRIGHT)
        kept = brightness(second) > 0.5
        assert torch.equal(first[kept], second[kept])

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_pil_images_are_judged_too(self, mode: str) -> None:
        image = PIL.Image.new(mode, (16, 16), 200 if mode == "L" else (200,) * len(mode))
        variants = guarded(LabelGuard(BrightnessClassifier(), tries=40))(image)
        assert all(variant.convert("L").getpixel((0, 0)) > 127 for variant in variants)

    def test_the_classifier_gets_images_with_the_channels_of_the_translator(self) -> None:
        classifier = BrightnessClassifier().eval().requires_grad_(False)
        guarded(LabelGuard(classifier, tries=0), num_variants=2)(torch.zeros(5, 1, 16, 16))
        assert classifier.seen == [(5, 3, 16, 16), (10, 3, 16, 16)]

    def test_or_those_it_was_made_for(self) -> None:
        classifier = BrightnessClassifier().eval().requires_grad_(False)
        guarded(LabelGuard(classifier, tries=0, channels=1), num_variants=2)(torch.zeros(5, 3, 16, 16))
        assert classifier.seen == [(5, 1, 16, 16), (10, 1, 16, 16)]

    def test_no_image_passes(self) -> None:
        assert guarded(LabelGuard(BrightnessClassifier()))(torch.zeros(0, 3, 16, 16)).shape == (0, 64, 3, 16, 16)


class TestFallback:
    def test_the_image_itself_stands_in(self) -> None:
        without = guarded(None)(DARK)
        lost = brightness(without) > 0.5
        protected = guarded(LabelGuard(BrightnessClassifier(), tries=0))(DARK)
        assert torch.equal(protected[lost], DARK.expand(int(lost.sum()), -1, -1, -1))
        assert torch.equal(protected[~lost], without[~lost])

    def test_or_the_last_translation(self) -> None:
        guard = LabelGuard(BrightnessClassifier(), tries=0, fallback="last")
        assert torch.equal(guarded(guard)(DARK), guarded(None)(DARK))
        assert guard.counts.given_up == int((brightness(guarded(None)(DARK)) > 0.5).sum())


class TestCounts:
    def test_they_add_up_and_start_anew(self) -> None:
        guard = LabelGuard(BrightnessClassifier(), tries=1)
        munit = guarded(guard)
        munit(DARK), munit(BRIGHT)
        assert sum(guard.counts) == 128
        assert min(guard.counts) > 0
        before = guard.counts
        assert guard.reset_counts() == before
        assert guard.counts == (0, 0, 0)

    def test_they_can_be_read(self) -> None:
        text = str(GuardCounts(accepted=90, redrawn=8, given_up=2))
        assert text == "of 100 variants 90 (90.0%) kept their label, 8 (8.0%) after a redraw, 2 (2.0%) were given up"
        guard = LabelGuard(BrightnessClassifier())
        assert str(guard).endswith("fallback='original'): no variant was judged yet")

    def test_copies_count_for_themselves(self) -> None:
        guard = LabelGuard(BrightnessClassifier())
        munit = guarded(guard)
        munit(DARK)
        before = guard.counts
        twins = copy.deepcopy(munit), pickle.loads(pickle.dumps(munit))
        outcomes = [twin(DARK) for twin in twins]
        assert guard.counts == before
        assert torch.equal(outcomes[0], outcomes[1])
        assert torch.equal(outcomes[0], munit(DARK))
        assert twins[0]._maker.guard is not None
        assert sum(twins[0]._maker.guard.counts) == 128

    def test_workers_are_guarded(self) -> None:
        guard = LabelGuard(BrightnessClassifier(), tries=40)
        munit = v2.Compose([v2.Lambda(lambda image: image + 0.9), guarded(guard, num_variants=1)])
        loader = DataLoader(EqualImages(munit), batch_size=3, num_workers=2, multiprocessing_context="fork")
        values = [float(value) for batch in loader for value in batch.flatten()]
        assert len(set(values)) == 6
        assert min(values) > 0.5
        assert guard.counts == (0, 0, 0)


class TestHolding:
    def test_a_module_that_holds_the_transform_does_not_hold_the_classifier(self) -> None:
        model = nn.Module()
        model.augment = guarded(LabelGuard(BrightnessClassifier()))
        assert list(model.parameters()) == []
        assert model.state_dict() == {}

    def test_a_classifier_in_training_is_copied_and_left_as_it_is(self) -> None:
        classifier = BrightnessClassifier()
        guard = LabelGuard(classifier)
        assert classifier.training
        assert classifier.slope.requires_grad
        assert not guard.classifier.training
        assert not any(weight.requires_grad for weight in guard.classifier.parameters())

    def test_a_frozen_classifier_is_shared_also_by_deep_copies(self) -> None:
        classifier = BrightnessClassifier().eval().requires_grad_(False)
        munit = guarded(LabelGuard(classifier))
        twin = copy.deepcopy(munit)._maker.guard
        assert twin is not None
        assert twin.classifier is classifier

    def test_it_is_named_in_the_transform(self) -> None:
        assert "guard=LabelGuard(BrightnessClassifier, tries=4" in repr(guarded(LabelGuard(BrightnessClassifier())))


class TestRefusals:
    @pytest.mark.parametrize("classifier", [lambda images: images, "resnet", None])
    def test_what_is_no_module(self, classifier: Any) -> None:
        with pytest.raises(TypeError, match=r"classifier must be an nn\.Module"):
            LabelGuard(classifier)

    def test_tries(self) -> None:
        with pytest.raises(ValueError, match="tries must be at least 0, got -1"):
            LabelGuard(BrightnessClassifier(), tries=-1)
        with pytest.raises(TypeError, match=r"tries must be a whole number, got 1\.5"):
            LabelGuard(BrightnessClassifier(), tries=1.5)  # type: ignore[arg-type]

    def test_channels(self) -> None:
        with pytest.raises(ValueError, match="channels must be 1 to 4, or None for the translator's, got 0"):
            LabelGuard(BrightnessClassifier(), channels=0)

    def test_fallback(self) -> None:
        with pytest.raises(ValueError, match='fallback must be "original" or "last"'):
            LabelGuard(BrightnessClassifier(), fallback="none")  # type: ignore[arg-type]

    def test_a_bare_classifier(self) -> None:
        with pytest.raises(TypeError, match="guard must be a munitaug LabelGuard or None, got BrightnessClassifier"):
            guarded(BrightnessClassifier())  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [torch.zeros(2), torch.zeros(9, 2), (torch.zeros(1, 2),)])
    def test_what_are_no_logits(self, value: object) -> None:
        with pytest.raises(ValueError, match="must give 1 x classes logits"):
            guarded(LabelGuard(Constant(value)))(DARK)

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (torch.tensor([0.0, 1.0]), TypeError, "labels must be integers"),
            (torch.tensor([[0, 1]]), ValueError, r"one integer for each of 2 images, got shape \(1, 2\)"),
            (torch.tensor([0, 2]), ValueError, "labels reach from 0 to 2, but the guard's classifier knows 2 classes"),
            (torch.tensor([-3, 1]), ValueError, "labels reach from -3 to 1"),
        ],
    )
    def test_labels_that_do_not_fit(self, labels: Tensor, error: type[Exception], message: str) -> None:
        made = maker(LabelGuard(BrightnessClassifier()))
        with pytest.raises(error, match=message):
            made.translate(torch.stack([DARK, BRIGHT]), made.draw(2, 2), labels=labels)

    def test_videos(self) -> None:
        with pytest.raises(ValueError, match="a guard judges images one by one"):
            guarded(LabelGuard(BrightnessClassifier()))(tv_tensors.Video(torch.zeros(2, 3, 16, 16)))

    def test_exemplars_of_a_call(self) -> None:
        with pytest.raises(ValueError, match="guard needs styles to draw again from"):
            VariantMaker(
                frozen(BrightnessTranslator()),
                style="exemplar",
                direction="a2b",
                device="cpu",
                seed=0,
                truncation=None,
                strength=1.0,
                guard=LabelGuard(BrightnessClassifier()),
            )


class HalfTranslator(BrightnessTranslator):
    """Keeps the left half of the content; the right half tells the style."""

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return torch.cat([content[..., :8], super().decode(content[..., 8:], style)], dim=3)


class RightHalf(BrightnessClassifier):
    """Judges the right half alone."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images[..., 8:])


def test_what_is_drawn_again_is_of_the_same_image() -> None:
    levels = torch.tensor([0.1, 0.2, 0.3])
    images = torch.full((3, 3, 16, 16), 0.25)
    images[..., :8] = levels.view(-1, 1, 1, 1)
    guard = LabelGuard(RightHalf(), tries=40)
    variants = guarded(guard, HalfTranslator(), num_variants=8)(images)
    assert guard.counts.redrawn > 5
    torch.testing.assert_close(
        brightness(variants[..., :8]), levels.double().view(3, 1).expand(3, 8), atol=1e-3, rtol=0
    )
    assert (brightness(variants[..., 8:]) < 0.5).all()


class BrightAtFirst(StyleSource):
    """Gives bright styles the first time, then dark ones."""

    def __init__(self) -> None:
        self.level = 3.0

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        level, self.level = self.level, -2.0
        return torch.full((n, k, 2), level)


def test_what_is_drawn_again_has_the_strength_of_what_was_rejected() -> None:
    guard = LabelGuard(BrightnessClassifier(), tries=2)
    made = VariantMaker(
        frozen(BrightnessTranslator()),
        style=BrightAtFirst(),
        direction="a2b",
        device="cpu",
        seed=0,
        truncation=None,
        strength=(0.6, 0.9),
        guard=guard,
    )
    draw = made.draw(2, 4)
    variants = made.translate(torch.full((2, 3, 16, 16), 0.25), draw)
    styles = -2.0 * draw.strength + math.atanh(-0.5) * (1.0 - draw.strength)
    torch.testing.assert_close(variants.mean(dim=(2, 3, 4)), (styles.tanh() + 1.0) / 2.0, atol=1e-4, rtol=0)


def test_the_classifier_is_copied_to_the_device_before_a_process_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process cannot take it from a GPU. "meta" stands for one: what lies there cannot be copied from it."""
    guard = LabelGuard(BrightnessClassifier(), tries=1)
    munit = MUNITTransform(BrightnessTranslator(), guard=guard)
    monkeypatch.setattr("munitaug.transforms.guard.frozen_network", None)
    image = torch.full((1, 16, 16), 0.25)
    for transform in (munit, copy.deepcopy(munit)):
        assert transform(image).shape == image.shape
