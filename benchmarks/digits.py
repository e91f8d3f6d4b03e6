"""Does translation help? Digit pairs x conditions x seeds, one JSON line per finished cell.

    python -m benchmarks.digits --pair mnist:usps synthetic:digits --conditions classic self-training adapt --seeds 5 \
        --data-root DATA

Every condition gets the same classifier (but CoGAN, which is its own) and classic augmentation; translator and
classifier are both reseeded. Updates of the classifier differ: 1200 with labels ("source", "classic", "munit" and the
like), 600 more where self-training follows ("self-training"; 1200 more "in turn"), and 3 x (1200 + 300) + 600 = 5100 in
"adapt", "adapt-restyled" and "self-training-restarts", whose differences are those of equal updates. A row's ``steps``
are the updates with labels of each start, whatever follows.

A condition sees labelled source images and unlabelled target images. The target's test labels are read by the score
alone, after the classifier is final; its training labels by "oracle" alone. The last iterate is the result: within a
run nothing is chosen by target labels. docs/digits.md names the choices between runs that were made with rows in view.

Rows go to OUT/digits-PAIR.jsonl; cells that stand there are not run again. Each row has pair, condition, seed, accuracy
in percent, which test images were right (``correct``, base64 of numpy.packbits), ``confusion`` (rows: true classes),
``snapshots`` on the way with the scores of label-free validators, and how it came about (device, commit, date, command,
and ``seconds`` without what an earlier condition left under --runs). Translators and shared classifiers are kept under
--runs. Jobs are (pair, seed); --processes of them run side by side, of one thread each on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.conditions import CONDITIONS, USUAL
from benchmarks.conditions.base import Cell
from benchmarks.pairs import PAIRS, FolderPair, PairData, PairMissingError, open_pair, own_images
from benchmarks.rows import pack_correct
from benchmarks.side_by_side import start_worker
from benchmarks.storing import append_row, read_rows
from munitaug.adaptation import (
    VALIDATORS,
    FitSettings,
    build_classifier,
    collect_evidence,
    make_oracle_task,
    make_task,
    predict,
)
from munitaug.adaptation import Row as Result
from munitaug.types import UNLABELLED

Row = dict[str, Any]
EVIDENCE_IMAGES = 1500
SNAPSHOTS_AT_MOST = 12
SCORED_AT_ONCE = 500
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What decides a row, besides pair, condition and seed.

    Args:
        settings: of classifiers.
        translator_steps: updates of every translator.
        translator_preset: of METHODS' configurations.
        protocol: "full", or "sampled" (2000 MNIST and 1800 USPS training images).
        target_images: so many of the target's training images, drawn with the seed; 0 takes all.
        images: fingerprints of a pair of one's own folders or photographs, see :func:`own_images`; empty for others.
    """

    settings: FitSettings = FitSettings()
    translator_steps: int = 1000
    translator_preset: str = "small"
    protocol: str = "full"
    target_images: int = 0
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where things are: decides nothing of a row but its device.

    Args:
        data_root: folder of the digit data sets; None takes $MUNITAUG_DATA, then ./data.
        photographs: folder of photographs, for mnist:mnist-m.
        runs: folder of translators and shared classifiers.
        device: "cpu" or "cuda".
        folders: the domains of a pair of one's own.
    """

    data_root: str | None = None
    photographs: str | None = None
    runs: Path = Path("runs/digits")
    device: str = "cpu"
    folders: FolderPair | None = None


@dataclass(frozen=True)
class Job:
    """The conditions that are missing of one pair under one seed."""

    pair: str
    seed: int
    conditions: tuple[str, ...]
    plan: Plan
    places: Places


@dataclass
class Snapshots:
    """Keeps copies of a classifier in the course of its training, to be scored when it is over."""

    kept: list[tuple[str, int, dict[str, Tensor]]] = field(default_factory=list)

    def __call__(self, stage: str, step: int, classifier: nn.Module) -> None:
        """Copies the weights; every second copy goes when there are too many."""
        weights = {name: value.detach().cpu().clone() for name, value in classifier.state_dict().items()}
        self.kept.append((stage, step, weights))
        if len(self.kept) > SNAPSHOTS_AT_MOST:
            del self.kept[1:-1:2]


class Unlabelled(munitaug.ImageDomain):
    """A domain whose labels cannot be reached through it.

    Args:
        domain: its images are given as they are.
    """

    def __init__(self, domain: munitaug.ImageDomain) -> None:
        super().__init__(domain.name, domain.channels, ())
        self._images = domain.images(range(len(domain)))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], UNLABELLED

    @property
    def labels(self) -> None:
        return None


class TestSet:
    """The target's labelled test images; answers how good a classifier is, and nothing else.

    Args:
        domain: labelled.
        device: of the classifiers.
    """

    __test__ = False  # pytest: this is no test

    def __init__(self, domain: munitaug.ImageDomain, device: str) -> None:
        self._labels = domain.require_labels()
        self._images = _on(device, domain)
        self._class_names = domain.class_names

    def score(self, classifier: nn.Module) -> Row:
        """Gives accuracy, correct, confusion, class_names and test_images of a final classifier."""
        seen = predict(classifier, self._images)
        right = (seen == self._labels).numpy()
        classes = len(self._class_names) or int(self._labels.max()) + 1
        counts = torch.bincount(self._labels * classes + seen, minlength=classes * classes).reshape(classes, classes)
        return {
            "accuracy": round(100.0 * float(right.mean()), 4),
            "test_images": len(right),
            "correct": pack_correct(right),
            "confusion": counts.tolist(),
            "class_names": list(self._class_names),
        }

    @torch.no_grad()
    def likelihood(self, classifier: nn.Module) -> float:
        """Gives the mean negative log-likelihood of the labels under a final classifier, in nats."""
        logits = torch.cat([classifier(part).float().cpu() for part in self._images.split(SCORED_AT_ONCE)])
        return float(F.cross_entropy(logits, self._labels))


def main() -> None:
    """Runs the cells that are missing, prints a table of each pair."""
    options = _options()
    folders = _folders(options)
    plan = _plan(options)
    places = Places(options.data_root, options.photographs, options.runs, options.device, folders)
    if folders is None and set(options.pair) - set(PAIRS):
        raise SystemExit(f"unknown pairs; choose from {', '.join(PAIRS)}, or give --source, --target and --test")
    unknown = [name for name in options.conditions if name not in CONDITIONS]
    if unknown:
        raise SystemExit(f"unknown conditions {', '.join(unknown)}; choose from {', '.join(CONDITIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    jobs, plans = [], dict.fromkeys(options.pair, plan)
    for pair in options.pair:
        try:
            plans[pair] = plan_of(pair, plan, places)
        except PairMissingError as error:
            print(f"{pair} is left out: {error}")
            continue
        path = results_file(options.out, pair)
        jobs += missing_jobs(pair, options.conditions, options.seeds, plans[pair], places, path)
    for row in _run(jobs, options.processes):
        append_row(results_file(options.out, row["pair"]), row)
    for pair in options.pair:
        print(f"\n{pair}\n" + _table(read_rows(results_file(options.out, pair)), plans[pair]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs="+", default=["synthetic:digits"], help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--conditions", nargs="+", default=list(USUAL), help=f"of {', '.join(CONDITIONS)}")
    parser.add_argument("--seeds", type=int, default=5, help="runs seeds 0 .. N-1")
    parser.add_argument("--protocol", choices=("full", "sampled"), default="full")
    parser.add_argument(
        "--target-images", type=int, default=0, help="of the target's training images only so many, drawn; 0: all"
    )
    parser.add_argument("--steps", type=int, default=FitSettings.steps, help="of every classifier")
    parser.add_argument("--self-steps", type=int, default=FitSettings.self_steps, help="of self-training by itself")
    parser.add_argument("--translator-steps", type=int, default=Plan.translator_steps)
    parser.add_argument("--refine-steps", type=int, default=FitSettings.refine_steps, help="in adapt")
    parser.add_argument("--starts", type=int, default=FitSettings.starts, help="in adapt")
    parser.add_argument("--start-steps", type=int, default=FitSettings.start_steps, help="of each start in adapt")
    parser.add_argument("--restyle-weight", type=float, default=FitSettings.restyle_weight, help="in adapt")
    parser.add_argument("--translation-weight", type=float, default=FitSettings.translation_weight, help="in adapt")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default=FitSettings.precision, help="of all training"
    )
    parser.add_argument("--source", default=None, help="a pair of your own: folder of labelled images, or a spec")
    parser.add_argument("--target", default=None, help="a pair of your own: folder of target images")
    parser.add_argument("--test", default=None, help="a pair of your own: folder of labelled target images")
    parser.add_argument("--source-test", default=None, help="a pair of your own: held-out labelled source images")
    parser.add_argument("--size", type=int, default=32, help="a pair of your own: side in px")
    parser.add_argument("--channels", type=int, default=3, help="a pair of your own: 1 or 3")
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--photographs", default=None, help="folder of photographs, for mnist:mnist-m")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="jobs run side by side on a CPU")
    parser.add_argument("--runs", type=Path, default=Places.runs, help="folder of translators and classifiers")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the rows")
    options = parser.parse_args()
    if options.target_images < 0:
        parser.error(f"--target-images must be 0 (all) or positive, got {options.target_images}")
    return options


def _folders(options: argparse.Namespace) -> FolderPair | None:
    given = [options.source, options.target, options.test]
    if not any(given):
        return None
    if not all(given) or len(options.pair) != 1:
        raise SystemExit("a pair of your own needs --source, --target and --test, and one name for it in --pair")
    return FolderPair(options.source, options.target, options.test, options.source_test, options.size, options.channels)


def _plan(options: argparse.Namespace) -> Plan:
    settings = FitSettings(
        steps=options.steps,
        self_steps=options.self_steps,
        refine_steps=options.refine_steps,
        starts=options.starts,
        start_steps=options.start_steps,
        restyle_weight=options.restyle_weight,
        translation_weight=options.translation_weight,
        precision=options.precision,
    )
    return Plan(settings, options.translator_steps, protocol=options.protocol, target_images=options.target_images)


def results_file(folder: Path, pair: str) -> Path:
    """Gives the file of a pair's rows."""
    return folder / f"digits-{pair.replace(':', '-')}.jsonl"


