"""State files: whole or refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from munitaug import tensor_files
from munitaug.training.state import load_state, optimiser_tensors, restore_optimiser, save_state
from munitaug.types import CheckpointError

TENSORS = {"method/x": torch.arange(6.0).view(2, 3), "optimiser/g/0/step": torch.tensor(3.0)}


def test_tensors_and_step_come_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.safetensors"
    save_state(path, TENSORS, 17)
    tensors, step = load_state(path)
    assert step == 17
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in TENSORS.items())
    assert os.listdir(path.parent) == ["state.safetensors"]


def test_a_half_written_successor_does_not_disturb(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, TENSORS, 17)
    path.with_name("state.safetensors.tmp").write_bytes(path.read_bytes()[:50])
    assert load_state(path)[1] == 17
    save_state(path, TENSORS, 18)
    assert load_state(path)[1] == 18


@pytest.mark.parametrize("where", ["save_file", "replace", "fsync"])
def test_a_failing_save_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, TENSORS, 17)

    def fail(*arguments: object) -> None:
        if where == "save_file":
            Path(str(arguments[1])).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(tensor_files if where == "save_file" else os, where, fail)
    with pytest.raises(OSError, match="no space left"):
        save_state(path, TENSORS, 18)
    monkeypatch.undo()
    assert load_state(path)[1] == 17
    assert os.listdir(tmp_path) == ["state.safetensors"]


def test_a_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no state file .* start without --resume"):
        load_state(tmp_path / "state.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_state_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, TENSORS, 17)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is not a whole state file"):
        load_state(path)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(marker), "w")

    path = tmp_path / "state.safetensors"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="is not a whole state file"):
        load_state(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "is no munitaug state version"),
        ({"format": "other", "format_version": "1", "step": "3"}, "is other version 1, this munitaug reads"),
        ({"format": "munitaug-state", "format_version": "2", "step": "3"}, "munitaug-state version 2"),
        ({"format": "munitaug-state", "format_version": "1"}, "does not say after which step"),
        ({"format": "munitaug-state", "format_version": "1", "step": "-3"}, "does not say after which step"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    path = tmp_path / "state.safetensors"
    save_file(TENSORS, path, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_state(path)


def adam_steps(weight: nn.Parameter, optimiser: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        gradient = torch.empty_like(weight)
        gradient.copy_(torch.randn(weight.shape, generator=generator))
        weight.grad = gradient
        optimiser.step()


def fresh(layout: torch.memory_format) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    values = torch.linspace(-1, 1, 4 * 3 * 5 * 5).view(4, 3, 5, 5)
    weight = nn.Parameter(values.contiguous(memory_format=layout))
    return weight, torch.optim.Adam([weight], lr=0.1, fused=True)


def whole_run(layout: torch.memory_format) -> Tensor:
    weight, optimiser = fresh(layout)
    adam_steps(weight, optimiser, 0, 6)
    return weight.detach()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_restored_optimiser_goes_on_exactly_in_either_memory_order(
    tmp_path: Path, layout: torch.memory_format
) -> None:
    weight, optimiser = fresh(layout)
    adam_steps(weight, optimiser, 0, 3)
    save_state(tmp_path / "s", optimiser_tensors("optimiser/g", optimiser), 3)
    resumed, second = fresh(layout)
    with torch.no_grad():
        resumed.copy_(weight)
    restore_optimiser("optimiser/g", second, load_state(tmp_path / "s")[0])
    adam_steps(resumed, second, 3, 6)
    assert torch.equal(resumed, whole_run(layout))
