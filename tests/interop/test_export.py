"""Graphs for other runtimes: what is written gives what PyTorch gives, for any number of images and variants."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import munitaug
from munitaug.interop import export
from munitaug.interop.export import TranslatorGraph, export_graph
from munitaug.methods import DistanceGan, Munit
from munitaug.translator import Translator
from tests.methods.cases import TINY_DISTANCE
from tests.tiny import TINY


def munit(kernel: int = 3, channels: int = 1) -> Translator:
    return (
        Munit(replace(TINY, channels=channels, upsample_kernel=kernel))
        .eval()
        .translator("a", "b")
        .requires_grad_(False)
    )


def one_to_one() -> Translator:
    return DistanceGan(replace(TINY_DISTANCE, channels=1)).eval().translator("a", "b").requires_grad_(False)


@pytest.mark.parametrize("size", [(16, 16), (17, 30)])
def test_the_graph_gives_what_translate_gives(size: tuple[int, int]) -> None:
    translator = munit()
    images, style = torch.rand(2, 1, *size) * 2 - 1, torch.randn(2, 3, TINY.style_dim)
    torch.testing.assert_close(
        TranslatorGraph(translator)(images, style), translator.translate(images, style), atol=1e-5, rtol=1e-4
    )


def test_without_styles_the_graph_takes_images_alone() -> None:
    translator, images = one_to_one(), torch.rand(2, 1, 18, 16) * 2 - 1
    expected = translator.translate(images, torch.zeros(2, 1, 0)).squeeze(1)
    torch.testing.assert_close(TranslatorGraph(translator)(images), expected)


@pytest.mark.parametrize("kernel", [3, 5])
def test_torch_export_takes_other_numbers_of_images_and_variants(kernel: int, tmp_path: Path) -> None:
    translator, path = munit(kernel), tmp_path / "graph.pt2"
    facts = export_graph(translator, path, format="torch-export", size=(16, 20), metadata={"method": "munit"})
    assert (facts.inputs, facts.size) == (("images", "style"), (16, 20))
    assert facts.largest_difference <= 1e-5
    kept = {"munitaug.json": ""}
    with open(path, "rb") as file:
        module = torch.export.load(file, extra_files=kept).module()
    assert json.loads(kept["munitaug.json"]) == {"method": "munit"}
    images, style = torch.rand(5, 1, 16, 20) * 2 - 1, torch.randn(5, 4, TINY.style_dim)
    torch.testing.assert_close(module(images, style), translator.translate(images, style), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
def test_onnx_takes_other_numbers_of_images_and_variants(kernel: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    translator, path = munit(kernel), tmp_path / "graph.onnx"
    facts = export_graph(translator, path, format="onnx", size=(16, 16), metadata={"style_dim": 3, "method": "munit"})
    assert facts.largest_difference <= 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"munitaug.style_dim": "3", "munitaug.method": "munit"}
    images, style = torch.rand(5, 1, 16, 16) * 2 - 1, torch.randn(5, 4, TINY.style_dim)
    (found,) = session.run(None, {"images": images.numpy(), "style": style.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), translator.translate(images, style), atol=1e-4, rtol=1e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["graph.onnx"]


def test_a_graph_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(graph: TranslatorGraph, path: Path, *others: Any) -> Any:
        path.write_bytes(b"graph")
        return lambda images, style: graph(images, style) + 1e-3

    monkeypatch.setattr(export, "_write_onnx", write)
    with pytest.raises(ValueError, match=r"differs from PyTorch by 1.0e-03, more than 1e-04; nothing was kept"):
        export_graph(munit(), tmp_path / "graph.onnx", format="onnx", size=(16, 16), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(graph: TranslatorGraph, path: Path, *others: Any) -> Any:
        path.write_bytes(b"graph")
        return lambda images, style: graph(images, style)[:, :1].squeeze(1)

    monkeypatch.setattr(export, "_write_torch_export", write)
    with pytest.raises(ValueError, match="differs from PyTorch by inf"):
        export_graph(munit(), tmp_path / "graph.pt2", format="torch-export", size=(16, 16), metadata={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "tflite"}, "format must be one of onnx, torch-export"),
        ({"size": (8, 16)}, "at least 16 px, got 16 x 8"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"format": "onnx", "size": (16, 16), "metadata": {}}
    with pytest.raises(ValueError, match=message):
        export_graph(munit(), tmp_path / "graph.onnx", **(arguments | changes))


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("graph.pt2", "onnx", r"format onnx should not end in \.pt2, which means torch-export"),
        ("graph.ONNX", "torch-export", r"format torch-export should not end in \.ONNX, which means onnx"),
        ("graph.bin", None, r"graph\.bin should end in \.onnx or \.pt2, or a format be given"),
        ("graph.pt2", "tflite", "format must be one of onnx, torch-export, got 'tflite'"),
    ],
)
def test_a_file_is_not_called_as_one_of_the_other_format(tmp_path: Path, name: str, format: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        munitaug.export_translator(munit(), tmp_path / name, size=16, format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "format"), [("graph.onnx", "onnx"), ("graph.pt2", "torch-export")])
def test_the_ending_says_the_format(tmp_path: Path, name: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(graph: TranslatorGraph, path: Path, *others: Any) -> Any:
        path.write_bytes(b"graph")
        return graph

    monkeypatch.setattr(export, "_write_onnx" if format == "onnx" else "_write_torch_export", write)
    assert munitaug.export_translator(munit(), tmp_path / name, size=16).format == format


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already .* or overwrite it"):
        munitaug.export_translator(munit(), path, size=16)
    assert path.read_text() == "mine"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"munitaug\[export\]"):
        export_graph(munit(), tmp_path / "graph.onnx", format="onnx", size=(16, 16), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_says_in_the_graph_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = munitaug.save(Munit(replace(TINY, channels=1)), tmp_path / "checkpoint")
    seen: dict[str, Any] = {}

    def write(graph: TranslatorGraph, path: Path, size: tuple[int, int], metadata: dict[str, Any]) -> Any:
        seen.update(metadata)
        path.write_bytes(b"graph")

        def run(*inputs: Tensor) -> Tensor:
            out: Tensor = graph(*inputs)
            return out

        return run

    monkeypatch.setattr(export, "_write_onnx", write)
    facts = munitaug.export_translator(folder, tmp_path / "deep" / "graph.onnx", size=(16, 20), direction="b2a")
    assert facts.path.read_bytes() == b"graph"
    assert (seen["method"], seen["direction"], seen["height"], seen["width"]) == ("munit", "b2a", 16, 20)
    assert len(seen["checkpoint_sha256"]) == 64