def missing_jobs(pair: str, conditions: Sequence[str], seeds: int, plan: Plan, places: Places, path: Path) -> list[Job]:
    """Gives a job for each seed that lacks a condition under this plan."""
    wanted = decided_by(plan)
    there = {(row["condition"], row["seed"]) for row in read_rows(path) if row["plan"] == wanted}
    jobs = []
    for seed in range(seeds):
        missing = tuple(name for name in CONDITIONS if name in conditions and (name, seed) not in there)
        if missing:
            jobs.append(Job(pair, seed, missing, plan, places))
    return jobs


def plan_of(pair: str, plan: Plan, places: Places) -> Plan:
    """Gives the plan of a pair, with the fingerprints of images of one's own.

    Raises:
        PairMissingError: the pair cannot be opened here.
    """
    data = _open(Job(pair, 0, (), plan, places))
    return replace(plan, images=own_images(pair, data, places.folders))


def decided_by(plan: Plan) -> Row:
    """Gives the plan as it stands in a row; without what was not asked for, as in rows from before it could be."""
    facts: Row = json.loads(json.dumps(asdict(plan)))
    return {name: value for name, value in facts.items() if value or name not in ("images", "target_images")}


def _open(job: Job) -> PairData:
    return open_pair(
        job.pair,
        data_root=job.places.data_root,
        protocol=job.plan.protocol,
        seed=job.seed,
        photographs=job.places.photographs,
        cache=job.places.runs / "rendered",
        folders=job.places.folders,
        target_images=job.plan.target_images,
    )


