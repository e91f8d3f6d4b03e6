"""How many styled images a second the transforms give, at each place of a pipeline where they can stand.

    python -m benchmarks.speed transform
    python -m benchmarks.speed transform --device cuda

Every way makes the same images, K variants of each of N, with a generator of random weights (speed does not depend
on them), batch by batch and on one thread:

- loop: encodes and decodes once per variant, what one would write without K;
- per sample: ``MUNITTransform`` with K variants in the data set;
- in data set: ``VariantDataset``, which a DataLoader asks for whole batches;
- in collate: ``MUNITBatchTransform.as_collate()``;
- after loader: ``MUNITBatchTransform`` on the batches of a DataLoader;
- ahead: ``AugmentingLoader``, in a thread or on a stream of its own.

Counted are images out per second of CPU time, of this process and of the loader's workers, and per second on the
clock. A second table has the time per batch when each batch also goes through a training step of a small classifier:
there ``AugmentingLoader`` can gain what overlaps. The row "loader-overhead" has as ``ratio`` the time of "ahead" with
that step over the sum of the step alone and "after loader" without it: below 1 the generator runs beside the step.

The table is printed, and one JSON line per cell is appended to --out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row

LARGE_PX = 128
"""From this side on a pass has 2 batches of 4 images instead of 4 of 32."""
CLASSES = 10


@dataclass(frozen=True)
class Cell:
    """One place of the table: where the transform stands, and what goes through it."""

    way: str
    size_px: int
    variants: int


@dataclass(frozen=True)
class Timing:
    """One run: images that came out, and seconds of CPU and of the clock."""

    images: int
    cpu_seconds: float
    clock_seconds: float


class Way(Protocol):
    """Makes the batches of one pass over the data."""

    def __call__(self, data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]: ...


@dataclass(frozen=True)
class Setup:
    """What all cells share."""

    translator: munitaug.Translator
    device: str
    workers: int
    batch_size: int

    def loader(self, data: Dataset[Any], collate: Callable[[list[Any]], Any] | None = None) -> DataLoader[Any]:
        """Gives a loader whose workers end with the pass, so that their time is counted."""
        return DataLoader(
            data,
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self.device.startswith("cuda"),
        )

    def batch_transform(self, variants: int) -> munitaug.MUNITBatchTransform:
        return munitaug.MUNITBatchTransform(self.translator, num_variants=variants, device=self.device)


class PerSample(Dataset[tuple[Tensor, Tensor]]):
    """Applies ``MUNITTransform`` to single images: once for all variants, or once for each."""

    def __init__(self, data: TensorDataset, variants: int, setup: Setup, loop: bool) -> None:
        self.data = data
        self.loops = variants if loop else 1
        self.munit = munitaug.MUNITTransform(
            setup.translator, num_variants=1 if loop else variants, device=setup.device
        )
        self.loop = loop

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.data[index]
        made = [self.munit(image) for _ in range(self.loops)]
        images = torch.stack(made) if self.loop or made[0].ndim == 3 else made[0]
        return images, label


def loop(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    return setup.loader(PerSample(data, variants, setup, loop=True), munitaug.variant_collate)


def per_sample(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    dataset = PerSample(data, variants, setup, loop=False)
    return setup.loader(dataset, munitaug.variant_collate)


def in_data_set(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    dataset = munitaug.VariantDataset(data, setup.translator, variants=variants, device=setup.device)
    return setup.loader(dataset, munitaug.variant_collate)


def in_collate(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    return setup.loader(data, setup.batch_transform(variants).as_collate())


def after_loader(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    munit = setup.batch_transform(variants)
    for images, labels in setup.loader(data):
        yield munit(images.to(setup.device), labels.to(setup.device))


def ahead(data: TensorDataset, variants: int, setup: Setup) -> Iterable[Any]:
    return munitaug.AugmentingLoader(setup.loader(data), setup.batch_transform(variants))


WAYS: dict[str, Way] = {
    "loop": loop,
    "per sample": per_sample,
    "in data set": in_data_set,
    "in collate": in_collate,
    "after loader": after_loader,
    "ahead": ahead,
}
STEP_WAYS = ("step alone", "after loader", "ahead")


def main(arguments: list[str] | None = None) -> None:
    """Runs the cells, prints the tables and appends the lines."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = munitaug.MunitConfig.preset(options.preset, channels=3)
    translator = munitaug.Munit(config).translator("a", "b").to(options.device)
    facts = _facts(options, arguments)
    for size in options.sizes:
        batch_size = options.batch_size or (4 if size >= LARGE_PX else 32)
        batches = options.batches or (2 if size >= LARGE_PX else 4)
        setup = Setup(translator, options.device, options.workers, batch_size)
        data = _random_images(batch_size * batches, size)
        for variants in options.variants:
            print(f"\n{size} px, K = {variants}: {len(data)} images, {batch_size} in a batch, {facts['device']}")
            rates = {way: _measure_way(Cell(way, size, variants), data, setup, options, facts) for way in WAYS}
            _print_rates(rates)
            if options.step:
                found = _measure_steps(size, variants, data, setup, options, facts)
                _print_steps(found)
                apart = found["step alone"] + 1000.0 * batch_size * variants / rates["after loader"][1]
                row = {"name": "loader-overhead", "ratio": round(found["ahead"] / apart, 4), "size_px": size}
                append_row(options.out, {**row, "variants": variants, "batch_size": batch_size, **facts})
    print(f"\nappended to {options.out}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=["transform"], help="what is measured")
    parser.add_argument("--preset", default="small", help="of the generator's networks")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256], metavar="PX")
    parser.add_argument("--variants", type=int, nargs="+", default=[1, 4, 8], metavar="K")
    parser.add_argument("--batches", type=int, default=None, help="batches in a pass (4, of large images 2)")
    parser.add_argument("--batch-size", type=int, default=None, help="source images in a batch (32, of large images 4)")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes; the median counts")
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader; only 0 where the device is no cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch in the main process")
    parser.add_argument(
        "--no-step", dest="step", action="store_false", help="leaves out the table with a training step"
    )
    parser.add_argument("--quick", action="store_true", help="32 px, K = 1 and 4, two small batches, one repeat")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-transform.jsonl"))
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes, options.variants, options.batches, options.repeats = [32], [1, 4], 2, 1
        options.batch_size = options.batch_size or 8
    if options.device != "cpu" and options.workers:
        parser.error("--workers needs --device cpu: forked workers cannot use a GPU")
    return options


