"""The report: what it says in a sentence, that the page stands alone and takes hostile names, and its Markdown."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmarks.charts import AccuracyAxis, PointsAxis, learning_curves, matrix_cells
from benchmarks.findings import (
    GROUPS,
    QUESTIONS,
    Answer,
    Published,
    find,
    group_of,
    headline,
    pair_title,
    read_literature,
    slug,
    summed_confusion,
)
from benchmarks.report import Sheet, main, render_page, sheets_by_pair
from benchmarks.rows import Result, Setting, pack_correct, parse_result
from benchmarks.statistics import Difference, Summary, paired_interval
from benchmarks.tables import (
    accuracy_block,
    difference_text,
    differences_block,
    mean_text,
    ours_minus_text,
    p_text,
    published_text,
    write_markdown,
)

VOID = {"meta", "img", "br", "hr", "input", "link"}
HOSTILE = '"><script>alert(1)</script><img src=http://example.org/x.png>|`'
ONE_PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """Keeps tags, attributes and text of a page, and complains when tags do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if not self.open or self.open[-1] != "style" else ""


def row(
    condition: str,
    seed: int,
    right: int,
    images: int = 200,
    pair: str = "mnist:usps",
    more: Mapping[str, object] | None = None,
) -> str:
    """Gives a line of which the first ``right`` images are right."""
    correct = np.arange(images) < right
    wrong = images - right
    fields: dict[str, object] = {
        "pair": pair,
        "condition": condition,
        "seed": seed,
        "accuracy": round(100.0 * right / images, 3),
        "last_iterate": True,
        "protocol": "full",
        "test_images": images,
        "correct": pack_correct(correct),
        "confusion": [[right // 2, 0], [wrong, right - right // 2]],
        "class_names": ["zero", "one"],
        "snapshots": [
            {"step": 10, "stage": "fit", "accuracy": 70.0, "scores": {"IM": 0.3}},
            {"step": 20, "stage": "fit", "accuracy": 80.0, "scores": {"IM": 0.4}},
            {"step": 10, "stage": "self-train", "accuracy": 90.0, "scores": {"IM": 0.2}},
        ],
        "steps": 1500,
        "seconds": 600,
        "classifier": "lenet",
        "size": 28,
        "device": "cpu, one thread",
        "commit": "abc1234",
        "date": "2026-11-21",
        "command": "python -m benchmarks.digits --pair mnist:usps",
    }
    return json.dumps(fields | dict(more or {}))


def rows_of(pair: str, ours: int, self_training: int, seeds: int = 3) -> list[str]:
    counts = {"source": 150, "classic": 160, "munit": 170, "self-training": self_training, "adapt": ours, "oracle": 196}
    return [row(name, seed, right, pair=pair) for name, right in counts.items() for seed in range(seeds)]


def results_of(lines: Sequence[str]) -> list[Result]:
    return [parse_result(line) for line in lines]


def folder_with(tmp_path: Path, lines: Sequence[str]) -> Path:
    results = tmp_path / "results"
    results.mkdir()
    (results / "digits-test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return results


def difference(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high, 5, 100, "seeds and images")


def answer(low: float, high: float, development: bool = False, strict: Difference | None = None) -> Answer:
    names = ("adapt", "self-training")
    return Answer(QUESTIONS[0], Setting("a:b"), "a", development, *names, difference(low, high), None, None, strict)


BETTER, WORSE, UNCLEAR = answer(0.1, 0.5), answer(-0.5, -0.1), answer(-0.1, 0.1)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], "Not measured yet: no pair has both."),
        ([answer(0.1, 0.5, development=True)], "Not measured yet: no pair has both."),
        ([BETTER], "Yes, on the one pair measured."),
        ([BETTER, BETTER], "Yes, on all 2 pairs."),
        ([BETTER, BETTER, UNCLEAR], "Yes on 2 of 3 pairs; no clear difference on 1."),
        ([BETTER, UNCLEAR, WORSE], "Yes on 1 of 3 pairs; no clear difference on 1; it hurts on 1."),
        ([UNCLEAR], "Not clearly, on the one pair measured."),
        ([UNCLEAR, UNCLEAR], "Not clearly, on any of 2 pairs."),
        ([WORSE], "No, it hurts."),
        ([WORSE, UNCLEAR], "It hurts on 1 of 2 pairs; no clear difference on 1."),
    ],
)
def test_the_headline_counts_intervals_beside_zero(answers: list[Answer], sentence: str) -> None:
    pairs = [replace(one, setting=Setting(f"pair:{place}")) for place, one in enumerate(answers)]
    assert headline(pairs, "both") == sentence


