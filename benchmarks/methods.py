"""Every method with one budget on one pair: does it keep labels, does it reach the target, does a classifier gain?

    python -m benchmarks.methods --pair mnist:usps --budget-steps 1000 --seeds 3 --data-root DATA

All methods get the preset "small", the same data (grey, 16 px), batch size and number of steps, and no labels: this
measures the objectives, not semantic consistency (add it with --semantic-weight). Reported for each method and seed:

- kept: share of translated source test images on which a classifier trained on labelled target images sees the
  source's label, in percent; the classifier serves this measurement alone;
- KID: kernel distance between translations and real target test images on that classifier's features, times 1000;
- diversity: distance between two styles of one image on the same features;
- downstream: accuracy in percent on the target's test images of a classifier trained on source images and their
  translations (the condition "munit" of `munitaug evaluate`), beside which the condition "classic" has none;
- steps per second of training (per CPU-second of one thread on a CPU), and parameters in all.

One JSON line per finished cell is appended to --out; cells that stand there are not run again. A sheet of pictures,
one row per method, goes beside it. Cells run side by side in --processes processes of one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.side_by_side import side_by_side
from benchmarks.statistics import student_half_width
from benchmarks.storing import append_row, read_rows

SIZE_PX = 16
PAIRS = {
    "mnist:usps": ("mnist:train", "usps:train", "mnist:test", "usps:test"),
    "usps:mnist": ("usps:train", "mnist:train", "usps:test", "mnist:test"),
    "synthetic:digits": ("synthetic-digits:train:6000", "digits:train", "synthetic-digits:test", "digits:test"),
}
SCORED_IMAGES = 1500
BASELINE = "classic"
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One cell: a method (or the baseline without one) and a seed."""

    pair: str
    method: str
    seed: int
    steps: int
    fit_steps: int
    semantic_weight: float
    data_root: str | None
    runs: Path
    device: str


