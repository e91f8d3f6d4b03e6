"""How fast this machine could at best train, translate and generate, and how fast it does.

    python -m benchmarks.roofline
    python -m benchmarks.roofline --device cuda --precision bfloat16 --work train-paper-256 translate-paper-256

First the machine's peaks are measured: products of large matrices and a wide convolution (operations a second of the
faster, in the precision of the work: torch may hand them to different libraries), copies in memory and writes to disk
(bytes a second). Then, for each piece of work, what it takes at least:

- operations: multiplications and additions of its convolutions and products, counted while it runs (of a convolution
  after Winograd those of its products of tiles, so rows of before and after it have other floors);
- bytes: what these convolutions and products read and write, as if all between them (norms, activations, padding,
  losses) were fused into them, and seven numbers per weight for Adam (gradient, weight and two moments read, the last
  three written).

The floor is the larger of operations over peak and bytes over bandwidth; no arrangement of the same sums is faster.
That of a file is the floor of its translations and of compressing the images (at zlib's rate for noise, on all cores),
because both use the same cores on a CPU; or, if that is more, the time to write them to disk. Measured is the median of
several runs through the public functions. ``share`` is floor over measured: 1 is perfect. One JSON line per piece is
appended to --out; for training at 256 px in bfloat16 on a GPU also "mfu-bf16", the share of the
operations of that peak.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row
from munitaug.data import ArrayDomain

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
WIDE_MAPS = {"cpu": (16, 256, 32), "cuda": (64, 512, 64)}
"""Images, maps and side in px of the convolution whose speed is a peak."""
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
DISK_BYTES = 2**27
ADAM_NUMBERS = 7
MFU_WORK = ("train-paper-256", "bfloat16")
GZIP_LEVEL = 1
PRODUCTS = (
    torch.ops.aten.convolution,
    torch.ops.aten.convolution_backward,
    torch.ops.aten.mm,
    torch.ops.aten.addmm,
    torch.ops.aten.bmm,
)


@dataclass(frozen=True)
class Peaks:
    """What the machine does at best, per second.

    Args:
        operations: multiplications and additions of a product of large matrices or of a wide convolution.
        bytes_copied: read and written, by a copy that fits no cache.
        bytes_to_disk: written and synced.
        bytes_compressed: taken in by zlib at level 1 on one core.
    """

    operations: float
    bytes_copied: float
    bytes_to_disk: float
    bytes_compressed: float


@dataclass(frozen=True)
class Least:
    """What a piece of work takes at least."""

    operations: float
    bytes_moved: float

    def floor_seconds(self, peaks: Peaks) -> float:
        """Gives the larger of both times."""
        return max(self.operations / peaks.operations, self.bytes_moved / peaks.bytes_copied)


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Args:
        kind: "train" (one step), "translate" (one batch) or "generate" (one file).
        preset: of MUNIT's networks.
        size_px: side of the images.
        count: images per step, batch or file.
        variants: translations of each.
    """

    kind: str
    preset: str
    size_px: int
    count: int
    variants: int = 1


WORK: dict[str, Work] = {
    "train-small-32": Work("train", "small", 32, 64),
    "train-paper-64": Work("train", "paper", 64, 8),
    "train-paper-256": Work("train", "paper", 256, 8),
    "translate-small-32": Work("translate", "small", 32, 64, 8),
    "translate-paper-256": Work("translate", "paper", 256, 1, 8),
    "generate-small-32": Work("generate", "small", 32, 1000, 4),
}
ON_CPU = ("train-small-32", "train-paper-64", "translate-small-32", "generate-small-32")


class ByteCounter(TorchDispatchMode):
    """Counts the bytes that convolutions, products and Adam read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts what is in its tensors."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in PRODUCTS:
            self.total += tensor_bytes(args) + tensor_bytes(out)
        elif func.overloadpacket == torch.ops.aten._fused_adam_:
            self.total += ADAM_NUMBERS * tensor_bytes(args[0])
        return out


def tensor_bytes(values: object) -> int:
    """Gives the bytes of all tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, list | tuple):
        return sum(tensor_bytes(value) for value in values)
    return 0


