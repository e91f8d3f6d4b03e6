"""Reading other projects' weights: tensors only, copied by name, and what is refused."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from munitaug.interop.weights import as_weights, copy_weights, count_layers, described, read_torch_file, size_of
from munitaug.types import CheckpointError


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.marker), os.O_CREAT | os.O_WRONLY)


class Network(nn.Module):
    """Stands for a whole network that somebody saved."""


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_numbers_and_text_are_read(tmp_path: Path, zipped: bool) -> None:
    content = {"a": OrderedDict(weight=torch.arange(3.0)), "step": 7, "name": "run"}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "x.pt")
    assert isinstance(found, dict)
    assert torch.equal(found["a"]["weight"], torch.tensor([0.0, 1.0, 2.0]))
    assert (found["step"], found["name"]) == (7, "run")


@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_that_would_run_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": Harmful(tmp_path / "marker")}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"it holds a \w+\.open\).* munitaug reads tensors only"):
        read_torch_file(tmp_path / "x.pt")
    assert not (tmp_path / "marker").exists()


def test_a_whole_network_is_refused_and_the_way_out_named(tmp_path: Path) -> None:
    torch.save(Network(), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"Network\).* save the network's state_dict\(\) alone"):
        read_torch_file(tmp_path / "x.pt")


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_a_damaged_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.pt"
    torch.save({"weight": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cannot be read as tensors .it may be damaged"):
        read_torch_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gen\.pt does not exist"):
        read_torch_file(tmp_path / "gen.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "it is a list"),
        ({}, "it is empty"),
        ({"a": {"b": 1}}, "a is no tensor"),
        ({str(n): n for n in range(5)}, "0, 1, 2 and 2 more is no tensor"),
        ({3: torch.zeros(1)}, "3 is no tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"x.pt should be a state_dict.* {message}"):
        as_weights(content, "x.pt")


def test_a_file_is_described_by_the_names_in_it() -> None:
    assert described({"model.1.weight": 0}) == "a CycleGAN or CUT network (format cyclegan or cut)"
    assert described({"x": 0, "y": 0}) == "a dict of x, y"
    assert described(3.0) == "a float"


def test_layers_are_counted_from_0_without_a_gap() -> None:
    weights = {f"layers.{n}.weight": torch.zeros(1) for n in (0, 1, 3)}
    assert count_layers(weights, "layers.{}.weight") == 2
    assert count_layers(weights, "other.{}.weight") == 0


def test_a_side_of_a_weight_is_given_or_refused() -> None:
    weights = {"first": torch.zeros(2, 5)}
    assert size_of(weights, "first", 1, "x.pt") == 5
    with pytest.raises(CheckpointError, match=r"x\.pt: first has 2 sides, at least 3 are needed"):
        size_of(weights, "first", 2, "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt has no second: it is a dict of first"):
        size_of(weights, "second", 0, "x.pt")


NAMES = {"weight": "fc.w", "bias": "fc.b"}


def test_weights_are_copied_by_name_into_float32() -> None:
    layer = nn.Linear(2, 1)
    copy_weights(layer, {"fc.b": torch.tensor([3.0]).half(), "fc.w": torch.tensor([[1.0, 2.0]]).half()}, NAMES, "x.pt")
    assert layer.weight.tolist() == [[1.0, 2.0]]
    assert layer.bias.tolist() == [3.0]
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fc.w": torch.zeros(1, 2)}, "x.pt lacks fc.b"),
        ({"fc.w": torch.zeros(1, 2), "fc.b": torch.zeros(1), "fc.c": torch.zeros(1)}, "x.pt has fc.c too"),
        ({"fc.w": torch.zeros(2, 1), "fc.b": torch.zeros(1)}, "fc.w is 2 x 1, but 1 x 2 was expected"),
        ({"fc.w": torch.zeros(()), "fc.b": torch.zeros(1)}, "fc.w is a number, but 1 x 2 was expected"),
        ({"fc.w": torch.zeros(1, 2), "fc.b": torch.tensor([torch.nan])}, "x.pt: fc.b has numbers that are not finite"),
    ],
)
def test_weights_without_a_partner_are_refused(weights: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        copy_weights(nn.Linear(2, 1), weights, NAMES, "x.pt")


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(100_000)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"bomb\.pt holds packed entries .* as torch\.save never makes"):
        read_torch_file(tmp_path / "bomb.pt")


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="x claims 1000000 x 1000000 numbers, which the file does not hold"):
        as_weights(read_torch_file(tmp_path / "x.pt"), "x.pt")


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: weight claims 3 x 3 numbers, which the file does not hold"):
        as_weights(read_torch_file(tmp_path / "x.pt"), "x.pt")
