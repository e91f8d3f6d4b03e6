"""Write an augmented data set: a checkpoint and a source in, HDF5 out, in one file or in shards by many processes.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from munitaug import ranks
from munitaug._version import __version__
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, read_index, shared_translator
from munitaug.data.domain import ImageDomain
from munitaug.data.packing import Compression
from munitaug.offline import Stripe
from munitaug.offline import generate as generate_file
from munitaug.recipes.options import DataOptions
from munitaug.stopping import stop_on_signals
from munitaug.styles import style_source
from munitaug.training import resolve_device
from munitaug.translator import Precision


def generate(
    checkpoint: str | Path,
    source: str | Path | ImageDomain,
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
    shards: int = 0,
    precision: Precision = "float32",
    compile: bool = False,
) -> Path:
    """Writes K styled variants of every image of a domain to HDF5 and gives the path of the file.

    The style of variant k of image i depends on (seed, i, k) only. A run that was stopped or killed goes on
    where it was when the same call is made again, and ends with the same file.

    With shards, the processes of ``torchrun`` (RANK and WORLD_SIZE in the environment) share the work, each on the
    GPU of its LOCAL_RANK (where there are fewer GPUs, some share one); the file is the index of the shards and is there
    when the last process is through.

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
        data: how a spec is opened; see :class:`DataOptions` for channels and size left open.
        overwrite: replace an existing file.
        progress: show a progress bar.
        shards: write that many files ``aug-00007-of-00064.h5``, and ``out`` as their index; 0 writes one file.
        precision: "bfloat16" is faster on a GPU, and on a CPU that has AVX-512 BF16 or AMX; pixels then differ by a few
            levels of 255.
        compile: compile the generator first, which takes about half a minute and pays for large sets; see
            :func:`munitaug.shared_translator`.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        BlockingIOError: another process writes ``out``, or would: without shards, one of several processes has to.
        FileExistsError: ``out`` exists.
        Interrupted: Ctrl-C or SIGTERM; what was written is kept for the next call.
        OSError: the disk is full; what was written is kept.
        ValueError: settings or images that do not suit.
    """
    rank, _, count = ranks.launched_as() if shards else _alone()
    stripe = Stripe(rank, count)
    own_device = ranks.device_of_rank(resolve_device(device), apart=True)
    translator = shared_translator(checkpoint, direction, own_device, precision, compile)
    data = data.like(checkpoint, direction)
    domain = data.open_source(source)
    styles = style_source(style, translator.style_dim, translator.style_bank.cpu(), truncation)
    index = read_index(find_checkpoint(checkpoint))
    provenance = {
        "munitaug": __version__,
        "method": index["method"],
        "config": index["config"],
        "training": index.get("provenance", {}),
        "direction": direction,
        "style": style,
        "truncation": None if truncation is None else float(truncation),
        "source": domain.name,
    }
    with stop_on_signals() as should_stop:
        return generate_file(
            translator,
            domain,
            out,
            variants=variants,
            styles=styles,
            seed=seed,
            keep_original=keep_original,
            batch_size=batch_size,
            compression=compression,
            provenance=provenance,
            checkpoint_sha256=checkpoint_sha256(checkpoint),
            progress=progress and stripe.rank == 0,
            should_stop=should_stop,
            overwrite=overwrite,
            shards=shards,
            stripe=stripe,
        )


def _alone() -> tuple[int, None, int]:
    """Gives the rank of the one process that writes one file.

    Raises:
        BlockingIOError: a launcher started several, and this is not the first of them.
    """
    with suppress(ValueError):  # RANK may stand for something else, where nothing is shared
        rank, _, count = ranks.launched_as()
        if 0 < rank < count:
            raise BlockingIOError(
                f"this is process {rank} of {count} that a launcher started, and one file is written by one process; "
                "give shards (--shards 64), which all of them write, or start it without the launcher"
            )
    return 0, None, 1
