"""Arguments of the front ends: what they become, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from munitaug.transforms.arguments import (
    check_device,
    check_direction,
    check_keep_original,
    check_probability,
    check_strength,
    check_variants,
    plain_strength,
)


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        (1.0, (1.0, 1.0)),
        (0, (0.0, 0.0)),
        ((0.25, 0.5), (0.25, 0.5)),
        ([0.0, 1], (0.0, 1.0)),
        (np.float32(0.5), (0.5, 0.5)),
    ],
)
def test_strength_is_two_ends(given: Any, ends: tuple[float, float]) -> None:
    assert check_strength(given) == ends


def test_strength_is_written_as_it_was_given() -> None:
    assert plain_strength((0.5, 0.5)) == 0.5
    assert plain_strength((0.25, 0.5)) == [0.25, 0.5]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, (0.5, 0.2), (0.0, 2.0), float("nan")])
def test_strength_outside_its_range_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\]"):
        check_strength(wrong)


@pytest.mark.parametrize("wrong", ["half", "ab", None, (0.1, 0.2, 0.3), (0.5, None), True, {0.1, 0.2}])
def test_strength_of_a_wrong_type_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="strength must be a number"):
        check_strength(wrong)


def test_numbers_of_numpy_are_numbers() -> None:
    assert type(check_variants(np.int64(2))) is int  # type: ignore[arg-type]
    assert type(check_probability(np.float32(0.5))) is float  # type: ignore[arg-type]
    assert [type(end) for end in check_strength((np.float32(0.25), 1))] == [float, float]  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["0.5", None, (0.5,), True])
def test_probability_of_a_wrong_type_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="p must be a number in"):
        check_probability(wrong)


@pytest.mark.parametrize("wrong", [2, 0, 1.0, "yes", None])
def test_keeping_the_original_is_yes_or_no(wrong: Any) -> None:
    with pytest.raises(TypeError, match="keep_original must be True or False"):
        check_keep_original(wrong)


def test_a_gpu_that_is_not_there_is_refused_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' was asked for, but torch sees no GPU; use cpu"):
        check_device("cuda")
    with pytest.raises(ValueError, match='device must be "auto", "cpu"'):
        check_device("gpu")
    assert check_device("auto") == check_device("cpu") == torch.device("cpu")


def test_weights_of_a_mix_sum_to_one() -> None:
    assert check_direction({"a2b": 3, "b2a": 1}) == {"a2b": 0.75, "b2a": 0.25}
    assert check_direction("b2a") == "b2a"


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_not_positive_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"must be positive, got .* for b2a"):
        check_direction({"a2b": 1.0, "b2a": weight})


def test_other_mixes_are_refused() -> None:
    with pytest.raises(ValueError, match="the mix of directions is empty"):
        check_direction({})
    with pytest.raises(ValueError, match='direction must be "a2b" or "b2a"'):
        check_direction({"a2c": 1.0})
    for wrong in (["a2b"], 7, {"a2b": "much"}):
        with pytest.raises(TypeError, match="or a mix such as"):
            check_direction(wrong)  # type: ignore[arg-type]
