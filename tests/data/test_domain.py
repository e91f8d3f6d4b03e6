from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch

from munitaug.data.domain import ArrayDomain, ImageDomain, load_in_memory
from munitaug.data.kept import KeptDomain
from munitaug.types import DomainError, LabelMissingError

MakeDomain = Callable[..., ArrayDomain]


class Stripes(ImageDomain):
    """Image i is i + 16 px wide unless a width is given."""

    def __init__(self, width: int | None) -> None:
        super().__init__("stripes", channels=1)
        self.width = width

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 16, self.width or 16 + index), index, dtype=torch.uint8), -1

    @property
    def labels(self) -> None:
        return None


def test_item_is_image_and_label(numbered_domain: MakeDomain) -> None:
    image, label = numbered_domain(13)[12]
    assert image.dtype == torch.uint8
    assert image.shape == (1, 16, 16)
    assert image.unique().tolist() == [12]
    assert label == 2


def test_images_come_in_the_order_of_the_indices(numbered_domain: MakeDomain) -> None:
    assert numbered_domain(5).images([4, 0, 4])[:, 0, 0, 0].tolist() == [4, 0, 4]


def test_unlabelled_domain_gives_minus_one_and_refuses_to_give_labels() -> None:
    domain = ArrayDomain("plain", torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert domain[0][1] == -1
    assert domain.labels is None
    with pytest.raises(LabelMissingError, match=r"plain has no labels.*one sub-folder per class"):
        domain.require_labels()


def test_partly_labelled_domain_refuses_to_give_labels() -> None:
    domain = ArrayDomain("partly", torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.tensor([0, -1]))
    with pytest.raises(LabelMissingError, match="partly"):
        domain.require_labels()


def test_labels_are_int64(numbered_domain: MakeDomain) -> None:
    labels = numbered_domain(12).require_labels()
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_float_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"must be uint8 N x C x H x W, got torch.float32"):
        ArrayDomain("float", torch.zeros(2, 3, 16, 16))


def test_empty_domain_is_refused() -> None:
    with pytest.raises(DomainError, match="void holds no image"):
        ArrayDomain("void", torch.zeros(0, 3, 16, 16, dtype=torch.uint8))


def test_labels_must_be_as_many_as_images() -> None:
    with pytest.raises(DomainError, match="2 images, but 3 labels"):
        ArrayDomain("odd", torch.zeros(2, 1, 16, 16, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    "labels", [torch.tensor([0.2, 1.7]), torch.tensor([0.0, float("nan")]), torch.eye(2, dtype=torch.int64)]
)
def test_labels_that_are_no_classes_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(DomainError, match=r"odd: labels must be N whole numbers, the classes, got torch\."):
        ArrayDomain("odd", torch.zeros(2, 1, 16, 16, dtype=torch.uint8), labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_of_any_whole_type_become_int64(dtype: torch.dtype) -> None:
    domain = ArrayDomain("odd", torch.zeros(2, 1, 16, 16, dtype=torch.uint8), torch.tensor([0, 1]).to(dtype))
    assert domain.require_labels().tolist() == [0, 1]
    assert domain.require_labels().dtype == torch.int64


def test_images_of_different_sizes_form_no_batch() -> None:
    with pytest.raises(DomainError, match=r"stripes: images of different sizes.*--size 64"):
        Stripes(None).images([0, 1])


def test_loading_in_memory_keeps_images_and_happens_once() -> None:
    loaded = load_in_memory(Stripes(20))
    assert loaded.images([2, 1]).shape == (2, 1, 16, 20)
    assert loaded.images([2, 1])[:, 0, 0, 0].tolist() == [2, 1]
    assert load_in_memory(loaded) is loaded


def test_domain_survives_pickle(numbered_domain: MakeDomain) -> None:
    again = pickle.loads(pickle.dumps(numbered_domain(4)))
    assert again.images([3])[0, 0, 0, 0] == 3


def test_a_fingerprint_tells_images_and_labels_apart(numbered_domain: MakeDomain) -> None:
    domain = numbered_domain(5)
    images, labels = domain.images(range(5)), domain.require_labels()
    assert ArrayDomain("other name", images, labels).fingerprint() == domain.fingerprint()
    swapped = ArrayDomain("swapped", images, labels.flip(0))
    assert swapped.fingerprint() != domain.fingerprint()
    assert swapped.fingerprint(labels=False) == domain.fingerprint(labels=False)
    others = {
        ArrayDomain("o", other).fingerprint() for other in (images, images.flip(0), 255 - images, images[..., 1:])
    }
    assert len(others) == 4
    assert Stripes(None).fingerprint() != Stripes(16).fingerprint()


def test_loading_in_memory_keeps_labels_and_class_names(numbered_domain: MakeDomain) -> None:
    domain = numbered_domain(12)
    loaded = load_in_memory(KeptDomain(domain, (1, 16, 16)))
    assert loaded.require_labels().tolist() == domain.require_labels().tolist()
    assert (loaded.name, loaded.class_names) == (domain.name, domain.class_names)
