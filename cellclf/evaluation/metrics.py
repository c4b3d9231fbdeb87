"""All figures of one network on one set of images, with intervals bootstrapped over groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate
from cellclf.documents import Document
from cellclf.evaluation.bootstrap import bootstrap_figures, bootstrap_groups, bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.ranking import Ranking
from cellclf.evaluation.scores import (
    RELIABILITY_BINS,
    ReliabilityBin,
    brier_score,
    cross_entropy,
    expected_calibration_error,
    losses,
    placed_in_bins,
    reliability_curve,
    squared_errors,
)

__all__ = ["CHANCE_AUC", "IntervalUnit", "LabelMetrics", "SplitMetrics", "confusion_matrix", "f1_scores", "measure", "one_answer", "only_column"]

IntervalUnit = Literal["group", "file"]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class LabelMetrics(Document):
    """One label against the rest; a figure is None where it is not defined.

    recall = sensitivity; precision = positive predictive value; npv = negative predictive value, both at this set's own share of the label.
    f1_estimate: f1 with its interval; None in documents that were written before there was one.
    """

    images: int
    precision: Estimate | None
    recall: Estimate | None
    specificity: Estimate | None
    npv: Estimate | None
    f1: float | None
    auc: Estimate | None
    average_precision: Estimate | None
    f1_estimate: Estimate | None = None


CHANCE_AUC = 0.6
"""Up to here an order of images is hardly better than one drawn at random."""


class SplitMetrics(Document):
    """Figures of one network on one set of images. confusion[i][j]: images of label i that were called label j.

    loss: log loss in nats. brier: 0 … 1 for two labels, 0 … 2 for more. ece: expected calibration error of the most probable label, over the bins of
    `reliability`. auc and average_precision: of the second of two labels; of more, the mean over labels of one against the rest. loss_estimate,
    brier_estimate, ece_estimate: the same with their intervals; None in documents that were written before there were any. Bins that are drawn with
    fewer images are less even, so that the interval of the ECE lies rather too high.
    """

    images: int
    groups: int
    interval_unit: IntervalUnit
    loss: float
    brier: float
    ece: float
    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: Estimate | None
    average_precision: Estimate | None
    per_label: dict[str, LabelMetrics]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[ReliabilityBin, ...]
    loss_estimate: Estimate | None = None
    brier_estimate: Estimate | None = None
    ece_estimate: Estimate | None = None

    @property
    def only_answer(self) -> str | None:
        """The label that all images are called although they are of several; its accuracy is only that label's share. None where it is not so."""
        number = only_column(self.confusion)
        return None if number is None else tuple(self.per_label)[number]

    @property
    def has_learned(self) -> bool:
        """False where all are called one label and the probabilities do not order them either."""
        return self.only_answer is None or (self.auc is not None and self.auc.value > CHANCE_AUC)


@dataclass(frozen=True)
class _Shares:
    """Accuracy, and a value a label of what counts give."""

    accuracy: Estimate
    precision: tuple[Estimate | None, ...]
    recall: tuple[Estimate | None, ...]
    specificity: tuple[Estimate | None, ...]
    npv: tuple[Estimate | None, ...]
    f1: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class _Areas:
    auc: Estimate | None
    average_precision: Estimate | None


def measure(
    probabilities: Floats,
    truth: Ints,
    labels: Sequence[str],
    *,
    groups: Sequence[str],
    unit: IntervalUnit,
    predicted: Ints | None = None,
    seed: int = 0,
) -> SplitMetrics:
    """All figures of one set.

    probabilities: [images, classes], rows adding up to 1. truth: [images], class numbers. predicted: [images], what each image was called; None = its
    most probable class. groups: what each image was taken of; intervals are percentile bootstraps (95 %, 2000 resamples) that draw whole groups,
    because images of one group are not independent.
    """
    called = probabilities.argmax(axis=1) if predicted is None else predicted
    numbers = group_numbers(groups)
    by_group = np.zeros((int(numbers.max()) + 1, len(labels), len(labels)))
    np.add.at(by_group, (numbers, truth, called), 1)
    shares = _shares(by_group, seed=seed)
    areas, overall = _areas(probabilities, truth, numbers, seed=seed)
    matrix = by_group.sum(axis=0).astype(np.int64)
    reliability = reliability_curve(probabilities, truth)
    loss, brier, ece = _of_probabilities(probabilities, truth, numbers, seed=seed)
    return SplitMetrics(
        images=len(truth),
        groups=len(by_group),
        interval_unit=unit,
        loss=cross_entropy(probabilities, truth),
        brier=brier_score(probabilities, truth),
        ece=expected_calibration_error(reliability),
        accuracy=shares.accuracy,
        balanced_accuracy=_balanced(by_group, seed=seed),
        auc=overall.auc,
        average_precision=overall.average_precision,
        per_label={label: _label_metrics(matrix, number, shares, areas[number]) for number, label in enumerate(labels)},
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        reliability=reliability,
        loss_estimate=loss,
        brier_estimate=brier,
        ece_estimate=ece,
    )


def one_answer(who: str, images: str, label: str, *, auc: float | None) -> str:
    """A sentence on a network that calls everything one label, for which accuracy means nothing."""
    if auc is not None and auc > CHANCE_AUC:
        return f"{who} calls {images} {label}, although its probabilities do tell the labels apart (AUC {auc:.3f}): few images, or a wrong threshold"
    return f"{who} calls {images} {label}: it has not learned to tell the labels apart"


