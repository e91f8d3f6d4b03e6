"""What the digit benchmark found: results and published figures put in the order in which the report tells them.

No layout here: benchmarks/report.py turns findings into a page and into Markdown.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Result, Setting, by_setting
from benchmarks.statistics import (
    Difference,
    McNemar,
    Selection,
    Summary,
    compare,
    corrected_level,
    holm,
    mcnemar,
    selection_table,
    summarise,
)

LITERATURE = Path(__file__).with_name("literature.json")
OURS = "adapt"
SELF_TRAINING = "self-training"
RESTARTS = "self-training-restarts"
TRANSLATION_ALONE = ("munit-semantic", "munit")
DEVELOPMENT_PAIRS = ("synthetic-rgb:usps",)
"""Pairs on which defaults were chosen: shown, but no evidence; out of the headline and of Holm's correction."""
STAND_INS = {"synthetic-rgb:mnist": "svhn:mnist", "synthetic-rgb:svhn": "synthetic-digits:svhn"}
"""Pairs that can be made without a download -> the published pair that they resemble."""

DOMAIN_TITLES = {
    "mnist": "MNIST",
    "usps": "USPS",
    "svhn": "SVHN",
    "mnist-m": "MNIST-M",
    "digits": "scanned digits",
    "synthetic": "rendered digits",
    "synthetic-digits": "rendered digits",
    "synthetic-rgb": "rendered colour digits",
}


@dataclass(frozen=True)
class Group:
    """Conditions of one kind.

    Args:
        key: short name, for colours.
        starts: names of its conditions, alone or before a hyphen, as in munit-semantic.
    """

    key: str
    title: str
    starts: tuple[str, ...]


GROUPS = (
    Group("plain", "No adaptation", ("source", "classic")),
    Group("looks", "Looks changed without learning", ("fda", "histogram", "pixel", "pda", "hist")),
    Group(
        "features",
        "Features aligned",
        ("adabn", "subspace", "sa", "dann", "coral", "deepcoral", "mcc", "skada", "pytorch"),
    ),
    Group(
        "translation",
        "Translation alone",
        (
            "munit",
            "unit",
            "cyclegan",
            "cut",
            "distancegan",
            "dritpp",
            "gcgan",
            "multidomain",
            "transgaga",
            "cogan",
            "dtn",
        ),
    ),
    Group("self", "Self-training without translation", (SELF_TRAINING, "im", "infomax", "information", "fixmatch")),
    Group("ours", "Ours: self-training on top of translation", (OURS,)),
    Group("limit", "Upper limit, with target labels", ("oracle",)),
)
FURTHER = Group("further", "Further conditions", ())


@dataclass(frozen=True)
class Question:
    """A comparison that was declared before the results: the first condition at hand of each list."""

    key: str
    title: str
    first: tuple[str, ...]
    second: tuple[str, ...]


QUESTIONS = (
    Question("beyond", "What ours, with more updates, adds to self-training", (OURS,), (SELF_TRAINING,)),
    Question("translation", "What translation adds to ours, updates being equal", (OURS,), (RESTARTS,)),
    Question("alone", "What translation adds alone, without self-training", TRANSLATION_ALONE, ("classic",)),
    Question("self", "What self-training adds alone, without translation", (SELF_TRAINING,), ("classic",)),
    Question("both", "What both add together", (OURS,), ("classic",)),
)


@dataclass(frozen=True)
class Answer:
    """One question on one setting: the difference in points, and McNemar's test where bits are at hand.

    Args:
        title: of the pair, in words.
        development: the pair served to choose defaults, so this answer is no evidence.
        corrected: p value after Holm over all settings of the question; None without a test and on development pairs.
        strict: the difference with its interval at the level corrected over all settings of the question; None on
            development pairs and where there is one setting alone.
    """

    question: Question
    setting: Setting
    title: str
    development: bool
    first: str
    second: str
    difference: Difference
    test: McNemar | None
    corrected: float | None
    strict: Difference | None = None


@dataclass(frozen=True)
class Published:
    """One published figure; see benchmarks/literature.json for what the words mean."""

    method: str
    year: int
    pair: str
    value: float
    protocol: str
    source: str
    selection: str
    translation: bool
    deviation: float | None = None
    note: str = ""

    @property
    def saw_target_labels(self) -> bool:
        return self.selection in ("test", "target labels")


