"""The albumentations front end: inputs, saving and replaying, and streams that do not repeat in workers."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.data import DataLoader

from munitaug.transforms.guard import LabelGuard
from tests.transforms.toys import (
    BrightnessClassifier,
    BrightnessTranslator,
    CallsBrightness,
    EqualImages,
    OneToOneTranslator,
    ShiftTranslator,
    StylesByClass,
    frozen,
    give_checkpoints,
)

A = pytest.importorskip("albumentations")

from munitaug.transforms.albumentations import MUNITTransform  # noqa: E402

Array = npt.NDArray[Any]
IMAGE = np.zeros((16, 16, 3), dtype=np.float32)
SHAPES = [(17, 20), (17, 20, 1), (17, 20, 3)]


def transform(**options: Any) -> MUNITTransform:
    return MUNITTransform(frozen(BrightnessTranslator()), **options)


def random_array(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    levels = np.random.default_rng(0).integers(0, 200, shape)
    return levels.astype(np.uint8) if dtype is np.uint8 else (levels / 255).astype(dtype)


def brightness(munit: Any, calls: int) -> list[float]:
    return [float(munit(image=IMAGE)["image"].mean()) for _ in range(calls)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("composed", [False, True])
def test_image_keeps_shape_dtype_and_layout(shape: tuple[int, ...], dtype: type[np.generic], composed: bool) -> None:
    image = random_array(shape, dtype)
    before = image.copy()
    munit = MUNITTransform(frozen(ShiftTranslator()))
    translated = (A.Compose([munit]) if composed else munit)(image=image)["image"]
    assert translated.shape == shape
    assert translated.dtype == dtype
    assert np.array_equal(image, before)
    expected, tolerance = (image + 25.5, 0.51) if dtype is np.uint8 else (image + 0.1, 1e-5)
    assert np.abs(translated - expected).max() <= tolerance


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("composed", [False, True])
def test_images_keep_shape_dtype_and_container(
    shape: tuple[int, ...], dtype: type[np.generic], as_list: bool, composed: bool
) -> None:
    stacked = random_array((4, *shape), dtype)
    images = list(stacked) if as_list else stacked
    munit = MUNITTransform(frozen(ShiftTranslator()))
    translated = (A.Compose([munit]) if composed else munit)(images=images)["images"]
    assert isinstance(translated, list) == as_list
    assert np.shape(translated) == stacked.shape
    assert all(image.dtype == dtype for image in translated)
    expected, tolerance = (stacked + 25.5, 0.51) if dtype is np.uint8 else (stacked + 0.1, 1e-5)
    assert np.abs(np.asarray(translated) - expected).max() <= tolerance


def test_images_are_one_batch_each_with_its_own_style() -> None:
    translator = BrightnessTranslator()
    frozen(translator)
    images = np.repeat(IMAGE[None], 5, axis=0)
    translated = A.Compose([MUNITTransform(translator)])(images=images)["images"]
    assert translator.encoded_batches == [5]
    assert len({float(image.mean()) for image in translated}) == 5


def test_image_and_images_get_different_styles() -> None:
    translated = transform()(image=IMAGE, images=IMAGE[None])
    assert translated["image"].mean() != translated["images"].mean()


def test_no_images_beside_an_image_pass() -> None:
    assert transform()(image=IMAGE, images=[])["images"] == []


def test_everything_else_is_untouched() -> None:
    compose = A.Compose(
        [transform()],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
        keypoint_params=A.KeypointParams("xy"),
    )
    mask = random_array((16, 16), np.uint8)
    sample = compose(image=IMAGE, mask=mask, bboxes=[[1, 2, 8, 9]], labels=[3], keypoints=[(4, 5)], name="seven")
    assert np.array_equal(sample["mask"], mask)
    assert np.allclose(sample["bboxes"], [[1, 2, 8, 9]])
    assert np.allclose(sample["keypoints"], [(4, 5)])
    assert sample["labels"] == [3]
    assert sample["name"] == "seven"


def test_following_transforms_work() -> None:
    compose = A.Compose([transform(), A.HorizontalFlip(p=1.0), A.Resize(8, 8), A.Normalize()])
    assert compose(image=random_array((16, 16, 3), np.uint8))["image"].shape == (8, 8, 3)


def test_additional_targets_share_the_style() -> None:
    compose = A.Compose([transform()], additional_targets={"image2": "image"})
    translated = compose(image=IMAGE, image2=IMAGE)
    assert np.array_equal(translated["image"], translated["image2"])


def test_read_only_and_strided_arrays_are_taken() -> None:
    strided = random_array((32, 16, 3), np.uint8)[::2, ::-1]
    read_only = random_array((16, 16), np.uint8)
    read_only.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert transform()(image=strided)["image"].shape == (16, 16, 3)
        assert transform()(image=read_only)["image"].shape == (16, 16)


def test_images_are_guarded_each_with_its_own_label() -> None:
    images = np.stack([IMAGE + 0.1] * 20 + [IMAGE + 0.9] * 20)
    translated = transform(guard=LabelGuard(BrightnessClassifier(), tries=40))(images=images)["images"]
    assert [bool(image.mean() > 0.5) for image in translated] == [False] * 20 + [True] * 20


def test_strength_keeps_part_of_the_image() -> None:
    translated = transform(strength=0.0)(image=IMAGE + 0.3, images=np.stack([IMAGE + 0.4, IMAGE + 0.6]))
    assert np.allclose(translated["image"], 0.3, atol=1e-5)
    assert np.allclose(translated["images"].mean(axis=(1, 2, 3)), [0.4, 0.6], atol=1e-5)


def test_a_strict_compose_is_content() -> None:
    compose = A.Compose([transform()], strict=True, additional_targets={"image2": "image"})
    assert set(compose(image=IMAGE, image2=IMAGE, images=IMAGE[None])) == {"image", "image2", "images"}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("composed", [False, True])
def test_volumes_keep_shape_and_dtype(shape: tuple[int, ...], dtype: type[np.generic], composed: bool) -> None:
    volumes = random_array((2, 3, *shape), dtype)
    munit = MUNITTransform(frozen(ShiftTranslator()))
    munit = A.Compose([munit]) if composed else munit
    expected, tolerance = (volumes + 25.5, 0.51) if dtype is np.uint8 else (volumes + 0.1, 1e-5)
    translated = munit(volume=volumes[0], volumes=volumes)
    for given, wanted in ((translated["volume"], expected[0]), (translated["volumes"], expected)):
        assert given.shape == wanted.shape
        assert given.dtype == dtype
        assert np.abs(given - wanted).max() <= tolerance


def test_slices_of_a_volume_share_a_style_and_volumes_have_their_own() -> None:
    volumes = np.zeros((2, 4, 16, 16, 3), dtype=np.float32)
    compose = A.Compose([transform(seed=0)], additional_targets={"volume2": "volume"})
    translated = compose(image=IMAGE, volume=volumes[0], volume2=volumes[1], volumes=volumes)
    style = translated["image"].mean()
    assert np.allclose(translated["volume"], style)
    assert np.allclose(translated["volume2"], style)
    first, second = (float(volume.mean()) for volume in translated["volumes"])
    assert np.allclose(translated["volumes"], np.array([first, second]).reshape(2, 1, 1, 1, 1), atol=1e-6)
    assert len({round(float(style), 5), round(first, 5), round(second, 5)}) == 3


def test_volumes_move_no_style_of_images() -> None:
    volume = np.zeros((4, 16, 16), dtype=np.float32)
    images = np.zeros((3, 16, 16, 3), dtype=np.float32)
    alone, beside = (
        transform(seed=0)(image=IMAGE, images=images),
        transform(seed=0)(image=IMAGE, images=images, volume=volume, volumes=volume[None]),
    )
    assert np.array_equal(alone["image"], beside["image"])
    assert np.array_equal(alone["images"], beside["images"])


@pytest.mark.parametrize(("kind", "shape"), [("images", (2, 16, 16)), ("volumes", (2, 4, 16, 16))])
def test_additional_targets_of_many_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    compose = A.Compose([transform()], additional_targets={"more": kind})
    with pytest.raises(ValueError, match=f"drawn for 0 {kind}, but 2 came|canonical target '{kind}'"):
        compose(image=np.zeros((16, 16), np.float32), more=np.zeros(shape, np.float32))


def test_a_volume_of_two_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \(16, 16\)"):
        transform()(volume=np.zeros((16, 16), dtype=np.float32))


def test_generator_without_styles_works() -> None:
    munit = MUNITTransform(OneToOneTranslator().eval())
    translated = munit(image=IMAGE, images=np.stack([IMAGE, IMAGE + 0.25]))
    assert np.allclose(translated["image"], 1.0)
    assert np.allclose(translated["images"][1], 0.75)


def test_p_gives_that_share_of_translations() -> None:
    munit = transform(p=0.5, seed=1)
    # 200 tosses of a coin: four standard deviations are 28.
    assert abs(sum(munit(image=IMAGE)["image"] is IMAGE for _ in range(200)) - 100) < 28
    assert transform(p=0.0)(image=IMAGE)["image"] is IMAGE
    assert transform(p=0.5)(image=IMAGE, force_apply=True)["image"] is not IMAGE


class TestRefusals:
    def test_styles_by_class(self) -> None:
        with pytest.raises(ValueError, match=r"goes by the class.*VariantDataset"):
            transform(style=StylesByClass())

    def test_more_variants(self) -> None:
        with pytest.raises(ValueError, match=r"num_variants must be 1 here, got 4.*np\.repeat\(image\[None\], 4"):
            transform(num_variants=4)

    def test_original_beside_variants(self) -> None:
        with pytest.raises(ValueError, match="keep_original must be False here"):
            transform(keep_original=True)

    def test_dtype(self) -> None:
        with pytest.raises(TypeError, match=r"uint8 in \[0, 255\] or floating.*got torch.int16.*ToFloat"):
            transform()(image=np.zeros((16, 16, 3), dtype=np.int16))

    def test_range(self) -> None:
        with pytest.raises(ValueError, match=r"image of torch.float32 must be in \[0, 1\], got values from 9 to 9"):
            transform()(image=np.full((16, 16, 3), 9.0, np.float32))

    def test_channels(self) -> None:
        with pytest.raises(ValueError, match="4 channels, but 3 are needed"):
            transform()(image=np.zeros((16, 16, 4), dtype=np.uint8))

    def test_small_image(self) -> None:
        with pytest.raises(ValueError, match="15 x 16 px, but sides of at least 16"):
            transform()(image=np.zeros((16, 15, 3), dtype=np.uint8))

    def test_dimensions(self) -> None:
        with pytest.raises(ValueError, match="image must be H x W or H x W x C"):
            transform()(image=np.zeros((2, 16, 16, 3), dtype=np.uint8))

    def test_probability(self) -> None:
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 2"):
            transform(p=2.0)

    def test_unknown_argument(self) -> None:
        with pytest.raises(TypeError, match="num_variant"):
            transform(num_variant=1)


class TestExemplarsOfACall:
    """style="exemplar": the images come with each call, as for albumentations.FDA."""

    LEVELS = (51, 102, 204)
    EXEMPLARS: ClassVar = [np.full((20, 18, 3), level, np.uint8) for level in LEVELS]

    def test_the_style_is_that_of_the_exemplar(self) -> None:
        translated = transform(style="exemplar")(image=IMAGE, munit_metadata=[np.full((20, 20), 0.7, np.float32)])
        assert np.allclose(translated["image"], 0.7, atol=1e-5)

    def test_one_is_drawn_for_each_image(self) -> None:
        images = np.zeros((60, 16, 16, 3), np.uint8)
        translated = transform(style="exemplar", seed=0)(images=images, munit_metadata=self.EXEMPLARS)["images"]
        assert {round(float(image.mean())) for image in translated} == set(self.LEVELS)

    def test_only_those_that_were_drawn_are_encoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded: list[int] = []
        encode = BrightnessTranslator.encode_style

        def counting(self: BrightnessTranslator, y: torch.Tensor) -> torch.Tensor:
            encoded.append(len(y))
            return encode(self, y)

        monkeypatch.setattr(BrightnessTranslator, "encode_style", counting)
        transform(style="exemplar")(image=IMAGE, munit_metadata=self.EXEMPLARS * 20)
        assert encoded == [1]

    def test_a_strict_compose_passes_them(self) -> None:
        compose = A.Compose([transform(style="exemplar", metadata_key="targets")], strict=True)
        translated = compose(image=IMAGE, targets=self.EXEMPLARS[:1])
        assert np.allclose(translated["image"], 0.2, atol=1e-5)
        assert translated["targets"][0] is self.EXEMPLARS[0]
        with pytest.raises(ValueError, match="munit_metadata"):
            compose(image=IMAGE, munit_metadata=self.EXEMPLARS)

    @pytest.mark.parametrize("given", [None, [], np.zeros((16, 16, 3), np.uint8), ["a.png"], "a.png"])
    def test_other_things_are_refused(self, given: Any) -> None:
        data = {} if given is None else {"munit_metadata": given}
        with pytest.raises(
            ValueError, match=r"munit_metadata is .*call transform\(image=image, munit_metadata=\[array"
        ):
            transform(style="exemplar")(image=IMAGE, **data)

    def test_nothing_is_needed_where_nothing_is_translated(self) -> None:
        assert transform(style="exemplar", p=0.0)(image=IMAGE)["image"] is IMAGE

    def test_a_replay_needs_no_exemplars(self, monkeypatch: pytest.MonkeyPatch) -> None:
        give_checkpoints(monkeypatch, frozen(BrightnessTranslator()))
        replay = A.ReplayCompose([MUNITTransform("digits", style="exemplar", metadata_key="targets")])
        first = replay(image=IMAGE, targets=self.EXEMPLARS)
        record = json.loads(json.dumps(first["replay"]))
        assert record["transforms"][0]["metadata_key"] == "targets"
        assert np.array_equal(A.ReplayCompose.replay(record, image=IMAGE)["image"], first["image"])

    def test_elsewhere_the_key_is_not_known(self) -> None:
        with pytest.raises(ValueError, match="munit_metadata"):
            A.Compose([transform()], strict=True)(image=IMAGE, munit_metadata=self.EXEMPLARS)


class TestSaving:
    @pytest.fixture(autouse=True)
    def _checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        give_checkpoints(monkeypatch, frozen(BrightnessTranslator()))

    def test_dict_round_trip_keeps_every_argument(self) -> None:
        munit = MUNITTransform(
            Path("runs") / "digits", style="prior", direction="b2a", p=0.25, seed=7, device="cpu", truncation=0.5
        )
        state = A.to_dict(munit)
        assert state["transform"] == {
            "__class_fullname__": "munitaug.transforms.albumentations.MUNITTransform",
            "checkpoint": str(Path("runs") / "digits"),
            "style": "prior",
            "direction": "b2a",
            "p": 0.25,
            "seed": 7,
            "device": "cpu",
            "truncation": 0.5,
            "strength": 1.0,
            "metadata_key": "munit_metadata",
        }
        assert A.to_dict(A.from_dict(state)) == state

    @pytest.mark.parametrize("data_format", ["json", "yaml"])
    def test_file_round_trip(self, tmp_path: Path, data_format: str) -> None:
        path = tmp_path / f"pipeline.{data_format}"
        pipeline = A.Compose([MUNITTransform("digits", seed=7), A.HorizontalFlip(p=0.5)])
        A.save(pipeline, path, data_format=data_format)
        loaded = A.load(path, data_format=data_format)
        assert brightness(loaded, 3) == brightness(MUNITTransform("digits", seed=7), 3)

    def test_replay_gives_the_same_volumes(self) -> None:
        volumes = np.zeros((2, 4, 16, 16, 3), dtype=np.float32)
        first = A.ReplayCompose([MUNITTransform("digits")])(volume=volumes[0], volumes=volumes)
        again = A.ReplayCompose.replay(json.loads(json.dumps(first["replay"])), volume=volumes[0], volumes=volumes)
        assert np.array_equal(again["volume"], first["volume"])
        assert np.array_equal(again["volumes"], first["volumes"])
        with pytest.raises(ValueError, match="styles were drawn for 2 volumes, but 1 came"):
            A.ReplayCompose.replay(first["replay"], volume=volumes[0], volumes=volumes[:1])

    def test_replay_gives_the_same_image(self) -> None:
        replay = A.ReplayCompose([MUNITTransform("digits"), A.HorizontalFlip(p=0.5)])
        first = replay(image=IMAGE, images=np.stack([IMAGE, IMAGE]))
        again = A.ReplayCompose.replay(first["replay"], image=IMAGE, images=np.stack([IMAGE, IMAGE]))
        assert np.array_equal(first["image"], again["image"])
        assert np.array_equal(first["images"], again["images"])
        assert first["image"].mean() != replay(image=IMAGE)["image"].mean()

    @pytest.mark.parametrize(
        "options",
        [
            {"strength": (0.2, 0.9)},
            {"strength": 0.5},
            {"direction": {"a2b": 0.5, "b2a": 0.5}},
            {"direction": {"a2b": np.float32(0.5), "b2a": np.float32(0.5)}, "p": np.float32(1.0)},
        ],
    )
    def test_options_survive_replay_and_files(self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        give_checkpoints(monkeypatch, frozen(BrightnessTranslator()), frozen(ShiftTranslator()))
        images = np.stack([IMAGE + 0.3] * 6)
        replay = A.ReplayCompose([MUNITTransform("digits", **options)])
        first = replay(image=IMAGE, images=images)
        again = A.ReplayCompose.replay(json.loads(json.dumps(first["replay"])), image=IMAGE, images=images)
        assert np.array_equal(first["image"], again["image"])
        assert np.array_equal(first["images"], again["images"])
        state = json.loads(json.dumps(A.to_dict(MUNITTransform("digits", seed=4, **options))))
        assert A.to_dict(A.from_dict(state)) == state
        expected = MUNITTransform("digits", seed=4, **options)(images=images)["images"]
        assert np.array_equal(A.from_dict(state)(images=images)["images"], expected)

    def test_a_guard_cannot_be_written_down(self) -> None:
        munit = MUNITTransform("digits", guard=LabelGuard(BrightnessClassifier()))
        with pytest.raises(NotImplementedError, match="with a guard cannot be written down"):
            A.to_dict(munit)
        with pytest.raises(NotImplementedError, match="with a guard"):
            A.ReplayCompose([munit])(image=IMAGE)

    def test_replay_survives_json(self) -> None:
        first = A.ReplayCompose([MUNITTransform("digits")])(image=IMAGE)
        again = A.ReplayCompose.replay(json.loads(json.dumps(first["replay"])), image=IMAGE)
        assert np.array_equal(first["image"], again["image"])

    def test_replay_of_a_call_that_was_not_translated(self) -> None:
        first = A.ReplayCompose([MUNITTransform("digits", p=0.0)])(image=IMAGE)
        assert np.array_equal(A.ReplayCompose.replay(first["replay"], image=IMAGE)["image"], IMAGE)

    def test_replay_on_another_number_of_images_is_refused(self) -> None:
        first = A.ReplayCompose([MUNITTransform("digits")])(images=np.stack([IMAGE, IMAGE]))
        with pytest.raises(ValueError, match="styles were drawn for 2 images, but 3 came"):
            A.ReplayCompose.replay(first["replay"], images=np.stack([IMAGE] * 3))

    def test_pickle_of_a_path_has_no_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        big = BrightnessTranslator()
        big.register_buffer("ballast", torch.zeros(100_000))
        give_checkpoints(monkeypatch, frozen(big))
        assert len(pickle.dumps(MUNITTransform("digits", seed=1))) < 20_000

    def test_translator_object_cannot_be_written_down(self) -> None:
        with pytest.raises(NotImplementedError, match=r"built from a Translator object.*munitaug\.save"):
            A.to_dict(transform())
        with pytest.raises(NotImplementedError, match="ReplayCompose"):
            A.ReplayCompose([transform()])(image=IMAGE)

    def test_exemplars_cannot_be_written_down(self) -> None:
        with pytest.raises(NotImplementedError, match="exemplars or a StyleSource"):
            A.to_dict(MUNITTransform("digits", style=IMAGE))

    def test_repr_is_short(self) -> None:
        assert repr(MUNITTransform("digits")).startswith("MUNITTransform(p=1.0, checkpoint='digits', style='prior'")
        assert len(repr(transform())) < 200


class TestStreams:
    def test_no_seed_follows_the_global_generator(self) -> None:
        torch.manual_seed(5)
        first = brightness(transform(), 3)
        torch.manual_seed(5)
        assert brightness(transform(), 3) == first
        assert brightness(transform(), 3) != first

    @pytest.mark.parametrize("compose_seed", [None, 3])
    def test_compose_does_not_wipe_the_seed(self, compose_seed: int | None) -> None:
        expected = brightness(transform(seed=7), 3)
        assert brightness(A.Compose([transform(seed=7)], seed=compose_seed), 3) == expected

    def test_seed_of_compose_does_not_make_two_transforms_draw_alike(self) -> None:
        images = np.stack([IMAGE] * 8)
        compose = A.Compose([A.OneOf([transform(), transform()], p=1.0)], seed=3)
        assert len({float(image.mean()) for image in compose(images=images)["images"]}) == 8

    def test_copies_go_on_where_the_original_stands(self) -> None:
        munit = transform(seed=7)
        brightness(munit, 2)
        copies = copy.deepcopy(munit), pickle.loads(pickle.dumps(munit))
        expected = brightness(munit, 3)
        assert [brightness(twin, 3) for twin in copies] == [expected, expected]

    def test_seed_leaves_the_global_generator_alone(self) -> None:
        before = torch.get_rng_state()
        brightness(transform(seed=7), 3)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("persistent", [False, True])
    @pytest.mark.parametrize("seed", [None, 7])
    def test_forked_workers_and_epochs_never_repeat(self, seed: int | None, persistent: bool) -> None:
        drawn = epochs(A.Compose([transform(seed=seed)], seed=3), "fork", persistent)
        assert len(set(drawn)) == len(drawn) == 12

    @pytest.mark.parametrize("seed", [None, 7])
    def test_choices_by_p_never_repeat_in_workers(self, seed: int | None) -> None:
        drawn = epochs(A.Compose([transform(seed=seed, p=0.5)], seed=3), "fork", False, 128)
        flags = np.array(drawn).reshape(2, -1) != 0.0
        assert 0.3 < flags.mean() < 0.7
        assert not np.array_equal(flags[0], flags[1])


def epochs(munit: Any, start_method: str, persistent: bool, length: int = 6) -> list[float]:
    loader = DataLoader(
        EqualImages(CallsBrightness(munit), length=length),
        batch_size=3,
        num_workers=2,
        multiprocessing_context=start_method,
        persistent_workers=persistent,
    )
    return [float(value) for _ in range(2) for batch in loader for value in batch.flatten()]


def test_core_package_does_not_import_albumentations() -> None:
    code = "import sys, munitaug.transforms; sys.exit('albumentations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_albumentations_is_named_with_the_way_out() -> None:
    code = "import sys; sys.modules['albumentations'] = None; import munitaug.transforms.albumentations"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "munitaug[albumentations]"' in done.stderr


SUCCESSOR = """
import sys
from types import ModuleType, SimpleNamespace
import numpy as np, torch

class Base:
    def __init_subclass__(cls):
        removed = {"get_params", "get_params_dependent_on_data"} & set(vars(cls))
        if removed:
            raise TypeError(f"removed sampling hook(s): {removed}")
    def __init__(self, p=0.5):
        self.p = p
    def sample_parameters(self, params, data, targets, sampling):
        return None
    def __call__(self, **data):
        sampled = self.sample_parameters({}, data, None, None)
        return {key: self.targets[key](value, **sampled.params) for key, value in data.items()}

def module(name, **content):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(content)

module("albumentations", BasicTransform=Base, ImageOnlyTransform=Base)
module("albumentations.core")
module("albumentations.core.type_definitions", Targets=SimpleNamespace(IMAGE="image", VOLUME="volume"))
module("albumentations.core.transform_params", SampledParams=lambda params: SimpleNamespace(params=params))

from munitaug.transforms.albumentations import MUNITTransform
from tests.transforms.toys import BrightnessTranslator
images = MUNITTransform(BrightnessTranslator())(images=np.zeros((3, 16, 16, 3), np.float32))["images"]
assert len({float(image.mean()) for image in images}) == 3
"""


def test_hook_of_the_successor_is_used_when_it_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", SUCCESSOR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
