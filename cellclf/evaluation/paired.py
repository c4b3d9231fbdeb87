"""Two models on the same images: is one more often right? Tests over groups, over seeds, and the correction for many comparisons. numpy only."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.documents import Document
from cellclf.evaluation.bootstrap import bootstrap_groups, group_numbers, group_sums

__all__ = ["PairedTest", "SeedsComparison", "Spread", "compare_accuracy", "compare_over_seeds", "holm", "mcnemar_on_groups", "spread"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

_PERMUTATIONS = 10_000
_AT_ONCE = 1000
_ROUNDING = 1e-12


class PairedTest(Document):
    """difference = first model − second, with its 95 % interval, and the two-sided p-value of "no difference"."""

    difference: float
    low: float | None
    high: float | None
    p_value: float
    method: str
    groups: int
    images: int


class Spread(Document):
    """A figure over a model's seeds; deviation is the sample standard deviation, None with one seed."""

    mean: float
    deviation: float | None
    least: float
    greatest: float
    seeds: int


class SeedsComparison(Document):
    """The figure of both models over their seeds, and the test of their difference over groups."""

    a: Spread
    b: Spread
    test: PairedTest


def compare_accuracy(
    a: Ints, b: Ints, truth: Ints, *, groups: Sequence[str], balanced: bool = False, permutations: int = _PERMUTATIONS, seed: int = 0
) -> PairedTest:
    """Difference of accuracy, or of balanced accuracy; a, b: what each model called the images [images]; truth: [images].

    Permutation test: were the models alike, the two could change places in any group; the difference is recomputed with the models exchanged in
    random groups (in every set of groups where there are few that differ). The interval is a bootstrap over groups.
    """
    return _compare((a == truth).astype(float), (b == truth).astype(float), truth, groups, balanced, permutations, seed)


def compare_over_seeds(
    a: Ints, b: Ints, truth: Ints, *, groups: Sequence[str], balanced: bool = False, permutations: int = _PERMUTATIONS, seed: int = 0
) -> SeedsComparison:
    """As `compare_accuracy`, for models trained several times; a: [seeds of a, images], b: [seeds of b, images].

    An image counts as right by the share of the seeds that have it right, so that the test still exchanges the models in whole groups: it asks
    whether these seeds' average would differ on other groups. What another seed changes is told by the spreads, not by the p-value.
    """
    right_a, right_b = (np.atleast_2d(called) == truth for called in (a, b))
    weights = _weights(truth, balanced)
    test = _compare(right_a.mean(axis=0), right_b.mean(axis=0), truth, groups, balanced, permutations, seed)
    return SeedsComparison(a=spread(right_a @ weights), b=spread(right_b @ weights), test=test)


def mcnemar_on_groups(a: Ints, b: Ints, truth: Ints, *, groups: Sequence[str], seed: int = 0) -> PairedTest:
    """Exact McNemar test (McNemar 1947) with one vote a group; a, b: what each model called the images [images].

    A model has a group right where it has more than half of its images right. The difference is of the shares of groups.
    """
    numbers = group_numbers(groups)
    sizes = group_sums(np.ones(len(truth)), numbers)
    right_a, right_b = (group_sums((called == truth).astype(float), numbers) > sizes / 2 for called in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    gain = right_a.astype(float) - right_b
    interval = bootstrap_groups(lambda draws: draws @ gain / draws.sum(axis=1), np.arange(len(gain)), seed=seed)
    assert interval is not None  # there is a group
    return PairedTest(
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=_two_sided_binomial(only_a, only_b),
        method=f"exact McNemar test on groups' majority ({only_a} groups right by the first alone, {only_b} by the second)",
        groups=len(gain),
        images=len(truth),
    )


def holm(p_values: Sequence[float], *, family: int | None = None) -> tuple[float, ...]:
    """p-values corrected for as many comparisons as there are (Holm 1979), in the order given: below .05 = a difference, at 5 % for all of them.

    family: of how many comparisons these are some, where what is compared was picked by looking at all of them; the others' p-values are taken for
    the largest, so that a corrected value is rather too large.
    """
    of = len(p_values) if family is None else family
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (of - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


def spread(values: Floats) -> Spread:
    """Mean and spread of one figure over seeds, [seeds]."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), deviation=deviation, least=float(np.min(values)), greatest=float(np.max(values)), seeds=len(values))


def _compare(right_a: Floats, right_b: Floats, truth: Ints, groups: Sequence[str], balanced: bool, permutations: int, seed: int) -> PairedTest:
    """right_a, right_b: [images], the share of a model's seeds that have an image right."""
    numbers, gain = group_numbers(groups), right_a - right_b
    p_value, exchanges = _sign_flip(group_sums(gain * _weights(truth, balanced), numbers), permutations, seed)
    classes = np.eye(int(truth.max()) + 1)[truth] if balanced else np.ones((len(truth), 1))
    gains, present = group_sums(gain[:, None] * classes, numbers), group_sums(classes, numbers)

    def difference(draws: Floats) -> Floats:
        drawn = draws @ present
        mean: Floats = np.nanmean(np.divide(draws @ gains, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0), axis=1)
        return mean

    interval = bootstrap_groups(difference, np.arange(len(present)), seed=seed)
    assert interval is not None  # there is an image
    return PairedTest(
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        method=f"permutation test on {'balanced ' if balanced else ''}accuracy, models exchanged in whole groups ({exchanges})",
        groups=len(present),
        images=len(truth),
    )


def _weights(truth: Ints, balanced: bool) -> Floats:
    """What a right answer on each image adds to the figure, [images]."""
    if not balanced:
        return np.full(len(truth), 1 / len(truth))
    counts = np.bincount(truth)
    return 1 / (counts[truth] * np.count_nonzero(counts))


def _sign_flip(gains: Floats, permutations: int, seed: int) -> tuple[float, str]:
    """p-value of Σ gains [groups] under random signs, and how many were tried: all of them where that is no more than `permutations`."""
    gains = gains[np.abs(gains) > _ROUNDING]
    observed = abs(gains.sum()) - _ROUNDING
    if 2 ** len(gains) <= permutations:
        sums = np.array([gains @ signs for signs in itertools.product((-1, 1), repeat=len(gains))])
        return int((np.abs(sums) >= observed).sum()) / len(sums), f"all {len(sums)} ways"
    generator = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, permutations, _AT_ONCE):
        signs = generator.integers(2, size=(min(_AT_ONCE, permutations - start), len(gains)), dtype=np.int8) * 2.0 - 1
        extreme += int((np.abs(signs @ gains) >= observed).sum())
    return (extreme + 1) / (permutations + 1), f"{permutations} random ways"


def _two_sided_binomial(successes: int, failures: int) -> float:
    """P(a split at least as uneven as this | both alike)."""
    trials = successes + failures
    tail = sum(math.comb(trials, count) for count in range(min(successes, failures) + 1))
    return min(1.0, 2 * tail / (1 << trials))
