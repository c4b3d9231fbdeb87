"""Figures of probabilities themselves: log loss, Brier score, reliability; and predictive values at a prevalence. numpy only."""

import numpy as np
import numpy.typing as npt

from cellclf.documents import Document

__all__ = [
    "RELIABILITY_BINS",
    "ReliabilityBin",
    "brier_score",
    "cross_entropy",
    "expected_calibration_error",
    "losses",
    "placed_in_bins",
    "predictive_values",
    "reliability_curve",
    "squared_errors",
]

RELIABILITY_BINS = 15
"""Bins of equal width, as in Guo et al. 2017 (On calibration of modern neural networks)."""

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class ReliabilityBin(Document):
    """Images whose confidence is in (low, high]: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def cross_entropy(probabilities: Floats, truth: Ints) -> float:
    """Log loss: mean of −ln p(truth), in nats; probabilities are kept at 1e-7 or above, as Keras does."""
    return float(losses(probabilities, truth).mean())


def losses(probabilities: Floats, truth: Ints) -> npt.NDArray[np.float64]:
    """The log loss of each image, [images]."""
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    each: npt.NDArray[np.float64] = -np.log(np.clip(chosen, 1e-7, 1.0))
    return each


def brier_score(probabilities: Floats, truth: Ints) -> float:
    """Mean squared distance of the probabilities [images, classes] from the truth's 0 and 1, summed over the classes (Brier 1950).

    Two classes: half of that sum, (p − y)² of either class. This is scikit-learn's scale too: 0 … 1 for two classes, 0 … 2 for more.
    """
    return float(squared_errors(probabilities, truth).mean())


def squared_errors(probabilities: Floats, truth: Ints) -> npt.NDArray[np.float64]:
    """What each image adds to the Brier score, [images]."""
    error = probabilities.astype(np.float64)
    error[np.arange(len(truth)), truth] -= 1
    summed: npt.NDArray[np.float64] = np.square(error).sum(axis=1)
    return summed / 2 if probabilities.shape[1] == 2 else summed


def reliability_curve(probabilities: Floats, truth: Ints, *, label: int | None = None, bins: int = RELIABILITY_BINS) -> tuple[ReliabilityBin, ...]:
    """How often the images of each confidence are right, in bins of equal width; empty bins are left out.

    probabilities: [images, classes]. label None: confidence is the largest probability, right is "the most probable class is the true one". A class
    number: confidence is that class's probability, right is "this is the true class".
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence, right, number = placed_in_bins(probabilities, truth, label=label, bins=bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            images=int(chosen.sum()),
            confidence=float(confidence[chosen].mean()),
            accuracy=float(right[chosen].mean()),
        )
        for index in np.unique(number)
        if (chosen := number == index).any()
    )


def placed_in_bins(
    probabilities: Floats, truth: Ints, *, label: int | None = None, bins: int = RELIABILITY_BINS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Confidence of each image, whether it is right, and the number of its bin from 0, each [images]; see `reliability_curve`."""
    values = probabilities.astype(np.float64)
    confidence: npt.NDArray[np.float64] = values.max(axis=1) if label is None else values[:, label]
    right = truth == (values.argmax(axis=1) if label is None else label)
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)  # the first edge that is not below
    return confidence, right, number


def expected_calibration_error(curve: tuple[ReliabilityBin, ...]) -> float:
    """ECE: mean over the images of |confidence − accuracy| of their bin (Naeini et al. 2015; Guo et al. 2017)."""
    images = sum(row.images for row in curve)
    return sum(row.images * abs(row.confidence - row.accuracy) for row in curve) / images


def predictive_values(sensitivity: float, specificity: float, *, prevalence: float) -> tuple[float | None, float | None]:
    """PPV and NPV where a share `prevalence` of those tested is positive (Bayes' rule); None where the test gives no such answer.

    The share of positives in a test set is the collector's choice; in use it is the clinic's. All shares are in 0 … 1.
    """
    true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    called, cleared = true_positive + false_positive, true_negative + false_negative
    return true_positive / called if called else None, true_negative / cleared if cleared else None