def _run(jobs: Sequence[Job], processes: int) -> Iterator[Row]:
    """Gives rows as they finish, with a progress bar over cells."""
    count = sum(len(job.conditions) for job in jobs)
    with tqdm(total=count, desc="cells", unit="cell") as bar:
        if processes <= 1 or len(jobs) <= 1 or jobs[0].places.device != "cpu":
            if jobs and jobs[0].places.device == "cpu":
                torch.set_num_threads(1)  # as in a pool: bits depend on the number of threads
            for job in jobs:
                for row in run_job(job):
                    yield row
                    bar.update()
            return
        # spawn: a fork after torch has used several threads can hang for ever
        context = get_context("spawn")
        with context.Manager() as manager, ProcessPoolExecutor(processes, context, start_worker) as pool:
            rows = manager.Queue()
            futures = [pool.submit(_run_into, job, rows) for job in jobs]
            for row in _as_they_come(rows, futures):
                yield row
                bar.update()


def _as_they_come(rows: Any, futures: Sequence[Future[None]]) -> Iterator[Row]:
    """Gives rows until every job is through: a condition that lacks a package gives none.

    Raises:
        Exception: whatever a job raised first, after the rows of jobs that had begun; others are not begun.
    """
    while True:
        through = all(future.done() for future in futures)  # asked before the queue, which may fill in between
        if _failures(futures):
            for waiting in futures:
                waiting.cancel()
        try:
            yield rows.get(timeout=0.0 if through else POLL_SECONDS)
        except queue.Empty:
            if through:
                break
    for failed in _failures(futures):
        failed.result()


