"""Banks of styles by class, of labelled and of unlabelled images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from munitaug.methods import DistanceGan, Munit
from munitaug.recipes import class_bank
from munitaug.types import LabelMissingError
from tests.methods.cases import TINY_DISTANCE
from tests.runs import TINY_GREY, toy_domain

TRANSLATOR = Munit(TINY_GREY).eval().translator("a", "b")


class SeesTheCorner(nn.Module):
    """Sees in a toy image which corner is bright, as class 5, 6 or 7."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        corners = torch.stack([x[:, 0, 4, 4], x[:, 0, 4, 11], x[:, 0, 11, 4]], dim=1)
        return torch.cat([corners.new_full((len(x), 5), -9.0), corners], dim=1)


def code_of(domain_index: int) -> Tensor:
    image, _ = toy_domain()[domain_index]
    with torch.no_grad():
        code: Tensor = TRANSLATOR.encode_style(image.unsqueeze(0).float() / 127.5 - 1.0)[0]
    return code


def test_every_image_gives_its_code_to_its_class() -> None:
    bank = class_bank(TRANSLATOR, toy_domain(), batch_size=5)
    assert bank.labels.tolist() == [0, 1, 2] * 4
    for index in (0, 4, 11):
        torch.testing.assert_close(bank.codes[index], code_of(index), atol=1e-5, rtol=1e-4)


def test_a_classifier_stands_in_for_labels() -> None:
    bank = class_bank(TRANSLATOR, toy_domain(labelled=False), classifier=SeesTheCorner(), batch_size=5)
    assert bank.labels.tolist() == [5, 6, 7] * 4
    drawn = bank.sample_for(torch.tensor([6]), 50, torch.Generator().manual_seed(0))[0]
    own = torch.stack([code_of(index) for index in (1, 4, 7, 10)])
    assert torch.cdist(drawn, own).min(dim=1).values.max() < 1e-3


def test_labels_are_not_read_beside_a_classifier() -> None:
    bank = class_bank(TRANSLATOR, toy_domain(labelled=True), classifier=SeesTheCorner())
    assert set(bank.labels.tolist()) == {5, 6, 7}


def test_unlabelled_images_need_a_classifier() -> None:
    with pytest.raises(LabelMissingError, match="toy has no labels; give classifier="):
        class_bank(TRANSLATOR, toy_domain(labelled=False))


def test_a_translator_without_styles_is_refused() -> None:
    translator = DistanceGan(replace(TINY_DISTANCE, channels=1)).eval().translator("a", "b")
    with pytest.raises(ValueError, match="train a multimodal method"):
        class_bank(translator, toy_domain())
