"""Two models' scores on the same images: is one area under the ROC curve larger? numpy only."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.errors import EvaluationError
from cellclf.evaluation.bootstrap import group_numbers, group_sums
from cellclf.evaluation.paired import PairedTest

__all__ = ["compare_auc", "delong"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

_NORMAL_975 = 1.959963984540054  # the standard normal's 97.5 % point


def delong(a: Floats, b: Floats, positive: Bools) -> PairedTest:
    """Difference of two correlated areas by DeLong, DeLong & Clarke-Pearson 1988; a, b: scores [images] or [seeds, images]; positive: [images].

    It takes every image for independent of every other: with several images a patient its intervals are too narrow; use `compare_auc`.
    Raises EvaluationError with fewer than two images of either kind.
    """
    return _compare(a, b, positive, np.arange(len(positive)), "DeLong's test, every image taken for independent")


def compare_auc(a: Floats, b: Floats, positive: Bools, *, groups: Sequence[str]) -> PairedTest:
    """As `delong`, with images of one group dependent (Obuchowski 1997, Biometrics 53: 567); groups of one image each give DeLong's result.

    Of several seeds the mean area is compared, each image taking the mean of its places: it asks whether these seeds would differ on other groups.

    Raises EvaluationError where the positives, or the negatives, come from fewer than two groups.
    """
    return _compare(a, b, positive, group_numbers(groups), "Obuchowski's test for areas of clustered images")


def _compare(a: Floats, b: Floats, positive: Bools, numbers: npt.NDArray[np.intp], method: str) -> PairedTest:
    count = positive.sum(), len(positive) - positive.sum()
    clusters = [len(np.unique(numbers[kind])) for kind in (positive, ~positive)]
    if min(clusters) < 2:
        raise EvaluationError(
            f"two areas can be compared with two groups of positives and of negatives or more, not with {clusters[0]} and {clusters[1]}"
        )
    placed = _mean_placements(a, positive) - _mean_placements(b, positive)
    difference = float(placed[positive].mean())
    centred = (placed - difference)[:, None] * np.stack([positive, ~positive], axis=1) / np.where(positive, *count)[:, None]
    by_group = group_sums(centred, numbers)
    groups = len(by_group)
    within = (np.square(by_group) * [size / (size - 1) for size in clusters]).sum()
    between = 2 * groups / (groups - 1) * by_group.prod(axis=1).sum()
    deviation = math.sqrt(max(0.0, float(within + between)))
    if deviation == 0 and difference != 0:
        raise EvaluationError("the difference of the two areas is the same whichever images are looked at, so nothing tells how sure it is")
    return PairedTest(
        difference=difference,
        low=difference - _NORMAL_975 * deviation if deviation else None,
        high=difference + _NORMAL_975 * deviation if deviation else None,
        p_value=math.erfc(abs(difference) / deviation / math.sqrt(2)) if deviation else 1.0,
        method=method,
        groups=groups,
        images=len(positive),
    )


def _mean_placements(scores: Floats, positive: Bools) -> npt.NDArray[np.float64]:
    """Over the seeds, [images]."""
    placed: npt.NDArray[np.float64] = np.mean([_placements(of_seed, positive) for of_seed in np.atleast_2d(scores)], axis=0)
    return placed


def _placements(scores: Floats, positive: Bools) -> npt.NDArray[np.float64]:
    """For each positive the share of negatives below it, for each negative the share of positives above it, ties half; [images].

    By ranks within all and within its own kind (Sun & Xu 2014). Both kinds average to the area.
    """
    everywhere = _mean_ranks(scores)
    placed = np.empty(len(scores))
    for kind in (positive, ~positive):
        placed[kind] = (everywhere[kind] - _mean_ranks(scores[kind])) / (~kind).sum()
    placed[~positive] = 1 - placed[~positive]
    return placed


def _mean_ranks(scores: Floats) -> npt.NDArray[np.float64]:
    """Ranks 1 … n, equal scores sharing the mean of theirs."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
