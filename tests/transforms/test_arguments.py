"""Arguments of the front ends: what they become, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from munitaug.transforms.arguments import check_direction, check_strength, plain_strength


@pytest.mark.parametrize(
    ("given", "ends"), [(1.0, (1.0, 1.0)), (0, (0.0, 0.0)), ((0.25, 0.5), (0.25, 0.5)), ([0.0, 1], (0.0, 1.0))]
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
