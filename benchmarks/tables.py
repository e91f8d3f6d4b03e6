"""Markdown tables of the digit benchmark, and numbers as text for them and for the page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.commands import commands_for, former_names
from benchmarks.findings import (
    OURS,
    QUESTIONS,
    RESTARTS,
    SELF_TRAINING,
    TRANSLATION_ALONE,
    Answer,
    Findings,
    Group,
    Line,
    PairFindings,
    Published,
    headline,
)
from benchmarks.rows import Result
from benchmarks.statistics import LAST_ITERATE, ORACLE_CHOICE, Difference, Selection, Summary, corrected_level, pooled

CORE_CONDITIONS = (
    ("source", ("source",)),
    ("classic", ("classic",)),
    ("translation alone", TRANSLATION_ALONE),
    ("self-training alone", (SELF_TRAINING,)),
    ("both: ours", (OURS,)),
    ("oracle", ("oracle",)),
)
MISSING = "-"
MINUS = "\N{MINUS SIGN}"
VERDICTS = {"better": "helps", "worse": "hurts", "unclear": "no clear difference"}
OTHER_PROTOCOL = "†"
IN_VIEW = (
    "Three choices of the recipe were made with rows of the benchmark's four pairs in view, of all training images: "
    "the number of starts, and not to start from translations (rendered digits → scanned digits); and a step back to "
    "what had been frozen before (all four)."
)
"""What target labels had a say in, besides the score and the oracle."""
BASIS_MARKS = {"images": " (one seed)", "seeds": " (seeds only)", "none": " (one seed, no bits)"}
OTHER_LIBRARIES = ("skada-", "pytorch-adapt-")


def write_markdown(findings: Findings, path: Path) -> None:
    """Writes a new Markdown file, or replaces the tables between the marks of one that exists.

    Raises:
        ValueError: the file exists and holds no pair of marks, or an unknown one.
    """
    blocks = {name: make(findings) for name, make in BLOCKS.items()}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_whole_file(blocks), encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    mark = re.compile(r"(<!-- digits:([\w-]+) -->\n).*?(<!-- /digits:\2 -->)", re.DOTALL)
    names = [match[2] for match in mark.finditer(text)]
    if not names or not set(names) <= set(blocks):
        found = f"found {', '.join(names)}" if names else "found none"
        raise ValueError(
            f"{path} exists, so it must hold lines <!-- digits:BLOCK --> and <!-- /digits:BLOCK --> with BLOCK one of "
            f"{', '.join(blocks)}, between which the tables go; {found}"
        )
    path.write_text(mark.sub(lambda match: match[1] + blocks[match[2]] + match[3], text), encoding="utf-8")


def _whole_file(blocks: dict[str, str]) -> str:
    parts = ["# Digit benchmarks\n"]
    for name, text in blocks.items():
        parts.append(f"## {BLOCK_TITLES[name]}\n\n<!-- digits:{name} -->\n{text}<!-- /digits:{name} -->\n")
    return "\n".join(parts)


def summary_block(findings: Findings) -> str:
    """Gives one line per pair with the conditions that matter most and the best published figures."""
    beyond = {answer.setting: answer for answer in findings.answers["beyond"]}
    lines = [
        _table_line(["pair", *(title for title, _ in CORE_CONDITIONS), "ours - self-training", "published"]),
        _rule(len(CORE_CONDITIONS) + 3),
    ]
    for pair in findings.pairs:
        cells = [mean_text(line.summary) if line else MISSING for line in _core_lines(pair)]
        answer = beyond.get(pair.setting)
        title = f"{pair.title} (development)" if pair.development else pair.title
        difference = difference_text(answer.difference) if answer else MISSING
        lines.append(_table_line([_cell(title), *cells, difference, published_text(pair)]))
    question = headline(findings.answers["beyond"], f"both {OURS} and {SELF_TRAINING}")
    share = headline(findings.answers["translation"], f"both {OURS} and {RESTARTS}")
    return (
        f"Is ours better than self-training alone? {question}\n"
        f"Has translation a share in it, updates being equal (`{OURS}` - `{RESTARTS}`)? {share}\n\n"
        + "\n".join(lines)
        + "\n\n"
        "Accuracy in percent on the target's test images: mean over seeds and Student's 95% interval, last iterate; "
        f"target labels for the final score alone (and for the oracle). {IN_VIEW} Difference in points, with a 95% "
        "interval over seeds and test images. Published: best translation-based / best of any method; "
        f"in brackets for the pair that this one resembles.{_other_protocols(findings)}\n\n"
        + _summary_commands(findings)
    )


def accuracy_block(findings: Findings) -> str:
    """Gives a table of all conditions for each pair."""
    explained = (
        "±: Student's 95% interval over seeds, on these test images; another draw of images is not in it. Ours - this: "
        "as under Differences; of one seed the interval knows chance between images alone, and says nothing of "
        "conditions. Collapsed: below half the median of the condition, or more than 10 points below `source`.\n"
    )
    return "".join(_accuracy_table(pair) for pair in findings.pairs) + explained


def differences_block(findings: Findings) -> str:
    """Gives the declared comparisons, each with its interval and its p value."""
    texts = []
    for question in QUESTIONS:
        answers = findings.answers[question.key]
        if not answers:
            continue
        head = [
            "pair",
            "conditions",
            "difference, points",
            "interval corrected",
            "verdict",
            "seeds",
            "only first / second right",
            "p",
            "p, Holm",
        ]
        lines = [_table_line(head), _rule(len(head)), *(_table_line(_difference_cells(answer)) for answer in answers)]
        texts.append(f"**{question.title}**\n\n" + "\n".join(lines) + "\n\n")
    explained = (
        "Interval: 95%, bootstrap over seeds and test images, made as wide as a two-way model with Student's t asks of "
        "so few seeds (seeds only: Student's, where bits are missing); the verdict goes by it, if seeds are three or "
        "more. Corrected: the same at Bonferroni's level over the pairs of a table "
        f"({_corrected_levels(findings)}). p: McNemar's exact test of the lowest seed "
        "alone, which was declared beforehand; Holm's correction is over the pairs of a table. Both corrections leave "
        "development pairs out.\n"
    )
    return "".join(texts) + explained if texts else "No two conditions to compare yet.\n"


def _corrected_levels(findings: Findings) -> str:
    """Gives "98.75% for 4", of each number of pairs that a question has here."""
    counts = {sum(not answer.development for answer in answers) for answers in findings.answers.values()}
    return ", ".join(f"{100.0 * corrected_level(count):.4g}% for {count}" for count in sorted(counts) if count > 0)


def regret_block(findings: Findings) -> str:
    """Gives the regret of each way of choosing a checkpoint, over all conditions of a kind on all pairs.

    Without other libraries' runs: they have one validator, their own, and some are runs of ours once more.
    """
    of_group: dict[Group, list[Selection]] = {}
    for pair in findings.pairs:
        for line in pair.lines:
            if line.selections and not line.condition.startswith(OTHER_LIBRARIES):
                of_group.setdefault(line.group, []).extend(line.selections)
    if not of_group:
        return "No run kept snapshots.\n"
    columns = [pooled(selections) for selections in of_group.values()]
    choices = [
        choice for choice in dict.fromkeys(name for column in columns for name in column) if choice != ORACLE_CHOICE
    ]
    head = [
        "choice",
        *(f"{group.title}, {column[LAST_ITERATE].seeds} runs" for group, column in zip(of_group, columns, strict=True)),
    ]
    rows = [[_cell(choice), *(_regret_text(column, choice) for column in columns)] for choice in choices]
    lines = [_table_line(head), _rule(len(head)), *(_table_line(row) for row in rows)]
    explained = (
        "Points below the best checkpoint of the same run, which only target labels show: mean over the runs of all "
        "pairs, in brackets the worst. Where fewer runs have a score, their number follows.\n"
    )
    return "\n".join(lines) + "\n\n" + explained


def selection_block(findings: Findings) -> str:
    """Gives what each way of choosing a checkpoint would have given."""
    rows = [
        [_cell(pair.title), _code(line.condition), *_selection_cells(selection)]
        for pair in findings.pairs
        for line in pair.lines
        for selection in line.selections
    ]
    if not rows:
        return "No run kept snapshots.\n"
    head = ["pair", "condition", "choice", "accuracy, %", "regret, points", "worst regret"]
    lines = [_table_line(head), _rule(len(head)), *(_table_line(row) for row in rows)]
    explained = "Regret: how far below the best checkpoint of the same run, which only the oracle choice can see.\n"
    return "\n".join(lines) + "\n\n" + explained


def literature_block(findings: Findings) -> str:
    """Gives the published figures of the pairs, with where they come from and what they were chosen on."""
    head = ["pair", "method", "year", "accuracy, %", "translation", "protocol", "chosen on", "source"]
    lines = [_table_line(head), _rule(len(head))]
    for entry in literature_of(findings):
        cells = [_cell(entry.pair), _cell(entry.method), str(entry.year), published_value(entry)]
        cells += ["yes" if entry.translation else "", _cell(entry.protocol), entry.selection, entry.source]
        lines.append(_table_line(cells))
    explained = (
        "Facts from papers, their code (primary) and later comparison tables (secondary), not measured here; "
        "protocols and networks differ. *: chosen or tuned with labelled target images.\n"
    )
    return "\n".join(lines) + "\n\n" + explained


def circumstances_block(findings: Findings) -> str:
    """Gives command, seeds, steps, device, commit and date of every condition, one line for each commit."""
    head = ["pair", "condition", "seeds", "labelled steps", "minutes a seed, less what was there", "device", "commit"]
    head += ["date", "command"]
    lines = [_table_line(head), _rule(len(head))]
    for pair in findings.pairs:
        for condition, results in _by_commit(pair):
            told = [result.circumstances for result in results]
            seconds = [one.seconds for one in told if one.seconds is not None]
            minutes = f"{sum(seconds) / len(seconds) / 60.0:.1f}" if seconds else MISSING
            cells = [_cell(pair.title), _code(condition), ", ".join(str(result.seed) for result in results)]
            cells += [_joined(str(one.steps) for one in told if one.steps is not None), minutes]
            cells += [_joined(one.device for one in told), _joined(one.commit for one in told)]
            cells += [_joined(one.date for one in told), _joined((one.command for one in told), _code)]
            lines.append(_table_line(cells))
    explained = (
        "Labelled steps: updates with labels of each classifier that is started, whatever follows (of `cogan`, which "
        "has a classifier of its own, they say nothing). Minutes: without what an earlier condition left, so a start, "
        "a classifier or a translator that several conditions use is counted in the one that ran first; 0.0 where all "
        "was there.\n"
    )
    return "\n".join(lines) + "\n\n" + explained


def _by_commit(pair: PairFindings) -> list[tuple[str, list[Result]]]:
    """Gives each condition with its results of one commit, by seed."""
    found: dict[tuple[str, str], list[Result]] = {}
    for line in pair.lines:
        for _, result in sorted(line.results.items()):
            found.setdefault((line.condition, result.circumstances.commit), []).append(result)
    return [(condition, results) for (condition, _), results in found.items()]


BLOCKS: dict[str, Callable[[Findings], str]] = {
    "summary": summary_block,
    "accuracy": accuracy_block,
    "differences": differences_block,
    "regret": regret_block,
    "selection": selection_block,
    "literature": literature_block,
    "circumstances": circumstances_block,
}
BLOCK_TITLES = {
    "summary": "Summary",
    "accuracy": "All conditions",
    "differences": "Differences",
    "regret": "What choosing without labels costs",
    "selection": "Choosing a checkpoint without labels",
    "literature": "Published figures",
    "circumstances": "Where the numbers come from",
}


def mean_text(summary: Summary) -> str:
    """Gives "98.4 ± 0.2", or the mean alone for one seed; two decimals where one would show no spread."""
    if math.isnan(summary.half_width):
        return f"{summary.mean:.1f}"
    if 0.0 < summary.half_width < 0.05:
        return f"{summary.mean:.2f} ± {summary.half_width:.2f}"
    return f"{summary.mean:.1f} ± {summary.half_width:.1f}"


def difference_text(difference: Difference) -> str:
    """Gives "+0.43 [0.12, 0.75]", a true minus where it is negative."""
    interval = interval_text(difference)
    return f"{difference.mean:+.2f} {interval}".strip().replace("-", MINUS)


def interval_text(difference: Difference) -> str:
    """Gives "[0.12, 0.75]", or nothing where there is no interval."""
    if math.isnan(difference.low):
        return ""
    return f"[{difference.low:+.2f}, {difference.high:+.2f}]".replace("-", MINUS)


def ours_minus_text(line: Line) -> str:
    """Gives the difference of ours and a condition, with what its interval lacks and how many seeds fewer it is of."""
    difference = line.ours_minus_this
    if difference is None:
        return MISSING
    mark = BASIS_MARKS.get(difference.basis, "")
    if not mark and difference.seeds < line.summary.seeds:
        mark = f" ({difference.seeds} seeds)"
    return difference_text(difference) + mark


def p_text(p_value: float | None) -> str:
    """Gives a p value with two leading digits, or "< 0.0001"."""
    if p_value is None:
        return MISSING
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def percent_text(value: float | None) -> str:
    """Gives one decimal; a dash for None and NaN."""
    return MISSING if value is None or math.isnan(value) else f"{value:.1f}"


def duration_text(seconds: float | None) -> str:
    """Gives seconds, minutes or hours; a dash for None."""
    if seconds is None:
        return MISSING
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"


def published_value(entry: Published) -> str:
    """Gives a published figure as it was printed, with a star when target labels had a say."""
    spread = "" if entry.deviation is None else f" ± {entry.deviation:g}"
    value = f"{entry.value:g}" if entry.value % 1.0 else f"{entry.value:.1f}"
    return f"{value}{spread}{'*' if entry.saw_target_labels else ''}"


def literature_of(findings: Findings) -> list[Published]:
    """Gives the published figures of all pairs and of those that they resemble, each once."""
    seen: dict[Published, None] = {}
    for pair in findings.pairs:
        seen |= dict.fromkeys((*pair.literature, *pair.resembled))
    return list(seen)


def _core_lines(pair: PairFindings) -> list[Line | None]:
    return [pair.line(*names) for _, names in CORE_CONDITIONS]


def published_text(pair: PairFindings) -> str:
    """Gives "98.3 / 99.5†": best by translation, best by any method, and which has another protocol.

    In brackets where they are of the pair that this one resembles.
    """
    own = [pair.best(translation) for translation in (True, False)]
    if any(own):
        return " / ".join(_marked_value(pair, entry) for entry in own)
    resembled = [pair.best_resembled(translation) for translation in (True, False)]
    if any(resembled):
        return f"({' / '.join(_marked_value(pair, entry) for entry in resembled)})"
    return MISSING


def _marked_value(pair: PairFindings, entry: Published | None) -> str:
    if entry is None:
        return MISSING
    return published_value(entry) + (OTHER_PROTOCOL if pair.has_other_protocol(entry) else "")


def _other_protocols(findings: Findings) -> str:
    """Gives a sentence on the marked figures; nothing where none is marked."""
    told: dict[str, None] = {}
    for pair in findings.pairs:
        own = [pair.best(True), pair.best(False)]
        shown = own if any(own) else [pair.best_resembled(True), pair.best_resembled(False)]
        marked = [entry for entry in shown if entry is not None and pair.has_other_protocol(entry)]
        told |= dict.fromkeys(f"{entry.pair}: {entry.protocol}" for entry in marked)
    return f" {OTHER_PROTOCOL}: under another protocol than here ({_cell('; '.join(told))})." if told else ""


def _accuracy_table(pair: PairFindings) -> str:
    head = ["condition", "accuracy, %", "sd", "lowest", "collapsed", "seeds", "ours - this, points"]
    lines = [_table_line(head), _rule(len(head))]
    for group, members in pair.grouped():
        lines.append(_table_line([f"**{group.title}**", *[""] * (len(head) - 1)]))
        for line in members:
            s = line.summary
            minus = ours_minus_text(line)
            numbers = [mean_text(s), percent_text(s.deviation), percent_text(s.lowest), str(len(s.collapsed))]
            lines.append(_table_line([_code(line.condition), *numbers, str(s.seeds), minus]))
    marks = " Defaults were chosen on this pair." if pair.development else ""
    images = f"{pair.test_images} test images." if pair.test_images else ""
    return f"### {_cell(pair.title)}\n\n{images}{marks}".rstrip() + "\n\n" + "\n".join(lines) + "\n\n"


def _difference_cells(answer: Answer) -> list[str]:
    verdict = "development" if answer.development else VERDICTS[answer.difference.verdict]
    verdict += BASIS_MARKS.get(answer.difference.basis, "")
    cells = [_cell(answer.title), f"{_code(answer.first)} - {_code(answer.second)}"]
    strict = interval_text(answer.strict) if answer.strict is not None else ""
    cells += [difference_text(answer.difference), strict or MISSING, verdict, str(answer.difference.seeds)]
    if answer.test is None:
        return [*cells, MISSING, MISSING, MISSING]
    counts = f"{answer.test.only_first} / {answer.test.only_second}"
    counts += f" (seed {answer.test.seed})" if answer.test.seed else ""
    return [*cells, counts, p_text(answer.test.p_value), p_text(answer.corrected)]


def _regret_text(column: Mapping[str, Selection], choice: str) -> str:
    if choice not in column:
        return MISSING
    selection = column[choice]
    fewer = f", {selection.seeds} runs" if selection.seeds < column[LAST_ITERATE].seeds else ""
    return f"{selection.regret:.2f} ({selection.worst_regret:.1f}){fewer}"


def _selection_cells(selection: Selection) -> list[str]:
    numbers = [f"{selection.accuracy:.1f}", f"{selection.regret:.2f}", f"{selection.worst_regret:.2f}"]
    return [_cell(selection.choice), *numbers]


def _summary_commands(findings: Findings) -> str:
    """Gives the commands of the summary's rows, by the code of which commit, with seeds, devices and dates of the rows.

    Those of other conditions stand in :func:`circumstances_block`.
    """
    lines = [line for pair in findings.pairs for line in (*_core_lines(pair), pair.line(RESTARTS)) if line is not None]
    rows = [row for line in lines for row in line.results.values()]
    texts = ["Each line: a command, to be run with the code of its commit, and how many rows come from there.\n\n"]
    for (command, commit), results in commands_for(rows).items():
        told = [result.circumstances for result in results]
        seeds = len({result.seed for result in results})
        facts = [f"{seeds} seed{'s' if seeds > 1 else ''}", f"{len(results)} row{'s' if len(results) > 1 else ''}"]
        facts += [f"commit {_cell(commit) or MISSING}"]
        facts += [_joined(sorted({one.date for one in told})), _joined(one.device for one in told)]
        facts += [f"{_code(now)} was called {_code(then)} there" for now, then in former_names(results).items()]
        texts.append(f"- {_code(command) or 'command not recorded'}: {', '.join(facts)}\n")
    return "".join(texts)


def _joined(values: Iterable[str], shown: Callable[[str], str] | None = None) -> str:
    """Gives the different values, with commas; a dash for none."""
    texts = dict.fromkeys(value for value in values if value)
    return ", ".join((shown or _cell)(text) for text in texts) or MISSING


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def _cell(text: str) -> str:
    """Gives text that breaks no table: one line, no bar, no tag, no backtick."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").replace("`", "'").strip()


def _code(text: str) -> str:
    """Gives text as code that breaks no table: one line, no bar, no backtick; empty for no text."""
    plain = re.sub(r"\s+", " ", text).replace("|", "\\|").replace("`", "'").strip()
    return f"`{plain}`" if plain else ""
