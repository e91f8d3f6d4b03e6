"""Rows of the digit benchmark, read from their files: one JSON line per finished cell, checked and typed.

What is wrong with a line is told, not raised: one half-written line must not hide all the others. Unknown fields are
ignored. Needed are pair, condition, seed and accuracy; everything else may be missing, as it is in older files.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("digits-*.jsonl", "peers-*.jsonl")
"""Names of the files of one table: of benchmarks.digits, and of benchmarks.peers."""

ROUNDING_PERCENT = 0.01
"""How far an accuracy, which is stored rounded, may be from its own bits."""


@dataclass(frozen=True, order=True)
class Setting:
    """What must be equal before two conditions may be compared.

    Args:
        plan: everything else that was decided before the run (steps and the like), as JSON with sorted keys.
    """

    pair: str
    protocol: str = ""
    size: str = ""
    classifier: str = ""
    plan: str = ""

    @property
    def target_images(self) -> int:
        """The number of the target's training images, where it was limited; 0 for all."""
        return int(json.loads(self.plan).get("target_images", 0)) if self.plan else 0


@dataclass(frozen=True)
class Snapshot:
    """A classifier in the course of its training.

    Args:
        step: finished steps; may start again with each stage.
        stage: name of the part of the training.
        accuracy: on the target's test images, in percent; never seen by the training.
        scores: of label-free validators; the higher, the better.
    """

    step: int
    stage: str
    accuracy: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Circumstances:
    """How a number came about; empty or None where the row does not say."""

    steps: int | None
    seconds: float | None
    device: str
    commit: str
    date: str
    command: str


@dataclass(frozen=True, eq=False)
class Result:
    """One finished cell: a condition under one seed.

    Args:
        accuracy: of the last iterate on the target's test images, in percent.
        correct: one truth value per test image, in order; None where it was not stored.
        confusion: K x K counts, rows are true classes; None where it was not stored.
        class_names: K names; "0", "1", ... where they were not stored.
        snapshots: in the order of training; may be empty.
    """

    setting: Setting
    condition: str
    seed: int
    accuracy: float
    correct: NDArray[np.bool_] | None
    confusion: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]
    circumstances: Circumstances


def pack_correct(correct: NDArray[np.bool_]) -> str:
    """Gives the field ``correct`` of a row: base64 of one bit per test image, see :func:`unpack_correct`."""
    return base64.b64encode(np.packbits(correct.astype(np.bool_)).tobytes()).decode("ascii")


def unpack_correct(packed: str, test_images: int) -> NDArray[np.bool_]:
    """Gives one truth value per test image.

    Raises:
        ValueError: ``packed`` is not base64, or holds another number of images.
    """
    try:
        octets = np.frombuffer(base64.b64decode(packed, validate=True), dtype=np.uint8)
    except binascii.Error as error:
        raise ValueError(f"correct is not base64 ({error})") from error
    if len(octets) != math.ceil(test_images / 8):
        raise ValueError(
            f"correct holds {len(octets)} bytes, but {test_images} test images need {-(-test_images // 8)}"
        )
    return np.unpackbits(octets, count=test_images).astype(np.bool_)


def read_results(folder: Path, patterns: Sequence[str] = PATTERNS) -> tuple[list[Result], list[str]]:
    """Gives the results of all files, sorted by setting, and what was left out, one sentence each.

    Where a cell stands twice, the later line counts (files in the order of their names).

    Args:
        folder: of the files.
        patterns: names of the files.

    Raises:
        FileNotFoundError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; name the one with the rows, as in --results benchmarks/results"
        )
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not paths:
        raise FileNotFoundError(f"{folder} holds no {' or '.join(patterns)}; run python -m benchmarks.digits first")
    cells: dict[tuple[Setting, str, int], Result] = {}
    left_out: list[str] = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                result = parse_result(line)
            except ValueError as error:
                left_out.append(f"{path.name}, line {number}: {error}")
                continue
            key = (result.setting, result.condition, result.seed)
            if key in cells:
                left_out.append(
                    f"{path.name}, line {number} replaces an earlier line of {key[0].pair}, {key[1]}, seed {key[2]}"
                )
            cells[key] = result
    order = {setting: place for place, setting in enumerate(sorted({key[0] for key in cells}))}
    return sorted(cells.values(), key=lambda result: (order[result.setting], result.seed)), left_out


def parse_result(line: str) -> Result:
    """Gives the result that a JSON line holds.

    Raises:
        ValueError: the line is no JSON object, lacks a field, contradicts itself, or is not a last iterate.
    """
    row = _row_of(line)
    if row.get("last_iterate", True) is not True:
        raise ValueError("not a last iterate, and only those are compared")
    accuracy = _number(row, "accuracy")
    if not 0.0 <= accuracy <= 100.0:
        raise ValueError(f"accuracy must be a percentage, got {accuracy}")
    confusion = _confusion(row)
    return Result(
        setting=_setting(row),
        condition=_text(row, "condition"),
        seed=int(_number(row, "seed")),
        accuracy=accuracy,
        correct=_correct(row, accuracy),
        confusion=confusion,
        class_names=_class_names(row, 0 if confusion is None else len(confusion)),
        snapshots=_snapshots(row),
        circumstances=Circumstances(
            steps=int(_number(row, "steps")) if "steps" in row else None,
            seconds=_number(row, "seconds") if "seconds" in row else None,
            device=_optional_text(row, "device"),
            commit=_optional_text(row, "commit"),
            date=_optional_text(row, "date"),
            command=_optional_text(row, "command"),
        ),
    )


def main_settings(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Gives the results of one setting for each pair, protocol and number of target images, and a sentence for others.

    Taken is the setting with the most runs, of equals the one with the latest date; accuracy has no say. So trials with
    fewer steps beside the real runs count nowhere.
    """
    results, left_out = _with_what_was_left_open(results)
    runs: dict[Setting, list[Result]] = {}
    for result in results:
        runs.setdefault(result.setting, []).append(result)
    by_size = sorted(runs, key=lambda s: (len(runs[s]), max(run.circumstances.date for run in runs[s])), reverse=True)
    main: dict[tuple[str, str, int], Setting] = {}
    for setting in by_size:
        main.setdefault(_kind(setting), setting)
    taken = set(main.values())
    left_out += [
        f"{setting.pair}: {len(runs[setting])} runs under other settings than the {len(runs[kept])} shown"
        for setting in by_size
        if (kept := main[_kind(setting)]) != setting
    ]
    return [result for result in results if result.setting in taken], left_out