def _failures(futures: Sequence[Future[None]]) -> list[Future[None]]:
    return [each for each in futures if each.done() and not each.cancelled() and each.exception() is not None]


def _run_into(job: Job, rows: Any) -> None:
    for row in run_job(job):
        rows.put(row)


def run_job(job: Job) -> Iterator[Row]:
    """Gives the rows of one pair and seed, condition by condition; of a missing package it says so and goes on."""
    cell, data = make_cell(job)
    device = job.places.device
    test = TestSet(data.target_test, device)
    for name in job.conditions:
        snapshots, started = Snapshots(), time.perf_counter()
        torch.manual_seed(job.seed)  # for dropout and the like; batches have seeds of their own
        try:
            classifier = CONDITIONS[name](replace(cell, on_snapshot=snapshots))
        except ImportError as error:
            tqdm.write(f"{job.pair}, {name}: left out, {error}")
            continue
        seconds = time.perf_counter() - started
        row: Row = {"pair": job.pair, "condition": name, "seed": job.seed} | test.score(classifier)
        row["snapshots"] = _scored(snapshots, cell, data, test)
        row |= {"protocol": job.plan.protocol, "size": data.size, "channels": data.channels}
        row |= {"classifier": job.plan.settings.classifier, "steps": job.plan.settings.steps}
        row |= {"plan": decided_by(job.plan), "last_iterate": True, "seconds": round(seconds, 1)}
        yield row | circumstances("benchmarks.digits", device)


def make_cell(job: Job) -> tuple[Cell, PairData]:
    """Gives what conditions are given, and the domains it comes from."""
    data = _open(job)
    return cell_of(job, data), data