@dataclass(frozen=True)
class Line:
    """A condition on one setting.

    Args:
        results: by seed.
        ours_minus_this: None for ours itself and where ours was not run.
    """

    group: Group
    summary: Summary
    results: Mapping[int, Result]
    ours_minus_this: Difference | None
    selections: tuple[Selection, ...]

    @property
    def condition(self) -> str:
        return self.summary.condition


@dataclass(frozen=True)
class PairFindings:
    """All that is known of one setting.

    Args:
        lines: in the order of the groups, then of mean accuracy.
        literature: of this pair, best first; empty for pairs without.
        stand_in_for: the published pair that this one resembles; empty without.
        resembled: literature of that pair.
        test_images: None where rows do not say.
    """

    setting: Setting
    title: str
    development: bool
    lines: tuple[Line, ...]
    literature: tuple[Published, ...]
    stand_in_for: str
    resembled: tuple[Published, ...]
    test_images: int | None

    def line(self, *names: str) -> Line | None:
        """Gives the line of the first of these conditions that was run."""
        return next((line for name in names for line in self.lines if line.condition == name), None)

    def grouped(self) -> list[tuple[Group, list[Line]]]:
        """Gives the groups that have conditions here, in order."""
        groups = {line.group: [other for other in self.lines if other.group == line.group] for line in self.lines}
        return list(groups.items())

    def best(self, translation: bool) -> Published | None:
        """Gives the highest published figure of this pair, of translation-based methods alone or of any.

        Under the protocol "sampled" only figures of that one count: its training sets are much smaller.
        """
        alike = [entry for entry in self.literature if self.setting.protocol in ("", "full", entry.protocol)]
        return next((entry for entry in alike if entry.translation or not translation), None)

    def best_resembled(self, translation: bool) -> Published | None:
        """Gives the highest published figure of the pair that this one stands for."""
        return next((entry for entry in self.resembled if entry.translation or not translation), None)

    def has_other_protocol(self, entry: Published) -> bool:
        """Tells whether a published figure is of other images than these, as far as is known."""
        return entry.protocol not in (self.setting.protocol or "full", "as published")

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a condition."""
        return max(line.summary.seeds for line in self.lines)


@dataclass(frozen=True)
class Findings:
    """Everything that the report tells.

    Args:
        answers: by question, in the order of QUESTIONS; in each the order of the pairs.
        left_out: lines of the files that were not used, and why.
    """

    pairs: tuple[PairFindings, ...]
    answers: Mapping[str, tuple[Answer, ...]]
    left_out: tuple[str, ...]


Verdict = Literal["better", "worse", "unclear"]


def find(results: Sequence[Result], left_out: Sequence[str] = (), literature: Sequence[Published] = ()) -> Findings:
    """Gives the findings of all results.

    Raises:
        ValueError: there is no result.
    """
    if not results:
        reasons = "".join(f"\n  {reason}" for reason in left_out)
        raise ValueError(f"no finished cell to report; run python -m benchmarks.digits first{reasons}")
    grouped = by_setting(results)
    titles = {setting: pair_title(setting, list(grouped)) for setting in grouped}
    found = [_pair(setting, titles[setting], runs, literature) for setting, runs in grouped.items()]
    pairs = tuple(sorted(found, key=_place))
    answers = {question.key: _answers(question, pairs) for question in QUESTIONS}
    apart = [text for question in QUESTIONS for text in _apart(question, pairs)]
    return Findings(pairs, answers, (*left_out, *dict.fromkeys(apart)))


def read_literature(path: Path = LITERATURE) -> list[Published]:
    """Gives the published figures."""
    rows = cast(list[dict[str, object]], json.loads(path.read_text(encoding="utf-8"))["rows"])
    return [Published(**row) for row in rows]  # type: ignore[arg-type]


def group_of(condition: str) -> Group:
    """Gives the group of a condition by the start of its name; FURTHER where none fits."""
    for group in GROUPS:
        if any(condition == start or condition.startswith(f"{start}-") for start in group.starts):
            return group
    return FURTHER


def pair_title(setting: Setting, others: Sequence[Setting] = ()) -> str:
    """Gives a pair in words, with what tells it apart from other settings of the same pair.

    Args:
        others: all settings of the report.
    """
    words = " → ".join(DOMAIN_TITLES.get(name, name) for name in setting.pair.split(":"))
    own = _told(setting)
    twins = [_told(other) for other in others if other.pair == setting.pair and other != setting]
    different = [text for key, text in own.items() if any(twin.get(key) != text for twin in twins)]
    if setting.target_images:
        different.insert(0, f"{setting.target_images} target images")
    return f"{words} ({', '.join(different)})" if different else words


def _told(setting: Setting) -> dict[str, str]:
    """Gives what can tell two settings of a pair apart: name -> words. A plan is taken apart, leaf by leaf."""
    told = {"protocol": setting.protocol, "size": f"{setting.size} px", "classifier": setting.classifier}
    waiting = [("", json.loads(setting.plan))] if setting.plan else []
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}", leaf) for key, leaf in value.items()]
        elif str(value) not in told.values():
            told[path] = f"{path.rpartition('.')[2].replace('_', ' ')} {value}"
    return {key: text for key, text in told.items() if text.strip(" px") and key != ".target_images"}


def count_verdicts(answers: Sequence[Answer]) -> Counter[Verdict]:
    """Gives how often each verdict came, without development pairs."""
    return Counter(answer.difference.verdict for answer in answers if not answer.development)


def count_strict_verdicts(answers: Sequence[Answer]) -> Counter[Verdict]:
    """Gives how often each verdict came when intervals are corrected over the settings; none for one setting alone."""
    return Counter(answer.strict.verdict for answer in answers if answer.strict is not None)


def headline(answers: Sequence[Answer], what: str) -> str:
    """Gives :func:`verdict_sentence` and, where there is one, :func:`corrected_sentence`."""
    return f"{verdict_sentence(answers, what)} {corrected_sentence(answers)}".rstrip()


def verdict_sentence(answers: Sequence[Answer], what: str) -> str:
    """Gives the answer to one question in a sentence.

    Args:
        answers: of that question.
        what: both conditions, for the sentence that says that nothing is known.
    """
    counts = count_verdicts(answers)
    return _sentence(counts, _pairs(answers)) if counts.total() else f"Not measured yet: no pair has {what}."


def corrected_sentence(answers: Sequence[Answer]) -> str:
    """Gives what is left of the answer when intervals are corrected over the pairs; nothing for fewer than two."""
    counts, strict = count_verdicts(answers), count_strict_verdicts(answers)
    if not strict:
        return ""
    # corrected intervals hold the others, so equal counts are of the same pairs
    left = "the same." if strict == counts else _sentence(strict, _pairs(answers))
    level = f"{strict.total()} {_pairs(answers)} ({100.0 * corrected_level(strict.total()):.4g}% each)"
    return f"With intervals corrected over the {level}: {left[0].lower()}{left[1:]}"


def _pairs(answers: Sequence[Answer]) -> str:
    return "pairs" if len({answer.setting.pair for answer in answers}) == len(answers) else "settings"


def _sentence(counts: Counter[Verdict], pairs: str) -> str:
    """Gives counted verdicts in words.

    Args:
        counts: at least one.
        pairs: "pairs" or "settings".
    """
    total, parts = counts.total(), []
    if counts["better"] == total:
        return "Yes, on the one pair measured." if total == 1 else f"Yes, on all {total} {pairs}."
    if counts["better"]:
        parts.append(f"Yes on {counts['better']} of {total} {pairs}")
    elif counts["worse"]:
        parts.append(f"It hurts on {counts['worse']} of {total} {pairs}" if total > 1 else "No, it hurts")
    else:
        return "Not clearly, on the one pair measured." if total == 1 else f"Not clearly, on any of {total} {pairs}."
    if counts["unclear"]:
        parts.append(f"no clear difference on {counts['unclear']}")
    if counts["better"] and counts["worse"]:
        parts.append(f"it hurts on {counts['worse']}")
    return "; ".join(parts) + "."


def summed_confusion(line: Line) -> tuple[NDArray[np.int64], tuple[str, ...], int] | None:
    """Gives counts summed over seeds, class names and number of seeds; None where no run kept its confusion."""
    kept = [result for result in line.results.values() if result.confusion is not None]
    kept = [result for result in kept if len(result.class_names) == len(kept[0].class_names)]
    if not kept:
        return None
    counts = [result.confusion for result in kept if result.confusion is not None]
    return np.sum(counts, axis=0), kept[0].class_names, len(kept)


def slug(text: str) -> str:
    """Gives a pair as it stands in names of files: "mnist:usps" -> "mnist-usps"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _place(pair: PairFindings) -> tuple[bool, str, float, Setting]:
    """Gives what pairs are sorted by: the same pair with more target images comes later."""
    setting = pair.setting
    return pair.development, setting.pair, setting.target_images or math.inf, setting


