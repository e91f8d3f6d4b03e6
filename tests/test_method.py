"""The settings of the optimiser refuse what cannot work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from munitaug.method import OptimiserSettings
from munitaug.methods import Munit
from tests.tiny import TINY


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimiserSettings(lr=0.0), "lr must be above 0, got 0.0"),
        (lambda: OptimiserSettings(lr=float("nan")), "lr must be above 0, got nan"),
        (lambda: OptimiserSettings(ema_decay=1.0), r"ema_decay must be at least 0 and below 1, got 1.0"),
        (lambda: OptimiserSettings(ema_decay=-0.1), r"ema_decay must be at least 0 and below 1"),
        (lambda: OptimiserSettings(linear_decay_from=1.1), r"linear_decay_from must be 0 to 1, got 1.1"),
        (lambda: OptimiserSettings(halve_every_steps=-1), "halve_every_steps must be at least 0, got -1"),
        (lambda: OptimiserSettings(weight_decay=-1.0), "weight_decay must be at least 0, got -1.0"),
        (lambda: OptimiserSettings(betas=(0.5, 1.0)), r"betas must be two numbers in \[0, 1\), got \(0.5, 1.0\)"),
        (lambda: OptimiserSettings(betas=(0.5,)), "betas must be two numbers"),  # type: ignore[arg-type]
    ],
)
def test_settings_outside_their_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_method_is_its_own_core_and_needs_no_preparation() -> None:
    method = Munit(TINY)
    method.prepare(iter(()))
    assert method.core is method
    assert method.style_banks == {}