@pytest.mark.parametrize(
    ("lows", "left"),
    [
        ((0.05, 0.05), "the same."),
        ((0.05, -0.1), "yes on 1 of 2 pairs; no clear difference on 1."),
        ((-0.1, -0.1), "not clearly, on any of 2 pairs."),
    ],
)
def test_the_headline_says_what_is_left_of_it_when_corrected(lows: Sequence[float], left: str) -> None:
    answers = [answer(0.1, 0.5, strict=difference(low, 0.6)) for low in lows]
    pairs = [replace(one, setting=Setting(f"pair:{place}")) for place, one in enumerate(answers)]
    expected = f"Yes, on all 2 pairs. With intervals corrected over the 2 pairs (97.5% each): {left}"
    assert headline(pairs, "both") == expected


def test_corrected_intervals_are_over_the_pairs_that_are_evidence() -> None:
    lines = [*rows_of("mnist:usps", 190, 180), *rows_of("usps:mnist", 190, 180)]
    several = find(results_of([*lines, *rows_of("synthetic-rgb:usps", 190, 180)])).answers["beyond"]
    assert [one.development for one in several] == [False, False, True]
    first, second, development = (one.strict for one in several)
    assert development is None
    assert first is not None
    assert first == second
    assert (first.low, first.high) == paired_interval(
        np.tile(np.arange(200) < 190, (3, 1)), np.tile(np.arange(200) < 180, (3, 1)), level=0.975
    )
    (alone,) = find(results_of(rows_of("mnist:usps", 190, 180))).answers["beyond"]
    assert alone.strict is None


def test_the_page_answers_first_and_shows_every_condition(tmp_path: Path) -> None:
    results = folder_with(tmp_path, [*rows_of("mnist:usps", 190, 180), *rows_of("usps:mnist", 180, 180)])
    (results / "digits-mnist-usps.png").write_bytes(ONE_PIXEL_PNG)
    main(["--results", str(results), "--out", str(tmp_path / "deep" / "report.html")])
    page = Page((tmp_path / "deep" / "report.html").read_text(encoding="utf-8"))
    text = page.text
    assert text.index("Yes on 1 of 2 pairs; no clear difference on 1.") < text.index("MNIST → USPS")
    assert {"source", "classic", "munit", "self-training", "adapt", "oracle"} <= set(re.findall(r"[\w-]+", text))
    assert text.count("abc1234") == 36  # each of the 2 x 6 x 3 runs, folded away
    assert "IM" in text
    assert "98.3" in text  # the best published by translation
    assert page.tags.count("details") >= 6
    assert ("src", "data:image/png;base64," + base64.b64encode(ONE_PIXEL_PNG).decode()) in page.attributes


def test_the_page_stands_alone() -> None:
    html = render_page(find(results_of(rows_of("mnist:usps", 190, 180)), literature=read_literature()))
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert all(value.startswith(("#", "data:")) for name, value in page.attributes if name in ("src", "href"))


def test_hostile_names_are_shown_and_nothing_else() -> None:
    texts = dict.fromkeys(("protocol", "classifier", "device", "commit", "date", "command"), HOSTILE)
    snapshots = [{"step": s, "stage": HOSTILE, "accuracy": 50, "scores": {HOSTILE: 1}} for s in (1, 2)]
    lines = [
        row(
            condition,
            seed,
            150,
            pair=f"{HOSTILE}:b",
            more={"class_names": [HOSTILE, "b"], "snapshots": snapshots, **texts},
        )
        for condition in (HOSTILE, "adapt", "self-training")
        for seed in range(2)
    ]
    page = Page(render_page(find(results_of(lines), [HOSTILE]), [Sheet(HOSTILE, "data:image/png;base64,")]))
    plain = Page(render_page(find(results_of(rows_of("mnist:usps", 190, 180)))))
    assert set(page.tags) <= set(plain.tags) | {"img", "figure", "figcaption", "li", "ul"}
    assert page.tags.count("img") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text