def _pair(
    setting: Setting, title: str, conditions: Mapping[str, Mapping[int, Result]], literature: Sequence[Published]
) -> PairFindings:
    source = conditions.get("source")
    source_mean = None if source is None else sum(run.accuracy for run in source.values()) / len(source)
    lines = [_line(name, runs, conditions.get(OURS), source_mean) for name, runs in conditions.items()]
    order = [*GROUPS[:-2], FURTHER, *GROUPS[-2:]]
    lines.sort(key=lambda line: (order.index(line.group), line.condition != "source", line.summary.mean))
    sizes = {len(run.correct) for runs in conditions.values() for run in runs.values() if run.correct is not None}
    stand_in = STAND_INS.get(setting.pair, "")
    if setting.target_images:  # published figures are of all images
        literature, stand_in = (), ""
    return PairFindings(
        setting,
        title=title,
        development=setting.pair in DEVELOPMENT_PAIRS,
        lines=tuple(lines),
        literature=_best_first(literature, setting.pair),
        stand_in_for=stand_in,
        resembled=_best_first(literature, stand_in),
        test_images=sizes.pop() if len(sizes) == 1 else None,
    )


def _line(name: str, runs: Mapping[int, Result], ours: Mapping[int, Result] | None, source_mean: float | None) -> Line:
    return Line(
        group_of(name),
        summarise(name, {seed: run.accuracy for seed, run in runs.items()}, source_mean),
        runs,
        ours_minus_this=compare(ours, runs) if ours is not None and name != OURS else None,
        selections=tuple(selection_table(list(runs.values()))),
    )


