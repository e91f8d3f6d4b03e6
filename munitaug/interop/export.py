"""A translator as a graph for other runtimes: ONNX, or torch.export.

Floor 5: imports floors 1-4; onnx, onnxscript and onnxruntime where a graph of theirs is made and tried.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from munitaug.files import only_writer_of, refuse_existing, replacing
from munitaug.images import crop_padding, pad_to_multiple
from munitaug.translator import Translator
from munitaug.types import MIN_SIDE

GraphFormat = Literal["onnx", "torch-export"]
TOLERANCE = 1e-4
EXAMPLE = (2, 3)
"""Images and variants the graph is traced with; both stay dynamic."""
TRIED = ((1, 1), (3, 2))
"""Images and variants the written graph is tried with."""
METADATA_FILE = "munitaug.json"


@dataclass(frozen=True)
class ExportFacts:
    """What was written.

    Args:
        path: of the file.
        format: "onnx" or "torch-export".
        size: height and width in px that the graph takes.
        inputs: names of the graph's inputs.
        largest_difference: between the graph's images and PyTorch's, in units of [-1, 1].
    """

    path: Path
    format: GraphFormat
    size: tuple[int, int]
    inputs: tuple[str, ...]
    largest_difference: float


class TranslatorGraph(nn.Module):
    """(images, style) -> translations, as one graph without loops that depend on the data.

    images: N x C x H x W in [-1, 1], style: N x K x S -> N x K x C x H x W in [-1, 1]. N and K may be any number from 1
    up, H and W are fixed when the graph is made. A translator without styles takes images alone and gives
    N x C x H x W.
    """

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, images: Tensor, style: Tensor | None = None) -> Tensor:
        """Gives the translations."""
        padded, padding = pad_to_multiple(images, self.translator.size_multiple)
        content = self.translator.encode_content(padded)
        if style is None:
            without = images.new_zeros((images.shape[0], 0))
            return crop_padding(self.translator.decode(content, without), padding)
        variants = style.shape[1]
        parts = content if isinstance(content, tuple) else (content,)
        repeated = tuple(
            part.unsqueeze(1).expand(-1, variants, *([-1] * (part.ndim - 1))).flatten(0, 1) for part in parts
        )
        decoded = self.translator.decode(repeated if isinstance(content, tuple) else repeated[0], style.flatten(0, 1))
        images_out = crop_padding(decoded, padding)
        return images_out.reshape(images.shape[0], variants, *images_out.shape[1:])


def export_graph(
    translator: Translator,
    path: Path,
    *,
    format: GraphFormat,
    size: tuple[int, int],
    metadata: Mapping[str, object],
    overwrite: bool = False,
) -> ExportFacts:
    """Writes a translator as a graph, tries the file against PyTorch, and gives what was written.

    Args:
        translator: in evaluation mode, on the CPU.
        path: of the file; a file that fails the trial is removed.
        format: "onnx" (opset of the installed torch, read back by onnxruntime) or "torch-export" (.pt2).
        size: height and width in px, from 16 up.
        metadata: JSON values to keep in the file.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: the file exists.
        ImportError: a package is missing.
        ValueError: unknown format, too small a size, or a graph that does not give what PyTorch gives.
    """
    if format not in get_args(GraphFormat):
        raise ValueError(f"format must be one of {', '.join(get_args(GraphFormat))}, got {format!r}")
    if min(size) < MIN_SIDE:
        raise ValueError(f"size must be at least {MIN_SIDE} px, got {size[1]} x {size[0]}")
    refuse_existing(path, overwrite)
    graph = TranslatorGraph(translator).eval()
    write = _write_onnx if format == "onnx" else _write_torch_export
    with only_writer_of(path), replacing(path) as temporary:
        refuse_existing(path, overwrite)  # again: another process may have written it till now
        run = write(graph, temporary, size, metadata)
        difference = max(_difference(graph, run, size, count, variants) for count, variants in TRIED)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported graph differs from PyTorch by {difference:.1e}, more than {TOLERANCE:.0e}; nothing was "
                "kept. Try the other format, or another version of torch"
            )
    inputs = ("images", "style") if translator.style_dim else ("images",)
    return ExportFacts(path, format, size, inputs, difference)


def _example(graph: TranslatorGraph, size: tuple[int, int], count: int, variants: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    translator = graph.translator
    images = torch.rand(count, translator.channels, *size, generator=generator) * 2.0 - 1.0
    if translator.style_dim == 0:
        return (images,)
    return images, torch.randn(count, variants, translator.style_dim, generator=generator)


def _dynamic_shapes(graph: TranslatorGraph) -> dict[str, dict[int, torch.export.Dim]]:
    count, variants = torch.export.Dim("N"), torch.export.Dim("K")
    images = {"images": {0: count}}
    return images | {"style": {0: count, 1: variants}} if graph.translator.style_dim else images


@torch.no_grad()
def _difference(
    graph: TranslatorGraph, run: Callable[..., Tensor], size: tuple[int, int], count: int, variants: int
) -> float:
    inputs = _example(graph, size, count, variants)
    expected, found = graph(*inputs), run(*inputs)
    return float((expected - found).abs().max()) if expected.shape == found.shape else float("inf")


def _write_torch_export(
    graph: TranslatorGraph, path: Path, size: tuple[int, int], metadata: Mapping[str, object]
) -> Callable[..., Tensor]:
    with torch.no_grad():
        program = torch.export.export(graph, _example(graph, size, *EXAMPLE), dynamic_shapes=_dynamic_shapes(graph))
    held = io.BytesIO()  # torch ends the whole process where a file cannot be written to its end
    torch.export.save(program, held, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    path.write_bytes(held.getbuffer())
    with open(path, "rb") as file:
        loaded: Callable[..., Tensor] = torch.export.load(file).module()
    return loaded


def _write_onnx(
    graph: TranslatorGraph, path: Path, size: tuple[int, int], metadata: Mapping[str, object]
) -> Callable[..., Tensor]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it and says so less clearly
    except ImportError as error:
        raise ImportError('export to ONNX needs: pip install "munitaug[export]"') from error
    shapes = _dynamic_shapes(graph)
    names = list(shapes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of onnxscript's own deprecations
        program = torch.onnx.export(
            graph,
            _example(graph, size, *EXAMPLE),
            dynamo=True,
            input_names=names,
            output_names=["translations"],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"munitaug.{key}", value if isinstance(value, str) else json.dumps(value)
    onnx.save_model(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feeds)[0])

    return run
