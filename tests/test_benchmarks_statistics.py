"""Statistics of the digit benchmark against enumerated bootstraps, binomial sums and corrections worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.rows import Circumstances, Result, Setting, Snapshot
from benchmarks.statistics import (
    Selection,
    bootstrap_interval,
    collapsed_seeds,
    compare,
    corrected_level,
    holm,
    mcnemar,
    paired_interval,
    pooled,
    selection_table,
    student_half_width,
    summarise,
)

Bits = NDArray[np.bool_]
FIRST = np.array([[1, 1, 0, 1, 0], [1, 1, 0, 1, 1]], dtype=np.bool_)
SECOND = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 1, 0]], dtype=np.bool_)
FEWER = np.array([[0, 0, 0], [1, 0, 0]], dtype=np.bool_), np.array([[1, 0, 0], [0, 0, 1]], dtype=np.bool_)


def result(accuracy: float, seed: int = 0, correct: Bits | None = None, snapshots: tuple[Snapshot, ...] = ()) -> Result:
    nowhere = Circumstances(None, None, "", "", "", "")
    return Result(Setting("a:b"), "x", seed, accuracy, correct, None, (), snapshots, nowhere)


def results(bits: Bits) -> dict[int, Result]:
    return {seed: result(100.0 * float(row.mean()), seed, row) for seed, row in enumerate(bits)}


def inverse_cdf(outcomes: list[float], share: float) -> float:
    """Gives the smallest outcome with at least this share of all at or below it; refuses a share on a step."""
    ordered = sorted(outcomes)
    place = share * len(ordered)
    steps = {index + 1 for index in range(len(ordered) - 1) if ordered[index] < ordered[index + 1] - 1e-9}
    assert min(abs(place - step) for step in steps) > 0.004 * len(ordered), "choose another example"
    return ordered[math.ceil(place) - 1]


def enumerated(difference: NDArray[np.int64], shared: bool) -> list[float]:
    """Gives every equally likely resample of seeds and images, in points."""
    seeds, images = difference.shape
    draws = list(itertools.product(range(images), repeat=images))
    sums = np.array([[sum(int(row[i]) for i in draw) for draw in draws] for row in difference])
    outcomes = []
    for drawn in itertools.product(range(seeds), repeat=seeds):
        if shared:
            outcomes += list(sum(sums[seed] for seed in drawn))
        else:
            outcomes += [a + b for a in sums[drawn[0]] for b in sums[drawn[1]]]
    return [100.0 * total / (seeds * images) for total in outcomes]


@pytest.mark.parametrize("shared", [True, False])
def test_the_bootstrap_agrees_with_all_resamples_written_out(shared: bool) -> None:
    first, second = (FIRST, SECOND) if shared else FEWER
    outcomes = enumerated(first.astype(np.int64) - second.astype(np.int64), shared)
    expected = inverse_cdf(outcomes, 0.025), inverse_cdf(outcomes, 0.975)
    found = bootstrap_interval(first, second, resamples=40_000, shared_images=shared)
    assert found == pytest.approx(expected)
    assert min(outcomes) < expected[0] < expected[1] < max(outcomes)


def test_seeds_that_do_the_same_leave_the_chance_between_images() -> None:
    images = np.arange(2000)
    first, second = np.tile(images % 10 != 0, (5, 1)), np.tile(images % 10 > 1, (5, 1))  # 1/10 of images won, none lost
    half = 100.0 * 1.96 * math.sqrt(0.1 * 0.9 / 2000)
    second |= images % 10 == 0
    first |= images % 10 == 0
    low, high = bootstrap_interval(first, second)
    assert (low, high) == pytest.approx((10.0 - half, 10.0 + half), abs=0.08)
    narrow = bootstrap_interval(first, second, shared_images=False)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / math.sqrt(5), rel=0.05)


def test_images_that_are_all_alike_leave_the_chance_between_seeds() -> None:
    first, second = np.array([[True] * 50, [False] * 50]), np.zeros((2, 50), dtype=np.bool_)
    assert bootstrap_interval(first, second) == (0.0, 100.0)  # both seeds lost in 1/4 of resamples, both won in 1/4


def test_the_bootstrap_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((3, 200)) < 0.9, rng.random((3, 200)) < 0.8
    assert bootstrap_interval(first, second, seed=3) == bootstrap_interval(first, second, seed=3)
    assert bootstrap_interval(first, first) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(2, 4), (10,), (0, 5)])
def test_the_bootstrap_refuses_unequal_or_empty_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equal shapes seeds x images"):
        bootstrap_interval(
            np.zeros(shape, dtype=np.bool_), FIRST if shape != (0, 5) else np.zeros(shape, dtype=np.bool_)
        )


def test_an_interval_is_as_wide_as_student_says_where_seeds_alone_differ_but_ends_at_100_points() -> None:
    right = np.array([[True] * 50, [True] * 50, [False] * 50, [True] * 50, [False] * 50])
    none = np.zeros((5, 50), dtype=np.bool_)
    bounds = bootstrap_interval(right, none)
    stretch = 2.0 * student_half_width([100.0, 100.0, 0.0, 100.0, 0.0]) / (bounds[1] - bounds[0])
    assert stretch > 1.0
    low, high = paired_interval(right, none)
    assert low == pytest.approx(60.0 + stretch * (bounds[0] - 60.0))  # as lopsided
    assert 60.0 + stretch * (bounds[1] - 60.0) > 100.0 == high
    lower, higher = paired_interval(none, right)
    assert lower == -100.0
    assert higher == pytest.approx(-low)


def test_an_interval_is_as_wide_as_a_normal_says_where_images_alone_differ() -> None:
    first = np.tile(np.arange(2000) % 10 == 0, (5, 1))
    low, high = paired_interval(first, np.zeros((5, 2000), dtype=np.bool_))
    assert high - low == pytest.approx(2.0 * 100.0 * 1.961 * math.sqrt(0.1 * 0.9 / 1999), rel=1e-3)
    assert low < 10.0 < high


@pytest.mark.parametrize(
    ("generator_seed", "images_count", "seeds_agree"),
    [(0, True, False), (9, False, False), (4, True, True), (53, False, False)],
)
def test_an_interval_is_as_wide_as_sums_of_squares_written_out(
    generator_seed: int, images_count: bool, seeds_agree: bool
) -> None:
    from scipy import stats

    rng = np.random.default_rng(generator_seed)
    first, second = rng.random((4, 60)) < 0.9, rng.random((4, 60)) < 0.7
    rows = (100.0 * (first.astype(float) - second)).tolist()
    grand = math.fsum(map(math.fsum, rows)) / 240
    of_seeds = [math.fsum(row) / 60 for row in rows]
    of_images = [math.fsum(column) / 4 for column in zip(*rows, strict=True)]
    seed_square = 60 * math.fsum((value - grand) ** 2 for value in of_seeds) / 3
    image_square = 4 * math.fsum((value - grand) ** 2 for value in of_images) / 59
    rest = [
        (value - of_seed - of_image + grand) ** 2
        for row, of_seed in zip(rows, of_seeds, strict=True)
        for value, of_image in zip(row, of_images, strict=True)
    ]
    rest_square = math.fsum(rest) / (3 * 59)
    parts = [(seed_square, 3)]
    if image_square > rest_square:
        parts += [(image_square, 59), (-rest_square, 3 * 59)]
    variance = math.fsum(part for part, _ in parts)
    degrees = max(variance**2 / math.fsum(part**2 / free for part, free in parts), 3)
    model = float(stats.t.ppf(0.975, degrees)) * math.sqrt(variance / 240)
    images_alone = 1.959964 * math.sqrt(image_square / 240)
    assert (image_square > rest_square) == images_count
    assert (images_alone > model) == seeds_agree
    low, high = paired_interval(first, second)
    assert (high - low) / 2 == pytest.approx(max(model, images_alone))


@pytest.mark.parametrize("lost", [0, 3])
def test_seeds_that_agree_on_the_difference_by_chance_leave_it_doubtful(lost: int) -> None:
    first, second = np.ones((2, 797), dtype=np.bool_), np.ones((2, 797), dtype=np.bool_)
    for seed in (0, 1):
        second[seed, 3 * seed : 3 * seed + 3] = False  # three images of its own that the first alone has right
        first[seed, 6 + 3 * seed : 6 + 3 * seed + lost] = False
    low, high = paired_interval(first, second)
    error = 100.0 * math.sqrt(2 * (3 + lost)) / (2 * 797)  # of as many independent images
    assert high - low == pytest.approx(2.0 * 1.96 * error, rel=0.02)
    assert low < 100.0 * (3 - lost) / 797 < high


@pytest.mark.parametrize(("seeds", "verdict"), [(2, "unclear"), (3, "better")])
def test_two_seeds_have_an_interval_but_no_verdict(seeds: int, verdict: str) -> None:
    first, second = np.ones((seeds, 100), dtype=np.bool_), np.tile(np.arange(100) < 80, (seeds, 1))
    difference = compare(results(first), results(second))
    assert difference is not None
    assert difference.low > 0.0
    assert difference.verdict == verdict


def test_a_wider_level_gives_a_wider_interval_of_any_number_of_seeds() -> None:
    rng = np.random.default_rng(3)
    for seeds in (1, 2, 5):
        first, second = rng.random((seeds, 300)) < 0.9, rng.random((seeds, 300)) < 0.8
        (low, high), (lower, higher) = (paired_interval(first, second, level=level) for level in (0.95, 0.9875))
        assert lower < low < high < higher
    assert paired_interval(first[:1], second[:1]) == bootstrap_interval(first[:1], second[:1])
    assert paired_interval(first, first) == (0.0, 0.0)


def test_a_summary_has_the_spread_worked_out_by_hand() -> None:
    summary = summarise("x", {0: 90.0, 1: 92.0, 2: 94.0})
    assert (summary.mean, summary.deviation, summary.lowest, summary.seeds) == (92.0, 2.0, 90.0, 3)
    assert summary.half_width == pytest.approx(4.302653 * 2.0 / math.sqrt(3.0), rel=1e-6)  # t table, 2 degrees


def test_one_seed_has_no_interval() -> None:
    summary = summarise("x", {4: 90.0})
    assert (summary.mean, summary.seeds) == (90.0, 1)
    assert math.isnan(summary.deviation)
    assert math.isnan(summary.half_width)
    assert math.isnan(student_half_width([]))


@pytest.mark.parametrize(
    ("accuracies", "source_mean", "expected"),
    [
        ({0: 96.0, 1: 95.0, 2: 40.0}, None, (2,)),  # below half of 95
        ({0: 96.0, 1: 95.0, 2: 48.0}, None, ()),
        ({0: 96.0, 1: 95.0, 2: 69.9}, 80.0, (2,)),  # more than 10 below the source
        ({0: 96.0, 1: 95.0, 2: 70.0}, 80.0, ()),
        ({0: 10.0, 1: 12.0, 2: 95.0}, 80.0, (0, 1)),  # most runs failed: their median is of no help
    ],
)
def test_collapsed_runs_are_found_by_either_rule(
    accuracies: Mapping[int, float], source_mean: float | None, expected: tuple[int, ...]
) -> None:
    assert collapsed_seeds(accuracies, source_mean) == expected


def bits_with(only_first: int, only_second: int, both: int = 5) -> tuple[Bits, Bits]:
    first = np.array([True] * only_first + [False] * only_second + [True] * both)
    second = np.array([False] * only_first + [True] * only_second + [True] * both)
    return first, second


@pytest.mark.parametrize(("only_first", "only_second"), [(8, 2), (2, 8), (5, 0), (3, 3), (0, 0), (31, 18)])
def test_mcnemar_is_the_sum_of_binomial_terms(only_first: int, only_second: int) -> None:
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
    first, second = bits_with(only_first, only_second)
    found = mcnemar({0: result(50.0, 0, first)}, {0: result(50.0, 0, second)})
    assert found is not None
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(min(1.0, 2.0 * tail))


def test_mcnemar_takes_the_lowest_seed_that_both_have() -> None:
    first, second = bits_with(8, 2)
    ones = {3: result(50.0, 3, first), 1: result(50.0, 1, first), 0: result(50.0, 0, first)}
    others = {3: result(50.0, 3, second), 1: result(50.0, 1, first)}
    found = mcnemar(ones, others)
    assert found is not None
    assert (found.seed, found.p_value) == (1, 1.0)


def test_mcnemar_needs_bits_of_the_same_images() -> None:
    first, second = bits_with(8, 2)
    assert mcnemar({0: result(50.0, 0, first)}, {0: result(50.0)}) is None
    assert mcnemar({0: result(50.0, 0, first)}, {0: result(50.0, 0, second[:-1])}) is None
    assert mcnemar({0: result(50.0, 0, first)}, {1: result(50.0, 1, second)}) is None


def test_holm_by_hand() -> None:
    # sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 but not below .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        holm([0.1, math.nan])


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    found = compare(
        {0: result(97.0), 1: result(95.0), 2: result(10.0)}, {0: result(96.0), 1: result(92.0), 5: result(1.0)}
    )
    assert found is not None
    assert (found.mean, found.seeds, found.images, found.basis) == (2.0, 2, 0, "seeds")
    half = 12.706205 * math.sqrt(2.0) / math.sqrt(2.0)  # t table, 1 degree; differences 1 and 3
    assert (found.low, found.high) == pytest.approx((2.0 - half, 2.0 + half), rel=1e-6)
    assert found.verdict == "unclear"


def test_a_difference_with_bits_is_the_two_level_bootstrap() -> None:
    found = compare(results(FIRST), results(SECOND))
    assert found is not None
    assert (found.low, found.high) == paired_interval(FIRST, SECOND)
    assert found.mean == pytest.approx(100.0 * (7 - 4) / 10)  # 7 of 10 right against 4
    assert (found.images, found.basis) == (5, "seeds and images")


def test_a_clear_difference_has_a_verdict_and_one_seed_has_none() -> None:
    first, second = bits_with(90, 2, 900)
    several = compare(results(np.tile(first, (3, 1))), results(np.tile(second, (3, 1))))
    reverse = compare(results(np.tile(second, (3, 1))), results(np.tile(first, (3, 1))))
    single = compare(results(first[None]), results(second[None]))
    assert several is not None
    assert reverse is not None
    assert single is not None
    assert (several.verdict, reverse.verdict) == ("better", "worse")
    assert (single.low > 0.0, single.basis, single.verdict) == (True, "images", "unclear")


def test_a_corrected_level_is_bonferronis() -> None:
    assert corrected_level(1) == 0.95
    assert corrected_level(4) == pytest.approx(0.9875)


def test_an_interval_at_another_level_is_of_the_same_resamples() -> None:
    """Written out: every resample of two seeds and five images, and its quantiles."""
    outcomes = enumerated(FIRST.astype(np.int64) - SECOND.astype(np.int64), True)
    found = bootstrap_interval(FIRST, SECOND, level=0.7)
    assert found == pytest.approx((inverse_cdf(outcomes, 0.15), inverse_cdf(outcomes, 0.85)))
    plain, strict = (bootstrap_interval(FIRST, SECOND, level=level) for level in (0.95, 0.9875))
    assert strict[0] <= plain[0] < plain[1] <= strict[1]


def test_students_interval_has_a_level_too() -> None:
    # t table, 2 degrees of freedom: 9.925 for 99%
    assert student_half_width([90.0, 92.0, 94.0], 0.99) == pytest.approx(9.924843 * 2.0 / math.sqrt(3.0), rel=1e-6)


def test_runs_on_other_test_sets_are_compared_by_their_seeds_alone() -> None:
    found = compare(results(FIRST), results(SECOND[:, :4]))
    assert found is not None
    assert found.basis == "seeds"
    assert compare({0: result(1.0)}, {1: result(1.0)}) is None
    single = compare({0: result(3.0)}, {0: result(1.0)})
    assert single is not None
    assert (single.mean, single.basis, single.verdict) == (2.0, "none", "unclear")


def test_regret_by_hand() -> None:
    first = (
        Snapshot(1, "fit", 90.0, {"IM": 0.9, "SND": 1.0}),
        Snapshot(2, "fit", 96.0, {"IM": 0.9}),
        Snapshot(3, "fit", 94.0, {"IM": 0.1}),
    )
    second = (Snapshot(1, "fit", 80.0, {"IM": 0.3}), Snapshot(2, "fit", 70.0, {"IM": 0.2}))
    runs = [result(94.0, 0, snapshots=first), result(85.0, 1, snapshots=second), result(99.0, 2)]
    assert selection_table(runs) == [
        Selection("last iterate", (94.0 + 85.0) / 2, (2.0 + 0.0) / 2, 2.0, 2),
        Selection("IM", (96.0 + 80.0) / 2, (0.0 + 5.0) / 2, 5.0, 2),  # of two equal scores the later
        Selection("SND", 90.0, 6.0, 6.0, 1),
        Selection("oracle choice", (96.0 + 85.0) / 2, 0.0, 0.0, 2),
    ]


def test_regrets_of_several_conditions_count_every_run_once() -> None:
    several = pooled(
        [Selection("IM", 90.0, 1.0, 2.0, 1), Selection("IM", 96.0, 4.0, 9.0, 3), Selection("SND", 50.0, 9.0, 9.0, 2)]
    )
    assert several == {
        "IM": Selection("IM", (90.0 + 3 * 96.0) / 4, (1.0 + 3 * 4.0) / 4, 9.0, 4),
        "SND": Selection("SND", 50.0, 9.0, 9.0, 2),
    }
    assert pooled([]) == {}


def test_runs_without_snapshots_have_no_selection() -> None:
    assert selection_table([result(94.0)]) == []


def test_without_bits_the_interval_is_of_the_level_that_was_asked_for() -> None:
    first, second = (
        {seed: result(value, seed) for seed, value in enumerate(values)} for values in ((70, 74, 75), (60, 61, 66))
    )
    found = compare(first, second, corrected_level(4))
    assert found is not None
    assert found.basis == "seeds"
    assert found.high - found.mean == pytest.approx(student_half_width([10, 13, 9], 0.9875))
