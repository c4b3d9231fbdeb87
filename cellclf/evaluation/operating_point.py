"""The operating point: a threshold on one label's probability for a wanted sensitivity, chosen on validation images. numpy only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.card import OperatingPoint
from cellclf.errors import EvaluationError
from cellclf.evaluation.bootstrap import bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.decision import positive_number
from cellclf.evaluation.ranking import roc_curve

__all__ = ["choose_operating_point", "choose_threshold"]

_ROUNDING = 1e-12

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


def choose_threshold(scores: Floats, positive: Bools, *, min_sensitivity: float) -> float:
    """The highest threshold at which "score ≥ threshold" finds at least `min_sensitivity` of the positives; scores, positive: [images].

    It is set half-way to the next lower score, so that no image of these lies on it. Raises EvaluationError where there is no image of one kind, or
    where so many positives are found only by calling every image positive.
    """
    if not 0 < min_sensitivity <= 1:
        raise EvaluationError(f"a least sensitivity of {min_sensitivity:g} cannot be asked for; give a share above 0, at most 1")
    if positive.all() or not positive.any():
        raise EvaluationError(
            f"a threshold needs images with and without the positive label to be chosen on; {positive.sum()} of {len(positive)} have it"
        )
    curve = roc_curve(scores.astype(np.float64), positive)
    place = int(np.argmax(curve.sensitivity >= min_sensitivity - _ROUNDING))
    if curve.specificity[place] == 0:
        raise EvaluationError(f"a sensitivity of {min_sensitivity:g} is reached only by calling every image positive; ask for less")
    return float((curve.thresholds[place] + curve.thresholds[place + 1]) / 2)


def choose_operating_point(
    probabilities: Floats, truth: Ints, labels: Sequence[str], *, positive: str, min_sensitivity: float, groups: Sequence[str], split: str
) -> OperatingPoint:
    """`choose_threshold` for one label's probability, with what it comes to on the same images (intervals over groups)."""
    number = positive_number(labels, positive)
    scores, present = probabilities[:, number].astype(np.float64), truth == number
    threshold = choose_threshold(scores, present, min_sensitivity=min_sensitivity)
    called = scores >= threshold
    numbers = group_numbers(groups)
    hits, chances = (
        group_sums(np.stack(pair, axis=1).astype(float), numbers) for pair in ((called & present, ~called & ~present), (present, ~present))
    )
    sensitivity, specificity = bootstrap_shares(hits, chances)
    assert sensitivity is not None and specificity is not None  # choose_threshold saw images of both kinds
    return OperatingPoint(
        positive=positive,
        threshold=threshold,
        min_sensitivity=min_sensitivity,
        sensitivity=sensitivity,
        specificity=specificity,
        split=split,
        images=len(truth),
        groups=len(hits),
    )
