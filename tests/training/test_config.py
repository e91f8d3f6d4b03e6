"""Training settings, devices and precisions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from munitaug.training import TrainConfig, resolve_device
from munitaug.training.config import PrecisionChoice, resolve_precision

HALF: PrecisionChoice = "float16"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(max_steps=0), "max_steps must be at least 1, got 0"),
        (lambda: TrainConfig(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: TrainConfig(accumulate=0), "accumulate must be at least 1, got 0"),
        (
            lambda: TrainConfig(batch_size=6, accumulate=4),
            r"a batch of 6 images cannot be cut into 4 equal parts \(ranks: 1, accumulate: 4\); make batch_size a mul",
        ),
        (lambda: TrainConfig(log_every_steps=0), "log_every_steps must be at least 1"),
        (lambda: TrainConfig(save_every_steps=-5), "save_every_steps must be at least 1, got -5"),
        (lambda: TrainConfig(clip_norm=-1.0), "clip_norm must be at least 0, got -1.0"),
        (lambda: TrainConfig(workers=-1), "workers must be at least 0, got -1"),
        (lambda: TrainConfig(sample_every_steps=-1), "sample_every_steps must be at least 0"),
        (
            lambda: TrainConfig(precision=HALF),
            "precision must be one of auto, float32, bfloat16, got 'float16'",
        ),
        (lambda: TrainConfig(device="gpu"), 'device must be "auto", "cpu", "cuda" or "cuda:N", got \'gpu\''),
    ],
)
def test_settings_outside_their_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_is_cut_into_ranks_times_turns() -> None:
    config = TrainConfig(batch_size=24, accumulate=2)
    assert [config.turn_size(count) for count in (1, 2, 3, 4)] == [12, 6, 4, 3]
    with pytest.raises(ValueError, match=r"24 images cannot be cut into 10 equal parts \(ranks: 5, accumulate: 2\)"):
        config.turn_size(5)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for make in (lambda: TrainConfig(device="cuda:1"), lambda: resolve_device("cuda:1")):
        with pytest.raises(ValueError, match="'cuda:1' was asked for, but torch sees no GPU; use cpu"):
            make()


def test_a_gpu_is_not_touched_to_see_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are forked after it was could not use it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", None)
    assert [str(resolve_device(name)) for name in ("cuda", "cuda:1")] == ["cuda", "cuda:1"]
    with pytest.raises(ValueError, match="'cuda:2' was asked for, but torch sees 2 GPUs, from cuda:0; use cuda"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(("present", "expected"), [(False, "cpu"), (True, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, present: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize(
    ("precision", "device", "supported", "expected"),
    [
        ("auto", "cpu", True, torch.float32),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float32),
        ("float32", "cuda", True, torch.float32),
        ("bfloat16", "cpu", False, torch.bfloat16),
    ],
)
def test_precisions_are_resolved_for_the_device(
    monkeypatch: pytest.MonkeyPatch, precision: PrecisionChoice, device: str, supported: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolve_precision(precision, torch.device(device)) == expected