def test_older_rows_without_bits_still_make_a_page() -> None:
    lines = [
        json.dumps({"pair": "mnist:usps", "condition": name, "seed": seed, "accuracy": 90.0 + seed + extra})
        for name, extra in (("source", 0.0), ("self-training", 2.0), ("adapt", 3.0))
        for seed in range(3)
    ]
    findings = find(results_of(lines))
    (beyond,) = findings.answers["beyond"]
    assert (beyond.difference.mean, beyond.difference.basis, beyond.test) == (1.0, "seeds", None)
    assert "seeds only" in Page(render_page(findings)).text
    single = find(results_of(lines[:1]))
    assert "Not measured yet" in Page(render_page(single)).text


def test_no_results_say_what_to_run(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "report.html")]
    with pytest.raises(SystemExit, match="is no folder"):
        main(["--results", str(tmp_path / "nowhere"), *out])
    results = folder_with(tmp_path, [])
    with pytest.raises(SystemExit, match=r"no finished cell to report; run python -m benchmarks\.digits first"):
        main(["--results", str(results), *out])
    (results / "digits-test.jsonl").write_text("{broken\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"digits-test\.jsonl, line 1: no JSON"):
        main(["--results", str(results), *out])
    assert not (tmp_path / "report.html").exists()


def test_a_report_must_be_told_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--results", str(tmp_path)])
    assert "name what to write" in capsys.readouterr().err


def test_lines_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder_with(tmp_path, [*rows_of("mnist:usps", 190, 180), "{broken"])
    main(["--results", str(results), "--out", str(tmp_path / "report.html")])
    assert "line 19: no JSON" in capsys.readouterr().err
    assert "line 19: no JSON" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_development_pairs_are_shown_but_no_evidence() -> None:
    lines = [*rows_of("mnist:usps", 190, 180), *rows_of("synthetic-rgb:usps", 190, 180)]
    findings = find(results_of(lines))
    ours, development = findings.answers["beyond"]
    assert (ours.development, development.development) == (False, True)
    # 10 images won and none lost: p = 2 / 2^10, and Holm over one pair leaves it
    assert ours.corrected == pytest.approx(2.0**-9)
    assert development.corrected is None
    assert headline(findings.answers["beyond"], "") == "Yes, on the one pair measured."
    assert "development pair" in Page(render_page(findings)).text


def test_holm_counts_the_pairs_of_a_question() -> None:
    lines = [*rows_of("mnist:usps", 190, 180), *rows_of("usps:mnist", 188, 180)]
    corrected = [entry.corrected for entry in find(results_of(lines)).answers["beyond"]]
    assert corrected == [pytest.approx(2 * 2.0**-9), pytest.approx(2.0**-7)]


def test_translation_alone_is_the_first_declared_condition_not_the_best() -> None:
    lines = [row(name, seed, right) for name, right in (("munit", 180), ("classic", 160)) for seed in (0, 1)]
    assert find(results_of(lines)).answers["alone"][0].first == "munit"
    semantic = [row("munit-semantic", seed, 170) for seed in (0, 1)]
    assert find(results_of([*lines, *semantic])).answers["alone"][0].first == "munit-semantic"


@pytest.mark.parametrize(
    ("condition", "key"),
    [
        ("source", "plain"),
        ("fda", "looks"),
        ("histogram-matching", "looks"),
        ("skada-deepcoral", "features"),
        ("sa", "features"),
        ("munit", "translation"),
        ("munit-offline-3", "translation"),
        ("cut", "translation"),
        ("self-training", "self"),
        ("self-training-fixmatch", "self"),
        ("adapt", "ours"),
        ("oracle", "limit"),
        ("sand", "further"),  # no condition of the group that "sa" starts
    ],
)
def test_conditions_find_their_group(condition: str, key: str) -> None:
    assert group_of(condition).key == key


def test_baselines_stand_before_ours_and_the_limit_last() -> None:
    (pair,) = find(results_of([*rows_of("mnist:usps", 190, 180), row("something-new", 0, 10)])).pairs
    assert [group.key for group, _ in pair.grouped()] == ["plain", "translation", "self", "further", "ours", "limit"]
    assert len({group.key for group in GROUPS}) == len(GROUPS)


def test_settings_of_one_pair_are_told_apart_in_their_titles() -> None:
    full, sampled = Setting("mnist:usps", "full", "28", "lenet"), Setting("mnist:usps", "sampled", "28", "lenet")
    assert pair_title(full) == "MNIST → USPS"
    assert pair_title(full, [full, sampled]) == "MNIST → USPS (full)"
    assert pair_title(full, [full, Setting("mnist:usps", "full", "16", "lenet")]) == "MNIST → USPS (28 px)"
    short, long = ('{"plan": {"steps": 400}}', '{"plan": {"steps": 1500}}')
    settings = [Setting("mnist:usps", "full", plan=plan) for plan in (short, long)]
    assert [pair_title(one, settings) for one in settings] == ["MNIST → USPS (steps 400)", "MNIST → USPS (steps 1500)"]
    few = [Setting("usps:mnist", plan=json.dumps({"target_images": count})) for count in (20, 100)]
    assert pair_title(few[0], few) == pair_title(few[0]) == "USPS → MNIST (20 target images)"
    assert pair_title(Setting("my photos:theirs")) == "my photos → theirs"


@pytest.mark.parametrize(
    ("protocol", "marked"), [("full", "98.3 / 99.5†"), ("", "98.3 / 99.5†"), ("sampled", "92.8 / 94.2 ± 0.7")]
)
def test_runs_on_a_sample_are_compared_with_published_ones_on_a_sample(protocol: str, marked: str) -> None:
    (pair,) = find(results_of([row("adapt", 0, 190, more={"protocol": protocol})]), literature=read_literature()).pairs
    assert published_text(pair) == marked
    best = pair.best(False)
    assert best is not None
    assert (best.protocol == "sampled") == (protocol == "sampled")


def test_few_target_images_stand_in_order_and_beside_no_published_figure() -> None:
    plans = [{"target_images": 1000}, {"target_images": 20}, {"steps": 1}]
    rows = [row("adapt", 0, 190, pair=pair, more={"plan": p}) for p in plans for pair in ("mnist:usps", "usps:mnist")]
    pairs = find(results_of(rows), literature=read_literature()).pairs
    few = [(pair.setting.pair, pair.setting.target_images) for pair in pairs]
    assert few == [(pair, count) for pair in ("mnist:usps", "usps:mnist") for count in (20, 1000, 0)]
    assert [published_text(pair) for pair in pairs[:3]] == ["-", "-", "98.3 / 99.5†"]


def test_a_difference_of_fewer_seeds_than_stand_beside_it_says_so() -> None:
    lines = [row("adapt", seed, 190) for seed in (0, 1, 2)] + [row("classic", seed, 180) for seed in range(5)]
    findings = find(results_of([*lines, row("munit", 0, 170)]))
    marked = {line.condition: ours_minus_text(line) for line in findings.pairs[0].lines}
    assert marked["adapt"] == "-"
    assert marked["classic"].startswith("+5.00 [")
    assert marked["classic"].endswith("] (3 seeds)")
    assert marked["munit"].endswith("] (one seed)")
    for shown in (Page(render_page(findings)).text, accuracy_block(findings)):
        assert marked["classic"] in shown
        assert marked["munit"] in shown


def test_conditions_without_a_common_seed_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*rows_of("usps:mnist", 190, 180), row("adapt", 0, 190), row("self-training", 1, 180)]
    main(["--results", str(folder_with(tmp_path, lines)), "--out", str(tmp_path / "report.html")])
    note = "MNIST → USPS: adapt and self-training have no seed in common and are not compared"
    assert note in capsys.readouterr().err
    assert note in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_the_seed_that_is_tested_is_named_where_it_is_not_the_first() -> None:
    lines = [row("adapt", seed, 190) for seed in (0, 1, 2)] + [row("self-training", seed, 180) for seed in (1, 2)]
    findings = find(results_of(lines))
    assert "| 10 / 0 (seed 1) |" in differences_block(findings)
    assert "10 / 0 seed 1" in Page(render_page(findings)).text
    assert "(seed 0)" not in differences_block(find(results_of(rows_of("mnist:usps", 190, 180))))