def _best_first(literature: Sequence[Published], pair: str) -> tuple[Published, ...]:
    return tuple(sorted((row for row in literature if row.pair == pair), key=lambda row: -row.value))


def _apart(question: Question, pairs: Sequence[PairFindings]) -> Iterator[str]:
    """Gives a sentence for each pair whose two conditions were run, but with no seed in common."""
    for pair in pairs:
        first, second = pair.line(*question.first), pair.line(*question.second)
        if first is not None and second is not None and not first.results.keys() & second.results.keys():
            yield f"{pair.title}: {first.condition} and {second.condition} have no seed in common and are not compared"


def _answers(question: Question, pairs: Sequence[PairFindings]) -> tuple[Answer, ...]:
    answers, compared = [], []
    for pair in pairs:
        first, second = pair.line(*question.first), pair.line(*question.second)
        if first is None or second is None:
            continue
        difference = compare(first.results, second.results)
        if difference is not None:
            names = first.condition, second.condition
            test = mcnemar(first.results, second.results)
            answers.append(Answer(question, pair.setting, pair.title, pair.development, *names, difference, test, None))
            compared.append((first.results, second.results))
    count = sum(not answer.development for answer in answers)
    if count > 1:
        for place, answer in enumerate(answers):
            if not answer.development:
                strict = compare(*compared[place], corrected_level(count))
                answers[place] = replace(answer, strict=strict)
    return _corrected(answers)


def _corrected(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Gives the answers with their p values after Holm over all pairs but those of development."""
    tested = {a.setting: a.test.p_value for a in answers if a.test is not None and not a.development}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(replace(answer, corrected=corrected.get(answer.setting)) for answer in answers)
