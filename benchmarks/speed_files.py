"""Generation and reading of HDF5 files beside the least work they could be: the bare generator, bare h5py.

    python -m benchmarks.speed_files generate
    python -m benchmarks.speed_files generate --device cuda --size 256 --preset paper --batch-size 16
    python -m benchmarks.speed_files read
    python -m benchmarks.speed_files read --compression none

``generate`` times ``munitaug.generate`` from the first call to the finished file (reading, styles, packing, syncing and
joining included) and, in turns with it, the generator alone: the same batches and as many styles, already on the
device, translated and thrown away. ``read`` times ``AugmentedDataset[i]`` in random order against ``images[i]`` of
h5py on the same file, which gives neither class nor tensor. Both run in turns in one process; the ratio is the median
of the ratios of the turns. One row, "generate-vs-bare" or "read-vs-h5py" with ``ratio``, is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import torch

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row
from munitaug.data import ArrayDomain

SUBJECTS = ("generate", "read")
CHUNK_CACHE_BYTES = 2**16
"""Of bare h5py. Its own 8 MiB would hold all of a small file unpacked; of a real data set, hardly anything."""


def main(arguments: list[str] | None = None) -> None:
    """Measures one subject and appends its row."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = (_measure_generate if options.subject == "generate" else _measure_read)(options, Path(folder))
    settings = {name: getattr(options, name) for name in ("preset", "size", "variants", "batch_size", "compression")}
    settings |= {"shards": options.shards, "repeats": options.repeats, "h5py": h5py.__version__}
    row = found | settings | circumstances("benchmarks.speed_files", options.device, arguments)
    append_row(options.out, row)
    print(json.dumps(row, indent=1))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=SUBJECTS, help="what is measured")
    parser.add_argument("--preset", default="small", help="of the generator's networks")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--size", type=int, default=32, help="side of the images in px")
    parser.add_argument("--images", type=int, default=2048, help="source images")
    parser.add_argument("--variants", type=int, default=4, help="K")
    parser.add_argument("--batch-size", type=int, default=64, help="source images translated at once")
    parser.add_argument("--compression", default="lzf", help="lzf, gzip or none")
    parser.add_argument("--shards", type=int, default=0, help="of the output; 0 writes one file")
    parser.add_argument("--repeats", type=int, default=5, help="turns; the median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch")
    parser.add_argument("--folder", type=Path, default=None, help="where files are written; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-files.jsonl"))
    return parser.parse_args(arguments)


def _smooth_noise(count: int, size: int) -> ArrayDomain:
    """Gives random images that pack about as well as photographs do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, max(size // 8, 2), max(size // 8, 2), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return ArrayDomain(
        "smooth noise", (smooth * 255.0).to(torch.uint8), torch.zeros(count, dtype=torch.int64), ("one",)
    )


def _measure_generate(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    checkpoint, domain = _checkpoint(options, folder), _smooth_noise(options.images, options.size)
    bare = _bare_generator(options, checkpoint, domain)
    images_out = len(domain) * options.variants

    def whole(turn: int) -> None:
        _generate(options, checkpoint, domain, folder / f"turn-{turn}.h5")

    bare(0)
    whole(-1)
    figures, _ = _in_turns(bare, whole, options.repeats, images_out)
    return {"name": "generate-vs-bare", **figures, "images": images_out}


def _measure_read(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    path = folder / "read.h5"
    _generate(options, _checkpoint(options, folder), _smooth_noise(options.images, options.size), path)
    dataset = munitaug.AugmentedDataset(path)
    rows = list(range(len(dataset))) * max(1, 4000 // len(dataset))

    def ours(turn: int) -> None:
        for row in random.Random(turn).sample(rows, len(rows)):
            dataset[row]

    with h5py.File(path, rdcc_nbytes=CHUNK_CACHE_BYTES) as file:
        images = file["images"]

        def bare(turn: int) -> None:
            for row in random.Random(turn).sample(rows, len(rows)):
                images[row]

        bare(0)
        first_seconds = _seconds(ours, 0)
        figures, bare_seconds = _in_turns(bare, ours, options.repeats, len(rows))
    first = {"first_pass_ratio": round(bare_seconds / first_seconds, 4)}
    return {"name": "read-vs-h5py", **figures, **first, "images": len(dataset)}


def _in_turns(
    bare: Callable[[int], None], ours: Callable[[int], None], repeats: int, images: int
) -> tuple[dict[str, float], float]:
    """Gives ratio and rates of two ways to handle so many images, and the seconds of the bare one."""
    turns = [(_seconds(bare, turn), _seconds(ours, turn)) for turn in range(repeats)]
    bare_seconds, seconds = (statistics.median(column) for column in zip(*turns, strict=True))
    figures = {
        "ratio": round(statistics.median(alone / whole for alone, whole in turns), 4),
        "images_per_second": round(images / seconds, 1),
        "bare_images_per_second": round(images / bare_seconds, 1),
    }
    return figures, bare_seconds


def _checkpoint(options: argparse.Namespace, folder: Path) -> Path:
    config = munitaug.MunitConfig.preset(options.preset, channels=3)
    return Path(munitaug.save(munitaug.Munit(config), folder / "checkpoint"))


def _generate(options: argparse.Namespace, checkpoint: Path, domain: munitaug.ImageDomain, out: Path) -> None:
    munitaug.generate(
        checkpoint,
        domain,
        out,
        variants=options.variants,
        device=options.device,
        batch_size=options.batch_size,
        compression=options.compression,
        shards=options.shards,
        progress=False,
    )


def _bare_generator(
    options: argparse.Namespace, checkpoint: Path, domain: munitaug.ImageDomain
) -> Callable[[int], None]:
    """Gives a pass of the generator over batches that are on the device already."""
    translator = munitaug.shared_translator(checkpoint, "a2b", options.device)
    starts = range(0, len(domain), options.batch_size)
    batches = [domain.images(range(start, min(start + options.batch_size, len(domain)))) for start in starts]
    images = [(batch.to(options.device).float() / 127.5 - 1.0) for batch in batches]
    codes = [torch.randn(len(batch), options.variants, translator.style_dim, device=options.device) for batch in images]

    @torch.no_grad()
    def run(turn: int) -> None:
        for batch, styles in zip(images, codes, strict=True):
            translator.translate(batch, styles)
        if options.device.startswith("cuda"):
            torch.cuda.synchronize(options.device)

    return run


def _seconds(run: Callable[[int], None], turn: int) -> float:
    start = time.perf_counter()
    run(turn)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