def count(run: Callable[[], object]) -> Least:
    """Gives the operations and bytes of what runs."""
    with FlopCounterMode(display=False) as operations, ByteCounter() as moved:
        run()
    return Least(operations.get_total_flops(), moved.total)


def measure_peaks(device: str, precision: str) -> Peaks:
    """Measures the machine; takes some seconds."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    kind = "cuda" if device.startswith("cuda") else "cpu"
    side = MATRIX_SIDE[kind]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    with _products_like_convolutions():
        product = 2.0 * side**3 / _best(lambda: a @ b, device)
    operations = max(product, _convolution_peak(device, dtype, WIDE_MAPS[kind]))
    block = torch.zeros(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    copy = _best(lambda: target.copy_(block), device)
    noise = torch.randint(0, 256, (2**22,), dtype=torch.uint8).numpy().tobytes()
    packing = _best(lambda: zlib.compress(noise, GZIP_LEVEL), "cpu")
    with tempfile.TemporaryDirectory() as folder:
        disk = _best(lambda: _write(Path(folder) / "block"), "cpu")
    return Peaks(operations, 2.0 * len(block) / copy, DISK_BYTES / disk, len(noise) / packing)


def _convolution_peak(device: str, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Gives the operations a second of a 3 x 3 convolution from so many maps to as many.

    Args:
        device: where.
        dtype: of maps and kernels.
        shape: images, maps, side of the maps in px.
    """
    count, maps, side = shape
    x = torch.randn(count, maps, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(maps, maps, 3, 3, device=device, dtype=dtype)
    seconds = _best(lambda: torch.nn.functional.conv2d(x, kernel, padding=1), device)
    return 2.0 * 9.0 * count * (maps * side) ** 2 / seconds


@contextmanager
def _products_like_convolutions() -> Iterator[None]:
    """Lets a GPU's float32 products be done in TF32 where torch does its convolutions so, which it does by default."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        products.allow_tf32 = before


def _write(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(bytes(DISK_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _best(run: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Gives the seconds of the fastest of several runs, after one that is not counted."""
    return min(_times(run, device, repeats))


def _times(run: Callable[[], object], device: str, repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats + 1):
        _wait_for(device)
        began = time.perf_counter()
        run()
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(work: Work, options: argparse.Namespace, peaks: Peaks) -> dict[str, float]:
    """Gives operations, bytes, floor, measured seconds and the share of the floor."""
    with tempfile.TemporaryDirectory() as folder:
        least, seconds = KINDS[work.kind](work, options, Path(folder))
    floor = least.floor_seconds(peaks)
    if work.kind == "generate":
        raw = work.count * work.variants * 3 * work.size_px**2
        floor = max(floor + raw / (peaks.bytes_compressed * torch.get_num_threads()), raw / peaks.bytes_to_disk)
    return {
        "gigaoperations": round(least.operations / 1e9, 3),
        "megabytes": round(least.bytes_moved / 1e6, 3),
        "floor_ms": round(1e3 * floor, 3),
        "measured_ms": round(1e3 * seconds, 3),
        "share": round(floor / seconds, 4),
        "share_of_peak_operations": round(least.operations / peaks.operations / seconds, 4),
    }


def _train(work: Work, options: argparse.Namespace, folder: Path) -> tuple[Least, float]:
    first, second = (_domain(name, work) for name in "ab")

    def run(steps: int, name: str) -> None:
        training = munitaug.TrainConfig(
            max_steps=steps,
            batch_size=work.count,
            device=options.device,
            precision=options.precision,
            channels_last=options.channels_last,
            compile=options.compile,
            log_every_steps=1,
            sample_every_steps=0,
            save_every_steps=10**9,
        )
        munitaug.train(first, second, folder / name, preset=work.preset, training=training, progress=False)

    one, two = (count(lambda steps=steps: run(steps, f"counted-{steps}")) for steps in (1, 2))  # type: ignore[misc]
    run(options.repeats + 2, "timed")
    lines = [json.loads(line) for line in (folder / "timed" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [line["seconds"] for line in lines]
    steps = [later - earlier for earlier, later in pairwise(told[1:])]
    return Least(two.operations - one.operations, two.bytes_moved - one.bytes_moved), statistics.median(steps)


def _translate(work: Work, options: argparse.Namespace, folder: Path) -> tuple[Least, float]:
    del folder
    translator = _translator(work, options)
    images = torch.rand(work.count, 3, work.size_px, work.size_px, device=options.device) * 2.0 - 1.0
    styles = torch.randn(work.count, work.variants, translator.style_dim, device=options.device)

    def run() -> None:
        with torch.no_grad():
            translator.translate(images, styles)

    return count(run), statistics.median(_times(run, options.device, options.repeats))


def _generate(work: Work, options: argparse.Namespace, folder: Path) -> tuple[Least, float]:
    method = munitaug.Munit(munitaug.MunitConfig.preset(work.preset, channels=3))
    munitaug.save(method, folder / "checkpoint")
    least, _ = _translate(work, options, folder)
    numbers = iter(range(10**6))

    def run() -> None:
        munitaug.generate(
            folder / "checkpoint",
            _domain("a", work),
            folder / f"{next(numbers)}.h5",
            variants=work.variants,
            device=options.device,
            precision=options.precision,
            progress=False,
        )

    return least, statistics.median(_times(run, options.device, min(3, options.repeats)))


KINDS: dict[str, Callable[[Work, argparse.Namespace, Path], tuple[Least, float]]] = {
    "train": _train,
    "translate": _translate,
    "generate": _generate,
}


def _translator(work: Work, options: argparse.Namespace) -> munitaug.Translator:
    method = munitaug.Munit(munitaug.MunitConfig.preset(work.preset, channels=3)).eval()
    translator = method.translator("a", "b").requires_grad_(False).to(options.device)
    translator.precision = options.precision
    return translator


def _domain(name: str, work: Work) -> ArrayDomain:
    images = torch.randint(0, 256, (max(64, work.count), 3, work.size_px, work.size_px), dtype=torch.uint8)
    return ArrayDomain(name, images)


def main(arguments: list[str] | None = None) -> None:
    """Measures the machine and the work, prints a table and appends the lines."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    names = options.work or (list(WORK) if options.device.startswith("cuda") else list(ON_CPU))
    peaks = measure_peaks(options.device, options.precision)
    facts = circumstances("benchmarks.roofline", options.device, arguments)
    facts |= {"precision": options.precision, "channels_last": options.channels_last, "compile": options.compile}
    print(
        f"{facts['device']}, {options.threads} threads, {options.precision}: "
        f"{peaks.operations / 1e9:.0f} billion operations, "
        f"{peaks.bytes_copied / 1e9:.1f} GB copied, {peaks.bytes_to_disk / 1e6:.0f} MB to disk, "
        f"{peaks.bytes_compressed / 1e6:.0f} MB compressed a second"
    )
    print(f"{'work':<22}{'10^9 operations':>16}{'MB':>10}{'floor, ms':>12}{'measured, ms':>14}{'share':>8}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        found = measure(WORK[name], options, peaks)
        print(
            f"{name:<22}{found['gigaoperations']:>16.1f}{found['megabytes']:>10.1f}{found['floor_ms']:>12.2f}"
            f"{found['measured_ms']:>14.2f}{found['share']:>8.2f}",
            flush=True,
        )
        append_row(options.out, {"name": name, **found, "peaks": vars(peaks), **facts})
        if (name, options.precision) == MFU_WORK and options.device.startswith("cuda"):
            append_row(options.out, {"name": "mfu-bf16", "ratio": found["share_of_peak_operations"], **facts})
    print(f"appended to {options.out}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=[], help="default: all, on a CPU the smaller")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--channels-last", action="store_true", help="in training")
    parser.add_argument("--compile", action="store_true", help="in training")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs; the median counts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/roofline.jsonl"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
