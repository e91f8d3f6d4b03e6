"""What several styled variants of an image cost, against encoding and decoding for each of them.

    python -m benchmarks.speed_variants --size 32 --variants 8
    python -m benchmarks.speed_variants --size 32 --variants 8 --compile

The generator has the preset's networks with their first weights: time does not depend on what they have learnt. Each
round translates the same images in three ways, one after the other, so that a busy machine slows them alike: one by one
(encode and decode for each variant), all variants of a batch at once, and the same in bfloat16; with --compile the last
two are compiled, which happens before time is taken. Time is the processor's
on a CPU, the clock's on a GPU; medians over rounds are compared.

Rows "variants-K-vs-one-by-one" and "variants-K-bf16-vs-one-by-one" with ``ratio`` (above 1 is faster) are appended to
--out, for every batch size: 1 is a transform in a data set, more is generation or a transform after the loader.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row

Way = Callable[[], Tensor]
ONE_BY_ONE = "one by one"


class Work(NamedTuple):
    """So many source images, so many variants of each, of so many pixels a side."""

    batch: int
    variants: int
    side: int


def main(arguments: list[str] | None = None) -> None:
    """Times the three ways at each batch size, prints a table and appends the rows."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    facts = circumstances("benchmarks.speed_variants", options.device, arguments)
    facts |= {
        "preset": options.preset,
        "size_px": options.size,
        "variants": options.variants,
        "compiled": options.compile,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{facts['device']}, {facts['threads']} threads: {options.variants} variants at {options.size} px")
    with tempfile.TemporaryDirectory() as folder:
        munit = munitaug.METHODS["munit"]
        munitaug.save(munit(munit.config_class.preset(options.preset)), Path(folder) / "checkpoint")
        for batch in options.batches:
            work = Work(batch, options.variants, options.size)
            ways = ways_of(Path(folder) / "checkpoint", work, options.device, options.compile)
            times = {name: statistics.median(each) for name, each in seconds(ways, options).items()}
            for name, median in times.items():
                rate, ratio = batch * options.variants / median, times[ONE_BY_ONE] / median
                print(f"  batch {batch:<4}{name:<28}{rate:>10.0f} images a second{ratio:>8.2f}x")
                row = {"name": f"{name}-vs-one-by-one", "ratio": round(ratio, 3), "images_per_second": round(rate, 1)}
                if name != ONE_BY_ONE:
                    append_row(options.out, row | {"batch_size": batch, "rounds": options.rounds} | facts)
    print(f"appended to {options.out}")


def ways_of(checkpoint: Path, work: Work, device: str, compile: bool = False) -> dict[str, Way]:
    """Gives what is compared: each way makes the same N K x C x H x W images but for rounding.

    Args:
        checkpoint: of the generator.
        work: how much each way translates.
        device: where all run.
        compile: compile what makes variants at once.
    """
    batch, variants, side = work
    plain = munitaug.shared_translator(checkpoint, device=device)
    fast = munitaug.shared_translator(checkpoint, device=device, compile=compile)
    half = munitaug.shared_translator(checkpoint, device=device, precision="bfloat16", compile=compile)
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(batch, plain.channels, side, side, generator=generator) * 2 - 1).to(device)
    styles = torch.randn(batch, variants, plain.style_dim, generator=generator).to(device)

    def one_by_one() -> Tensor:
        return torch.cat([plain.translate(images, styles[:, each : each + 1]) for each in range(variants)], dim=1)

    def at_once(translator: munitaug.Translator) -> Way:
        return lambda: translator.translate(images, styles)

    name = f"variants-{variants}"
    return {ONE_BY_ONE: one_by_one, name: at_once(fast), f"{name}-bf16": at_once(half)}


def seconds(ways: dict[str, Way], options: argparse.Namespace) -> dict[str, list[float]]:
    """Gives the seconds of every round of every way; a first round, which warms up, does not count."""
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for way in ways.values():
            way()
        _wait_for(options.device)
        for _ in range(options.rounds):
            for name, way in ways.items():
                began = clock()
                for _ in range(options.repeats):
                    way()
                _wait_for(options.device)
                taken[name].append((clock() - began) / options.repeats)
    return taken


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--size", type=int, default=32, help="side of the images, px")
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="source images at once")
    parser.add_argument("--repeats", type=int, default=5, help="in each round")
    parser.add_argument("--compile", action="store_true", help="compile what makes variants at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-variants.jsonl"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
