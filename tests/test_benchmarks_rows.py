"""Rows of the digit benchmark: what is read, what is left out and why, and the bits that were packed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rows import Setting, by_setting, main_settings, pack_correct, parse_result, read_results, unpack_correct

OLD_ROW = {"pair": "mnist:usps", "condition": "source", "seed": 0, "accuracy": 86.8}


def line(**changes: object) -> str:
    return json.dumps(OLD_ROW | changes)


def test_bits_are_one_per_image_the_first_image_highest() -> None:
    packed = pack_correct(np.array([True, False, False, False, False, False, False, True, True]))
    assert base64.b64decode(packed) == bytes([0b10000001, 0b10000000])
    assert unpack_correct(packed, 9).tolist() == [True, *[False] * 6, True, True]


@pytest.mark.parametrize(("packed", "message"), [("gQ==", "1 bytes.*need 2"), ("not base64", "not base64")])
def test_bits_of_another_number_of_images_are_refused(packed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_correct(packed, 9)


def test_a_row_of_an_older_file_is_read_without_bits_and_confusion() -> None:
    result = parse_result(line(unknown_field=[1, 2]))
    assert result.setting == Setting("mnist:usps")
    assert (result.correct, result.confusion, result.snapshots) == (None, None, ())
    assert (result.circumstances.commit, result.circumstances.steps) == ("", None)


def test_a_full_row_is_read_with_all_its_fields() -> None:
    result = parse_result(
        line(
            accuracy=66.667,
            test_images=3,
            correct=pack_correct(np.array([True, False, True])),
            confusion=[[1, 0], [1, 1]],
            class_names=["a", "b"],
            snapshots=[{"step": 5, "stage": "fit", "accuracy": 50, "scores": {"IM": 0.5, "SND": float("nan")}}],
            size=28,
            protocol="full",
            classifier="lenet",
            plan={"steps": 3, "again": {"b": 1, "a": 2}},
        )
    )
    assert result.setting == Setting("mnist:usps", "full", "28", "lenet", '{"again": {"a": 2, "b": 1}, "steps": 3}')
    assert result.correct is not None
    assert result.correct.tolist() == [True, False, True]
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 0], [1, 1]]
    assert result.class_names == ("a", "b")
    assert result.snapshots[0].scores == {"IM": 0.5}  # a score that is no number is no score


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"pair": "mn', "no JSON"),
        ("[1]", "no JSON object"),
        ('{"pair": "a:b", "seed": 0, "accuracy": 1}', "no condition"),
        (line(accuracy=101), "percentage"),
        (line(accuracy=float("nan")), "must be a number"),
        (line(accuracy=True), "must be a number"),
        (line(last_iterate=False), "last iterate"),
        (line(accuracy=50.0, test_images=2, correct=pack_correct(np.array([True, True]))), "100.000% of the bits"),
        (line(correct="gA=="), "no test_images"),
        (line(confusion=[[1, 2], [3]]), "square"),
        (line(confusion=[[1, 2, 3], [3, 4, 5]]), "square"),
        (line(confusion=[[1, -2], [3, 4]]), "square"),
        (line(snapshots=[3]), "list of objects"),
        (line(snapshots=[{"stage": "fit", "accuracy": 3}]), "no step"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_result(text)


def test_a_half_written_line_hides_no_other_and_a_later_line_counts(tmp_path: Path) -> None:
    (tmp_path / "digits-a.jsonl").write_text("\n".join([line(), "", line(seed=1), '{"pair": ']), encoding="utf-8")
    (tmp_path / "digits-b.jsonl").write_text(line(accuracy=90.0) + "\n", encoding="utf-8")
    (tmp_path / "claims.jsonl").write_text('{"variant": "of another benchmark"}\n', encoding="utf-8")
    results, left_out = read_results(tmp_path)
    assert [(result.seed, result.accuracy) for result in results] == [(0, 90.0), (1, 86.8)]
    assert len(left_out) == 2
    assert left_out[0].startswith("digits-a.jsonl, line 4: no JSON")
    assert left_out[1] == "digits-b.jsonl, line 1 replaces an earlier line of mnist:usps, source, seed 0"


def test_a_folder_without_rows_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run python -m benchmarks\.digits first"):
        read_results(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        read_results(tmp_path / "nowhere")


def test_other_sizes_and_protocols_are_kept_apart() -> None:
    results = [
        parse_result(line(size=size, protocol=protocol)) for size in (16, 28) for protocol in ("full", "sampled")
    ]
    assert len(by_setting(results)) == 4


def test_the_setting_with_the_most_runs_is_taken_and_of_equals_the_later() -> None:
    lines = [line(seed=seed, plan={"steps": 9}) for seed in range(2)] + [line(accuracy=99.0, plan={"steps": 1})]
    taken, left_out = main_settings([parse_result(text) for text in lines])
    assert [(result.seed, result.accuracy) for result in taken] == [(0, 86.8), (1, 86.8)]
    assert left_out == ["mnist:usps: 1 runs under other settings than the 2 shown"]
    dated = [parse_result(line(size=size, date=date)) for size, date in ((16, "2026-11-22"), (28, "2026-11-21"))]
    assert [result.setting.size for result in main_settings(dated)[0]] == ["16"]
    both = [parse_result(line(protocol=protocol)) for protocol in ("full", "sampled")]
    assert main_settings(both) == (both, [])


def test_a_plan_that_is_part_of_another_joins_it() -> None:
    plan, fuller = {"settings": {"steps": 9}}, {"settings": {"steps": 9}, "translator_steps": 7}
    lines = [line(plan=fuller, seed=seed) for seed in range(2)] + [line(condition="peer", plan=plan)]
    taken, left_out = main_settings([parse_result(text) for text in lines])
    assert [result.condition for result in taken] == ["source", "source", "peer"]
    assert len({result.setting for result in taken}) == 1
    assert left_out == []
    other = line(condition="peer", plan={"settings": {"steps": 8}})
    assert len(main_settings([parse_result(text) for text in [*lines, other]])[0]) == 3
    unclear = line(plan=fuller | {"translator_steps": 6}, seed=5)
    assert len(main_settings([parse_result(text) for text in [*lines, unclear]])[0]) == 2


def test_a_run_that_plans_less_takes_the_place_of_no_other() -> None:
    plan, fuller = {"settings": {"steps": 9}}, {"settings": {"steps": 9}, "translator_steps": 7}
    for order in (1, -1):
        lines = [line(plan=fuller, seed=0), line(plan=fuller, seed=1), line(plan=plan, seed=0, accuracy=50.0)][::order]
        taken, left_out = main_settings([parse_result(text) for text in lines])
        assert {result.seed: result.accuracy for result in taken} == {0: 86.8, 1: 86.8}
        assert left_out == ["mnist:usps: source, seed 0, stands there twice; the row that plans less is left out"]


def test_rows_of_few_target_images_are_mixed_with_no_others() -> None:
    plan = {"settings": {"steps": 9}}
    few = [parse_result(line(plan=plan | {"target_images": count})) for count in (100, 20)]
    both = [parse_result(line(plan=plan, seed=seed)) for seed in range(2)] + few
    assert main_settings(both) == (both, [])
    assert [result.setting.target_images for result in both] == [0, 0, 100, 20]


@pytest.mark.parametrize("sizes", [(16, 28), (28, 16)])
def test_of_equally_many_runs_the_later_are_taken_whatever_their_accuracy(sizes: tuple[int, int]) -> None:
    runs = {16: {"date": "2026-11-22", "accuracy": 50.0}, 28: {"date": "2026-11-21", "accuracy": 60.0}}
    results = [parse_result(line(size=size, **runs[size])) for size in sizes]
    assert [result.setting.size for result in main_settings(results)[0]] == ["16"]
