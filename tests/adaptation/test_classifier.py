"""The classifiers: sizes, seeds, and models by name."""

from __future__ import annotations

import sys

import pytest
import torch

from munitaug.adaptation import SmallClassifier, build_classifier


def test_parameters_of_the_small_classifier_are_as_counted() -> None:
    convolutions = sum(9 * inside * outside + outside for inside, outside in ((1, 32), (32, 64), (64, 128)))
    norms = 2 * (32 + 64 + 128 + 128)
    linear = (512 * 128 + 128) + (128 * 10 + 10)
    counted = sum(parameter.numel() for parameter in SmallClassifier(1, 10).parameters())
    assert counted == convolutions + norms + linear


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (64, 64)])
def test_small_classifier_takes_any_size_from_16_px(size: tuple[int, int]) -> None:
    classifier = SmallClassifier(3, 7, width=4).eval()
    images = torch.rand(2, 3, *size)
    assert classifier(images).shape == (2, 7)
    assert classifier.features(images).shape == (2, 128)


def test_weights_are_a_function_of_the_seed() -> None:
    first, again, other = (build_classifier("lenet", 1, 4, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_building_a_classifier_draws_nothing_from_the_global_stream() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_classifier("lenet", 1, 4, 0)
    assert torch.equal(torch.rand(3), expected)


def test_timm_models_are_built_by_name() -> None:
    pytest.importorskip("timm")
    classifier = build_classifier("resnet10t", 1, 4, seed=0).eval()
    assert classifier(torch.rand(2, 1, 32, 32)).shape == (2, 4)


def test_unknown_classifier_is_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="classifier must be 'lenet' or a timm model, got 'lenett'"):
        build_classifier("lenett", 1, 4, seed=0)


def test_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install \"munitaug\[benchmarks\]\""):
        build_classifier("resnet18", 1, 4, seed=0)
