"""Which settings are numbers, which of them are refused, and in what two documents of settings differ."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest

from munitaug.settings import ODD, POSITIVE, Limits, check_settings, differences, is_number, is_whole_number


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


@dataclass(frozen=True)
class Settings:
    width: int = 4
    kernel: int = 3
    warm_up: int = 0
    weight: float = 0.0
    lr: float = 0.1
    decay: float = 0.5
    flip: bool = False
    loss: Literal["lsgan", "hinge"] = "lsgan"
    levels: tuple[int, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        few = Limits(0, 3, because="so that it ends")
        check_settings(self, kernel=ODD, warm_up=few, lr=POSITIVE, decay=Limits(0, below=1))


@pytest.mark.parametrize(
    "taken",
    [
        {"width": 1, "kernel": 1, "weight": 0, "lr": 1e-9},
        {"width": np.int64(2), "weight": np.float32(0.5), "decay": 0.999, "warm_up": 3},
        {"loss": "hinge", "flip": True, "levels": (-1,), "note": ""},
    ],
)
def test_what_lies_within_the_limits_is_taken(taken: dict[str, Any]) -> None:
    assert vars(Settings(**taken)) == vars(Settings()) | taken


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 0, "width must be at least 1, got 0"),
        ("width", 2.0, "width must be a whole number, got 2.0"),
        ("width", True, "width must be a whole number, got True"),
        ("kernel", 4, "kernel must be odd and at least 1, got 4"),
        ("kernel", -1, "kernel must be odd and at least 1, got -1"),
        ("warm_up", 4, "warm_up must be 0 to 3, so that it ends, got 4"),
        ("weight", -0.1, "weight must be at least 0, got -0.1"),
        ("weight", math.nan, "weight must be at least 0, got nan"),
        ("weight", math.inf, "weight must be at least 0, got inf"),
        ("weight", "1", "weight must be a number, got '1'"),
        ("lr", 0.0, "lr must be above 0, got 0.0"),
        ("decay", 1.0, "decay must be at least 0 and below 1, got 1.0"),
        ("flip", "false", "flip must be true or false, got 'false'"),
        ("loss", "wgan", "loss must be one of lsgan, hinge, got 'wgan'"),
    ],
)
def test_what_lies_outside_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(Settings(), **{field: value})