def _kind(setting: Setting) -> tuple[str, str, int]:
    """Gives what one table does not mix."""
    return setting.pair, setting.protocol, setting.target_images


def _with_what_was_left_open(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Gives the results, with the setting of the others where a plan is part of just one other plan.

    A program without a translator plans no steps for one; its runs stand beside those that agree in all that it plans.
    Where one of those is of the same condition and seed, the one that plans less is left out, with a sentence.
    """
    settings = {result.setting for result in results}
    fuller: dict[Setting, Setting] = {}
    for setting in settings:
        others = [other for other in settings if _is_part(setting, other)]
        if len(others) == 1:
            fuller[setting] = others[0]
    there = {(result.setting, result.condition, result.seed) for result in results if result.setting not in fuller}
    kept: list[Result] = []
    left_out: list[str] = []
    for result in results:
        setting = fuller.get(result.setting, result.setting)
        cell = (setting, result.condition, result.seed)
        if result.setting in fuller and cell in there:
            left_out.append(
                f"{setting.pair}: {result.condition}, seed {result.seed}, stands there twice; the row that plans less "
                "is left out"
            )
        else:
            there.add(cell)
            kept.append(replace(result, setting=setting) if result.setting in fuller else result)
    return kept, left_out


def _is_part(setting: Setting, other: Setting) -> bool:
    """Tells whether the other setting says all that this one says, and plans more."""
    if not setting.plan or not other.plan or replace(setting, plan="") != replace(other, plan=""):
        return False
    if setting.target_images != other.target_images:
        return False
    plan, fuller = json.loads(setting.plan), json.loads(other.plan)
    return isinstance(plan, dict) and isinstance(fuller, dict) and plan.items() < fuller.items()


def by_setting(results: Sequence[Result]) -> dict[Setting, dict[str, dict[int, Result]]]:
    """Gives setting -> condition -> seed -> result, in the order of the results."""
    grouped: dict[Setting, dict[str, dict[int, Result]]] = {}
    for result in results:
        grouped.setdefault(result.setting, {}).setdefault(result.condition, {})[result.seed] = result
    return grouped


def _row_of(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    return row


def _setting(row: dict[str, object]) -> Setting:
    protocol, size, classifier = (_optional_text(row, key) for key in ("protocol", "size", "classifier"))
    plan = json.dumps(row["plan"], sort_keys=True) if row.get("plan") else ""
    return Setting(_text(row, "pair"), protocol, size, classifier, plan)


def _text(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {key}")
    return value


def _optional_text(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _number(row: dict[str, object], key: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number, got {value!r}" if key in row else f"no {key}")
    return float(value)


def _correct(row: dict[str, object], accuracy: float) -> NDArray[np.bool_] | None:
    packed = row.get("correct")
    if packed is None:
        return None
    if not isinstance(packed, str):
        raise ValueError("correct must be base64 text")
    correct = unpack_correct(packed, int(_number(row, "test_images")))
    share = 100.0 * float(correct.mean()) if len(correct) else math.nan
    if not abs(share - accuracy) <= ROUNDING_PERCENT:
        raise ValueError(f"accuracy is {accuracy}, but {share:.3f}% of the bits in correct are set")
    return correct


def _confusion(row: dict[str, object]) -> NDArray[np.int64] | None:
    lists = row.get("confusion")
    if lists is None:
        return None
    try:
        counts = np.asarray(lists, dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError("confusion must be a square list of counts") from error
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0 or counts.min() < 0:
        raise ValueError(f"confusion must be a square list of counts, got shape {counts.shape}")
    return counts


def _class_names(row: dict[str, object], classes: int) -> tuple[str, ...]:
    names = row.get("class_names")
    given = names if isinstance(names, list) and len(names) == classes else range(classes)
    return tuple(str(name) for name in given)


def _snapshots(row: dict[str, object]) -> tuple[Snapshot, ...]:
    entries = row.get("snapshots") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("snapshots must be a list of objects")
    return tuple(_snapshot(entry) for entry in entries)


def _snapshot(entry: dict[str, object]) -> Snapshot:
    scores = entry.get("scores") or {}
    if not isinstance(scores, dict):
        raise ValueError("scores of a snapshot must be an object: validator -> score")
    finite = {str(name): float(score) for name, score in scores.items() if _is_finite(score)}
    return Snapshot(
        int(_number(entry, "step")), _optional_text(entry, "stage"), _number(entry, "accuracy"), scores=finite
    )


def _is_finite(score: object) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
