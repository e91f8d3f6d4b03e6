"""Other adaptation libraries on the same pairs, splits and classifier: skada and pytorch-adapt.

    pip install "munitaug[peers,benchmarks]"
    python -m benchmarks.peers --pair mnist:usps --seeds 3 --data-root DATA

Each peer gets the classifier, the batches of both domains, the classic augmentation, the optimiser, the schedule and
the number of updates with labels (1200) of the digit benchmark; its losses, and how they are put together, are the
library's. What is not the library's default stands at the peer's function. Nothing is tuned and the last iterate is
the result.

- skada-dann, skada-coral: the conditions "dann" and "coral" of benchmarks.digits.
- pytorch-adapt-dann: its DANNHook and discriminator, gradient reversal at full strength from the start.
- pytorch-adapt-mcc: its classifier hook with minimum class confusion.

Rows of the fields of benchmarks.digits go to OUT/peers-PAIR.jsonl; cells that stand there are not run again. Five
snapshots of each training are scored by pytorch-adapt's validator IM, which sees no labels; their accuracy stands
beside it.
The extra "peers" is not part of "all": pytorch-adapt asks for old versions of other packages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.coral import coral
from benchmarks.conditions.dann import dann
from benchmarks.conditions.joint import SNAPSHOTS, check_skada, head_of, target_batches, with_features
from benchmarks.digits import TestSet, Unlabelled
from benchmarks.pairs import PAIRS, PairData, PairMissingError, open_pair, own_images
from benchmarks.side_by_side import side_by_side
from benchmarks.storing import append_row, read_rows
from munitaug.adaptation import (
    ClassicAugmentation,
    FitSettings,
    Task,
    build_classifier,
    make_task,
    source_batches,
)
from munitaug.adaptation import Row as Result
from munitaug.random import seed_of

Row = dict[str, Any]
DISCRIMINATOR_WIDTH = 256
CONFUSION_TEMPERATURE = 2.5
"""MCC's (Jin et al., ECCV 2020), as in its authors' mcc.py (Transfer-Learning-Library); pytorch-adapt has 1."""
VALIDATED_IMAGES = 1500


@dataclass(frozen=True)
class Job:
    """One cell: a peer on a pair under a seed.

    Args:
        data_root: folder of the digit data sets; None takes $MUNITAUG_DATA, then ./data.
        photographs: folder of photographs, for mnist:mnist-m.
        device: "cpu" or "cuda".
        cache: folder of rendered sets.
        images: fingerprints of photographs of one's own; empty for pairs without.
    """

    pair: str
    peer: str
    seed: int
    settings: FitSettings
    protocol: str
    data_root: str | None
    photographs: str | None
    device: str
    cache: Path
    images: Mapping[str, str] = field(default_factory=dict)


def pytorch_adapt_dann(cell: Cell) -> nn.Module:
    """Trains through pytorch-adapt's DANN, with its discriminator.

    Raises:
        ImportError: pytorch-adapt is missing.
    """
    check_pytorch_adapt("DANN")
    from pytorch_adapt.hooks import DANNHook
    from pytorch_adapt.models import Discriminator

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(cell.seed, "domain classifier"))
        judge = Discriminator(in_size=head_of(cell.new_classifier()).in_features, h=DISCRIMINATOR_WIDTH)
    return _train_through_hook(cell, lambda optimiser: DANNHook([optimiser]), "dann", judge)


def pytorch_adapt_mcc(cell: Cell) -> nn.Module:
    """Trains through pytorch-adapt's minimum class confusion on target logits, beside cross-entropy on the source.

    Raises:
        ImportError: pytorch-adapt is missing.
    """
    check_pytorch_adapt("MCC")
    from pytorch_adapt.hooks import ClassifierHook, MCCHook
    from pytorch_adapt.layers import MCCLoss

    def make(optimiser: torch.optim.Optimizer) -> Hook:
        hook: Hook = ClassifierHook([optimiser], post=[MCCHook(MCCLoss(T=CONFUSION_TEMPERATURE))])
        return hook

    return _train_through_hook(cell, make, "mcc", None)


PEERS: dict[str, ConditionFunction] = {
    "skada-dann": dann,
    "skada-coral": coral,
    "pytorch-adapt-dann": pytorch_adapt_dann,
    "pytorch-adapt-mcc": pytorch_adapt_mcc,
}

Hook = Callable[[dict[str, object]], object]
"""pytorch-adapt's hook: images, labels, domains and models -> outputs and losses; one update of the weights."""


