"""Statistics of the digit benchmark: what may be said of accuracies that vary with the seed and with the test images.

Two things vary. Another seed gives another translator and another classifier; another draw of test images gives another
score of the same classifier. Spread over seeds alone overlooks the second, a test on one classifier the first.

- Within a condition: mean, standard deviation, lowest run, collapsed runs, Student's interval over seeds.
- Between two conditions: :func:`paired_interval`, a bootstrap over seeds and test images at once whose width is that of
  few seeds. This is what claims rest on.
  Where several pairs are asked one question, it is also given at the level of :func:`corrected_level`.
- For one seed, declared beforehand: :func:`mcnemar`, corrected for the number of pairs by :func:`holm`.
- Between ways of choosing a checkpoint: :func:`selection_table`.

scipy serves for quantiles of Student's t and for the exact binomial test. statsmodels has McNemar's test and Holm's
correction ready-made, but brings pandas and patsy along; the first is one binomial test, the second four lines.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Result, Snapshot

POINTS_BELOW_SOURCE = 10.0
RESAMPLES = 10_000
LEVEL = 0.95
LEAST_SEEDS = 3
LAST_ITERATE = "last iterate"
ORACLE_CHOICE = "oracle choice"

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Summary:
    """A condition over its seeds, in percent.

    Args:
        deviation: over seeds (n - 1); NaN for one seed.
        half_width: of Student's 95% interval; NaN for one seed.
        collapsed: the seeds of collapsed runs, see :func:`collapsed_seeds`.
    """

    condition: str
    mean: float
    deviation: float
    half_width: float
    lowest: float
    seeds: int
    collapsed: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """Accuracy of one condition minus that of another, in points, over the seeds that both have.

    Args:
        low, high: ends of the interval, of 95% unless another level was asked for; NaN where there is none.
        seeds: how many both have.
        images: test images that were resampled; 0 where bits are missing.
        basis: "seeds and images": bootstrap over both. "images": there is one seed, and chance between seeds is not
            in the interval. "seeds": bits are missing; Student's interval of the differences. "none": neither.
    """

    mean: float
    low: float
    high: float
    seeds: int
    images: int
    basis: Literal["seeds and images", "images", "seeds", "none"]

    @property
    def verdict(self) -> Literal["better", "worse", "unclear"]:
        """Better when the whole interval is above zero, worse when it is below.

        Unclear too with fewer than three seeds: one knows nothing of chance between seeds, and of two, where seeds and
        images both matter, 95% cover 88% (simulated).
        """
        if self.seeds < LEAST_SEEDS or not (self.low > 0.0 or self.high < 0.0):
            return "unclear"
        return "better" if self.low > 0.0 else "worse"


@dataclass(frozen=True)
class McNemar:
    """Images of one seed that one of two classifiers got right and the other wrong, and the exact two-sided p value."""

    seed: int
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Selection:
    """What one way of choosing a checkpoint would have given, in percent; mean over seeds.

    Args:
        choice: "last iterate", a validator, or "oracle choice".
        accuracy: of the chosen checkpoint.
        regret: how far that is below the best checkpoint of the same run, mean over seeds; 0 or more.
        worst_regret: of all seeds.
        seeds: that have this choice.
    """

    choice: str
    accuracy: float
    regret: float
    worst_regret: float
    seeds: int


def summarise(condition: str, accuracies: Mapping[int, float], source_mean: float | None = None) -> Summary:
    """Gives mean, spread, lowest run and collapsed runs of a condition.

    Args:
        accuracies: in percent, by seed; at least one.
        source_mean: mean of the condition "source" on the same pair; None where it was not run.
    """
    values = list(accuracies.values())
    return Summary(
        condition,
        mean=math.fsum(values) / len(values),
        deviation=statistics.stdev(values) if len(values) > 1 else math.nan,
        half_width=student_half_width(values),
        lowest=min(values),
        seeds=len(values),
        collapsed=collapsed_seeds(accuracies, source_mean),
    )


def collapsed_seeds(accuracies: Mapping[int, float], source_mean: float | None = None) -> tuple[int, ...]:
    """Gives the seeds whose run collapsed.

    A run has collapsed when its accuracy is below half the median of its condition, or more than 10 points below the
    mean of the condition "source" on the same pair: then adapting did clear harm. The second rule finds what the first
    cannot: a condition in which most runs fail, so that their median is low as well.

    Args:
        accuracies: in percent, by seed.
        source_mean: in percent; None leaves the first rule alone.
    """
    limit = 0.5 * statistics.median(accuracies.values())
    if source_mean is not None:
        limit = max(limit, source_mean - POINTS_BELOW_SOURCE)
    return tuple(seed for seed, accuracy in accuracies.items() if accuracy < limit)


def corrected_level(count: int) -> float:
    """Gives the level at which all of ``count`` intervals hold together with 95% (Bonferroni): 0.9875 for four."""
    return 1.0 - (1.0 - LEVEL) / count


def student_half_width(values: Sequence[float], level: float = LEVEL) -> float:
    """Gives half the width of Student's interval of the mean, t * sd / sqrt(n); NaN for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf((1.0 + level) / 2.0, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def bootstrap_interval(
    first: Correct,
    second: Correct,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    shared_images: bool = True,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Gives the interval of (accuracy of first - accuracy of second), in points, by a bootstrap of two levels.

    Seeds are drawn with replacement, then test images with replacement. Row s of both arrays is one seed, column i one
    image, and a drawn (seed, image) takes both conditions along, so the difference stays paired. Percentile interval.

    With ``shared_images`` all seeds of one resample get the same drawn images, as all seeds were scored on the same
    images: an image that is hard is hard under every seed, and this chance does not shrink when seeds are added (Owen
    2007, "The pigeonhole bootstrap"). Without, each drawn seed draws its own images, as if they were not shared; that
    interval is narrower, and too narrow. With one seed both are the bootstrap over images.

    A bootstrap over few seeds does not know how few they are: see :func:`paired_interval`, which does.

    Args:
        first, second: seeds x images, True where the image was classified right.
        resamples: number of resamples.
        seed: of the random numbers; the same resamples at every level.
        level: of the interval, 0 to 1.

    Raises:
        ValueError: the shapes differ, or there is no seed or no image.
    """
    if first.shape != second.shape or first.ndim != 2 or first.size == 0:
        raise ValueError(f"expected two equal shapes seeds x images, got {first.shape} and {second.shape}")
    difference = first.astype(np.int8) - second.astype(np.int8)
    seeds, images = difference.shape
    rng = np.random.default_rng(seed)
    drawn = rng.integers(seeds, size=(resamples, seeds))
    if shared_images:
        # Images on which all seeds do the same need not be told apart: their number in a resample is multinomial.
        patterns, counts = np.unique(difference, axis=1, return_counts=True)
        drawn_counts = rng.multinomial(images, counts / images, size=resamples)
        of_seed = drawn_counts @ patterns.T.astype(np.int64)
        sums = np.take_along_axis(of_seed, drawn, axis=1).sum(axis=1)
    else:
        shares = np.stack([(difference == sign).mean(axis=1) for sign in (1, -1, 0)], axis=1)
        drawn_counts = rng.multinomial(images, shares[drawn])
        sums = (drawn_counts[..., 0] - drawn_counts[..., 1]).sum(axis=1)
    tail = round(50.0 * (1.0 - level), 9)
    low, high = np.percentile(100.0 * sums / (seeds * images), [tail, 100.0 - tail])
    return float(low), float(high)


def paired_interval(first: Correct, second: Correct, *, level: float = LEVEL) -> tuple[float, float]:
    """Gives the interval of (accuracy of first - accuracy of second), in points: a bootstrap as wide as few seeds ask.

    :func:`bootstrap_interval` errs with few seeds, to either side. Where seeds differ, their variance comes out at
    (n - 1) / n of itself, and the quantiles are a normal's where Student's with n - 1 degrees are due: of five seeds
    95% cover 86 to 91%. Where images decide, noise of single answers is counted for seeds and images both: 99%. So its
    ends are moved away from the difference, or towards it, until it is as wide as the interval of the two-way model
    "seed + image + rest": variance (MS_seed + MS_image - MS_rest) / (seeds x images), the images' share not below 0,
    and Student's t with the degrees of freedom of such a sum (Satterthwaite 1946), at least those of the seeds. Nor is
    it narrower than chance between images alone makes it, a normal's with MS_image / (seeds x images): few seeds may
    agree by chance. Its lopsidedness is kept.

    With one seed it is the bootstrap over images.

    Args:
        first, second: seeds x images, True where the image was classified right.
        level: of the interval, 0 to 1.

    Raises:
        ValueError: the shapes differ, or there is no seed or no image.
    """
    from scipy import stats

    low, high = bootstrap_interval(first, second, level=level)
    seeds, images = first.shape
    if min(seeds, images) < 2 or low == high:
        return low, high
    difference = 100.0 * (first.astype(np.float64) - second)
    mean = float(difference.mean())
    error, degrees, of_images = _two_way_errors(difference)
    share = (1.0 + level) / 2.0
    half = max(float(stats.t.ppf(share, degrees)) * error, float(stats.norm.ppf(share)) * of_images)
    stretch = 2.0 * half / (high - low)
    return max(mean + stretch * (low - mean), -100.0), min(mean + stretch * (high - mean), 100.0)


def _two_way_errors(difference: NDArray[np.float64]) -> tuple[float, float, float]:
    """Gives the mean's standard error under the two-way model, its degrees of freedom, and the error by images alone.

    Args:
        difference: seeds x images.
    """
    seeds, images = difference.shape
    of_seeds, of_images = difference.mean(axis=1, keepdims=True), difference.mean(axis=0, keepdims=True)
    rest = difference - of_seeds - of_images + difference.mean()
    seed_square = images * float(of_seeds.var(ddof=1))
    image_square = seeds * float(of_images.var(ddof=1))
    rest_square = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    total, doubt = seed_square, seed_square**2 / (seeds - 1)
    if image_square > rest_square:
        total += image_square - rest_square
        doubt += image_square**2 / (images - 1) + rest_square**2 / ((seeds - 1) * (images - 1))
    degrees = max(total**2 / doubt, seeds - 1) if doubt > 0.0 else math.inf
    return math.sqrt(total / difference.size), degrees, math.sqrt(image_square / difference.size)


def compare(first: Mapping[int, Result], second: Mapping[int, Result], level: float = LEVEL) -> Difference | None:
    """Gives the paired difference first - second over the seeds that both have; None when they have none in common.

    The interval is :func:`paired_interval` where all these runs kept their bits over equally many test images,
    otherwise Student's over the seeds' differences.

    Args:
        first, second: results by seed, of one setting.
        level: of the interval.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = [first[seed].accuracy - second[seed].accuracy for seed in shared]
    mean = math.fsum(differences) / len(differences)
    bits = _stacked(first, shared), _stacked(second, shared)
    if bits[0] is not None and bits[1] is not None and bits[0].shape == bits[1].shape:
        low, high = paired_interval(bits[0], bits[1], level=level)
        basis: Literal["seeds and images", "images"] = "seeds and images" if len(shared) > 1 else "images"
        return Difference(mean, low, high, len(shared), bits[0].shape[1], basis)
    half = student_half_width(differences, level)
    return Difference(mean, mean - half, mean + half, len(shared), 0, "none" if math.isnan(half) else "seeds")


