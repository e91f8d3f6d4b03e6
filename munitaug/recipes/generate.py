"""Write an augmented data set: a checkpoint and a source in, one HDF5 file out.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from pathlib import Path

from munitaug._version import __version__
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, read_index, shared_translator
from munitaug.data.domain import ImageDomain
from munitaug.data.hdf5 import Compression
from munitaug.offline import generate as generate_file
from munitaug.recipes.options import DataOptions
from munitaug.stopping import stop_on_signals
from munitaug.styles import style_source
from munitaug.training import resolve_device


def generate(
    checkpoint: str | Path,
    source: str | ImageDomain,
    out: str | Path,
    *,
    variants: int = 4,
    style: str = "prior",
    truncation: float | None = None,
    direction: str = "a2b",
    seed: int = 0,
    keep_original: bool = False,
    device: str = "auto",
    batch_size: int = 64,
    compression: Compression = "lzf",
    data: DataOptions = DataOptions(),
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Writes K styled variants of every image of a domain to one HDF5 file and gives its path.

    The style of variant k of image i depends on (seed, i, k) only. A run that was stopped or killed goes on
    where it was when the same call is made again, and ends with the same file.

    Args:
        checkpoint: checkpoint or run folder.
        source: the images: a spec or a domain.
        out: the file; must not exist unless ``overwrite``.
        variants: styled images per source image, K >= 1.
        style: "prior", "bank" or "mixture".
        truncation: see :func:`munitaug.styles.style_source`.
        direction: "a2b" or "b2a".
        seed: of the styles.
        keep_original: write each source image before its variants.
        device: "auto", "cpu", "cuda", ...
        batch_size: source images translated at once.
        compression: "lzf", "gzip" or "none".
        data: how a spec is opened; a size or channel count left open is the checkpoint's.
        overwrite: replace an existing file.
        progress: show a progress bar.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FileExistsError: ``out`` exists.
        Interrupted: Ctrl-C or SIGTERM; what was written is kept for the next call.
        OSError: the disk is full; what was written is kept.
        ValueError: settings or images that do not suit.
    """
    translator = shared_translator(checkpoint, direction, resolve_device(device))
    domain = data.open(source, invert=data.invert_source) if isinstance(source, str) else source
    styles = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    index = read_index(find_checkpoint(checkpoint))
    provenance = {
        "munitaug": __version__,
        "method": index["method"],
        "config": index["config"],
        "training": index["provenance"],
        "direction": direction,
        "style": style,
        "truncation": truncation,
        "source": domain.name,
    }
    with stop_on_signals() as should_stop:
        return generate_file(
            translator,
            domain,
            Path(out),
            variants=variants,
            styles=styles,
            seed=seed,
            keep_original=keep_original,
            batch_size=batch_size,
            compression=compression,
            provenance=provenance,
            checkpoint_sha256=checkpoint_sha256(checkpoint),
            progress=progress,
            should_stop=should_stop,
            overwrite=overwrite,
        )
