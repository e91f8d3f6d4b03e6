"""Files of tensors: what comes back, and that no bit of it can change unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from munitaug.tensor_files import load_tensors, save_tensors
from munitaug.types import CheckpointError

TENSORS = {
    "matrix": torch.arange(6.0).view(2, 3),
    "number": torch.tensor(3),
    "nothing": torch.zeros(0, 4),
    "short": torch.tensor([0.1, -2.0], dtype=torch.bfloat16),
    "turned": torch.arange(6).view(2, 3).T,
    "yes": torch.tensor([True, False]),
}
FACTS = {"step": "3", "words": "é \n"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "folder" / "file.safetensors", TENSORS, FACTS)
    return tmp_path / "folder" / "file.safetensors"


def test_tensors_and_facts_come_back(path: Path) -> None:
    tensors, facts = load_tensors(path, FACTS)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    facts = FACTS | {"quote": '"\\/', "é": "\x00\t\x7f", "b": ""}
    files = [tmp_path / f"{index}.safetensors" for index in range(12)]
    for file in files:
        save_tensors(file, TENSORS, facts)
        assert load_tensors(file, facts)[1] == facts
    assert {file.read_bytes() for file in files} == {files[0].read_bytes()}


def test_every_changed_byte_is_noticed_or_changes_nothing(path: Path) -> None:
    content, noticed = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        try:
            tensors, facts = load_tensors(path, FACTS)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            noticed += 1
        else:
            assert facts == FACTS
            assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert noticed > 0.9 * len(content)


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"file\.safetensors is not a whole file of tensors"):
        load_tensors(path, FACTS)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    save_file({"x": torch.ones(3)}, tmp_path / "old", {"step": "3"})
    tensors, facts = load_tensors(tmp_path / "old", ("step",))
    assert tensors["x"].tolist() == [1.0, 1.0, 1.0]
    assert facts == {"step": "3"}


def test_a_name_of_the_checksum_that_was_changed_does_not_switch_it_off(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"content_sha256", b"content_sha257"))
    with pytest.raises(CheckpointError, match="does not have the SHA-256 that it states"):
        load_tensors(path, FACTS)


def test_another_type_of_the_same_bytes_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    assert b'"dtype":"F32"' in content
    path.write_bytes(content.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    with pytest.raises(CheckpointError, match="does not have the SHA-256 that it states"):
        load_tensors(path, FACTS)
