"""A checkpoint as a graph for deployment.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from pathlib import Path

from munitaug._version import __version__
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, read_index, shared_translator
from munitaug.default_device import on_cpu_by_default
from munitaug.interop.export import ExportFacts, GraphFormat, export_graph
from munitaug.settings import whole_number
from munitaug.translator import Translator

ENDINGS: dict[str, GraphFormat] = {".onnx": "onnx", ".pt2": "torch-export"}


@on_cpu_by_default
def export_translator(
    checkpoint: str | Path | Translator,
    out: str | Path,
    *,
    size: int | tuple[int, int],
    format: GraphFormat | None = None,
    direction: str = "a2b",
    overwrite: bool = False,
) -> ExportFacts:
    """Writes a translator as an ONNX or torch.export graph, tried against PyTorch before it is kept.

    The graph takes ``images`` N x C x H x W, float32 in [-1, 1], and ``style`` N x K x S, and gives N x K x C x H x W
    in [-1, 1]; N and K are dynamic, H and W are fixed. Draw style from a standard normal for the prior's styles. A
    translator without styles takes images alone and gives N x C x H x W. Version, method, direction, sizes and the
    checkpoint's SHA-256 are kept in the file.

    Args:
        checkpoint: checkpoint or run folder, or a translator.
        out: the file, .onnx or .pt2.
        size: of the images in px: one side, or (height, width), from 16 up.
        format: "onnx" or "torch-export"; None goes by the file's ending.
        direction: "a2b" or "b2a"; ignored for a Translator.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FileExistsError: ``out`` exists.
        ImportError: a package of the extra "export" is missing.
        TypeError: a side is no whole number.
        ValueError: unknown format or direction, a file called as one of the other format, too
            small a size, or a graph that differs by more than 1e-4.
    """
    chosen = _format_of(Path(out), format)
    height, width = size if isinstance(size, tuple) else (size, size)
    sides = whole_number("size", height), whole_number("size", width)
    facts: dict[str, object] = {"munitaug": __version__}
    if isinstance(checkpoint, Translator):
        translator = checkpoint
    else:
        translator = shared_translator(checkpoint, direction)
        facts |= {
            "method": read_index(find_checkpoint(checkpoint))["method"],
            "direction": direction,
            "checkpoint_sha256": checkpoint_sha256(checkpoint),
        }
    facts |= {
        "channels": translator.channels,
        "style_dim": translator.style_dim,
        "height": sides[0],
        "width": sides[1],
        "range": "[-1, 1]",
    }
    return export_graph(
        translator, Path(out).expanduser(), format=chosen, size=sides, metadata=facts, overwrite=overwrite
    )


def _format_of(file: Path, format: GraphFormat | None) -> GraphFormat:
    """Gives the format that was asked for, or that the ending means.

    Raises:
        ValueError: the ending means the other format, or nothing.
    """
    meant = ENDINGS.get(file.suffix.lower())
    if format is None and meant is None:
        raise ValueError(f"{file} should end in {' or '.join(ENDINGS)}, or a format be given")
    if format in ENDINGS.values() and meant not in (None, format):
        raise ValueError(f"a file of the format {format} should not end in {file.suffix}, which means {meant}")
    return format or meant or "onnx"
