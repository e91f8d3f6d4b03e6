"""Does translation help? The rows of the digit benchmark as one page, and as Markdown tables.

    python -m benchmarks.report --out report.html --markdown README.md docs/digits*.md

The page is one file: charts, pictures and style are inside, it loads nothing and runs no script. It shows the answer
first, then each pair with all conditions, the best published figures, confusion matrices, learning curves, sample
sheets (digits-PAIR*.png beside the rows), and, folded away, command, commit, device and date of every number.

A Markdown file that does not exist is written whole. In one that exists, the tables between these two lines are
replaced, and nothing else; BLOCK is one of summary, accuracy, differences, regret, selection, literature and
circumstances:

    <!-- digits:BLOCK -->
    <!-- /digits:BLOCK -->
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.charts import accuracy_axis, learning_curves, matrix_cells, points_axis
from benchmarks.findings import (
    OURS,
    QUESTIONS,
    RESTARTS,
    SELF_TRAINING,
    Findings,
    corrected_sentence,
    find,
    headline,
    read_literature,
    slug,
    summed_confusion,
    verdict_sentence,
)
from benchmarks.rows import PATTERNS, Setting, main_settings, read_results
from benchmarks.statistics import RESAMPLES
from benchmarks.tables import (
    CORE_CONDITIONS,
    IN_VIEW,
    OTHER_PROTOCOL,
    VERDICTS,
    difference_text,
    duration_text,
    interval_text,
    literature_of,
    mean_text,
    ours_minus_text,
    p_text,
    percent_text,
    published_text,
    published_value,
    write_markdown,
)

TEMPLATES = Path(__file__).with_name("templates")
MATRICES = (OURS, SELF_TRAINING)
SELECTION_MARKS = {"test": "test-selected", "target labels": "target labels"}


@dataclass(frozen=True)
class Sheet:
    """A picture of samples: its name, and the file as a data address."""

    name: str
    address: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the rows and writes what was asked for."""
    options = _options(arguments)
    try:
        results, left_out = read_results(options.results, options.patterns)
        if not options.all_settings:
            results, other_settings = main_settings(results)
            left_out += other_settings
        findings = find(results, left_out, read_literature())
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"report: {error}") from error
    for reason in findings.left_out:
        print(f"note: {reason}", file=sys.stderr)
    sheets = read_sheets(options.results)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(render_page(findings, sheets), encoding="utf-8")
        print(f"page:     {options.out}")
    for path in options.markdown:
        try:
            write_markdown(findings, path)
        except ValueError as error:
            raise SystemExit(f"report: {error}") from error
        print(f"markdown: {path}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of rows and sheets")
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), help="names of the files with rows")
    parser.add_argument(
        "--all-settings",
        action="store_true",
        help="not only the setting with the most runs of each pair, protocol and --target-images",
    )
    parser.add_argument("--out", type=Path, default=None, help="the HTML page to write")
    parser.add_argument("--markdown", type=Path, nargs="+", default=[], help="Markdown files to write or refresh")
    options = parser.parse_args(arguments)
    if options.out is None and not options.markdown:
        parser.error("name what to write: --out report.html, or --markdown docs/digits.md, or both")
    return options


def read_sheets(folder: Path) -> list[Sheet]:
    """Gives the pictures digits-*.png of a folder, in the order of their names."""
    return [
        Sheet(path.stem, "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))
        for path in sorted(folder.glob("digits-*.png"))
    ]


def sheets_by_pair(findings: Findings, sheets: Sequence[Sheet]) -> tuple[dict[str, list[Sheet]], list[Sheet]]:
    """Gives the sheets of each pair, by the longest pair that begins their name, and those of none."""
    pairs = sorted({pair.setting.pair for pair in findings.pairs}, key=lambda pair: -len(slug(pair)))
    found: dict[str, list[Sheet]] = {}
    rest = []
    for sheet in sheets:
        name = sheet.name.removeprefix("digits-")
        pair = next((pair for pair in pairs if f"{name}-".startswith(f"{slug(pair)}-")), None)
        if pair is None:
            rest.append(sheet)
        else:
            found.setdefault(pair, []).append(sheet)
    return found, rest


def render_page(findings: Findings, sheets: Sequence[Sheet] = (), now: datetime | None = None) -> str:
    """Gives the page.

    Args:
        now: the date at its foot; None is today.

    Raises:
        ImportError: jinja2 is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('the page needs jinja2: pip install "munitaug[benchmarks]"') from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[..., str]] = {
        "mean": mean_text,
        "difference": difference_text,
        "interval": interval_text,
        "p": p_text,
        "percent": percent_text,
        "duration": duration_text,
        "slug": slug,
        "published": published_value,
        "published_pair": published_text,
        "ours_minus": ours_minus_text,
    }
    environment.filters.update(filters)
    of_pair, rest = sheets_by_pair(findings, sheets)
    beyond, alone = findings.answers["beyond"], findings.answers["alone"]
    return environment.get_template("report.html").render(
        findings=findings,
        questions=QUESTIONS,
        core=CORE_CONDITIONS,
        answer=verdict_sentence(beyond, f"both {OURS} and {SELF_TRAINING}"),
        answer_corrected=corrected_sentence(beyond),
        answer_translation=headline(findings.answers["translation"], f"both {OURS} and {RESTARTS}"),
        answer_alone=headline(alone, "both a translation alone and classic"),
        first_of_pair=_first_of_pair(findings),
        sheets=of_pair,
        other_sheets=rest,
        matrices=MATRICES,
        verdicts=VERDICTS,
        in_view=IN_VIEW,
        other_protocol=OTHER_PROTOCOL,
        marks=SELECTION_MARKS,
        resamples=f"{RESAMPLES:,}",
        literature=literature_of(findings),
        accuracy_axis=accuracy_axis,
        points_axis=points_axis,
        learning_curves=learning_curves,
        summed_confusion=summed_confusion,
        matrix_cells=matrix_cells,
        today=(now or datetime.now(UTC)).strftime("%Y-%m-%d"),
    )


def _first_of_pair(findings: Findings) -> set[Setting]:
    """Gives the first setting of each pair: there its pictures stand."""
    first: dict[str, Setting] = {}
    for pair in findings.pairs:
        first.setdefault(pair.setting.pair, pair.setting)
    return set(first.values())


if __name__ == "__main__":
    main()