def test_the_corrected_level_is_of_the_pairs_that_are_there() -> None:
    lines = [*rows_of("mnist:usps", 190, 180), *rows_of("usps:mnist", 188, 180)]
    assert "over the pairs of a table (97.5% for 2)" in differences_block(find(results_of(lines)))


def test_trials_beside_the_real_runs_count_nowhere(tmp_path: Path) -> None:
    trial = {"plan": {"steps": 5}, "commit": "trial12"}
    lines = [row(name, 0, right, more=trial) for name, right in (("adapt", 100), ("self-training", 190))]
    results = folder_with(tmp_path, [*lines, *rows_of("mnist:usps", 190, 180)])
    page = tmp_path / "report.html"
    main(["--results", str(results), "--out", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "Yes, on the one pair measured." in text
    assert "mnist:usps: 2 runs under other settings than the 18 shown" in text
    assert "trial12" not in text
    main(["--results", str(results), "--out", str(page), "--all-settings"])
    text = page.read_text(encoding="utf-8")
    assert "Yes on 1 of 2 settings; no clear difference on 1." in text  # one seed of the trial: no verdict
    assert "trial12" in text


def test_sheets_go_to_the_longest_pair_in_their_name() -> None:
    findings = find(results_of([*rows_of("mnist:mnist", 190, 180, 1), *rows_of("mnist:mnist-m", 190, 180, 1)]))
    names = ["digits-mnist-mnist-m-styles", "digits-mnist-mnist", "digits-mnist-mnistish"]
    found, rest = sheets_by_pair(findings, [Sheet(name, "") for name in names])
    assert {pair: [sheet.name for sheet in sheets] for pair, sheets in found.items()} == {
        "mnist:mnist-m": names[:1],
        "mnist:mnist": names[1:2],
    }
    assert [sheet.name for sheet in rest] == names[2:]
    assert slug("synthetic-rgb:mnist") == "synthetic-rgb-mnist"


def test_confusions_are_summed_over_seeds() -> None:
    (pair,) = find(results_of([row("adapt", 0, 100), row("adapt", 1, 150)])).pairs
    summed = summed_confusion(pair.lines[0])
    assert summed is not None
    counts, names, seeds = summed
    assert counts.tolist() == [[50 + 75, 0], [100 + 50, 50 + 75]]
    assert (names, seeds) == (("zero", "one"), 2)
    cells = matrix_cells(counts, names)
    assert [(cell.x, cell.y, cell.right) for cell in cells] == [
        (0, 0, True), (50, 0, False), (0, 50, False), (50, 50, True),
    ]  # fmt: skip
    assert [cell.share for cell in cells] == pytest.approx([100.0, 0.0, 100 * 150 / 275, 100 * 125 / 275])
    assert [cell.text for cell in cells] == ["100", "", "54.5", "45.5"]
    assert matrix_cells(np.ones((31, 31), dtype=np.int64), [""] * 31) == []


def test_stages_are_laid_end_to_end_in_learning_curves() -> None:
    (pair,) = find(results_of([row("adapt", 0, 100)])).pairs
    drawn = learning_curves(pair)
    assert drawn is not None
    across = [float(point.split(",")[0]) for point in drawn.curves[0].seeds[0].split()]
    assert across == [pytest.approx(100 * step / 30, abs=0.01) for step in (10, 20, 30)]
    thinned = [
        {"step": step, "stage": stage, "accuracy": 50.0}
        for stage, step in (("fit", 5), ("self", 10), ("self", 20), ("refine", 10))
    ]
    (pair,) = find(results_of([row("adapt", 0, 100, more={"snapshots": thinned})])).pairs
    drawn = learning_curves(pair)
    assert drawn is not None
    across = [float(point.split(",")[0]) for point in drawn.curves[0].seeds[0].split()]
    assert across == [pytest.approx(100 * step / 35, abs=0.01) for step in (5, 15, 25, 35)]
    (without,) = find(results_of([row("adapt", 0, 100, more={"snapshots": []})])).pairs
    assert learning_curves(without) is None


def test_halving_the_error_is_as_far_anywhere_on_the_accuracy_axis() -> None:
    axis = AccuracyAxis.of([10.0, 80.0, 99.0])
    lengths = [axis.place(high) - axis.place(low) for low, high in ((80, 90), (90, 95), (98, 99))]
    assert lengths == pytest.approx([lengths[0]] * 3, abs=0.01)
    assert lengths[0] > 0.0
    assert axis.place(0.0) == 0.0
    assert axis.place(100.0) == 100.0
    assert 0.0 < axis.place(10.0) < axis.place(99.0) < 100.0
    for known in ([100.0], [0.0], [97.1, 97.2], [], [float("nan")]):
        places = [tick.at for tick in AccuracyAxis.of(known).ticks()]
        assert places == sorted(places)
        assert all(0.0 <= at <= 100.0 for at in places)


def test_the_points_axis_holds_zero_and_all_intervals() -> None:
    axis = PointsAxis.of([Difference(1.0, 0.4, 1.6, 5, 9, "seeds"), Difference(2.0, float("nan"), 0.0, 1, 0, "none")])
    assert axis.low < 0.0
    assert axis.high > 2.0
    assert axis.place((axis.low + axis.high) / 2) == 50.0
    assert "0" in [tick.text for tick in axis.ticks()]
    assert len(axis.ticks()) <= 9
    assert PointsAxis.of([]).low < PointsAxis.of([]).high


def test_numbers_as_text() -> None:
    assert difference_text(Difference(-0.25, -0.5, 0.004, 5, 9, "seeds")) == "\u22120.25 [\u22120.50, +0.00]"
    assert difference_text(Difference(0.25, float("nan"), float("nan"), 1, 0, "none")) == "+0.25"
    assert [p_text(p) for p in (None, 0.00001, 0.0123, 1.0)] == ["-", "< 0.0001", "0.012", "1"]
    spreads = (math.nan, 0.0, 0.044, 0.051)
    texts = [mean_text(Summary("x", 99.2448, 0.1, half, 99.0, 5, ())) for half in spreads]
    assert texts == ["99.2", "99.2 ± 0.0", "99.24 ± 0.04", "99.2 ± 0.1"]


def test_markdown_tables_hold_the_numbers_and_where_they_come_from(tmp_path: Path) -> None:
    write_markdown(find(results_of(rows_of("mnist:usps", 190, 180)), literature=read_literature()), tmp_path / "new.md")
    text = (tmp_path / "new.md").read_text(encoding="utf-8")
    (summary,) = [line for line in text.splitlines() if line.startswith("| MNIST → USPS | 75.0")]
    assert summary.startswith(
        "| MNIST → USPS | 75.0 ± 0.0 | 80.0 ± 0.0 | 85.0 ± 0.0 | 90.0 ± 0.0 | 95.0 ± 0.0 | 98.0 ± 0.0 | +5.00 ["
    )
    assert summary.endswith("| 98.3 / 99.5† |")
    assert "†: under another protocol than here (mnist:usps: another test split of USPS)." in text
    facts = "3 seeds, 18 rows, commit abc1234, 2026-11-21, cpu, one thread"
    assert f"- `python -m benchmarks.digits --pair mnist:usps`: {facts}" in text
    assert "| 10 / 0 | 0.002 | 0.002 |" in text
    assert "| MNIST → USPS | `adapt` - `self-training` | +5.00 [" in text
    assert "| `adapt` | last iterate | 95.0 | 0.00 | 0.00 |" in text
    assert "| `adapt` | IM | 80.0 | 15.00 | 15.00 |" in text
    assert "| 10.0 | cpu, one thread |" in text  # 600 seconds


def test_the_cost_of_choosing_is_summed_up_by_kinds_of_conditions(tmp_path: Path) -> None:
    lines = rows_of("mnist:usps", 190, 180)
    lines += [row("dann", 0, 150, more={"snapshots": []})]
    lines += [row("skada-dann", 0, 150, more={"snapshots": [{"step": 1, "stage": "fit", "accuracy": 50.0}]})]
    snapshots = [{"step": 10, "stage": "fit", "accuracy": 97.0, "scores": {"DEV": 0.3}}]
    lines += [row("self-training-im", seed, 180 + seed, more={"snapshots": snapshots}) for seed in range(2)]
    write_markdown(find(results_of(lines)), tmp_path / "new.md")
    text = (tmp_path / "new.md").read_text(encoding="utf-8")
    (_, block), *_ = re.findall(r"<!-- digits:(regret) -->\n(.*?)<!--", text, re.DOTALL)
    head, _, *rows = block.split("\n\n")[0].splitlines()
    assert "| Self-training without translation, 5 runs |" in head
    assert "Features aligned" not in head  # one kept no snapshot, one is another library's
    assert "| `dann` | 75.0 | - | 75.0 | 0 | 1 | +20.00 [" in text
    assert len(re.findall(r"\| `(?:skada-)?dann` \|.*\(one seed\) \|", text)) == 2
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in rows}
    column = head.split(" | ").index("Self-training without translation, 5 runs") - 1
    assert cells["| last iterate"][column] == f"{(7.0 + 6.5) / 5:.2f} (7.0)"
    assert cells["| IM"][column] == "10.00 (10.0), 3 runs"
    assert cells["| DEV"][column] == "0.00 (0.0), 2 runs"
    assert cells["| DEV"][0] == "-"
    assert "| oracle choice" not in cells


def test_hostile_names_break_no_markdown_table(tmp_path: Path) -> None:
    texts = dict.fromkeys(("device", "commit", "command"), HOSTILE + "\n")
    lines = [row(name, 0, 150, pair=f"{HOSTILE}:b", more=texts) for name in (HOSTILE, "adapt", "self-training")]
    write_markdown(find(results_of(lines)), tmp_path / "new.md")
    text = (tmp_path / "new.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "<script" not in re.sub(r"`[^`\n]*`", "", text)


def test_existing_markdown_keeps_everything_but_the_marked_tables(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Ours\n\n<!-- digits:summary -->\nold\n<!-- /digits:summary -->\n\nThe end.\n", encoding="utf-8")
    findings = find(results_of(rows_of("mnist:usps", 190, 180)))
    write_markdown(findings, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Ours\n\n<!-- digits:summary -->\nIs ours better")
    assert text.endswith("\n<!-- /digits:summary -->\n\nThe end.\n")
    assert "old" not in text
    write_markdown(findings, path)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["# No marks\n", "<!-- digits:nothing -->\n<!-- /digits:nothing -->\n"])
def test_existing_markdown_without_known_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    results = folder_with(tmp_path, rows_of("mnist:usps", 190, 180))
    path = tmp_path / "notes.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"must hold lines <!-- digits:BLOCK -->"):
        main(["--results", str(results), "--markdown", str(path)])
    assert path.read_text(encoding="utf-8") == text


def test_published_figures_are_whole_and_their_best_are_the_records() -> None:
    literature = read_literature()
    assert all(0.0 < entry.value <= 100.0 and 2010 < entry.year < 2030 for entry in literature)
    assert {entry.source for entry in literature} == {"primary", "secondary"}
    assert {entry.selection for entry in literature} <= {
        "test",
        "target labels",
        "label-free",
        "last iterate",
        "unknown",
    }
    assert len({(entry.method, entry.pair, entry.protocol) for entry in literature}) == len(literature)
    best = {
        (pair, translation): max(e.value for e in literature if e.pair == pair and (e.translation or not translation))
        for pair in ("mnist:usps", "usps:mnist", "svhn:mnist")
        for translation in (True, False)
    }
    assert [best["mnist:usps", True], best["usps:mnist", True], best["svhn:mnist", True]] == [98.3, 98.75, 97.5]
    assert [best["mnist:usps", False], best["usps:mnist", False], best["svhn:mnist", False]] == [99.5, 99.54, 99.6]
    assert next(entry for entry in literature if entry.method == "UNIT").saw_target_labels


def test_confusions_over_other_classes_are_not_summed() -> None:
    three = {"confusion": [[150, 0, 0], [20, 0, 0], [30, 0, 0]], "class_names": ["zero", "one", "two"]}
    (pair,) = find(results_of([row("adapt", 0, 100), row("adapt", 1, 150, more=three)])).pairs
    summed = summed_confusion(pair.lines[0])
    assert summed is not None
    counts, names, seeds = summed
    assert (counts.tolist(), names, seeds) == ([[50, 0], [100, 50]], ("zero", "one"), 1)


def test_source_comes_first_of_its_group_and_others_by_their_mean() -> None:
    rows = [row("classic", 0, 150), row("source", 0, 170), row("classic-more", 0, 140)]
    (pair,) = find(results_of(rows)).pairs
    assert [line.condition for line in pair.lines] == ["source", "classic-more", "classic"]


def test_the_number_of_test_images_is_told_where_all_runs_have_the_same() -> None:
    same, other = row("source", 0, 100), row("classic", 0, 100, images=150)
    assert find(results_of([same, row("classic", 0, 90)])).pairs[0].test_images == 200
    assert find(results_of([same, other])).pairs[0].test_images is None


@pytest.mark.parametrize(("selection", "saw"), [("test", True), ("target labels", True), ("none", False)])
def test_a_figure_chosen_by_target_labels_is_marked(selection: str, saw: bool) -> None:
    assert Published("x", 2020, "mnist:usps", 90.0, "full", "paper", selection, False).saw_target_labels is saw
