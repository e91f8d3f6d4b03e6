"""Whole batches: order, labels, what stands beside them, chance, collate functions, and the worst of K."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, UserDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import tv_tensors

from munitaug.styles import BankStyles, StyleSource
from munitaug.transforms import MUNITBatchTransform
from munitaug.transforms.batch import BatchDraw
from munitaug.transforms.guard import LabelGuard
from tests.transforms.toys import (
    BrightnessTranslator,
    OneToOneTranslator,
    ShiftTranslator,
    frozen,
    give_checkpoints,
)

B, K = 4, 3


def transform(num_variants: int = K, **options: Any) -> MUNITBatchTransform:
    return MUNITBatchTransform(frozen(BrightnessTranslator()), num_variants=num_variants, **options)


def images(count: int = B) -> Tensor:
    """Gives images whose brightness is 0.1 times their number."""
    return (torch.arange(count) * 0.1).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone()


LABELS = torch.tensor([5, 7, 7, 2])


class NumberedStyles(StyleSource):
    """Code of variant k of image i is 0.5 * i - 0.25 * k, so that brightness tells which row it is."""

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        numbers = 0.5 * torch.arange(n).view(n, 1) - 0.25 * torch.arange(k)
        return torch.stack([numbers, torch.zeros(n, k)], dim=2)


class LabelStyles(StyleSource):
    """Codes that go by class: 0.1 times the label."""

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        raise AssertionError("labels were not passed")

    def sample_for(self, labels: Tensor, k: int, generator: torch.Generator) -> Tensor:
        return (0.1 * labels.float()).view(-1, 1, 1).repeat(1, k, 2)


def brightness(batch: Tensor) -> list[float]:
    return [float(image.mean(dtype=torch.float64)) for image in batch]


def expected_brightness(code: float) -> float:
    return (float(np.tanh(code)) + 1.0) / 2.0


def test_rows_are_in_the_order_of_images_then_variants() -> None:
    out, labels = transform(style=NumberedStyles())(images(), LABELS)
    assert out.shape == (B * K, 3, 16, 16)
    expected = [expected_brightness(0.5 * i - 0.25 * k) for i in range(B) for k in range(K)]
    assert brightness(out) == pytest.approx(expected, abs=1e-6)
    assert labels.tolist() == [5, 5, 5, 7, 7, 7, 7, 7, 7, 2, 2, 2]


def test_original_stands_first_and_untouched() -> None:
    batch = images()
    out, labels = transform(style=NumberedStyles(), keep_original=True)((batch, LABELS))
    assert out.shape == (B * (K + 1), 3, 16, 16)
    assert torch.equal(out[:: K + 1], batch)
    assert brightness(out[1:4]) == pytest.approx([expected_brightness(-0.25 * k) for k in range(K)], abs=1e-6)
    assert labels.tolist() == [label for label in (5, 7, 7, 2) for _ in range(K + 1)]


def test_content_of_each_image_is_encoded_once_in_one_batch() -> None:
    translator = frozen(BrightnessTranslator())
    MUNITBatchTransform(translator, num_variants=K)(images(), LABELS)
    assert isinstance(translator, BrightnessTranslator)
    assert translator.encoded_batches == [B]


def test_content_stays_with_its_image() -> None:
    out, _ = MUNITBatchTransform(frozen(ShiftTranslator()), num_variants=2)(images(), LABELS)
    assert brightness(out) == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4], abs=1e-6)


def test_inputs_are_not_changed() -> None:
    batch, labels = images(), LABELS.clone()
    transform(p=0.5, keep_original=True)(batch, labels)
    assert torch.equal(batch, images())
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
def test_dtype_stays(dtype: torch.dtype) -> None:
    out, _ = transform()(torch.zeros(B, 3, 16, 20, dtype=dtype), LABELS)
    assert out.dtype == dtype
    assert out.shape == (B * K, 3, 16, 20)


def test_grey_images_go_through_a_colour_generator() -> None:
    assert transform()(torch.zeros(B, 1, 16, 16), LABELS)[0].shape == (B * K, 1, 16, 16)


def test_an_empty_batch_stays_empty() -> None:
    out, labels = transform(keep_original=True)(torch.zeros(0, 3, 16, 16), torch.zeros(0, dtype=torch.int64))
    assert out.shape == (0, 3, 16, 16)
    assert labels.shape == (0,)


def test_one_to_one_generator_gives_one_variant() -> None:
    out, labels = MUNITBatchTransform(frozen(OneToOneTranslator()))(images(), LABELS)
    assert brightness(out) == pytest.approx([1.0, 0.9, 0.8, 0.7], abs=1e-6)
    assert labels is LABELS


def test_result_feeds_training() -> None:
    out, _ = transform()(images().requires_grad_(), LABELS)
    weight = torch.ones((), requires_grad=True)
    (out * weight).sum().backward()
    assert weight.grad is not None
    assert not out.requires_grad


# --- p


def test_images_that_are_not_chosen_come_as_they_are() -> None:
    batch = images(64) / 8
    out, _ = transform(p=0.5, seed=1)(batch, torch.arange(64))
    grouped = out.unflatten(0, (64, K))
    same = (grouped == batch.unsqueeze(1)).flatten(2).all(dim=2)
    assert torch.equal(same.any(dim=1), same.all(dim=1))
    assert 16 < int(same.all(dim=1).sum()) < 48


def test_chance_moves_no_style() -> None:
    """The images that p = 0.5 chose look as they do with p = 1."""
    batch = images(16)
    always, sometimes = (transform(p=p, seed=3)(batch, torch.arange(16))[0] for p in (1.0, 0.5))
    kept = (sometimes == batch.repeat_interleave(K, dim=0)).flatten(1).all(dim=1)
    assert 0 < int(kept.sum()) < 16 * K
    assert torch.equal(sometimes[~kept], always[~kept])


def test_chance_zero_translates_nothing() -> None:
    out, labels = transform(p=0.0)(images(), LABELS)
    assert torch.equal(out, images().repeat_interleave(K, dim=0))
    assert len(labels) == B * K


# --- where labels and images are found


class Pair(NamedTuple):
    picture: Tensor
    target: Tensor


@pytest.mark.parametrize("kind", [tuple, list, Pair._make])
def test_tuple_lists_and_named_tuples_come_back_as_such(kind: Any) -> None:
    sample = kind([images(), LABELS])
    out = transform()(sample)
    assert type(out) is type(sample)
    assert len(out[0]) == len(out[1]) == B * K


@pytest.mark.parametrize("key", ["image", "images", "img", "imgs", "pixel_values", "Image"])
def test_a_mapping_names_its_images(key: str) -> None:
    depth = torch.zeros(B, 1, 16, 16)
    sample = {"depth": depth, key: images(), "labels": LABELS}
    out = transform()(sample)
    assert torch.equal(out["depth"], depth.repeat_interleave(K, dim=0))
    assert not torch.equal(out[key], images().repeat_interleave(K, dim=0))


def test_a_mapping_with_several_tensors_that_may_be_images_is_refused() -> None:
    sample = {"depth": torch.zeros(B, 1, 16, 16), "x": images(), "labels": LABELS}
    with pytest.raises(ValueError, match=r"several tensors that may be its images: 'depth', 'x'; .* key \"image\""):
        transform()(sample)
    sample["x"] = tv_tensors.Image(images())
    assert torch.equal(transform()(sample)["depth"], sample["depth"].repeat_interleave(K, dim=0))


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_mapping_comes_back_as_such(kind: Any) -> None:
    sample = kind({"label": LABELS, "image": images(), "name": "train"})
    out = transform()(sample)
    assert type(out) is type(sample)
    assert list(out) == ["label", "image", "name"]
    assert out["image"].shape == (B * K, 3, 16, 16)
    assert out["label"].tolist() == LABELS.repeat_interleave(K).tolist()
    assert out["name"] == "train"
    assert sample["image"].shape == (B, 3, 16, 16)


@pytest.mark.parametrize(
    "sample",
    [
        {"other": torch.zeros(B), "Labels": LABELS, "image": images()},
        {"label_kind": torch.zeros(B), "labels": LABELS, "image": images()},
        {"targetLabel": LABELS, "image": images()},
        {"label_names": list("abcd"), "target": LABELS, "image": images()},
        {"label_names": list("abcd"), "my_label": LABELS, "image": images()},
        {"my_label": torch.zeros(B), "target": torch.zeros(B), "label": LABELS, "image": images()},
        (images(), {"labels": LABELS}),
        (images(), LABELS.view(B, 1)),
        (images(), LABELS.double()),
        (images(), LABELS.half().view(B, 1)),
        (images(), torch.eye(10)[LABELS].bool()),
        (images(), LABELS, torch.zeros(B)),
    ],
)
def test_labels_are_found_as_mixup_finds_them(sample: Any) -> None:
    out = transform(style=LabelStyles())(sample)
    pictures = out["image"] if isinstance(out, dict) else out[0]
    expected = [expected_brightness(0.1 * label) for label in (5, 7, 7, 2) for _ in range(K)]
    assert brightness(pictures) == pytest.approx(expected, abs=1e-6)


def test_function_finds_labels() -> None:
    out = transform(style=LabelStyles(), labels_getter=lambda batch: batch["y"])({"x": images(), "y": LABELS})
    assert out["y"].tolist() == LABELS.repeat_interleave(K).tolist()


def test_weights_of_classes_are_repeated_and_their_greatest_is_the_class() -> None:
    weights = 0.6 * torch.eye(10)[LABELS] + 0.4 * torch.eye(10)[0]
    out, labels = transform(style=LabelStyles())(images(), weights)
    assert torch.equal(labels, weights.repeat_interleave(K, dim=0))
    assert brightness(out)[0] == pytest.approx(expected_brightness(0.5), abs=1e-6)


def test_numbers_that_are_no_classes_are_repeated_only() -> None:
    _, labels = transform()(images(), torch.tensor([0.5, 1.5, 2.5, 3.5]))
    assert labels.tolist() == [value for value in (0.5, 1.5, 2.5, 3.5) for _ in range(K)]
    with pytest.raises(ValueError, match="labels"):
        transform(style=LabelStyles())(images(), torch.full((B,), 0.5))


@pytest.mark.parametrize(
    "labels",
    [torch.full((B,), 0.5), torch.full((B, 1), 0.5), torch.tensor([0.0, 1.0, float("nan"), 2.0]), LABELS > 5],
)
@pytest.mark.parametrize("option", ["guard", "style"])
def test_numbers_that_are_no_classes_are_refused_where_classes_are_needed(option: str, labels: Tensor) -> None:
    munit = transform(guard=LabelGuard(IsBright())) if option == "guard" else transform(style=LabelStyles())
    with pytest.raises(ValueError, match=r"labels must be whole numbers \(classes\) for a guard or styles by class"):
        munit(images(), labels)
    assert len(transform()(images(), labels)[1]) == B * K


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[-5.2, -1.0, -8.0]] * B),
        torch.tensor([[1, 0, 1]] * B),
        torch.tensor([[0.5, float("nan"), 0.5]] * B),
        torch.cat([torch.eye(3), torch.zeros(1, 3)]),
    ],
)
def test_rows_that_are_no_weights_are_refused_where_classes_are_needed(labels: Tensor) -> None:
    for munit in (transform(guard=LabelGuard(IsBright())), transform(style=LabelStyles())):
        with pytest.raises(ValueError, match=r"labels of shape \(4, 3\) must be weights .* a sum of 1 in each row"):
            munit(images(), labels)
    assert len(transform()(images(), labels)[1]) == B * K


@pytest.mark.parametrize("weights", [torch.eye(10)[LABELS].bool(), torch.eye(10, dtype=torch.uint8)[LABELS]])
def test_whole_weights_are_weights(weights: Tensor) -> None:
    out, labels = transform(style=LabelStyles())(images(), weights)
    assert torch.equal(labels, weights.repeat_interleave(K, dim=0))
    assert torch.equal(out, transform(style=LabelStyles())(images(), LABELS)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_few_bits_are_weights(dtype: torch.dtype) -> None:
    weights = torch.randn(B, 100, generator=torch.Generator().manual_seed(0)).softmax(dim=1).to(dtype)
    transform(style=LabelStyles())(images(), weights)


@pytest.mark.parametrize("sample", [images(), [images()]])
def test_unlabelled_batch_is_translated(sample: Any) -> None:
    out = transform()(sample)
    assert (out if isinstance(out, Tensor) else out[0]).shape == (B * K, 3, 16, 16)


def test_no_labels_are_looked_for_when_there_are_none() -> None:
    out = transform(labels_getter=None)({"x": images(), "names": ["a", "b", "c", "d"]})
    assert out["names"] == list("aaabbbcccddd")


def test_all_images_of_a_batch_are_translated_with_styles_of_their_own() -> None:
    first, labels, second = transform(seed=0)(tv_tensors.Image(images()), LABELS, tv_tensors.Image(images()))
    assert isinstance(first, tv_tensors.Image)
    assert not set(brightness(first)) & set(brightness(second))
    assert len(labels) == B * K


def test_plain_tensors_beside_an_image_are_repeated() -> None:
    masks = torch.arange(B).view(B, 1, 1, 1).expand(B, 1, 16, 16)
    _, _, out = transform()(images(), LABELS, masks)
    assert out.shape == (B * K, 1, 16, 16)
    assert out[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_integer_masks_before_the_image_are_not_taken_for_it() -> None:
    sample = {"mask": torch.zeros(B, 1, 16, 16, dtype=torch.int64), "image": images(), "label": LABELS}
    out = transform(style=NumberedStyles())(sample)
    assert brightness(out["image"])[0] == pytest.approx(0.5)
    assert out["mask"].dtype == torch.int64


def test_everything_with_a_row_per_image_is_repeated() -> None:
    meta = {"index": np.arange(B), "names": ("a", "b", "c", "d"), "scale": torch.tensor(2.0), "none": None, "n": 4}
    _, _, out = transform(2)(images(), LABELS, meta)
    assert out["index"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert out["names"] == tuple("aabbccdd")
    assert out["scale"] is meta["scale"]
    assert out["none"] is None
    assert out["n"] == 4


def test_one_variant_leaves_the_rest_as_the_same_objects() -> None:
    labels, boxes = LABELS, torch.zeros(9, 4)
    out = transform(1)(images(), labels, boxes, [])
    assert out[1] is labels
    assert out[2] is boxes


# --- refusals


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (torch.zeros(9, 4), r"the batch\[2\] has 9 rows, but the batch has 4 images"),
        (np.zeros((2, 4)), r"the batch\[2\] has 2 rows"),
        ({"names": ["a", "b"]}, r"the batch\[2\]\['names'\] has 2 rows"),
    ],
)
def test_what_has_other_rows_is_refused(extra: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform()(images(), LABELS, extra)


def test_unknown_containers_are_refused() -> None:
    with pytest.raises(TypeError, match="is a set, whose rows cannot be told"):
        transform()(images(), LABELS, {"a", "b", "c", "d"})


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (PIL.Image.new("RGB", (16, 16)), "PIL images cannot be batched"),
        (tv_tensors.BoundingBoxes(torch.zeros(4, 4), format="XYXY", canvas_size=(16, 16)), "boxes cannot be repeated"),
        (tv_tensors.KeyPoints(torch.zeros(4, 2), canvas_size=(16, 16)), "keypoints cannot be repeated"),
        (tv_tensors.Mask(torch.zeros(4, 16, 16)), "as plain tensors"),
        (tv_tensors.Video(torch.zeros(4, 2, 3, 16, 16)), "videos are for MUNITTransform"),
    ],
)
def test_what_has_no_batched_form_is_refused(extra: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        transform()(images(), LABELS, extra)


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ((torch.zeros(3, 16, 16), torch.tensor([1])), ValueError, r"no images found.*\(3, 16, 16\)"),
        ((tv_tensors.Image(torch.zeros(3, 16, 16)), torch.tensor([1])), ValueError, "B x C x H x W, got shape"),
        ((torch.zeros(2, 3, 16, 16, dtype=torch.int32), torch.tensor([1, 2])), TypeError, "got torch.int32"),
        ((images(), torch.tensor([1, 2])), ValueError, "4 images, but labels with 2 rows"),
        ((images(), [1, 2, 3, 4]), ValueError, "no labels found"),
        ((tv_tensors.Image(images()), tv_tensors.Image(images())), ValueError, "no labels found"),
        ({"image": images(), "label": [1, 2, 3, 4]}, TypeError, "labels must be a tensor, got list"),
        ({"image": images(), "aim": LABELS}, ValueError, "no labels found"),
        (
            (images() * 255, LABELS),
            ValueError,
            r"must be in \[0, 1\], got values from 0 to 76.5",
        ),
        ((images(), torch.zeros(B, 16, 16)), ValueError, r"labels must be classes .*got \(4, 16, 16\)"),
        ((tv_tensors.Image(images()), LABELS, tv_tensors.Image(images(3))), ValueError, "images with 3 rows"),
    ],
)
def test_batch_that_does_not_fit_is_refused(sample: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        transform()(sample)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_variants": 0}, ValueError, "num_variants"),
        ({"p": 1.5}, ValueError, "p must be"),
        ({"labels_getter": "first"}, TypeError, "labels_getter must be"),
        ({"style": "exemplar"}, ValueError, "needs images"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MUNITBatchTransform(frozen(BrightnessTranslator()), **options)


# --- a module, pickled, copied, collating


def test_module_leaks_no_weights() -> None:
    holder = nn.Sequential(transform())
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}
    assert "BrightnessTranslator, style='prior', direction='a2b', device='cpu', seed=" in repr(holder)
    assert "truncation=None, strength=1.0, guard=None, num_variants=3, p=1.0, keep_original=False, labels_getter=" in (
        repr(holder)
    )
    assert "NumberedStyles" in repr(transform(style=NumberedStyles()))
    assert transform().device == torch.device("cpu")


def test_pickle_and_deep_copy_go_on_where_the_original_stands() -> None:
    munit = transform(seed=7)
    munit(images(), LABELS)
    twins = pickle.loads(pickle.dumps(munit)), copy.deepcopy(munit)
    expected = brightness(munit(images(), LABELS)[0])
    assert [brightness(twin(images(), LABELS)[0]) for twin in twins] == [expected, expected]


def test_guard_gets_labels_and_images_that_were_chosen() -> None:
    """Dark variants are class 0, bright ones class 1; images of class 1 keep bright variants only."""
    guard = LabelGuard(IsBright(), tries=50)
    batch = images(32) / 4
    out, _ = transform(guard=guard, seed=0, p=0.7)(batch, torch.ones(32, dtype=torch.int64))
    same = (out == batch.repeat_interleave(K, dim=0)).flatten(1).all(dim=1)
    assert 0 < int(same.sum()) < 32 * K
    assert min(brightness(out[~same])) > 0.5
    assert sum(guard.counts) == int((~same).sum())


def collate_pairs(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    first, second = zip(*samples, strict=True)
    return torch.stack(first), torch.stack(second)


@pytest.mark.parametrize("collate", [None, collate_pairs])
def test_collate_form_gives_the_batches_of_the_transform(collate: Any) -> None:
    data = TensorDataset(images(), LABELS)
    munit = transform(style=NumberedStyles())
    form = munit.as_collate() if collate is None else munit.as_collate(collate)
    (batch,) = DataLoader(data, batch_size=B, collate_fn=form)
    expected, labels = munit(images(), LABELS)
    assert torch.equal(batch[0], expected)
    assert torch.equal(batch[1], labels)


def worker_epochs(munit: MUNITBatchTransform, start_method: str) -> list[float]:
    loader = DataLoader(
        TensorDataset(torch.zeros(6, 3, 16, 16), torch.arange(6)),
        batch_size=3,
        num_workers=2,
        multiprocessing_context=start_method,
        collate_fn=munit.as_collate(),
    )
    return [value for _ in range(2) for batch, _ in loader for value in brightness(batch)]


@pytest.mark.parametrize("seed", [None, 7])
def test_styles_never_repeat_over_forked_workers_and_epochs(seed: int | None) -> None:
    drawn = worker_epochs(transform(2, seed=seed), "fork")
    assert len(set(drawn)) == len(drawn) == 24


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_styles_never_repeat_over_spawned_workers_and_epochs(start_method: str) -> None:
    drawn = worker_epochs(transform(2, seed=7), start_method)
    assert len(set(drawn)) == len(drawn) == 24


# --- worst of K


class IsBright(nn.Module):
    """Scores (0, 20 * (brightness - middle)) of grey images in [-1, 1] or [0, 1]; counts batches in training mode."""

    def __init__(self, middle: float = 0.0) -> None:
        super().__init__()
        self.middle = middle
        self.norm = nn.BatchNorm1d(1)
        self.seen_in_training: list[bool] = []

    def forward(self, batch: Tensor) -> Tensor:
        self.seen_in_training.append(self.training or self.norm.training)
        bright = 20.0 * (batch.mean(dim=(1, 2, 3)) - self.middle)
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.mark.parametrize("keep_original", [False, True])
def test_worst_of_is_that_of_a_slow_loop(keep_original: bool) -> None:
    torch.manual_seed(3)
    batch, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 1, 0, 2, 2])
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).eval()
    munit = transform(4, seed=9, keep_original=keep_original)
    variants = copy.deepcopy(munit)(batch, labels)[0].unflatten(0, (6, -1))
    worst, same_labels = munit.worst_of(batch, labels, classifier)
    assert same_labels is labels
    for image, label, candidates in zip(worst, labels, variants, strict=True):
        chances = [torch.softmax(classifier(candidate[None])[0], dim=0)[label] for candidate in candidates]
        hardest = min(range(len(chances)), key=lambda k: float(chances[k].detach()))
        assert torch.equal(image, candidates[hardest])


def test_worst_of_takes_the_darkest_where_bright_is_right() -> None:
    munit = transform(3, style=NumberedStyles())
    labels = torch.tensor([1, 0, 1, 0])
    worst, _ = munit.worst_of(images(), labels, IsBright(0.5))
    codes = [0.0 - 0.5, 0.5, 1.0 - 0.5, 1.5]
    assert brightness(worst) == pytest.approx([expected_brightness(code) for code in codes], abs=1e-6)


def test_worst_of_leaves_the_classifier_as_it_was() -> None:
    classifier = IsBright().train()
    classifier.norm.eval()
    worst, _ = transform().worst_of(images().requires_grad_(), torch.zeros(B, dtype=torch.int64), classifier)
    assert classifier.seen_in_training == [False] * K
    assert classifier.training
    assert not classifier.norm.training
    assert not worst.requires_grad


def test_worst_of_restores_the_classifier_after_an_error() -> None:
    classifier = nn.Sequential(nn.Linear(5, 2)).train()
    with pytest.raises(RuntimeError):
        transform().worst_of(images(), LABELS, classifier)
    assert classifier[0].training


def test_worst_of_preprocesses_and_takes_any_loss() -> None:
    asked: list[torch.dtype] = []

    def to_unit(batch: Tensor) -> Tensor:
        asked.append(batch.dtype)
        return batch.float() / 255

    def brightness_loss(scores: Tensor, labels: Tensor) -> Tensor:
        return scores

    batch = torch.zeros(B, 3, 16, 16, dtype=torch.uint8)
    worst, _ = transform(3, style=NumberedStyles()).worst_of(
        batch, LABELS, lambda unit: unit.mean(dim=(1, 2, 3)), loss=brightness_loss, preprocess=to_unit
    )
    assert asked == [torch.uint8] * 3
    expected = [round(255 * expected_brightness(0.5 * i)) for i in range(B)]
    assert worst[:, 0, 0, 0].tolist() == expected
    assert worst.dtype == torch.uint8


def test_worst_of_keeps_the_first_of_equal_losses_and_the_image_type() -> None:
    munit = transform(2, style=BankStyles(torch.zeros(1, 2)), keep_original=True)
    worst, _ = munit.worst_of(tv_tensors.Image(images()), LABELS, lambda batch: batch.new_zeros(len(batch), 8))
    assert isinstance(worst, tv_tensors.Image)
    assert torch.equal(worst.as_subclass(Tensor), images())


def test_worst_of_takes_weights_of_classes() -> None:
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    classes = transform(3, style=NumberedStyles()).worst_of(images(), torch.tensor([1, 0, 1, 0]), IsBright(0.5))[0]
    assert torch.equal(transform(3, style=NumberedStyles()).worst_of(images(), weights, IsBright(0.5))[0], classes)


def test_worst_of_refuses_what_is_no_batch() -> None:
    with pytest.raises(TypeError, match="labels must be a tensor, got list"):
        transform().worst_of(images(), [0, 1, 0, 1], IsBright())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no images found"):
        transform().worst_of(images()[0], LABELS, IsBright())
    with pytest.raises(ValueError, match="4 images, but labels with 3 rows"):
        transform().worst_of(images(), LABELS[:3], IsBright())


def test_worst_of_refuses_a_mean_loss() -> None:
    with pytest.raises(ValueError, match=r'one number for each of 4 images, got shape .*reduction="none"'):
        transform().worst_of(images(), LABELS % 2, IsBright(), loss=nn.functional.cross_entropy)


def test_checkpoint_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = give_checkpoints(monkeypatch, frozen(BrightnessTranslator()))
    munit = MUNITBatchTransform(tmp_path, direction="b2a")
    assert repr(str(tmp_path)) in repr(munit)
    assert asked[0] == (str(tmp_path), "b2a", "cpu")


def test_images_that_are_chosen_get_what_was_drawn_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    give_checkpoints(monkeypatch, frozen(BrightnessTranslator()), frozen(ShiftTranslator()))
    munit = MUNITBatchTransform(
        "digits",
        num_variants=2,
        direction={"a2b": 0.5, "b2a": 0.5},
        strength=(0.0, 1.0),
        p=0.5,
        seed=0,
        labels_getter=None,
    )
    batch = torch.rand(16, 3, 16, 16)
    drawn = munit.draw(batch)
    assert 0 < int(drawn.chosen.sum()) < 16
    every = munit.translate(batch, BatchDraw(torch.ones(16, dtype=torch.bool), drawn.variants))
    chosen = drawn.chosen.repeat_interleave(2).view(-1, 1, 1, 1)
    wanted = torch.where(chosen, every, batch.repeat_interleave(2, dim=0))
    torch.testing.assert_close(munit.translate(batch, drawn), wanted)
