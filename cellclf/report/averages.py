"""Figures of one model averaged over its seeds, with intervals over groups. Pure functions of probabilities; numpy only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.evaluation.bootstrap import bootstrap_groups, bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.metrics import confusion_matrix
from cellclf.evaluation.paired import spread
from cellclf.evaluation.ranking import Ranking, roc_curve
from cellclf.report.figures import Figure, RocLine

__all__ = ["AUC_RESAMPLES", "ROC_POINTS", "accuracy", "area_under_roc", "balanced_accuracy", "mean_confusion", "roc_lines"]

AUC_RESAMPLES = 1000
"""Half of the other figures': each resample of an area takes far longer."""
ROC_POINTS = 51

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def accuracy(probabilities: Floats, truth: Ints, groups: Sequence[str]) -> Figure:
    """Accuracy; probabilities: [seeds, images, classes]. An image counts as right by the share of the seeds that have it right."""
    right = (probabilities.argmax(axis=2) == truth).astype(float)
    numbers = group_numbers(groups)
    hits, chances = (group_sums(values, numbers)[:, None] for values in (right.mean(axis=0), np.ones(len(truth))))
    (estimate,) = bootstrap_shares(hits, chances)
    assert estimate is not None  # there is an image
    return Figure(mean=estimate, spread=spread(right.mean(axis=1)))


def balanced_accuracy(probabilities: Floats, truth: Ints, groups: Sequence[str]) -> Figure:
    """Mean recall over the labels that occur; probabilities: [seeds, images, classes], averaged over seeds as in `accuracy`."""
    right = (probabilities.argmax(axis=2) == truth).astype(float)
    classes = np.eye(probabilities.shape[2])[truth]
    numbers = group_numbers(groups)
    hits, present = group_sums(right.mean(axis=0)[:, None] * classes, numbers), group_sums(classes, numbers)

    def mean_recall(draws: Floats) -> Floats:
        drawn = draws @ present
        mean: Floats = np.nanmean(np.divide(draws @ hits, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0), axis=1)
        return mean

    estimate = bootstrap_groups(mean_recall, np.arange(len(present)))
    assert estimate is not None
    occurring = classes[:, classes.any(axis=0)]
    return Figure(mean=estimate, spread=spread((right @ occurring / occurring.sum(axis=0)).mean(axis=1)))


def area_under_roc(probabilities: Floats, truth: Ints, groups: Sequence[str]) -> Figure | None:
    """Area under the ROC curve: of two labels the second's, of more the mean of one against the rest; None where a label does not occur."""
    classes = probabilities.shape[2]
    if len(np.unique(truth)) < classes:
        return None
    asked = range(1, 2) if classes == 2 else range(classes)
    rankings = [[Ranking.of(of_seed[:, label], truth == label) for label in asked] for of_seed in probabilities]
    numbers = group_numbers(groups)

    def areas(weights: Floats) -> Floats:
        """[seeds, draws]"""
        return np.array([np.mean([ranking.areas(weights)[0] for ranking in of_seed], axis=0) for of_seed in rankings])

    estimate = bootstrap_groups(lambda draws: areas(draws[:, numbers]).mean(axis=0), numbers, resamples=AUC_RESAMPLES)
    assert estimate is not None
    return Figure(mean=estimate, spread=spread(areas(np.ones((1, len(truth))))[:, 0]))


def roc_lines(probabilities: Floats, truth: Ints, labels: Sequence[str]) -> tuple[RocLine, ...]:
    """ROC curves averaged over seeds at fixed fall-outs: of two labels the second's, of more each one's against the rest, where it occurs."""
    fall_outs = np.linspace(0, 1, ROC_POINTS)
    lines = []
    for number, label in enumerate(labels):
        positive = truth == number
        if positive.all() or not positive.any() or (len(labels) == 2 and number == 0):
            continue
        curves = [roc_curve(of_seed[:, number], positive) for of_seed in probabilities]
        mean = np.mean([_at(fall_outs, 1 - curve.specificity, curve.sensitivity) for curve in curves], axis=0)
        lines.append(RocLine(label=label, sensitivity=tuple(round(float(value), 4) for value in mean)))
    return tuple(lines)


def mean_confusion(probabilities: Floats, truth: Ints) -> tuple[tuple[float, ...], ...]:
    """Confusion matrix [truth, called] in images, averaged over seeds."""
    classes = probabilities.shape[2]
    mean = np.mean([confusion_matrix(truth, called, classes) for called in probabilities.argmax(axis=2)], axis=0)
    return tuple(tuple(float(count) for count in row) for row in mean)


def _at(wanted: Floats, fall_out: Floats, sensitivity: Floats) -> Floats:
    """Sensitivity at the wanted fall-outs; at a vertical step the upper end."""
    last = np.append(fall_out[1:] != fall_out[:-1], True)
    interpolated: Floats = np.interp(wanted, fall_out[last], sensitivity[last])
    return interpolated
