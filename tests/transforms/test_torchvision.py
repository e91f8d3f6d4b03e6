"""The torchvision front end: a grid of input kinds and options, and what must never happen."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from munitaug.styles import BankStyles
from munitaug.transforms import MUNITBatchTransform, MUNITTransform, VariantDataset
from munitaug.translator import Translator
from tests.transforms.toys import (
    BrightnessTranslator,
    OneToOneTranslator,
    ShiftTranslator,
    frozen,
    give_checkpoints,
)


def random_uint8(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random_pil(mode: str) -> PIL.Image.Image:
    shape = {"L": (24, 20), "RGB": (24, 20, 3), "RGBA": (24, 20, 4)}[mode]
    return PIL.Image.fromarray(random_uint8(*shape).numpy())


TENSORS: dict[str, Callable[[], Tensor]] = {
    "plain uint8": lambda: random_uint8(3, 24, 20),
    "plain grey": lambda: random_uint8(1, 24, 20),
    "plain float32": lambda: torch.rand(3, 24, 20),
    "plain float64": lambda: torch.rand(3, 24, 20, dtype=torch.float64),
    "plain float16": lambda: torch.rand(3, 24, 20).half(),
    "plain bfloat16": lambda: torch.rand(3, 24, 20).bfloat16(),
    "plain batch": lambda: random_uint8(2, 3, 24, 20),
    "plain batch of batches": lambda: torch.rand(2, 3, 1, 24, 20),
    "plain empty batch": lambda: random_uint8(0, 3, 24, 20),
    "plain empty batches": lambda: torch.rand(5, 0, 3, 24, 20),
    "not contiguous": lambda: torch.rand(24, 20, 3).permute(2, 0, 1),
    "image": lambda: tv_tensors.Image(random_uint8(3, 24, 20)),
    "image grey": lambda: tv_tensors.Image(random_uint8(24, 20)),
    "image batch": lambda: tv_tensors.Image(torch.rand(2, 3, 24, 20)),
    "image empty batch": lambda: tv_tensors.Image(random_uint8(0, 3, 24, 20)),
    "video": lambda: tv_tensors.Video(random_uint8(2, 3, 24, 20)),
    "video batch": lambda: tv_tensors.Video(torch.rand(2, 5, 3, 24, 20)),
    "video without frames": lambda: tv_tensors.Video(random_uint8(2, 0, 3, 24, 20)),
    "no video": lambda: tv_tensors.Video(random_uint8(0, 2, 3, 24, 20)),
}


def transform(**options: Any) -> MUNITTransform:
    return MUNITTransform(frozen(BrightnessTranslator()), **options)


def shift(**options: Any) -> MUNITTransform:
    return MUNITTransform(frozen(ShiftTranslator()), **options)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("keep_original", [False, True])
@pytest.mark.parametrize("kind", TENSORS)
def test_k_variants_of_a_tensor_are_stacked(kind: str, keep_original: bool, p: float) -> None:
    image = TENSORS[kind]()
    variants = transform(num_variants=3, keep_original=keep_original, p=p)(image)
    count = 3 + keep_original
    if isinstance(image, tv_tensors.Video):
        assert type(variants) is tv_tensors.Video
        assert variants.shape == (*image.shape[:-4], count, *image.shape[-4:])
    else:
        assert type(variants) is tv_tensors.Image
        assert variants.shape == (*image.shape[:-3], count, *image.shape[-3:])
    assert variants.dtype == image.dtype
    place = -5 if isinstance(image, tv_tensors.Video) else -4
    if keep_original:
        assert torch.equal(variants.select(place, 0), image)
    if p == 0.0:
        assert all(torch.equal(variants.select(place, index), image) for index in range(count))


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_k_variants_of_a_pil_image_are_a_tuple(mode: str, p: float) -> None:
    image = random_pil(mode)
    variants = transform(num_variants=2, keep_original=True, p=p)(image)
    assert type(variants) is tuple
    assert [variant.mode for variant in variants] == [mode] * 3
    assert variants[0].tobytes() == image.tobytes()
    assert (variants[1].tobytes() == image.tobytes()) == (p == 0.0)


def test_alpha_is_kept_and_colour_translated() -> None:
    image = random_pil("RGBA")
    translated = np.asarray(shift()(image))
    before = np.asarray(image)
    assert np.array_equal(translated[:, :, 3], before[:, :, 3])
    # 0.2 in [-1, 1] is a tenth of 255: 25.5, rounded to even halves and clipped.
    expected = np.clip(before[:, :, :3].astype(int) + 25.5, 0, 255)
    assert np.abs(translated[:, :, :3] - expected).max() <= 0.5


def test_alpha_is_translated_where_the_translator_knows_it() -> None:
    image = random_pil("RGBA")
    variants = MUNITTransform(BrightnessTranslator(4), num_variants=2, keep_original=True)(image)
    assert [variant.mode for variant in variants] == ["RGBA"] * 3
    assert variants[0].tobytes() == image.tobytes()
    assert len(np.unique(np.asarray(variants[1])[:, :, 3])) == 1 < len(np.unique(np.asarray(image)[:, :, 3]))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.full((3, 16, 16), 0.5), 0.6),
        (torch.full((1, 16, 16), 0.5), 0.6),
        (torch.full((3, 16, 16), 0.95), 1.0),
        (torch.full((3, 16, 16), 100, dtype=torch.uint8), 126.0),
        (torch.full((1, 16, 16), 250, dtype=torch.uint8), 255.0),
    ],
)
def test_values_are_those_worked_out_by_hand(image: Tensor, expected: float) -> None:
    translated = shift()(image)
    assert (translated.float() - expected).abs().max() <= (0.5 if image.dtype == torch.uint8 else 1e-6)


@pytest.mark.parametrize("shape", [(17, 16), (31, 45)])
def test_odd_sizes_come_back_pixel_for_pixel(shape: tuple[int, int]) -> None:
    image = torch.rand(3, *shape) * 0.8
    assert torch.allclose(shift()(image), image + 0.1, atol=1e-6)


def test_equal_images_of_a_batch_get_different_styles() -> None:
    batch = torch.zeros(8, 3, 16, 16)
    brightness = transform(num_variants=4)(batch).mean(dim=(-1, -2, -3), dtype=torch.float64)
    assert brightness.shape == (8, 4)
    assert len(brightness.unique()) == 32


def test_the_frames_of_a_clip_share_their_style() -> None:
    clips = tv_tensors.Video(torch.zeros(2, 5, 3, 16, 16))
    brightness = transform(num_variants=3)(clips).mean(dim=(-1, -2, -3), dtype=torch.float64)
    assert brightness.shape == (2, 3, 5)
    assert torch.equal(brightness, brightness[..., :1].expand_as(brightness))
    assert len(brightness.unique()) == 6


def test_the_same_object_twice_in_a_sample_gets_two_styles() -> None:
    image = tv_tensors.Image(torch.zeros(3, 16, 16))
    first, second = transform()(image, image)
    assert not torch.equal(first, second)


def test_parameters_can_be_used_again() -> None:
    image = tv_tensors.Image(torch.zeros(3, 16, 16))
    munit = transform()
    params = munit.make_params([image])
    assert torch.equal(munit.transform(image, params), munit.transform(image, params))


def test_content_is_encoded_once_for_all_variants() -> None:
    translator = BrightnessTranslator()
    frozen(translator)
    MUNITTransform(translator, num_variants=5)(torch.zeros(2, 3, 16, 16))
    assert translator.encoded_batches == [2]


def test_everything_that_is_no_image_passes_as_the_same_object() -> None:
    others: dict[str, object] = {
        "boxes": tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(16, 16)),
        "mask": tv_tensors.Mask(torch.zeros(16, 16)),
        "points": tv_tensors.KeyPoints([[1.0, 1.0]], canvas_size=(16, 16)),
        "array": np.zeros((16, 16, 3)),
        "features": torch.zeros(3, 16, 16),
        "label": 3,
        "name": "seven",
        "nothing": None,
    }
    sample = {**others, "image": tv_tensors.Image(torch.zeros(3, 16, 16))}
    translated = transform()(sample)
    assert translated["image"] is not sample["image"]
    assert all(translated[key] is value for key, value in others.items())


def test_a_sample_without_image_passes() -> None:
    sample = {"label": 3, "array": np.zeros(3)}
    assert transform()(sample)["array"] is sample["array"]


def test_an_array_that_is_left_is_warned_of_once() -> None:
    array = np.zeros((16, 16, 3), np.uint8)
    munit = transform()
    with pytest.warns(UserWarning, match=r"array of shape \(16, 16, 3\), which is left as it is; put .*ToImage\(\)"):
        assert munit(array, 3)[0] is array
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        munit(array, 3)
        for quiet in ({"array": array, "image": PIL.Image.new("RGB", (16, 16))}, np.zeros((16, 16, 3)), "name"):
            transform()(quiet)
        transform()(v2.ToImage()(array))


def test_only_the_first_plain_tensor_is_an_image() -> None:
    label = torch.tensor(3)
    image, same = transform()(torch.zeros(3, 16, 16), label)
    assert same is label
    assert image.shape == (3, 16, 16)


@pytest.mark.parametrize("options", [{}, {"num_variants": 2, "keep_original": True}, {"p": 0.0, "num_variants": 2}])
@pytest.mark.parametrize("kind", TENSORS)
def test_inputs_are_not_changed(kind: str, options: dict[str, Any]) -> None:
    image = TENSORS[kind]()
    before = image.clone()
    variants = transform(**options)(image)
    assert torch.equal(image, before)
    if variants is not image:
        variants.zero_()
        assert torch.equal(image, before)


def test_the_outcome_can_feed_training() -> None:
    variants = transform(num_variants=2)(torch.rand(4, 3, 16, 16, requires_grad=True))
    assert not variants.is_inference()
    assert not variants.requires_grad
    layer = nn.Linear(16, 1)
    layer(variants.as_subclass(Tensor)).sum().backward()
    assert layer.weight.grad is not None


def test_following_transforms_reach_all_variants() -> None:
    pipeline = v2.Compose([transform(num_variants=3), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
    variants = pipeline(random_uint8(3, 16, 16))
    assert variants.shape == (3, 3, 8, 8)
    assert variants.dtype == torch.float32
    assert variants.max() <= 1.0


def test_following_transforms_reach_all_pil_variants() -> None:
    pipeline = v2.Compose([transform(num_variants=3), v2.Resize((8, 8))])
    images, label = pipeline((random_pil("RGB"), 7))
    assert [image.size for image in images] == [(8, 8)] * 3
    assert label == 7


def test_p_is_drawn_once_per_call() -> None:
    munit = shift(p=0.5, seed=1)
    applied = [munit(torch.full((32, 3, 16, 16), 0.5)).mean(dim=(1, 2, 3)) for _ in range(200)]
    assert all(len(brightness.unique()) == 1 for brightness in applied)
    # 200 tosses of a coin: four standard deviations are 28.
    assert abs(sum(float(brightness[0]) > 0.55 for brightness in applied) - 100) < 28


def test_p_0_gives_back_the_same_object() -> None:
    image = random_pil("RGB")
    assert transform(p=0.0)(image) is image


def test_generator_without_styles_works() -> None:
    image = torch.full((3, 16, 16), 0.25)
    variant = MUNITTransform(OneToOneTranslator().eval())(image)
    assert torch.allclose(variant, torch.full((3, 16, 16), 0.75))


@pytest.mark.parametrize(
    "make",
    [
        lambda translator: MUNITTransform(translator, num_variants=2),
        lambda translator: MUNITBatchTransform(translator, num_variants=2),
        lambda translator: VariantDataset([(torch.zeros(3, 16, 16), 0)], translator, variants=2),
    ],
    ids=["transform", "batch", "dataset"],
)
def test_several_variants_of_a_generator_without_styles_are_refused(make: Callable[[Translator], object]) -> None:
    with pytest.raises(ValueError, match=r"2 variants were asked for, .* munit, dritpp, transgaga or multidomain"):
        make(OneToOneTranslator().eval())


class TestRefusals:
    @pytest.mark.parametrize("mode", ["P", "1", "LA", "CMYK"])
    def test_pil_modes(self, mode: str) -> None:
        with pytest.raises(ValueError, match=r'mode "' + mode + r'".*convert\("RGB"\)'):
            transform()(PIL.Image.new(mode, (16, 16)))

    @pytest.mark.parametrize("mode", ["I", "I;16", "F"])
    def test_pil_modes_of_more_than_eight_bits(self, mode: str) -> None:
        with pytest.raises(ValueError, match=r'mode "' + mode + r'".*would clip its values.*// 257\)\.astype'):
            transform()(PIL.Image.new(mode, (16, 16)))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (200.0, r"got values from 0 to 200; .*ToDtype\(torch.float32, scale=True\)"),
            (-1.0, "got values from -1 to 0; translate first and normalise afterwards"),
            (float("nan"), "got values from nan to nan; look at"),
            (float("inf"), "got values from 0 to inf"),
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_ranges(self, dtype: torch.dtype, value: float, message: str) -> None:
        image = torch.zeros(3, 16, 16, dtype=dtype)
        image[0, 0, 0] = value
        for wrapped in (image, tv_tensors.Image(image), image.requires_grad_()):
            with pytest.raises(ValueError, match=message):
                transform()(wrapped)

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64])
    @pytest.mark.parametrize("p", [0.0, 1.0])
    def test_dtypes(self, dtype: torch.dtype, p: float) -> None:
        with pytest.raises(TypeError, match=r"uint8 in \[0, 255\] or floating.*ToDtype"):
            transform(p=p)(torch.zeros(3, 16, 16, dtype=dtype))

    def test_label_before_image(self) -> None:
        with pytest.raises(ValueError, match=r"got shape \(\); if this is a label"):
            transform()(torch.tensor(3), torch.zeros(3, 16, 16))

    def test_small_images(self) -> None:
        with pytest.raises(ValueError, match="15 x 16 px, but sides of at least 16"):
            transform()(torch.zeros(3, 16, 15))

    def test_channels(self) -> None:
        with pytest.raises(ValueError, match="4 channels, but 3 are needed"):
            transform()(torch.zeros(4, 16, 16))

    @pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
    def test_probability(self, p: float) -> None:
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
            transform(p=p)

    @pytest.mark.parametrize("count", [0, -1, 1.5, True])
    def test_number_of_variants(self, count: int) -> None:
        with pytest.raises(ValueError, match="num_variants must be an integer of at least 1"):
            transform(num_variants=count)

    @pytest.mark.parametrize("seed", [True, "7", 1.0])
    def test_seed(self, seed: int) -> None:
        with pytest.raises(TypeError, match="seed must be an integer or None"):
            transform(seed=seed)

    def test_direction(self) -> None:
        with pytest.raises(ValueError, match='direction must be "a2b" or "b2a"'):
            transform(direction="a2c")

    def test_style_name(self) -> None:
        with pytest.raises(ValueError, match="style must be one of prior, bank, mixture"):
            transform(style="rococo")

    def test_bank_without_codes(self) -> None:
        with pytest.raises(ValueError, match="without a style bank"):
            transform(style="bank")

    def test_checkpoint_of_another_kind(self) -> None:
        with pytest.raises(TypeError, match="path of a checkpoint or a Translator, got Linear"):
            MUNITTransform(nn.Linear(1, 1))  # type: ignore[arg-type]

    def test_truncation_of_given_styles(self) -> None:
        with pytest.raises(ValueError, match="truncation is for style="):
            transform(style=torch.zeros(3, 16, 16), truncation=0.5)

    def test_unknown_argument(self) -> None:
        with pytest.raises(TypeError, match="num_variant"):
            transform(num_variant=2)

    def test_cuda_of_the_parent_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        munit = transform()
        monkeypatch.setattr(munit._maker, "device", torch.device("cuda"))
        monkeypatch.setattr(munit._maker, "_owner_pid", 1)
        with pytest.raises(RuntimeError, match=r'forked DataLoader worker; give device="cpu".*"spawn"'):
            munit(torch.zeros(3, 16, 16))


class TestWeights:
    def test_a_module_that_holds_the_transform_does_not_hold_its_weights(self) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(2, 2)
                self.augment = transform()

        model = Model()
        assert sum(weight.numel() for weight in model.parameters()) == 6
        assert set(model.state_dict()) == {"layer.weight", "layer.bias"}
        model.train()
        assert not model.augment._maker.translator.training

    def test_nor_does_one_that_holds_a_pipeline(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), v2.Compose([transform(), v2.RandomHorizontalFlip()]))
        assert len(list(model.parameters())) == 2
        assert set(model.state_dict()) == {"0.weight", "0.bias"}
        assert list(model[1].parameters()) == list(model.buffers()) == []

    def test_repr_is_one_line_without_the_network(self) -> None:
        expected = (
            "MUNITTransform(BrightnessTranslator, style='prior', direction='a2b', device='cpu', seed=3, "
            "truncation=None, strength=1.0, guard=None, num_variants=2, p=1.0, keep_original=False)"
        )
        assert repr(transform(num_variants=2, seed=3)) == expected

    def test_a_frozen_translator_is_shared(self) -> None:
        translator = frozen(BrightnessTranslator())
        assert MUNITTransform(translator)._maker.translator is translator

    def test_a_translator_in_training_is_copied_and_left_as_it_is(self) -> None:
        translator = BrightnessTranslator()
        held = MUNITTransform(translator)._maker.translator
        assert translator.training
        assert translator.weight.requires_grad
        assert held is not translator
        assert not held.training
        assert not any(weight.requires_grad for weight in held.parameters())

    def test_a_path_is_read_through_the_shared_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = give_checkpoints(monkeypatch, frozen(BrightnessTranslator()))
        munit = MUNITTransform("runs/digits.safetensors", direction="b2a")
        assert munit(torch.zeros(3, 16, 16)).shape == (3, 16, 16)
        assert asked == [("runs/digits.safetensors", "b2a", "cpu")]
        assert "'runs/digits.safetensors'" in repr(munit)

    def test_a_pickle_of_a_path_has_no_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        big = BrightnessTranslator()
        big.register_buffer("ballast", torch.zeros(100_000))
        asked = give_checkpoints(monkeypatch, frozen(big))
        pickled = pickle.dumps(MUNITTransform("digits", seed=1))
        assert len(pickled) < 20_000
        assert len(asked) == 1
        loaded = pickle.loads(pickled)
        assert len(asked) == 1
        loaded(torch.zeros(3, 16, 16))
        assert len(asked) == 2

    def test_a_pickle_of_a_translator_has_its_weights(self) -> None:
        loaded = pickle.loads(pickle.dumps(transform(num_variants=2)))
        assert loaded(torch.zeros(3, 16, 16)).shape == (2, 3, 16, 16)

    def test_a_deep_copy_shares_the_frozen_weights(self) -> None:
        munit = transform()
        assert copy.deepcopy(munit)._maker.translator is munit._maker.translator


class TestStyles:
    def test_exemplar_sets_the_style(self) -> None:
        exemplar = torch.full((3, 20, 20), 0.7)
        translated = transform(style=exemplar)(torch.zeros(3, 16, 16))
        assert torch.allclose(translated, torch.full((3, 16, 16), 0.7), atol=1e-5)

    @pytest.mark.parametrize(
        "exemplar",
        [
            PIL.Image.new("RGB", (20, 20), (51, 51, 51)),
            PIL.Image.new("L", (20, 20), 51),
            torch.full((3, 20, 20), 51, dtype=torch.uint8),
            torch.full((2, 1, 20, 20), 0.2),
            tv_tensors.Image(torch.full((3, 20, 20), 0.2)),
            np.full((20, 20, 3), 51, dtype=np.uint8),
            np.full((20, 20), 0.2, dtype=np.float32),
            np.full((2, 20, 20, 3), 0.2, dtype=np.float32),
            [torch.full((3, 20, 20), 0.2), PIL.Image.new("RGB", (30, 18), (51, 51, 51))],
        ],
    )
    def test_exemplars_of_every_kind(self, exemplar: Any) -> None:
        translated = transform(style=exemplar)(torch.zeros(3, 16, 16))
        assert torch.allclose(translated, torch.full((3, 16, 16), 0.2), atol=1e-5)

    def test_each_variant_draws_among_the_exemplars(self) -> None:
        exemplars = [torch.full((3, 16, 16), level) for level in (0.2, 0.4, 0.8)]
        variants = transform(style=exemplars, num_variants=64, seed=0)(torch.zeros(3, 16, 16))
        brightness = (variants.mean(dim=(1, 2, 3)) * 10).round() / 10
        assert brightness.unique().tolist() == pytest.approx([0.2, 0.4, 0.8])

    def test_style_source_is_used(self) -> None:
        code = torch.tensor([[torch.atanh(torch.tensor(0.5)), 0.0]])
        translated = transform(style=BankStyles(code))(torch.zeros(3, 16, 16))
        assert torch.allclose(translated, torch.full((3, 16, 16), 0.75))

    def test_bank_of_the_translator_is_used(self) -> None:
        code = torch.tensor([[torch.atanh(torch.tensor(0.5)), 0.0]])
        munit = MUNITTransform(frozen(BrightnessTranslator(style_bank=code)), style="bank")
        assert torch.allclose(munit(torch.zeros(3, 16, 16)), torch.full((3, 16, 16), 0.75))

    def test_a_bank_that_takes_the_place_of_another_is_used(self) -> None:
        translator = frozen(BrightnessTranslator(style_bank=torch.zeros(1, 2)))
        assert MUNITTransform(translator, style="bank")(torch.zeros(3, 16, 16)).mean() == 0.5
        translator.style_bank = torch.tensor([[9.0, 0.0]])
        assert MUNITTransform(translator, style="bank")(torch.zeros(3, 16, 16)).mean() > 0.99

    def test_truncation_bounds_the_prior(self) -> None:
        variants = transform(num_variants=256, truncation=0.1)(torch.zeros(3, 16, 16))
        bound = float(torch.tanh(torch.tensor(0.1))) / 2
        assert (variants - 0.5).abs().max() <= bound + 1e-6

    @pytest.mark.parametrize("style", [7, None, [7], torch.zeros(3), {"prior"}])
    def test_other_things_are_refused(self, style: Any) -> None:
        with pytest.raises(TypeError, match="exemplar images"):
            transform(style=style)

    def test_no_exemplar_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no exemplar image"):
            transform(style=[])

    def test_small_exemplar_is_refused(self) -> None:
        with pytest.raises(ValueError, match="exemplar image is 8 x 20 px"):
            transform(style=torch.zeros(3, 20, 8))

    def test_exemplar_of_a_generator_without_styles_is_refused(self) -> None:
        with pytest.raises(ValueError, match="has no styles"):
            MUNITTransform(OneToOneTranslator().eval(), style=torch.zeros(3, 16, 16))


def test_threads_may_share_a_transform() -> None:
    munit = shift(num_variants=2)
    image = torch.full((3, 16, 16), 0.5)
    outcomes: list[Tensor] = []
    threads = [
        threading.Thread(target=lambda: outcomes.extend(munit(image.clone()) for _ in range(20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 80
    assert all(torch.allclose(outcome, torch.full((2, 3, 16, 16), 0.6)) for outcome in outcomes)