def main() -> None:
    """Runs the cells that are missing, then prints the table and draws the sheet."""
    options = _options()
    out: Path = options.out or Path(f"benchmarks/results/methods-{options.pair.replace(':', '-')}.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = read_rows(out)
    methods = [BASELINE, *(options.methods or munitaug.METHODS)]
    wanted = [
        Job(
            options.pair,
            method,
            seed,
            options.budget_steps,
            options.fit_steps,
            options.semantic_weight,
            options.data_root,
            options.runs,
            options.device,
        )
        for seed in range(options.seeds)
        for method in methods
    ]
    jobs = [job for job in wanted if _key(job) not in {_key_of_row(row) for row in finished}]
    for row in side_by_side(run_cell, jobs, options.processes, options.device):
        append_row(out, row)
        finished.append(row)
    rows = [row for row in finished if _key_of_row(row) in {_key(job) for job in wanted}]
    print(render(rows, methods))
    picture = out.with_suffix(".png")
    draw_sheet(wanted[: len(methods)], picture)
    print(f"rows:  {out}\nsheet: {picture}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=list(PAIRS), default="mnist:usps")
    parser.add_argument("--methods", nargs="+", default=[], help="some of METHODS; default: all")
    parser.add_argument("--budget-steps", type=int, default=1000, help="training steps of every method")
    parser.add_argument("--fit-steps", type=int, default=600, help="steps of every downstream classifier")
    parser.add_argument("--semantic-weight", type=float, default=0.0, help="of the label term, for all methods")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1, of translator and classifier")
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cells run side by side")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="folder of the trained translators")
    parser.add_argument("--out", type=Path, default=None, help="default: benchmarks/results/methods-PAIR.jsonl")
    return parser.parse_args()


def _key(job: Job) -> tuple[object, ...]:
    steps = 0 if job.method == BASELINE else job.steps
    return job.pair, job.method, job.seed, steps, job.fit_steps, job.semantic_weight


def _key_of_row(row: Row) -> tuple[object, ...]:
    return row["pair"], row["method"], row["seed"], row["steps"], row["fit_steps"], row["semantic_weight"]


def run_cell(job: Job) -> Row:
    """Trains one method (or none), measures its translations and the classifier trained on them."""
    data = munitaug.DataOptions(channels=1, size=SIZE_PX, data_root=job.data_root)
    source, target, source_test, target_test = (data.open(spec) for spec in PAIRS[job.pair])
    row: Row = {"pair": job.pair, "method": job.method, "seed": job.seed, "steps": _key(job)[3]}
    row |= {"fit_steps": job.fit_steps, "semantic_weight": job.semantic_weight}
    checkpoint = None
    if job.method != BASELINE:
        checkpoint, seconds = train_method(job, source, target)
        facts = munitaug.checkpoint_facts(checkpoint)
        row |= {"parameters": facts.all_parameters}
        if seconds is not None:
            row |= {"steps_per_second": round(job.steps / seconds, 2)}
        row |= _measured(checkpoint, job, source_test, target_test, _judge(job, target))
    row["downstream"] = _downstream(job, checkpoint, source, target, target_test)
    return row | circumstances("benchmarks.methods", job.device)


def run_folder(job: Job) -> Path:
    """Gives the folder of a cell's translator."""
    weight = f"-semantic{job.semantic_weight:g}" if job.semantic_weight else ""
    return job.runs / f"{job.pair.replace(':', '-')}-{job.method}-{job.steps}{weight}-seed{job.seed}"


def train_method(job: Job, source: munitaug.ImageDomain, target: munitaug.ImageDomain) -> tuple[Path, float | None]:
    """Trains a method, or takes the finished run that is there; gives the run folder and the seconds it took.

    No seconds where a run was finished and stopped before they were written.
    """
    folder = run_folder(job)
    clock = folder / "seconds.json"
    if clock.exists():
        return folder, json.loads(clock.read_text(encoding="utf-8"))
    settings = munitaug.TrainConfig(
        max_steps=job.steps, seed=job.seed, device=job.device, sample_every_steps=0, save_every_steps=job.steps
    )
    clock_now = time.process_time if job.device == "cpu" else time.monotonic  # CPU time does not see what runs beside
    started = clock_now()
    moments: list[float] = []
    munitaug.train(
        source,
        target,
        folder,
        method=job.method,
        training=settings,
        semantic=munitaug.SemanticOptions(job.semantic_weight),
        resume=(folder / "config.json").exists(),
        progress=False,
        on_step=lambda step, terms: moments.append(clock_now()),
    )
    seconds = _of_all_steps(started, moments, job.steps)
    clock.write_text(json.dumps(seconds), encoding="utf-8")
    return folder, seconds


def _of_all_steps(started: float, moments: Sequence[float], steps: int) -> float | None:
    """Gives the seconds of a whole run from the moments at which steps ended; None where there were none to time.

    The first of them, which may have started threads and compilers, counts as long as the others. A run that was
    resumed has fewer moments than steps.
    """
    if len(moments) < 2:
        return (moments[0] - started) * steps if moments else None
    return (moments[-1] - moments[0]) / (len(moments) - 1) * steps


_JUDGES: dict[str, nn.Module] = {}


def _judge(job: Job, target: munitaug.ImageDomain) -> nn.Module:
    """Gives the classifier of labelled target images that measures; trained once in each process."""
    if job.pair not in _JUDGES:
        _JUDGES[job.pair] = munitaug.train_classifier(target, settings=munitaug.FitSettings(), seed=0)
    return _JUDGES[job.pair]


@torch.no_grad()
def _measured(
    checkpoint: Path, job: Job, source_test: munitaug.ImageDomain, target_test: munitaug.ImageDomain, judge: nn.Module
) -> Row:
    """Gives kept labels, kernel distance and diversity of translated source test images."""
    translator = munitaug.shared_translator(checkpoint)
    images, labels = _model_images(source_test), source_test.require_labels()[:SCORED_IMAGES]
    real = _model_images(target_test)
    generator = torch.Generator().manual_seed(job.seed)
    styles = torch.randn(len(images), 2, translator.style_dim, generator=generator)
    both = torch.cat([translator.translate(x, s) for x, s in zip(images.split(250), styles.split(250), strict=True)])
    kept = (_in_parts(judge, both[:, 0]).argmax(dim=1) == labels).float().mean()
    name = f"classifier of {PAIRS[job.pair][1]}"
    features = cast(Callable[[Tensor], Tensor], judge.features)
    distance = munitaug.kernel_distance(munitaug.Features.of(features, both[:, 0], real, name=name))
    varied = munitaug.style_diversity(features, both, name=name).value if translator.style_dim else 0.0
    return {
        "kept": round(100.0 * float(kept), 2),
        "kid": round(1000.0 * distance.value, 2),
        "diversity": round(varied, 4),
        "feature_network": name,
        "scored_images": len(images),
    }


def _model_images(domain: munitaug.ImageDomain) -> Tensor:
    return domain.images(range(min(SCORED_IMAGES, len(domain)))).float() / 127.5 - 1.0


def _in_parts(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(part) for part in images.split(250)])


def _downstream(
    job: Job,
    checkpoint: Path | None,
    source: munitaug.ImageDomain,
    target: munitaug.ImageDomain,
    target_test: munitaug.ImageDomain,
) -> float:
    """Gives the accuracy in percent on the target's test images of a classifier of this cell's seed."""
    out = job.runs / "downstream" / f"{run_folder(job).name}-{job.fit_steps}.json"
    condition: Literal["classic", "munit"] = "classic" if checkpoint is None else "munit"
    rows = munitaug.evaluate(
        source,
        target,
        out,
        checkpoint=checkpoint,
        test=target_test,
        conditions=[condition],
        seeds=[job.seed],
        fit=munitaug.FitSettings(steps=job.fit_steps),
        processes=1,
        resume=out.exists(),
        progress=False,
    )
    return next(row["accuracy"] for row in rows if row["seed"] == job.seed)


COLUMNS = (
    ("kept", "kept %", ".1f"),
    ("kid", "KID x 1000", ".1f"),
    ("diversity", "diversity", ".3f"),
    ("downstream", "downstream %", ".1f"),
    ("steps_per_second", "steps/s", ".1f"),
    ("parameters", "parameters", ",.0f"),
)


def render(rows: list[Row], methods: list[str]) -> str:
    """Gives the Markdown table of the methods."""
    return render_columns(rows, methods, COLUMNS)


def render_columns(rows: list[Row], methods: list[str], columns: Sequence[tuple[str, str, str]]) -> str:
    """Gives a Markdown table: mean and 95% interval over seeds (Student's t), a dash where nothing was measured.

    Args:
        rows: with "method" and the figures of the columns.
        methods: one line each.
        columns: name in the rows, title, number format.
    """
    lines = [
        "| method | seeds | " + " | ".join(title for _, title, _ in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for method in methods:
        cells = [row for row in rows if row["method"] == method]
        texts = [_mean_and_interval([row[name] for row in cells if name in row], form) for name, _, form in columns]
        lines.append(f"| {method} | {len(cells)} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _mean_and_interval(values: list[float], form: str) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return format(mean, form)
    return f"{mean:{form}} ± {student_half_width(values):{form}}"


@torch.no_grad()
def draw_sheet(jobs: list[Job], path: Path) -> None:
    """Draws source test images and one row of translations per method (seed 0), then real target images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = munitaug.DataOptions(channels=1, size=SIZE_PX, data_root=jobs[0].data_root)
    _, _, source, target = (data.open(spec) for spec in PAIRS[jobs[0].pair])
    images = source.images(_two_of_each(source.require_labels())).float() / 127.5 - 1.0
    rows = [("source", images)]
    for job in jobs:
        folder = run_folder(job)
        if (folder / "checkpoint").exists():
            translator = munitaug.shared_translator(folder)
            styles = torch.zeros(len(images), 1, translator.style_dim)
            if translator.style_dim:
                styles = torch.randn(1, 1, translator.style_dim, generator=torch.Generator().manual_seed(0))
                styles = styles.expand(len(images), -1, -1)
            rows.append((job.method, translator.translate(images, styles).squeeze(1)))
    rows.append(("real target", target.images(_two_of_each(target.require_labels())).float() / 127.5 - 1.0))
    figure = Figure(figsize=(0.5 * len(images) + 1.6, 0.5 * len(rows) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(images), squeeze=False)
    for line, (name, cells) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for axes, cell in zip(line, cells, strict=False):
            axes.imshow(cell.squeeze(0).numpy(), cmap="gray", vmin=-1, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
    figure.savefig(path, dpi=80)


def _two_of_each(labels: Tensor) -> list[int]:
    """Gives the places of the first two images of each class, class by class."""
    return [int(place) for label in range(10) for place in torch.nonzero(labels == label).flatten()[:2]]


if __name__ == "__main__":
    main()