def only_column(confusion: Sequence[Sequence[float]]) -> int | None:
    """The one column of a confusion matrix that holds every image, although several rows do; else None."""
    called = [number for number, column in enumerate(zip(*confusion, strict=True)) if any(column)]
    labels = sum(1 for row in confusion if any(row))
    return called[0] if len(called) == 1 and labels > 1 else None


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> npt.NDArray[np.int64]:
    """[classes, classes] counts; rows are the truth, columns the prediction."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def _label_metrics(matrix: npt.NDArray[np.int64], label: int, shares: _Shares, areas: _Areas) -> LabelMetrics:
    hits, called, present = int(matrix[label, label]), int(matrix[:, label].sum()), int(matrix[label].sum())
    return LabelMetrics(
        images=present,
        precision=shares.precision[label],
        recall=shares.recall[label],
        specificity=shares.specificity[label],
        npv=shares.npv[label],
        f1=2 * hits / (called + present) if called + present else None,
        auc=areas.auc,
        average_precision=areas.average_precision,
        f1_estimate=shares.f1[label],
    )


def _shares(by_group: npt.NDArray[np.float64], *, seed: int) -> _Shares:
    """What follows from counts; by_group: confusion matrices [groups, classes, classes]."""
    hits = np.diagonal(by_group, axis1=1, axis2=2)
    present, called = by_group.sum(axis=2), by_group.sum(axis=1)
    images = by_group.sum(axis=(1, 2))[:, None]
    rejected = images - present - called + hits
    estimates = bootstrap_shares(
        np.concatenate([hits.sum(axis=1, keepdims=True), hits, hits, rejected, rejected], axis=1),
        np.concatenate([images, called, present, images - present, images - called], axis=1),
        seed=seed,
    )
    accuracy, classes = estimates[0], by_group.shape[1]
    assert accuracy is not None  # there is an image
    precision, recall, specificity, npv = (estimates[1 + kind * classes : 1 + (kind + 1) * classes] for kind in range(4))
    return _Shares(accuracy, precision, recall, specificity, npv, f1_scores(hits, called + present, seed=seed))


def f1_scores(hits: npt.NDArray[np.float64], of: npt.NDArray[np.float64], *, seed: int = 0) -> tuple[Estimate | None, ...]:
    """2 × hits / (called + present) of each label; hits, of = called + present: [groups, classes].

    It is no share of trials, so it has no exact bounds at 0 and 1.
    """

    def ratios(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        drawn = draws @ of
        found: npt.NDArray[np.float64] = np.divide(2 * (draws @ hits), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        return found

    return bootstrap_figures(ratios, np.arange(len(hits)), seed=seed)


def _of_probabilities(probabilities: Floats, truth: Ints, numbers: npt.NDArray[np.intp], *, seed: int) -> tuple[Estimate | None, ...]:
    """Log loss, Brier score and ECE."""
    confidence, right, place = placed_in_bins(probabilities, truth)
    gaps = np.zeros((int(numbers.max()) + 1, RELIABILITY_BINS))
    np.add.at(gaps, (numbers, place), confidence - right)
    sums = group_sums(np.stack([np.ones(len(truth)), losses(probabilities, truth), squared_errors(probabilities, truth)], axis=1), numbers)

    def figures(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        images, loss, brier = (draws @ sums).T
        found: npt.NDArray[np.float64] = np.stack([loss, brier, np.abs(draws @ gaps).sum(axis=1)], axis=1) / images[:, None]
        return found

    return bootstrap_figures(figures, np.arange(len(sums)), seed=seed)


def _balanced(by_group: npt.NDArray[np.float64], *, seed: int) -> Estimate:
    """Mean recall over the labels that occur (in a draw: that were drawn)."""
    hits, present = np.diagonal(by_group, axis1=1, axis2=2), by_group.sum(axis=2)

    def mean_recall(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        drawn = draws @ present
        recalls = np.divide(draws @ hits, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        mean: npt.NDArray[np.float64] = np.nanmean(recalls, axis=1)
        return mean

    estimate = bootstrap_groups(mean_recall, np.arange(len(by_group)), seed=seed)
    assert estimate is not None  # there is an image, so a label occurs
    return estimate


def _areas(probabilities: Floats, truth: Ints, numbers: npt.NDArray[np.intp], *, seed: int) -> tuple[list[_Areas], _Areas]:
    """Areas of each label against the rest, and overall: two labels: the second's; more: the mean, None where a label is missing."""
    classes = probabilities.shape[1]
    rankings = [Ranking.of(probabilities[:, label], truth == label) for label in range(classes)]

    def areas(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        weights = draws[:, numbers]
        values = np.stack([ranking.areas(weights) for ranking in rankings])
        overall = values[1:] if classes == 2 else values
        return np.concatenate([values, overall.mean(axis=0, keepdims=True)]).reshape(-1, len(draws)).T

    found = bootstrap_figures(areas, numbers, seed=seed)
    pairs = [_Areas(*found[place : place + 2]) for place in range(0, len(found), 2)]
    return pairs[:-1], pairs[-1]
