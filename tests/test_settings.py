"""Which settings are numbers, and in what two documents of settings differ."""

from __future__ import annotations

import numpy as np
import pytest

from munitaug.settings import differences, is_number, is_whole_number


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (2, True, True),
        (np.int64(2), True, True),
        (2.0, True, False),
        (np.float32(2.0), True, False),
        (True, False, False),
        ("2", False, False),
        (None, False, False),
    ],
)
def test_numbers_are_pythons_and_numpys_but_no_truth_values(value: object, number: bool, whole: bool) -> None:
    assert (is_number(value), is_whole_number(value)) == (number, whole)


def test_each_setting_that_differs_has_a_line() -> None:
    present = {"seed": 0, "fit": {"steps": 3, "lr": 0.1}, "gone": 1}
    wanted = {"seed": 5, "fit": {"steps": 3, "lr": 0.2}, "came": None}
    assert differences(present, wanted) == ["fit.lr was 0.1, now 0.2", "gone was 1, now None", "seed was 0, now 5"]
    assert differences(present, present) == []
    assert differences({"a": 1}, {"a": 2}, "on rank 0", "on rank 1") == ["a on rank 0 1, on rank 1 2"]
