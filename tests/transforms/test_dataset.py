"""K variants of every item: the styles of generate, whatever the order, the epoch or the workers; flat batches."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

import munitaug
from munitaug.data.domain import ArrayDomain
from munitaug.offline.generate import generate, item_styles
from munitaug.styles import ClassBankStyles, PriorStyles, StyleSource
from munitaug.transforms import MUNITTransform, VariantDataset, variant_collate
from munitaug.transforms.guard import LabelGuard
from munitaug.transforms.samples import find_class
from tests.transforms.test_batch import IsBright, LabelStyles
from tests.transforms.toys import BrightnessTranslator, OneToOneTranslator, ShiftTranslator, frozen

K = 3


class Numbers:
    """Item i is (grey image of brightness 0.1 * i, label 10 + i); a list of what was asked for is kept."""

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked.append(index)
        return torch.full((3, 16, 16), 0.1 * index), 10 + index


class Items:
    """A data set of the items it is given."""

    def __init__(self, *items: object) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def variants_of(dataset: Any, **options: Any) -> VariantDataset:
    return VariantDataset(dataset, frozen(BrightnessTranslator()), **{"variants": K, **options})


def brightness(batch: Tensor) -> list[float]:
    return [float(image.mean(dtype=torch.float64)) for image in batch]


def expected_brightness(codes: Tensor) -> list[float]:
    return [(float(np.tanh(float(code))) + 1.0) / 2.0 for code in codes.flatten()]


# --- styles


def test_item_is_a_stack_of_variants_and_its_label() -> None:
    variants, label = variants_of(Numbers())[2]
    assert isinstance(variants, tv_tensors.Image)
    assert variants.shape == (K, 3, 16, 16)
    assert label == 12
    assert len(variants_of(Numbers())) == 5


@pytest.mark.parametrize("seed", [0, 7, -3])
def test_styles_are_those_of_generate(seed: int) -> None:
    data = variants_of(Numbers(), seed=seed)
    for item in (0, 4):
        codes = item_styles(PriorStyles(2), seed, item, K)[0]
        assert torch.equal(data.styles(item), codes)
        assert brightness(data[item][0]) == pytest.approx(expected_brightness(codes[:, 0]), abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"strength": (0.2, 0.8)}])
def test_options_after_the_style_leave_it_as_it_is(options: dict[str, Any]) -> None:
    assert torch.equal(variants_of(Numbers(), **options).styles(1), item_styles(PriorStyles(2), 0, 1, K)[0])


def test_images_are_those_of_a_generated_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    images, labels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8), torch.arange(5)
    domain = ArrayDomain("five", images, labels, tuple("abcde"))
    torch.manual_seed(0)
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    translator = munitaug.Munit(config).translator("a", "b").eval()
    file = generate(
        translator, domain, tmp_path / "x.h5", styles=PriorStyles(8), variants=2, seed=4, keep_original=True,
        progress=False,
    )  # fmt: skip
    written = munitaug.AugmentedDataset(file)
    data = VariantDataset(domain, translator, variants=2, seed=4, keep_original=True)
    for item in range(5):
        variants, label = data[item]
        for k, variant in enumerate(variants):
            row, row_label = written[item * 3 + k]
            assert row_label == label
            difference = (row.int() - variant.as_subclass(Tensor).int()).abs().max()
            assert int(difference) <= (0 if k == 0 else 1)  # rounding of sums may differ by batch size


def test_styles_by_class_are_those_of_a_generated_file(tmp_path: Path) -> None:
    """So each image gets codes of its own class, from either; and an image of a class without codes is refused."""
    labels = torch.tensor([0, 1, 2, 1, 0, 2])
    domain = ArrayDomain("six", torch.zeros(6, 3, 16, 16, dtype=torch.uint8), labels)
    bank = ClassBankStyles(torch.randn(30, 2), torch.arange(30) % 3)
    translator = frozen(BrightnessTranslator())
    file = generate(translator, domain, tmp_path / "x.h5", styles=bank, variants=K, seed=5, progress=False)
    data = VariantDataset(domain, translator, style=bank, variants=K, seed=5)
    with h5py.File(file) as written:
        codes = torch.from_numpy(np.asarray(written["style"])).view(6, K, 2)
    for item, label in enumerate(labels.tolist()):
        assert torch.equal(codes[item], data.styles(item))
        assert all((bank.codes[bank.labels == label] == code).all(dim=1).any() for code in codes[item])
    lacking = ClassBankStyles(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="there is no code of class 2"):
        generate(translator, domain, tmp_path / "y.h5", styles=lacking, progress=False)
    assert not (tmp_path / "y.h5.parts").exists()


def test_order_and_batches_change_nothing() -> None:
    data = variants_of(Numbers(), seed=1)
    expected = [brightness(variants_of(Numbers(), seed=1)[item][0]) for item in range(5)]
    shuffled = data.__getitems__([3, 0, 4, 4, 1])
    assert [brightness(item[0]) for item in shuffled] == [expected[i] for i in (3, 0, 4, 4, 1)]
    assert [item[1] for item in shuffled] == [13, 10, 14, 14, 11]


def test_more_variants_keep_the_first_ones() -> None:
    few, many = variants_of(Numbers(), variants=2), variants_of(Numbers(), variants=5)
    assert torch.equal(many.styles(3)[:2], few.styles(3))


def test_epochs_have_styles_of_their_own_and_repeat() -> None:
    data = variants_of(Numbers())
    seen = []
    for epoch in (0, 1, 2, 1, 0):
        data.set_epoch(epoch)
        assert data.epoch == epoch
        seen.append(brightness(data[2][0]))
    assert seen[0] == seen[4]
    assert seen[1] == seen[3]
    assert len({value for values in seen[:3] for value in values}) == 3 * K


def test_seeds_differ_and_numpy_integers_are_seeds() -> None:
    assert brightness(variants_of(Numbers(), seed=1)[0][0]) != brightness(variants_of(Numbers())[0][0])
    assert torch.equal(variants_of(Numbers(), seed=np.int64(1)).styles(0), variants_of(Numbers(), seed=1).styles(0))


def test_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    variants_of(Numbers())[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_styles_by_class_get_the_label() -> None:
    data = variants_of(Numbers(), style=LabelStyles())
    assert brightness(data[3][0]) == pytest.approx(expected_brightness(torch.tensor([1.3] * K)), abs=1e-6)
    with pytest.raises(ValueError, match="labels"):
        variants_of(Items((torch.zeros(3, 16, 16), "cat")), style=LabelStyles())[0]


BLACK = torch.zeros(3, 16, 16)
ONE_HOT = [0, 0, 0, 1]


@pytest.mark.parametrize(
    "label",
    [
        3, 3.0, np.int64(3), np.uint8(3), np.float32(3.0), np.array(3), np.array([3]), torch.tensor(3),
        torch.tensor([3]), torch.tensor([3.0]), torch.tensor(ONE_HOT), torch.tensor(ONE_HOT).bool(),
        np.array(ONE_HOT), torch.tensor([0.1, 0.1, 0.2, 0.6]),
    ],
)  # fmt: skip
def test_everything_that_tells_a_class_is_one(label: object) -> None:
    data = Items(
        (BLACK, label),
        [BLACK, {"label": label}],
        {"image": BLACK, "Label": label},
        {"target": label, "label_name": "three", "image": BLACK},
        {"label_name": "three", "digit_label": label, "image": BLACK},
        {"target": 7, "labels": label, "image": BLACK},
    )
    by_class = variants_of(data, style=LabelStyles())
    for item in range(len(data)):
        assert torch.allclose(by_class.styles(item), torch.full((K, 2), 0.3))


@pytest.mark.parametrize("options", [{"style": LabelStyles()}, {"guard": LabelGuard(IsBright())}])
@pytest.mark.parametrize(
    "item",
    [
        (BLACK, True), (BLACK, np.bool_(True)), (BLACK, 0.5), (BLACK, torch.tensor([3, 3])), (BLACK, torch.tensor(0.5)),
        (BLACK, np.array([0.5, 7.0])), (BLACK, float("nan")), (BLACK, {"label": "3"}), {"image": BLACK, "labels": [3]},
        {"image": BLACK, "target": torch.zeros(16, 16)},
    ],
)  # fmt: skip
def test_a_label_that_is_no_class_is_named(item: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the label of item 0 is .*, which is no class, but a guard and styles by"):
        variants_of(Items(item), **options)[0]
    variants_of(Items(item))[0]


@pytest.mark.parametrize("item", [BLACK, (BLACK,), (BLACK, "3.png"), (BLACK, None), (BLACK, BLACK), {"image": BLACK}])
def test_styles_by_class_say_how_to_give_labels(item: Any) -> None:
    with pytest.raises(ValueError, match=r"styles by class need the labels .* second part of a sample"):
        variants_of(Items(item), style=LabelStyles())[0]
    variants_of(Items(item), guard=LabelGuard(IsBright()))[0]


def test_items_without_a_class_stand_beside_items_with_one() -> None:
    """The guard predicts what it is not told: the black image is of class 0, whose variants are dark."""
    black = torch.zeros(3, 16, 16)
    guard = LabelGuard(IsBright(), tries=30)
    items = variants_of(Items((black, 1), (black, "cat"), (black, 1)), guard=guard).__getitems__([0, 1, 2])
    assert [brightness(item[0])[0] > 0.5 for item in items] == [True, False, True]
    plain = variants_of(Items((black, 1), (black, "cat"))).__getitems__([0, 1])
    assert [item[1] for item in plain] == [1, "cat"]


def test_one_to_one_generator_gives_one_variant() -> None:
    variants, _ = VariantDataset(Numbers(), frozen(OneToOneTranslator()), variants=1)[3]
    assert brightness(variants) == pytest.approx([0.7], abs=1e-6)


def test_guarded_variants_depend_on_their_item_alone() -> None:
    guards = LabelGuard(IsBright(), tries=20), LabelGuard(IsBright(), tries=20)
    source = Items(*((torch.zeros(3, 16, 16), i % 2) for i in range(6)))
    together = variants_of(source, guard=guards[0]).__getitems__(range(6))
    alone = [variants_of(source, guard=guards[1])[i] for i in reversed(range(6))]
    for first, second in zip(together, reversed(alone), strict=True):
        assert torch.equal(first[0], second[0])
    for i, (variants, _) in enumerate(together):
        assert all((value > 0.5) == bool(i % 2) for value in brightness(variants))
    assert guards[0].counts == guards[1].counts
    assert guards[0].counts.redrawn > 0


class ZeroStyles(StyleSource):
    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, k, 2)


def test_mix_of_directions_is_drawn_for_each_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """One direction gives brightness 0.5, the other that of the image + 0.1; a quarter of 200 is to be of that one."""
    ways = {"a2b": frozen(BrightnessTranslator()), "b2a": frozen(ShiftTranslator())}
    monkeypatch.setattr("munitaug.checkpoint.identity_sha256", lambda path: "0")
    monkeypatch.setattr("munitaug.checkpoint.inverted_directions", lambda path, directions: [])
    monkeypatch.setattr("munitaug.checkpoint.shared_translator", lambda path, direction, device: ways[direction])
    source = Items(*((torch.zeros(3, 16, 16), 0) for _ in range(100)))
    mix = VariantDataset(source, "somewhere", variants=2, style=ZeroStyles(), direction={"a2b": 0.75, "b2a": 0.25})
    together = [brightness(item[0]) for item in mix.__getitems__(range(100))]
    assert together[40:44] == [brightness(mix[i][0]) for i in range(40, 44)]
    values = [round(value, 3) for item in together for value in item]
    assert set(values) == {0.5, 0.1}
    assert 30 < values.count(0.1) < 70
    assert any(first != second for first, second in together)


# --- items of many kinds


class Named(NamedTuple):
    image: Tensor
    label: int
    name: str


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PIL.Image.fromarray(PIXELS), torch.from_numpy(PIXELS).permute(2, 0, 1)),
        (PIL.Image.fromarray(PIXELS[:, :, 0]), torch.from_numpy(PIXELS[:, :, 0])[None]),
        (PIXELS, torch.from_numpy(PIXELS).permute(2, 0, 1)),
        (PIXELS[:, :, 0], torch.from_numpy(PIXELS[:, :, 0])[None]),
        (PIXELS[:, ::-1] / np.float32(255), torch.from_numpy(PIXELS[:, ::-1] / np.float32(255)).permute(2, 0, 1)),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), torch.from_numpy(PIXELS).permute(2, 0, 1)),
        (tv_tensors.Image(torch.zeros(3, 16, 20)), torch.zeros(3, 16, 20)),
    ],
)
def test_every_kind_of_image_is_taken(image: Any, expected: Tensor) -> None:
    stack, _ = variants_of(Items((image, 0)), keep_original=True)[0]
    assert stack.shape == (K + 1, *expected.shape)
    assert stack.dtype == expected.dtype
    assert torch.equal(stack[0].as_subclass(Tensor), expected)
    assert len({float(variant.float().mean()) for variant in stack}) == K + 1


def test_form_of_the_item_stays() -> None:
    image, box = torch.zeros(3, 16, 16), torch.ones(4)
    data = variants_of(
        Items(
            (image, 1, box, "name"),
            [image, 1],
            Named(image, 1, "x"),
            {"id": 7, "img": image, "label": 1},
            image,
            (image,),
        )
    )
    one, two, three, four, five, six = data.__getitems__(range(6))
    assert (type(one), one[1], one[3]) == (tuple, 1, "name")
    assert one[2] is box
    assert isinstance(two, list)
    assert isinstance(three, Named)
    assert three.image.shape == (K, 3, 16, 16)
    assert (three.label, three.name) == (1, "x")
    assert list(four) == ["id", "img", "label"]
    assert four["img"].shape == (K, 3, 16, 16)
    assert five.shape == six[0].shape == (K, 3, 16, 16)


PHOTO = PIL.Image.new("RGB", (16, 16), (255, 255, 255))


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({"mask": tv_tensors.Mask(torch.zeros(1, 16, 16)), "x": BLACK}, "x"),
        ({"boxes": tv_tensors.BoundingBoxes(torch.zeros(1, 4), format="XYXY", canvas_size=(16, 16)), "x": BLACK}, "x"),
        ({"mask": np.zeros((16, 16), np.uint8), "photo": PHOTO}, "photo"),
        ({"mask": BLACK, "photo": tv_tensors.Image(BLACK)}, "photo"),
        ({"mask": PHOTO, "image": PHOTO}, "image"),
        ({"mask": np.zeros((16, 16), np.uint8), "Img": np.zeros((16, 16, 3), np.uint8)}, "Img"),
        ({"features": BLACK, "pixel_values": BLACK}, "pixel_values"),
    ],
)
def test_masks_are_not_taken_for_images(item: dict[str, Any], key: str) -> None:
    stack = variants_of(Items(item))[0]
    assert [name for name in item if stack[name] is not item[name]] == [key]
    assert len(stack[key]) == K


@pytest.mark.parametrize(("one", "other"), [(BLACK, BLACK), (np.zeros((16, 16)), BLACK), (PHOTO, PHOTO)])
def test_an_item_of_two_images_is_refused(one: object, other: object) -> None:
    with pytest.raises(ValueError, match=r"item 0 has several parts that may be its image: 'x', 'y'; .* key \"image\""):
        variants_of(Items({"x": one, "y": other}))[0]


def test_images_of_many_sizes_are_translated_size_by_size() -> None:
    translator = frozen(BrightnessTranslator())
    sizes = [16, 20, 16, 24, 20]
    data = VariantDataset(Items(*((torch.zeros(3, side, 16), side) for side in sizes)), translator, variants=2)
    items = data.__getitems__(range(5))
    assert [item[0].shape[2] for item in items] == sizes
    assert isinstance(translator, BrightnessTranslator)
    assert translator.encoded_batches == [2, 2, 1]
    assert brightness(items[4][0]) == brightness(data[4][0])


class Batched(Numbers):
    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        self.asked.extend(-index for index in indices)
        return [super(Batched, self).__getitem__(index) for index in indices]


def test_batched_reading_of_the_data_set_is_used() -> None:
    source = Batched()
    assert [label for _, label in variants_of(source).__getitems__([1, 3])] == [11, 13]
    assert source.asked == [-1, -3, 1, 3]


def test_transform_sees_each_variant_alone() -> None:
    shapes = []

    def halve(image: Tensor) -> Tensor:
        assert type(image) is tv_tensors.Image
        shapes.append(tuple(image.shape))
        return torch.mul(image, 0.5)

    plain = variants_of(Numbers(), keep_original=True)
    halved = variants_of(Numbers(), keep_original=True, transform=halve)
    assert torch.allclose(halved[1][0], plain[1][0].as_subclass(Tensor) / 2)
    assert shapes == [(3, 16, 16)] * (K + 1)


@pytest.mark.parametrize("number", [np.int64(2), torch.tensor(2), np.uint8(2)])
def test_a_number_of_another_kind_is_the_same_item(number: Any) -> None:
    dataset = variants_of(Numbers())
    assert torch.equal(dataset.styles(number), dataset.styles(2))
    assert torch.equal(dataset[number][0], dataset[2][0])


def test_negative_numbers_count_from_the_end() -> None:
    data = variants_of(Numbers())
    assert data[-1][1] == 14
    assert torch.equal(data[-1][0], data[4][0])
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"item {index} was asked for, but there are 5"):
            data[index]


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ((3, 4), TypeError, "item 0 holds no image .* tuple of int, int"),
        ((), TypeError, "tuple of nothing"),
        ({"x": torch.zeros(2)}, TypeError, r"mapping of 'x': Tensor of shape \(2,\)"),
        (torch.zeros(2, 3, 16, 16), TypeError, r"shape \(2, 3, 16, 16\)"),
        (PIL.Image.new("RGBA", (16, 16)), ValueError, r'mode "RGBA".*convert\("RGB"\)'),
        (PIL.Image.new("I;16", (16, 16)), ValueError, r"the image of item 0 has mode .*would clip its values"),
        (torch.zeros(3, 16, 16, dtype=torch.int16), TypeError, "item 0 must be uint8 .* torch.int16"),
        (torch.full((3, 16, 16), 9.0), ValueError, r"image of item 0 .* must be in \[0, 1\], got values from 9 to 9"),
        ((tv_tensors.Mask(torch.zeros(3, 16, 16)), 1), TypeError, "item 0 holds no image .* tuple of Mask"),
    ],
)
def test_item_without_a_usable_image_is_refused(item: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        variants_of(Items(item))[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variants": 0}, ValueError, "^variants must be"),
        ({"seed": None}, TypeError, "seed must be an integer"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"seed": 2**63}, ValueError, "seed must be a 64-bit signed number, got 9223372036854775808"),
        ({"style": "exemplar"}, ValueError, "needs images"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        variants_of(Numbers(), **options)


def test_negative_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        variants_of(Numbers()).set_epoch(-1)


# --- in loaders


def loaded(data: VariantDataset, **options: Any) -> list[float]:
    loader = DataLoader(data, batch_size=2, collate_fn=variant_collate, **options)
    return [value for batch, _ in loader for value in brightness(batch)]


def test_workers_change_nothing() -> None:
    data = variants_of(Numbers())
    assert loaded(data, num_workers=2, multiprocessing_context="fork") == loaded(data)


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_spawned_workers_change_nothing(start_method: str) -> None:
    data = variants_of(Numbers())
    expected = loaded(data)
    assert loaded(data, num_workers=1, multiprocessing_context=start_method) == expected
    assert epochs_of_a_persistent_loader(data, start_method) == [expected, expected]


def epochs_of_a_persistent_loader(data: VariantDataset, start_method: str) -> list[list[float]]:
    """Gives the epochs 0, 3 and 0 again, less the middle one, which must differ."""
    loader = DataLoader(
        data,
        batch_size=2,
        collate_fn=variant_collate,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=start_method,
    )
    seen = []
    for epoch in (0, 3, 0):
        data.set_epoch(epoch)
        seen.append([value for batch, _ in loader for value in brightness(batch)])
    assert not set(seen[0]) & set(seen[1])
    return [seen[0], seen[2]]


def test_epoch_reaches_workers_that_persist() -> None:
    data = variants_of(Numbers())
    expected = loaded(data)
    assert epochs_of_a_persistent_loader(data, "fork") == [expected, expected]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_epoch_of_a_copy_reaches_its_workers_and_not_those_of_the_original(copied: Any) -> None:
    data = variants_of(Numbers())
    expected = loaded(data)
    assert epochs_of_a_persistent_loader(copied(data), "fork") == [expected, expected]
    copied(data).set_epoch(3)
    assert data.epoch == 0


def test_pickle_keeps_seed_and_epoch() -> None:
    data = variants_of(Numbers(), seed=5)
    data.set_epoch(2)
    twin = pickle.loads(pickle.dumps(data))
    assert brightness(twin[1][0]) == brightness(data[1][0])


# --- variant_collate


def test_collate_puts_variants_of_a_sample_side_by_side() -> None:
    samples = [(torch.full((2, 1, 4, 4), float(i)) + torch.tensor([0.0, 0.5]).view(2, 1, 1, 1), i) for i in range(3)]
    images, labels = variant_collate(samples)
    assert images[:, 0, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_collate_repeats_all_that_stands_beside() -> None:
    samples = [{"image": torch.zeros(2, 1, 4, 4), "label": i, "name": f"{i}.png"} for i in range(3)]
    batch = variant_collate(samples)
    assert batch["name"] == [f"{i}.png" for i in (0, 0, 1, 1, 2, 2)]
    assert batch["label"].tolist() == [0, 0, 1, 1, 2, 2]
    assert variant_collate([torch.zeros(2, 1, 4, 4)] * 3).shape == (6, 1, 4, 4)


def test_collate_takes_what_the_transform_gives() -> None:
    munit = MUNITTransform(frozen(ShiftTranslator()), num_variants=2)
    images, labels = variant_collate([(munit(torch.full((3, 16, 16), 0.1 * i)), i) for i in range(3)])
    assert brightness(images) == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3], abs=1e-6)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_collate_refuses_single_images() -> None:
    with pytest.raises(ValueError, match="B x K x C x H x W is needed"):
        variant_collate([(torch.zeros(3, 16, 16), 0)] * 2)


@pytest.mark.parametrize("label", [[1.0, 1.0, 0.0], [0.2, 0.2, 0.2], [1.5, -0.5]])
def test_numbers_whose_sum_is_not_one_are_no_weights_of_classes(label: list[float]) -> None:
    assert find_class((None, torch.tensor([0.25, 0.75, 0.0])), "item 0") == 1
    with pytest.raises(ValueError, match="which is no class"):
        find_class((None, torch.tensor(label)), "item 0")
