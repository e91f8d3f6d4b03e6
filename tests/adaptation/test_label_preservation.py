"""Labels that survive translation: counts by hand, and variants whose class is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation.label_preservation import Confusion, classes_seen, classes_seen_in_variants
from munitaug.data.domain import ArrayDomain
from munitaug.styles import BankStyles, PriorStyles
from munitaug.translator import Translator
from munitaug.types import Content

COUNTS = Confusion(((3, 1, 0), (2, 2, 2), (0, 0, 0)))


class SeesThirds(nn.Module):
    """Sees class 0, 1 or 2 in dark, grey and bright images; keeps the shapes that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape[1:]))
        level = x.mean(dim=(1, 2, 3)) - self.middle
        return torch.stack([-level - 1 / 3, -level.abs(), level - 1 / 3], dim=1)


class Brightens(Translator):
    """Adds the style's number to an image."""

    def __init__(self) -> None:
        super().__init__(channels=1, size_multiple=1, style_dim=1)

    def encode_content(self, x: Tensor) -> Content:
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return content + style.view(-1, 1, 1, 1)

    def encode_style(self, y: Tensor) -> Tensor:
        raise NotImplementedError


def flat_domain(*levels: int) -> ArrayDomain:
    return ArrayDomain("flat", torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 16, 16))


def test_counts_are_those_of_a_loop() -> None:
    labels, seen = torch.randint(0, 4, (50,)), torch.randint(0, 4, (50,))
    expected = [[0] * 4 for _ in range(4)]
    for label, other in zip(labels.tolist(), seen.tolist(), strict=True):
        expected[label][other] += 1
    assert [list(row) for row in Confusion.of(labels, seen, 4).counts] == expected


def test_shares_are_of_all_and_of_each_class() -> None:
    assert (COUNTS.total, COUNTS.kept, COUNTS.percent) == (10, 5, 50.0)
    assert [COUNTS.class_percent(0), COUNTS.class_percent(1)] == pytest.approx([75.0, 100.0 / 3])
    assert math.isnan(COUNTS.class_percent(2))
    assert math.isnan(Confusion(((0,),)).percent)


def test_the_usual_mistake_is_the_first_of_the_most_frequent() -> None:
    assert [COUNTS.usual_mistake(label) for label in range(3)] == [1, 0, None]
    assert Confusion(((7,),)).usual_mistake(0) is None


def test_counts_must_be_square() -> None:
    with pytest.raises(ValueError, match=r"square, got rows of \[2, 1\]"):
        Confusion(((1, 2), (3,)))


def test_images_are_seen_in_the_channels_of_the_classifier() -> None:
    judge = SeesThirds()
    assert classes_seen(judge, flat_domain(0, 128, 255, 10).images(range(4)), 3).tolist() == [0, 1, 2, 0]
    assert judge.shapes == [(3, 16, 16)]


@pytest.mark.parametrize(("style", "seen"), [(0.0, [0, 1, 2]), (1.0, [1, 2, 2]), (-1.0, [0, 0, 1])])
def test_variants_are_seen_as_what_they_became(style: float, seen: list[int]) -> None:
    found = classes_seen_in_variants(
        Brightens(),
        SeesThirds(),
        flat_domain(0, 128, 255),
        styles=BankStyles(torch.tensor([[style]])),
        variants=2,
        channels=1,
        seed=0,
    )
    assert found.tolist() == [[label, label] for label in seen]


def test_variants_depend_on_seed_and_image_and_not_on_the_batch() -> None:
    def seen(seed: int, batch_size: int) -> list[list[int]]:
        return classes_seen_in_variants(
            Brightens(),
            SeesThirds(),
            flat_domain(*[128] * 20),
            styles=PriorStyles(1),
            variants=4,
            channels=1,
            seed=seed,
            batch_size=batch_size,
        ).tolist()

    whole = seen(0, 20)
    assert whole == seen(0, 7) == seen(0, 1)
    assert whole != seen(1, 20)
    assert len({tuple(row) for row in whole}) > 1