def mcnemar(first: Mapping[int, Result], second: Mapping[int, Result]) -> McNemar | None:
    """Gives McNemar's exact test of two conditions under one seed; None where that seed's bits are missing.

    The seed is the lowest that both conditions have: seed 0 in every full run, declared here and not chosen by result.
    McNemar's test is about two fixed classifiers on independent images. Summing the counts of several seeds would take
    each image several times, as if they were independent, and make p far too small; a majority vote over seeds would
    test an ensemble that nobody uses. So one seed is tested, and chance between seeds is left to the bootstrap.

    Under the null hypothesis each image that one of the two got right is right for either with chance 1/2, so p is the
    two-sided binomial test; 1 when there is no such image.

    Args:
        first, second: results by seed, of one setting.
    """
    from scipy import stats

    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    one, other = first[shared[0]].correct, second[shared[0]].correct
    if one is None or other is None or len(one) != len(other):
        return None
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(shared[0], only_first, only_second, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Gives p values corrected for their number (Holm 1979), in the order they came.

    The k-th smallest of m is multiplied by m - k + 1; none may be below an earlier one, nor above 1.

    Raises:
        ValueError: a p value is not in [0, 1].
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p values must be in [0, 1], got {list(p_values)}")
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = reached
    return corrected


def selection_table(results: Sequence[Result]) -> list[Selection]:
    """Gives what choosing a checkpoint in different ways gives: the last iterate, each validator, the oracle choice.

    A validator takes the checkpoint with its highest score, the later one of equals. The oracle choice looks at target
    labels; no method may. It is there to show what the others miss, and may take the last iterate too. Empty when no
    run kept snapshots.

    Args:
        results: one condition of one setting, one per seed; those without snapshots are left out.
    """
    runs = [result for result in results if result.snapshots]
    names = sorted({name for run in runs for snapshot in run.snapshots for name in snapshot.scores})
    chosen: dict[str, list[tuple[float, float]]] = {name: [] for name in (LAST_ITERATE, *names, ORACLE_CHOICE)}
    for run in runs:
        best = max(run.accuracy, *(snapshot.accuracy for snapshot in run.snapshots))
        chosen[LAST_ITERATE].append((run.accuracy, best))
        chosen[ORACLE_CHOICE].append((best, best))
        for name in names:
            pick = _highest(run.snapshots, name)
            if pick is not None:
                chosen[name].append((pick.accuracy, best))
    return [_selection(choice, pairs) for choice, pairs in chosen.items() if pairs]


def pooled(selections: Iterable[Selection]) -> dict[str, Selection]:
    """Gives each choice over several conditions, every run counted once: choice -> means and the worst regret."""
    by_choice: dict[str, list[Selection]] = {}
    for selection in selections:
        by_choice.setdefault(selection.choice, []).append(selection)
    found = {}
    for choice, ones in by_choice.items():
        runs = sum(one.seeds for one in ones)
        accuracy = math.fsum(one.accuracy * one.seeds for one in ones) / runs
        regret = math.fsum(one.regret * one.seeds for one in ones) / runs
        found[choice] = Selection(choice, accuracy, regret, max(one.worst_regret for one in ones), runs)
    return found


def _highest(snapshots: Sequence[Snapshot], validator: str) -> Snapshot | None:
    scored = [snapshot for snapshot in reversed(snapshots) if validator in snapshot.scores]
    return max(scored, key=lambda snapshot: snapshot.scores[validator], default=None)


def _selection(choice: str, pairs: Sequence[tuple[float, float]]) -> Selection:
    regrets = [best - accuracy for accuracy, best in pairs]
    count = len(pairs)
    mean = math.fsum(accuracy for accuracy, _ in pairs) / count
    return Selection(choice, mean, math.fsum(regrets) / count, max(regrets), count)


def _stacked(results: Mapping[int, Result], seeds: Sequence[int]) -> Correct | None:
    bits = [results[seed].correct for seed in seeds]
    known = [one for one in bits if one is not None]
    if len(known) < len(bits) or len({len(one) for one in known}) != 1:
        return None
    return np.stack(known)