def cell_of(job: Job, data: PairData) -> Cell:
    """Gives what conditions are given of these domains."""
    unlabelled = Unlabelled(data.target)
    device = job.places.device
    plan = decided_by(job.plan)
    folder = job.places.runs / f"{job.pair.replace(':', '-')}-{_digest(plan)}-seed{job.seed}"

    def translator_of(method: str, weight: float) -> munitaug.Translator:
        checkpoint = _checkpoint(job, data.source, unlabelled, folder, method, weight)
        return munitaug.shared_translator(checkpoint, device=device)

    def restyler_of(method: str, weight: float) -> munitaug.Translator | None:
        core = munitaug.load(_checkpoint(job, data.source, unlabelled, folder, method, weight)).core
        restyler = core.restyler(core.directions[0][1])
        return None if restyler is None else restyler.eval().requires_grad_(False).to(device)

    labelled = data.target.labels is not None and bool((data.target.labels >= 0).all())
    task = make_task(data.source, unlabelled).to(device)
    if job.plan.images:  # of one's own folders, which list images class by class
        task = task.shuffled()
    oracle = make_oracle_task(data.target).to(device) if labelled else None
    return Cell(job.pair, task, oracle, job.plan.settings, job.seed, folder, translator_of, restyler_of, Snapshots())


def _checkpoint(
    job: Job, source: munitaug.ImageDomain, target: munitaug.ImageDomain, runs: Path, method: str, weight: float
) -> Path:
    """Gives the checkpoint of a translator, trained now or before; half-way runs go on."""
    folder = runs / (f"{method}-semantic{weight:g}" if weight > 0.0 else method)
    if not (folder / "checkpoint" / "checkpoint.json").exists():
        munitaug.train(
            source,
            target,
            folder,
            method=method,
            preset=job.plan.translator_preset,
            training=_training(job),
            semantic=munitaug.SemanticOptions(weight, job.plan.settings),
            resume=(folder / "config.json").exists(),
            progress=False,
        )
    return folder / "checkpoint"


def _training(job: Job) -> munitaug.TrainConfig:
    precision = job.plan.settings.precision
    return munitaug.TrainConfig(
        max_steps=job.plan.translator_steps,
        seed=job.seed,
        device=job.places.device,
        precision=precision,
        channels_last=precision == "bfloat16",
        sample_every_steps=0,
    )


def _scored(snapshots: Snapshots, cell: Cell, data: PairData, test: TestSet) -> list[Row]:
    """Gives each snapshot's scores under the label-free validators, and its accuracy, which they do not see."""
    if not snapshots.kept or data.source_test is None:
        return []
    model = build_classifier(cell.settings.classifier, cell.task.channels, cell.task.classes, 0)
    model.to(cell.task.source_images.device)
    held = data.source_test.require_labels()[:EVIDENCE_IMAGES]
    images = _on(str(cell.task.source_images.device), data.source_test, EVIDENCE_IMAGES)
    rows = []
    for stage, step, weights in snapshots.kept:
        model.load_state_dict(weights)
        evidence = collect_evidence(model.eval(), images, held, cell.task.target_images[:EVIDENCE_IMAGES])
        scores = {name: _finite(score(evidence)) for name, score in VALIDATORS.items()}
        rows.append({"stage": stage, "step": step, "accuracy": test.score(model)["accuracy"], "scores": scores})
    return rows


def _finite(score: float) -> float | None:
    return round(score, 6) if math.isfinite(score) else None


def _on(device: str, domain: munitaug.ImageDomain, count: int | None = None) -> Tensor:
    """Gives the first images N x C x H x W in [-1, 1] on a device."""
    return (domain.images(range(min(count or len(domain), len(domain)))).float() / 127.5 - 1.0).to(device)


def _digest(facts: Row) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _table(rows: Sequence[Row], plan: Plan) -> str:
    """Gives the table of a pair's rows under a plan."""
    wanted = decided_by(plan)
    shown = [
        Result(condition=row["condition"], seed=row["seed"], accuracy=row["accuracy"])
        for name in CONDITIONS
        for row in rows
        if row["condition"] == name and row["plan"] == wanted
    ]
    return munitaug.render_table(munitaug.summarise(shown)) if shown else "no rows"


if __name__ == "__main__":
    main()
