"""What each lever of training brings: seconds per step with it, beside plain float32 in the same run.

    python -m benchmarks.speed_train --preset paper --size 64 --batch 8
    python -m benchmarks.speed_train --preset small --size 32 --batch 64 --device cuda --steps 50 \
        --levers bfloat16 bfloat16+graph

Levers are settings of ``munitaug.train``: "channels-last" (memory layout), "bfloat16" (convolutions and products),
"compile" (torch.compile of the losses), "graph" (a whole step recorded and replayed, on a GPU), "styles-once" (MUNIT's
styles drawn, and its translations made, once for both phases), "in-turn" (on a CPU with two threads, one domain after
the other; all others work on both at once, but for "compile") and sums of them; "all" is the first three. Each round
trains with every lever for a few steps on random images, one after the other, so that a busy machine slows them alike;
the first steps of a run, which compile and warm up, do not count. Medians over all rounds are compared.

Rows "train-step-LEVER-vs-float32" with ``ratio`` (above 1 is faster) are appended to --out, and "graph-vs-eager" where
both sides of it ran in one precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.storing import append_row
from munitaug.data import ArrayDomain

PLAIN = "float32"
LEVERS: dict[str, dict[str, Any]] = {
    PLAIN: {"precision": "float32"},
    "channels-last": {"precision": "float32", "channels_last": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16+channels-last": {"precision": "bfloat16", "channels_last": True},
    "compile": {"precision": "float32", "compile": True},
    "all": {"precision": "bfloat16", "channels_last": True, "compile": True},
    "in-turn": {"precision": "float32", "domains_at_once": False},
    "bfloat16+in-turn": {"precision": "bfloat16", "domains_at_once": False},
    "graph": {"precision": "float32", "cuda_graph": True},
    "bfloat16+graph": {"precision": "bfloat16", "cuda_graph": True},
    "styles-once": {"precision": "float32"},
    "bfloat16+styles-once": {"precision": "bfloat16"},
    "bfloat16+graph+styles-once": {"precision": "bfloat16", "cuda_graph": True},
}
USUAL = ("channels-last", "bfloat16", "bfloat16+channels-last")
ONCE = "styles-once"
GRAPHS = {"graph": PLAIN, "bfloat16+graph": "bfloat16"}
"""What each recorded step is compared with, beside plain float32."""
WARM_UP = 5


def main(arguments: list[str] | None = None) -> None:
    """Times the levers, prints a table and appends the rows."""
    options = _options(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    seconds: dict[str, list[float]] = {lever: [] for lever in (PLAIN, *options.levers)}
    for _ in range(options.rounds):
        for lever, times in seconds.items():
            times += step_seconds(lever, options)
    plain = statistics.median(seconds[PLAIN])
    facts = circumstances("benchmarks.speed_train", options.device, arguments)
    facts |= {"method": options.method, "preset": options.preset, "size_px": options.size, "batch_size": options.batch}
    print(f"{facts['device']}, {facts['threads']} threads: {options.method} {options.preset}, {options.size} px")
    for lever, times in seconds.items():
        median = statistics.median(times)
        print(f"  {lever:<24}{median:>9.4f} s a step{plain / median:>8.2f}x")
        own = {"seconds": round(median, 5), "steps": len(times), "precision": LEVERS[lever]["precision"]} | facts
        if lever != PLAIN:
            row = {"name": f"train-step-{lever}-vs-{PLAIN}", "ratio": round(plain / median, 3)}
            append_row(options.out, row | {"plain_seconds": round(plain, 5)} | own)
        if GRAPHS.get(lever) in seconds:
            eager = statistics.median(seconds[GRAPHS[lever]])
            row = {"name": "graph-vs-eager", "ratio": round(eager / median, 3), "eager_seconds": round(eager, 5)}
            append_row(options.out, row | own)
    print(f"appended to {options.out}")


def step_seconds(lever: str, options: argparse.Namespace) -> list[float]:
    """Gives the seconds of each step of a short run, without the first ones."""
    training = munitaug.TrainConfig(
        max_steps=options.steps + WARM_UP,
        batch_size=options.batch,
        device=options.device,
        log_every_steps=1,
        sample_every_steps=0,
        save_every_steps=10**9,
        **LEVERS[lever],
    )
    images = torch.randint(0, 256, (2 * options.batch, 3, options.size, options.size), dtype=torch.uint8)
    first, second = (ArrayDomain(name, images) for name in "ab")
    config = replace(munitaug.MunitConfig.preset(options.preset), redraw_styles=False) if ONCE in lever else None
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        told: dict[str, Any] = {"method": options.method, "preset": options.preset, "config": config}
        munitaug.train(first, second, run, **told, training=training, progress=False)
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    finished = [json.loads(line)["seconds"] for line in lines]
    return [later - earlier for earlier, later in pairwise(finished[WARM_UP - 1 :])]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levers", nargs="+", choices=[name for name in LEVERS if name != PLAIN], default=list(USUAL))
    parser.add_argument("--method", default="munit", choices=list(munitaug.METHODS))
    parser.add_argument("--preset", default="small")
    parser.add_argument("--size", type=int, default=32, help="side of the images, px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="timed in each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed-train.jsonl"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