class FeaturesOf(nn.Module):
    """Gives what a classifier's last layer is given: pytorch-adapt's "G", whose "C" is that layer.

    Args:
        classifier: any that ends in a linear layer.
        settings: its precision is kept.
    """

    def __init__(self, classifier: nn.Module, settings: FitSettings) -> None:
        super().__init__()
        self.classifier = classifier.to(memory_format=torch.channels_last)
        self._bfloat16 = settings.precision == "bfloat16"

    def forward(self, x: Tensor) -> Tensor:
        """Gives N x F features of images N x C x H x W in [-1, 1]."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bfloat16):
            features, _ = with_features(self.classifier, x.contiguous(memory_format=torch.channels_last))
        return features.float()


def _train_through_hook(
    cell: Cell, make: Callable[[torch.optim.Optimizer], Hook], stage: str, judge: nn.Module | None
) -> nn.Module:
    """Trains a new classifier by a hook of pytorch-adapt, one call per step.

    Args:
        cell: data, settings and seed.
        make: gives the hook, which updates by this optimiser.
        stage: name of the snapshots.
        judge: pytorch-adapt's "D", trained beside the classifier; None without.
    """
    settings, task, device = cell.settings, cell.task, cell.task.source_images.device
    classifier = cell.new_classifier()
    models: dict[str, object] = {"G": FeaturesOf(classifier, settings), "C": head_of(classifier)}
    weights = list(classifier.parameters())
    if judge is not None:
        models["D"] = judge.to(device)
        weights += list(judge.parameters())
    optimiser = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=settings.steps)
    hook = make(optimiser)
    labelled = source_batches(task, settings, cell.seed, ClassicAugmentation())
    unlabelled = target_batches(task, settings, cell.seed)
    domain = torch.zeros(settings.batch_size, device=device)
    classifier.train()
    for step in range(settings.steps):
        images, labels = labelled(step)
        batch: dict[str, object] = {"src_imgs": images, "src_labels": labels, "target_imgs": unlabelled(step)}
        hook(batch | {"src_domain": domain, "target_domain": domain + 1.0} | models)
        schedule.step()
        if (step + 1) % max(1, settings.steps // SNAPSHOTS) == 0:
            cell.on_snapshot(stage, step + 1, classifier)
    return classifier.eval()


def check_pytorch_adapt(what: str) -> None:
    """Checks that pytorch-adapt can be imported.

    Raises:
        ImportError: not so; it also needs pkg_resources, which setuptools has had up to version 80.
    """
    try:
        import pytorch_adapt.hooks
        import pytorch_adapt.validators  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{what} runs through pytorch-adapt: pip install "munitaug[peers]" ({error})') from error


def information_score(classifier: nn.Module, images: Tensor) -> float:
    """Gives the score of pytorch-adapt's IMValidator on unlabelled images: higher for sure, evenly spread predictions.

    Args:
        classifier: in evaluation mode.
        images: N x C x H x W in [-1, 1].
    """
    from pytorch_adapt.validators import IMValidator

    with torch.no_grad():
        logits = torch.cat([classifier(part).cpu() for part in images.split(500)])
    return float(IMValidator(layer="logits")(target_train={"logits": logits}))


class Kept:
    """Keeps copies of a classifier's weights in the course of its training."""

    def __init__(self) -> None:
        self.copies: list[tuple[str, int, dict[str, Tensor]]] = []

    def __call__(self, stage: str, step: int, classifier: nn.Module) -> None:
        """Copies the weights."""
        weights = {name: value.detach().clone() for name, value in classifier.state_dict().items()}
        self.copies.append((stage, step, weights))


def main() -> None:
    """Runs the cells that are missing, prints a table of each pair."""
    options = _options()
    settings = FitSettings(steps=options.steps, precision=options.precision)
    able = [peer for peer in options.peers if not _said(_missing_package(peer), peer)]
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [job for pair in options.pair for job in _jobs(pair, able, settings, options)]
    missing = [job for job in jobs if not is_finished(job, options.out)]
    for row in side_by_side(run_cell, missing, options.processes, options.device):
        append_row(results_file(options.out, row["pair"]), row)
    images = {job.pair: job.images for job in jobs}
    for pair in options.pair:
        plan = decided_by(settings, options.protocol, images.get(pair, {}))
        print(f"\n{pair}\n" + table(read_rows(results_file(options.out, pair)), plan))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs="+", default=["synthetic:digits"], help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1")
    parser.add_argument("--protocol", choices=("full", "sampled"), default="full")
    parser.add_argument("--steps", type=int, default=FitSettings.steps, help="updates of every classifier")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default=FitSettings.precision)
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--photographs", default=None, help="folder of photographs, for mnist:mnist-m")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cells run side by side on a CPU")
    parser.add_argument("--runs", type=Path, default=Path("runs/digits"), help="folder of rendered sets")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the rows")
    return parser.parse_args()


