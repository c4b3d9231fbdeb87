"""Accuracy, balanced accuracy, per-label precision and recall, AUC and the confusion matrix, with intervals bootstrapped over groups."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate
from cellclf.documents import Document

__all__ = ["IntervalUnit", "LabelMetrics", "SplitMetrics", "confusion_matrix", "cross_entropy", "measure", "roc_auc"]

IntervalUnit = Literal["group", "file"]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 200


class LabelMetrics(Document):
    """One label's figures. recall = sensitivity; precision = positive predictive value, None where the label was never predicted."""

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


class SplitMetrics(Document):
    """Figures of one network on one set of images. confusion[i][j]: images of label i that were called label j."""

    images: int
    groups: int
    interval_unit: IntervalUnit
    loss: float
    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: float | None
    per_label: dict[str, LabelMetrics]
    confusion: tuple[tuple[int, ...], ...]


def measure(probabilities: Floats, truth: Ints, labels: Sequence[str], *, groups: Sequence[str], unit: IntervalUnit, seed: int = 0) -> SplitMetrics:
    """All figures of one set.

    probabilities: [images, classes], rows adding up to 1. truth: [images], class numbers. groups: what each image was taken of; intervals are
    percentile bootstraps (95 %, 2000 resamples) that draw whole groups, because images of one group are not independent.
    """
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(truth, predicted, len(labels))
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    by_group = np.zeros((int(numbers.max()) + 1, len(labels), len(labels)))
    np.add.at(by_group, (numbers, truth, predicted), 1)
    low, high = _intervals(by_group, seed=seed)
    return SplitMetrics(
        images=len(truth),
        groups=len(by_group),
        interval_unit=unit,
        loss=cross_entropy(probabilities, truth),
        accuracy=Estimate(value=_accuracy(matrix), low=low[0], high=high[0]),
        balanced_accuracy=Estimate(value=_balanced(matrix), low=low[1], high=high[1]),
        auc=_auc(probabilities, truth),
        per_label={label: _label_metrics(matrix, number) for number, label in enumerate(labels)},
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
    )


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> npt.NDArray[np.int64]:
    """[classes, classes] counts; rows are the truth, columns the prediction."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def cross_entropy(probabilities: Floats, truth: Ints) -> float:
    """Mean of −ln p(truth), in nats; probabilities are kept at 1e-7 or above, as Keras does."""
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(chosen, 1e-7, 1.0)).mean())


def roc_auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve = P(score of a positive > score of a negative), ties half (Mann–Whitney); None with one class only."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    mean_rank = last_rank - (counts - 1) / 2
    rank_sum = float(mean_rank[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def _auc(probabilities: Floats, truth: Ints) -> float | None:
    """Two labels: AUC of the second. More: mean over labels of one against the rest; None where a label is missing."""
    chosen = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [roc_auc(probabilities[:, label], truth == label) for label in chosen]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if len(known) == len(areas) else None


def _accuracy(matrix: npt.NDArray[np.int64]) -> float:
    return float(np.trace(matrix) / matrix.sum())


def _balanced(matrix: npt.NDArray[np.int64]) -> float:
    """Mean recall over the labels that occur."""
    support = matrix.sum(axis=1)
    return float((np.diag(matrix)[support > 0] / support[support > 0]).mean())


def _label_metrics(matrix: npt.NDArray[np.int64], label: int) -> LabelMetrics:
    hits, called, present = int(matrix[label, label]), int(matrix[:, label].sum()), int(matrix[label].sum())
    return LabelMetrics(
        images=present,
        precision=hits / called if called else None,
        recall=hits / present if present else None,
        f1=2 * hits / (called + present) if called + present else None,
    )


def _intervals(by_group: npt.NDArray[np.float64], *, seed: int) -> tuple[list[float | None], list[float | None]]:
    """95 % bounds of accuracy and balanced accuracy; by_group: confusion matrices [groups, classes, classes]. None with fewer than two groups."""
    groups, classes, _ = by_group.shape
    if groups < 2:
        return [None, None], [None, None]
    generator = np.random.default_rng(seed)
    flat = by_group.reshape(groups, -1)
    drawn = []
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        weights = generator.multinomial(groups, np.full(groups, 1 / groups), size=_RESAMPLES_AT_ONCE).astype(np.float64)
        drawn.append((weights @ flat).reshape(-1, classes, classes))
    matrices = np.concatenate(drawn)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    support = matrices.sum(axis=2)
    accuracy = hits.sum(axis=1) / support.sum(axis=1)
    recalls = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
    bounds = np.percentile(np.stack([accuracy, np.nanmean(recalls, axis=1)]), [2.5, 97.5], axis=1)
    return [float(value) for value in bounds[0]], [float(value) for value in bounds[1]]
