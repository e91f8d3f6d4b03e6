"""What augmentation adds to a training step: AugmentingLoader, against the step and the generator run apart.

    python -m benchmarks.speed_loader --device cuda --batch 128 --classifier resnet18

Three runs over the same batches, in turns: classifier steps on batches that were translated beforehand, the generator
alone, and steps on batches that AugmentingLoader translates beside them. A generator has its first weights: time does
not depend on what it has learnt. The clock's seconds of a whole pass, medians over rounds.

The row "loader-overhead" has as ``ratio`` the time of the third over the sum of the first two: below 1 the generator
runs beside the step, 1.05 is what may be lost. It is appended to --out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row
from munitaug.adaptation import build_classifier

CLASSES = 10
Batch = tuple[Tensor, Tensor]


def main(arguments: list[str] | None = None) -> None:
    """Times the three runs, prints them and appends the row."""
    options = _options(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    facts = circumstances("benchmarks.speed_loader", options.device, arguments)
    facts |= {"size_px": options.size, "batch_size": options.batch, "classifier": options.classifier}
    with tempfile.TemporaryDirectory() as folder:
        munit = munitaug.METHODS["munit"]
        munitaug.save(munit(munit.config_class.preset(options.preset)), Path(folder) / "checkpoint")
        transform = munitaug.MUNITBatchTransform(
            Path(folder) / "checkpoint", device=options.device, seed=0, num_variants=options.variants
        )
        medians = {name: statistics.median(times) for name, times in seconds(transform, options).items()}
    apart = medians["step"] + medians["generator"]
    for name, each in medians.items():
        print(f"  {name:<12}{1e3 * each / options.batches:>9.2f} ms a batch")
    print(f"  together / (step + generator): {medians['together'] / apart:.3f}")
    row = {"name": "loader-overhead", "ratio": round(medians["together"] / apart, 4)}
    row |= {f"{name}_ms": round(1e3 * each / options.batches, 3) for name, each in medians.items()}
    append_row(options.out, row | {"variants": options.variants, "rounds": options.rounds} | facts)
    print(f"appended to {options.out}")


def seconds(transform: munitaug.MUNITBatchTransform, options: argparse.Namespace) -> dict[str, list[float]]:
    """Gives the seconds of every round of each run; a first round, which warms up, does not count."""
    pinned = options.device.startswith("cuda")
    plain = [_batch(options, number, pinned) for number in range(options.batches)]
    translated = [transform(_moved(batch, options.device)) for batch in plain]
    train = _trainer(options)
    runs: dict[str, Callable[[], None]] = {
        "step": lambda: train(translated),
        "generator": lambda: [transform(_moved(batch, options.device)) for batch in plain].clear(),
        "together": lambda: train(munitaug.AugmentingLoader(plain, transform)),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()
            if number > 0:
                taken[name].append(time.perf_counter() - began)
    return taken


def _trainer(options: argparse.Namespace) -> Callable[[Iterable[Any]], None]:
    """Gives what makes one update of a new classifier on each batch."""
    classifier: nn.Module = build_classifier(options.classifier, 3, CLASSES, seed=0).to(options.device)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=1e-3)

    def train(batches: Iterable[Any]) -> None:
        for images, labels in batches:
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(classifier(images), labels).backward()
            optimiser.step()

    return train


def _batch(options: argparse.Namespace, number: int, pinned: bool) -> Batch:
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    labels = torch.randint(CLASSES, (options.batch,), generator=generator)
    return (images.pin_memory(), labels.pin_memory()) if pinned else (images, labels)


def _moved(batch: Batch, device: str) -> Batch:
    return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="of the generator")
    parser.add_argument("--classifier", default="lenet", help="lenet, or a timm model")
    parser.add_argument("--size", type=int, default=32, help="side of the images, px")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20, help="in each pass")
    parser.add_argument("--variants", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-loader.jsonl"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
