"""What each later practice adds to the published MUNIT recipe, one at a time, on one pair.

    python -m benchmarks.presets --data-root DATA --steps 1000 --seeds 3

The pair is rendered digits to USPS's training images, 16 px; it decides presets, so it stands in no table of
results. Every variant has the networks of the preset "small". Reported for translations of 2000 source images:

- kept: share that a classifier trained on labelled target images gives the source's label, in percent
  (does the translation keep the class and reach the domain?);
- diversity: mean absolute difference between two styles of one image, in units of [-1, 1].

One JSON line per finished cell is appended to --out; cells that stand there are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import munitaug
from benchmarks.circumstances import commit_of
from benchmarks.storing import append_row, read_rows

SOURCE, TARGET, SIZE_PX = "synthetic-digits:train", "usps:train", 16
SCORED_IMAGES = 2000


def variants() -> dict[str, munitaug.MunitConfig]:
    """Gives the published recipe on small networks, one change at a time, all of them, and the preset as it is."""
    small = munitaug.MunitConfig.preset("small", channels=1)
    plain = munitaug.OptimiserSettings(lr=small.optimiser.lr)
    published = replace(small, detach_content=False, weight_cycle=0.0, optimiser=plain)
    averaged = replace(plain, ema_decay=0.995)
    decayed = replace(plain, linear_decay_from=0.5)
    return {
        "published": published,
        "averaged weights": replace(published, optimiser=averaged),
        "linear decay": replace(published, optimiser=decayed),
        "detached content": replace(published, detach_content=True),
        "cycle 10": replace(published, weight_cycle=10.0),
        "hinge, spectral norm, 4:1": replace(
            published, gan_loss="hinge", spectral_norm=True, discriminator_lr_scale=4.0
        ),
        "styles drawn once a step": replace(published, redraw_styles=False),
        "all but hinge": replace(
            published, detach_content=True, weight_cycle=10.0, optimiser=replace(averaged, linear_decay_from=0.5)
        ),
        "small": small,
        "small, styles drawn once a step": replace(small, redraw_styles=False),
    }


def main() -> None:
    """Runs the cells that are missing and prints the table so far."""
    options = _options()
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = read_rows(out)
    data = munitaug.DataOptions(channels=1, size=SIZE_PX, data_root=options.data_root)
    source, target = data.open(SOURCE), data.open(TARGET)
    judge = _judge(target)
    for seed in range(options.seeds):
        for name in options.variants:
            if any((cell["variant"], cell["seed"], cell["steps"]) == (name, seed, options.steps) for cell in finished):
                continue
            cell = _cell(name, variants()[name], source, target, judge, seed, options)
            append_row(out, cell)
            finished.append(cell)
    for name in options.variants:
        cells = [cell for cell in finished if cell["variant"] == name and cell["steps"] == options.steps]
        kept = ", ".join(f"{cell['kept']:.1f}" for cell in cells)
        diversity = ", ".join(f"{cell['diversity']:.3f}" for cell in cells)
        print(f"{name:<28} kept {kept:<24} diversity {diversity}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--steps", type=int, default=1000, help="MUNIT steps per cell")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1")
    parser.add_argument("--variants", nargs="+", choices=list(variants()), default=list(variants()), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/presets.jsonl"))
    return parser.parse_args()


def _judge(target: munitaug.ImageDomain) -> torch.nn.Module:
    settings = munitaug.FitSettings()
    return munitaug.train_classifier(target, settings=settings, seed=0)


def _cell(
    name: str,
    config: munitaug.MunitConfig,
    source: munitaug.ImageDomain,
    target: munitaug.ImageDomain,
    judge: torch.nn.Module,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Trains one variant and scores it."""
    training = munitaug.TrainConfig(max_steps=options.steps, batch_size=16, seed=seed, sample_every_steps=0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = munitaug.train(source, target, Path(folder) / "run", config=config, training=training)
        translator = munitaug.load(checkpoint).translator("a", "b")
    indices = range(SCORED_IMAGES)
    images = source.images(indices).float() / 127.5 - 1.0
    labels = source.require_labels()[: len(images)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        styles = torch.randn(len(images), 2, translator.style_dim, generator=generator)
        first, second = translator.translate(images, styles).unbind(1)
        kept = float((judge(first).argmax(1) == labels).float().mean())
    return {
        "variant": name,
        "seed": seed,
        "steps": options.steps,
        "kept": round(100.0 * kept, 2),
        "diversity": round(float((first - second).abs().mean()), 4),
        "device": "cpu",
        "commit": commit_of(Path.cwd()),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
