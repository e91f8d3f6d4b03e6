"""Does it help? Conditions x seeds on a target test set, as rows, a table and a picture.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from munitaug.adaptation import (
    CONDITIONS,
    Bench,
    Condition,
    FitSettings,
    Row,
    Scorer,
    Summary,
    check_conditions,
    evaluate_conditions,
    load_rows,
    make_oracle_task,
    make_task,
    save_rows,
)
from munitaug.checkpoint import checkpoint_sha256, frozen_restyler, load_method, shared_translator
from munitaug.data.domain import ImageDomain, check_classes
from munitaug.data.specs import parse_spec
from munitaug.default_device import on_cpu_by_default
from munitaug.files import only_writer_of, refuse_no_way, write_text
from munitaug.networks.modes import with_gradients
from munitaug.recipes.options import DataOptions, domain_facts, refuse_other_settings
from munitaug.recipes.pictures import picture
from munitaug.settings import check_kinds
from munitaug.types import CheckpointError, DomainError


@with_gradients
@on_cpu_by_default
def evaluate(
    source: str | Path | ImageDomain,
    target: str | Path | ImageDomain,
    out: str | Path,
    *,
    checkpoint: str | Path | None = None,
    test: str | Path | ImageDomain | None = None,
    conditions: Sequence[Condition] | None = None,
    seeds: int | Sequence[int] = 3,
    fit: FitSettings = FitSettings(),
    data: DataOptions = DataOptions(),
    processes: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> list[Row]:
    """Trains classifiers under every condition and gives their accuracy on the target test set.

    Target labels are used for the final score alone, and by the "oracle" condition, which is no method.

    Args:
        source: labelled images: a spec or a domain.
        target: images of the kind that is wanted; their labels serve the oracle only.
        out: JSON file for the rows, written after each finished chain of conditions.
        checkpoint: a trained translator, for "munit" and "adapt".
        test: labelled target test images; None takes the ``test`` split of a named target.
        conditions: which to run; None runs all for which everything needed is there.
        seeds: a number of seeds, for 0 .. seeds - 1, or the seeds themselves.
        fit: how classifiers are trained, equal for all conditions.
        data: how specs are opened.
        processes: chains run side by side; None is one per core.
        resume: keep the rows that ``out`` holds and run what is missing; the settings, which stand beside it
            in ``*.settings.json``, must be the same.
        progress: show progress bars.

    Returns:
        Rows {"condition", "seed", "accuracy" in percent}, in table order.

    Raises:
        FileExistsError: ``out`` exists and is not to be resumed.
        BlockingIOError: another process writes ``out``.
        CheckpointError: the rows to resume were made with other settings.
        DomainError: source and target have different classes.
        LabelMissingError: source or test images have no labels.
        ValueError: a condition lacks something, or settings do not suit.
    """
    check_kinds(fit=(fit, FitSettings), data=(data, DataOptions))
    path = Path(out).expanduser()
    _finished_rows(path, resume)
    if checkpoint is not None:
        data = data.like(checkpoint)
    domain_a = data.open_source(source)
    domain_b = data.open_target(target)
    domain_test = _open_test(target, test, data)
    check_classes(domain_a, domain_test)
    if domain_b.is_labelled:
        check_classes(domain_a, domain_b)
    bench = Bench(
        make_task(domain_a, domain_b).shuffled(),
        make_oracle_task(domain_b) if domain_b.is_labelled else None,
        None if checkpoint is None else shared_translator(checkpoint),
        fit,
        None if checkpoint is None else frozen_restyler(load_method(checkpoint)),
    )
    chosen = list(conditions or ()) or [c for c in CONDITIONS if not bench.missing_for(c)]
    check_conditions(bench, chosen, seeds)
    scorer = Scorer(domain_test)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "source": domain_facts(domain_a),
        "target": domain_facts(domain_b, labels=domain_b.is_labelled),
        "test": domain_facts(domain_test),
    }
    with only_writer_of(path):
        finished = _finished_rows(path, resume)  # again: another process may have been at work till now
        _keep_settings(path, {**facts, "fit": asdict(fit)}, checkpoint, finished)
        rows = evaluate_conditions(
            bench,
            scorer,
            conditions=chosen,
            seeds=seeds,
            finished=finished,
            processes=processes,
            progress=progress,
            on_rows=lambda rows: save_rows(path, rows),
        )
        save_rows(path, rows)
    return rows


def draw_accuracies(summaries: Sequence[Summary], title: str, path: str | Path) -> None:
    """Draws accuracy by condition with 95% intervals, as a PNG; an existing one is replaced.

    Args:
        summaries: one bar each, from top to bottom; at least one.
        title: above the bars.
        path: of the PNG.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: there is nothing to draw, or a mean is no number.
    """
    if not summaries or not all(math.isfinite(entry.mean) for entry in summaries):
        raise ValueError("there must be at least one summary to draw, and every mean must be a finite number")
    with picture(Path(path).expanduser(), 7.0, 0.55 * len(summaries) + 1.4) as axes:
        ours = {"munit", "adapt"}
        widths = [0.0 if math.isnan(entry.half_width) else entry.half_width for entry in summaries]
        for place, (entry, width) in enumerate(zip(summaries, widths, strict=True)):
            colour = "#1f6f8b" if entry.condition in ours else "#b9c4c9"
            whiskers = [[min(width, entry.mean)], [min(width, 100.0 - entry.mean)]]
            axes.barh(place, entry.mean, xerr=whiskers, color=colour, ecolor="#333333", capsize=3)
            axes.text(min(100.0, entry.mean + width) + 0.6, place, f"{entry.mean:.1f}", va="center", fontsize=9)
        axes.set_yticks(range(len(summaries)), [entry.condition for entry in summaries])
        axes.invert_yaxis()
        lowest = min(entry.mean - width for entry, width in zip(summaries, widths, strict=True))
        left = max(0, 10 * math.floor(lowest / 10.0) - 10)
        axes.set_xlim(left, 100.0 + 0.07 * (100.0 - left))  # room for a number beside a full bar
        axes.set_xticks(range(left, 101, 10))
        axes.set_xlabel("accuracy on the target's test images, % (95% interval over seeds)")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)


def _keep_settings(
    path: Path, settings: dict[str, object], checkpoint: str | Path | None, finished: Sequence[Row]
) -> None:
    """Writes what decides the rows beside them, and refuses to mix rows of different settings.

    Raises:
        CheckpointError: the finished rows were made with other settings, or it is not known with which.
    """
    beside = path.with_name(path.name.removesuffix(".json") + ".settings.json")
    digest = None if checkpoint is None else checkpoint_sha256(checkpoint)
    if finished and not beside.exists():
        raise CheckpointError(
            f"{beside} is missing, so it is not known with which settings and images the rows of {path} were made; put "
            "it back, or choose another --out"
        )
    kept_settings = _read_settings(beside) if beside.exists() else {}
    if finished:
        kept = kept_settings.get("checkpoint_sha256")
        translated = any(row["condition"] in ("munit", "adapt") for row in finished)
        digest = digest or kept
        refuse_other_settings(beside, {**settings, "checkpoint_sha256": digest if translated else kept})
    write_text(beside, json.dumps({**settings, "checkpoint_sha256": digest}, indent=2) + "\n")


def _read_settings(path: Path) -> dict[str, Any]:
    """Gives the settings of rows.

    Raises:
        CheckpointError: the file holds no such settings; it may be somebody's own.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not {"fit", "checkpoint_sha256"} <= settings.keys():
        raise CheckpointError(
            f"{path} does not hold the settings that evaluate writes there, and is left as it is; move it away, or "
            "choose another --out"
        )
    return settings


def _finished_rows(path: Path, resume: bool) -> list[Row]:
    if not path.exists():
        refuse_no_way(path)
        return []
    if not resume:
        raise FileExistsError(f"{path} exists already; add missing cells with --resume, or choose another --out")
    return load_rows(path)


def _open_test(
    target: str | Path | ImageDomain, test: str | Path | ImageDomain | None, data: DataOptions
) -> ImageDomain:
    images = own_test_split(target) if test is None else test
    if images is None:
        name = target.name if isinstance(target, ImageDomain) else target
        raise DomainError(f"{name} names no test split of its own; give labelled target test images with --test SPEC")
    return data.open_target(images)


def own_test_split(domain: str | Path | ImageDomain) -> str | None:
    """Gives the spec of the test split of a named train split, ``usps:test`` of ``usps:train``; None of all else."""
    named = parse_spec(domain) if isinstance(domain, str) else None
    return f"{named.name}:test" if named is not None and named.split == "train" else None
