"""Figures that depend on the order of scores only: the ROC curve, its area, and average precision. numpy only."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Ranking", "RocCurve", "average_precision", "roc_auc", "roc_curve"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


@dataclass(frozen=True)
class RocCurve:
    """Sensitivity and specificity of "score ≥ threshold is positive", [points] each, thresholds falling; the first is ∞ (nothing is positive)."""

    thresholds: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
    specificity: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Scores sorted once, so that their figures can be had under many weightings of the images.

    order: [images], highest score first. positives: [positives], their places in that order. first, behind: [positives], where in the order the
    images of the same score begin and end. first_positive, behind_positive: the same, counted among the positives.
    """

    order: Numbers
    positives: Numbers
    first: Numbers
    behind: Numbers
    first_positive: Numbers
    behind_positive: Numbers

    @classmethod
    def of(cls, scores: Floats, positive: Bools) -> Self:
        """Sort; scores: [images], positive: [images]."""
        order = np.argsort(-scores, kind="stable")
        falling, positives = -scores[order], np.flatnonzero(positive[order])
        own = falling[positives]
        first, behind = (np.searchsorted(falling, own, side=side) for side in _SIDES)
        first_positive, behind_positive = (np.searchsorted(own, own, side=side) for side in _SIDES)
        return cls(order, positives, first, behind, first_positive, behind_positive)

    def areas(self, weights: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Area under the ROC curve and average precision, [draws] each, of image weights [draws, images].

        Area = P(score of a positive > score of a negative), ties half (Mann–Whitney). Average precision = Σ (Rₙ − Rₙ₋₁) Pₙ over falling distinct
        scores. NaN where a draw leaves no positive or (area) no negative.
        """
        ordered = np.take(weights, self.order, axis=1)
        own = np.take(ordered, self.positives, axis=1)
        images, positives = _summed(ordered), _summed(own)
        called, true = np.take(images, self.behind, axis=1), np.take(positives, self.behind_positive, axis=1)
        false_above = np.take(images, self.first, axis=1) - np.take(positives, self.first_positive, axis=1)
        all_positive = positives[:, -1]
        all_negative = images[:, -1] - all_positive
        pairs_lost = np.einsum("dp,dp->d", own, called - true + false_above) / 2
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - pairs_lost / (all_positive * all_negative), np.einsum("dp,dp->d", own, precision) / all_positive


def roc_auc(scores: Floats, positive: Bools) -> float | None:
    """Area under the ROC curve of scores [images], ties half; None with one class only."""
    return _known(Ranking.of(scores, positive).areas(np.ones((1, len(scores))))[0])


def average_precision(scores: Floats, positive: Bools) -> float | None:
    """Average precision of scores [images] (not interpolated, as scikit-learn's); None without a positive."""
    return _known(Ranking.of(scores, positive).areas(np.ones((1, len(scores))))[1])


def roc_curve(scores: Floats, positive: Bools) -> RocCurve:
    """The ROC curve, a point for each distinct score; NaN along the axis of a class that does not occur."""
    order = np.argsort(-scores, kind="stable")
    falling, ordered = scores[order], positive[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    true, false = np.cumsum(ordered)[last], np.cumsum(~ordered)[last]
    with np.errstate(invalid="ignore"):
        sensitivity, fall_out = (np.concatenate([[0], counts]) / counts[-1] for counts in (true, false))
    return RocCurve(np.concatenate([[np.inf], falling[last]]), sensitivity, 1 - fall_out)


def _summed(weights: Floats) -> npt.NDArray[np.float64]:
    """Running sums along the rows, with a 0 in front: [draws, n] → [draws, n + 1]."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _known(values: npt.NDArray[np.float64]) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])