def _random_images(count: int, size: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.arange(count) % CLASSES)


def _measure_way(
    cell: Cell, data: TensorDataset, setup: Setup, options: argparse.Namespace, facts: dict[str, Any]
) -> tuple[float, float]:
    """Gives the median images per second, of CPU and of the clock, and writes them down."""
    way = WAYS[cell.way]
    _run(lambda: way(TensorDataset(*data[: setup.batch_size]), cell.variants, setup), setup.device)
    timings = [_run(lambda: way(data, cell.variants, setup), setup.device) for _ in range(options.repeats)]
    if any(timing.images != len(data) * cell.variants for timing in timings):
        raise RuntimeError(f"{cell} gave {timings[0].images} images, not {len(data) * cell.variants}")
    per_cpu = statistics.median(timing.images / timing.cpu_seconds for timing in timings)
    per_clock = statistics.median(timing.images / timing.clock_seconds for timing in timings)
    rates = {"images_per_cpu_second": round(per_cpu, 2), "images_per_second": round(per_clock, 2)}
    append_row(
        options.out, {**asdict(cell), **rates, "source_images": len(data), "batch_size": setup.batch_size, **facts}
    )
    return per_cpu, per_clock


def _run(
    make: Callable[[], Iterable[Any]], device: str, use: Callable[[Tensor, Tensor], object] | None = None
) -> Timing:
    """Times one pass over the batches."""
    _wait_for(device)
    cpu_before, clock_before = _cpu_seconds(), time.perf_counter()
    images_out = 0
    for images, labels in make():
        images_out += len(images)
        if use is not None:
            use(images, labels)
    _wait_for(device)
    return Timing(images_out, _cpu_seconds() - cpu_before, time.perf_counter() - clock_before)


def _cpu_seconds() -> float:
    """Gives the CPU time of this process, all threads, and of its children that have ended."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _measure_steps(
    size: int, variants: int, data: TensorDataset, setup: Setup, options: argparse.Namespace, facts: dict[str, Any]
) -> dict[str, float]:
    """Gives the milliseconds on the clock per batch of training steps: alone, after the transform, and beside it."""
    step = _TrainingStep(setup.device)
    images, labels = next(iter(after_loader(data, variants, setup)))
    batches = -(-len(data) // setup.batch_size)
    makes: dict[str, Callable[[], Iterable[Any]]] = {
        "step alone": lambda: [(images, labels)] * batches,
        "after loader": lambda: after_loader(data, variants, setup),
        "ahead": lambda: ahead(data, variants, setup),
    }
    found = {}
    for way in STEP_WAYS:
        step(images, labels)
        timings = [_run(makes[way], setup.device, step) for _ in range(options.repeats)]
        found[way] = 1000.0 * statistics.median(timing.clock_seconds for timing in timings) / batches
        line = {"way": f"{way}, with a training step", "size_px": size, "variants": variants}
        rounded = {"milliseconds_per_batch": round(found[way], 2), "batch_size": setup.batch_size}
        append_row(options.out, {**line, **rounded, **facts})
    return found


class _TrainingStep:
    """One optimiser step of a small convolutional classifier on uint8 images."""

    def __init__(self, device: str) -> None:
        self.network = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES),
        ).to(device)  # fmt: skip
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.01)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.optimiser.zero_grad()
        loss = nn.functional.cross_entropy(self.network(images.float() / 255.0), labels)
        loss.backward()
        self.optimiser.step()


def _facts(options: argparse.Namespace, arguments: list[str] | None) -> dict[str, Any]:
    """Gives what stands beside every figure."""
    own = {name: getattr(options, name) for name in ("preset", "workers", "repeats")}
    return own | circumstances("benchmarks.speed", options.device, arguments)


def _print_rates(rates: dict[str, tuple[float, float]]) -> None:
    print(f"  {'way':<14}{'images per CPU-second':>24}{'images per second':>20}{'beside the loop':>18}")
    for way, (per_cpu, per_clock) in rates.items():
        print(f"  {way:<14}{per_cpu:>24.1f}{per_clock:>20.1f}{per_cpu / rates['loop'][0]:>17.2f}x")


def _print_steps(found: dict[str, float]) -> None:
    shown = ", ".join(f"{way} {milliseconds:.1f} ms" for way, milliseconds in found.items())
    print(f"  with a training step, per batch: {shown}")


if __name__ == "__main__":
    main()