def _said(reason: str, name: str) -> bool:
    """Prints why something is left out; says whether there is a reason."""
    if reason:
        print(f"{name} is left out: {reason}", file=sys.stderr)
    return bool(reason)


def _missing_package(peer: str) -> str:
    try:
        (check_skada if peer.startswith("skada") else check_pytorch_adapt)(peer)
    except ImportError as error:
        return str(error)
    return ""


def _jobs(pair: str, able: Sequence[str], settings: FitSettings, options: argparse.Namespace) -> list[Job]:
    """Gives the cells of a pair; of one that cannot be opened it says why, and gives none."""
    if not able:
        return []
    places = (options.data_root, options.photographs, options.device, options.runs / "rendered")
    job = Job(pair, able[0], 0, settings, options.protocol, *places)
    try:
        job = replace(job, images=own_images(pair, _open(job)))
    except PairMissingError as error:
        _said(str(error), pair)
        return []
    return [replace(job, peer=peer, seed=seed) for seed in range(options.seeds) for peer in able]


def _open(job: Job) -> PairData:
    return open_pair(
        job.pair,
        data_root=job.data_root,
        protocol=job.protocol,
        seed=job.seed,
        photographs=job.photographs,
        cache=job.cache,
    )


def results_file(folder: Path, pair: str) -> Path:
    """Gives the file of a pair's rows."""
    return folder / f"peers-{pair.replace(':', '-')}.jsonl"


def is_finished(job: Job, folder: Path) -> bool:
    """Says whether a row of this cell under these settings stands in the folder's files."""
    wanted = (job.peer, job.seed, decided_by(job.settings, job.protocol, job.images))
    rows = read_rows(results_file(folder, job.pair))
    return any((row["condition"], row["seed"], row["plan"]) == wanted for row in rows)


def decided_by(settings: FitSettings, protocol: str, images: Mapping[str, str]) -> Row:
    """Gives what decides a row besides pair, peer and seed, as it stands in the row; without images where none are."""
    facts: Row = json.loads(json.dumps({"settings": asdict(settings), "protocol": protocol}))
    return facts | {"images": dict(images)} if images else facts


def run_cell(job: Job) -> Row:
    """Trains one peer and scores it."""
    data = _open(job)
    task = make_task(data.source, Unlabelled(data.target)).to(job.device)
    kept, started = Kept(), time.perf_counter()
    torch.manual_seed(job.seed)  # for dropout and the like; batches have seeds of their own
    cell = Cell(
        pair=job.pair,
        task=task,
        oracle_task=None,
        settings=job.settings,
        seed=job.seed,
        folder=job.cache.parent,
        translator_of=_no_translator,
        restyler_of=_no_translator,
        on_snapshot=kept,
    )
    classifier = PEERS[job.peer](cell)
    seconds = time.perf_counter() - started
    test = TestSet(data.target_test, job.device)
    row: Row = {"pair": job.pair, "condition": job.peer, "seed": job.seed} | test.score(classifier)
    row["snapshots"] = _scored(kept, cell, test)
    row |= {"protocol": job.protocol, "size": data.size, "channels": data.channels}
    row |= {"classifier": job.settings.classifier, "steps": job.settings.steps}
    row |= {
        "plan": decided_by(job.settings, job.protocol, job.images),
        "last_iterate": True,
        "seconds": round(seconds, 1),
    }
    return row | circumstances("benchmarks.peers", job.device)


def _no_translator(method: str, weight: float) -> munitaug.Translator:
    raise NotImplementedError(f"peers translate nothing, but {method} with weight {weight} was asked for")


def _scored(kept: Kept, cell: Cell, test: TestSet) -> list[Row]:
    """Gives each snapshot's score under pytorch-adapt's IM, where it is installed, and its accuracy."""
    task: Task = cell.task
    model = build_classifier(cell.settings.classifier, task.channels, task.classes, 0).to(task.source_images.device)
    validated = not _missing_package("pytorch-adapt")
    rows = []
    for stage, step, weights in kept.copies:
        model.load_state_dict(weights)
        images = task.target_images[:VALIDATED_IMAGES]
        scores = {"im-pytorch-adapt": round(information_score(model.eval(), images), 6)} if validated else {}
        rows.append({"stage": stage, "step": step, "accuracy": test.score(model)["accuracy"], "scores": scores})
    return rows


def table(rows: Sequence[Row], plan: Row) -> str:
    """Gives the table of a pair's rows under these settings."""
    shown = [
        Result(condition=row["condition"], seed=row["seed"], accuracy=row["accuracy"])
        for name in PEERS
        for row in rows
        if row["condition"] == name and row["plan"] == plan
    ]
    return munitaug.render_table(munitaug.summarise(shown)) if shown else "no rows"


if __name__ == "__main__":
    main()
