"""What a model's runs call the images of both splits, by the most probable label or at thresholds chosen on validation, and how good that is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate
from cellclf.data.manifest import Split
from cellclf.errors import EvaluationError
from cellclf.evaluation.bootstrap import bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.decision import decide, positive_number
from cellclf.evaluation.operating_point import choose_operating_point
from cellclf.report.averages import balanced_accuracy
from cellclf.report.comparing import Candidate
from cellclf.report.contenders import Limits
from cellclf.report.figures import Figure

__all__ = ["Called", "call", "figure", "sensitivity"]

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Called:
    """What a candidate's runs call the images of both splits at their operating points: [seeds, images].

    thresholds: one a run, () where the most probable label is called. excluded: why it cannot be chosen, () where it can.
    """

    candidate: Candidate
    validation: Ints
    test: Ints
    thresholds: tuple[float, ...]
    excluded: tuple[str, ...]

    def of(self, split: Split) -> Ints:
        """[seeds, images]"""
        return self.test if split == "test" else self.validation


def call(candidate: Candidate, limits: Limits) -> Called:
    """Calls by the most probable label, or at the threshold that each run's validation answers give."""
    validation, test = candidate.probabilities("validation"), candidate.probabilities("test")
    if limits.min_sensitivity is None or limits.positive is None:
        called = validation.argmax(axis=2)
        return Called(candidate, called, test.argmax(axis=2), (), _too_blind(candidate, called, limits))
    labels, answered = candidate.runs[0].setup.data.labels, candidate.answered("validation")
    try:
        points = [
            choose_operating_point(
                of_seed,
                answered.truth,
                labels,
                positive=limits.positive,
                min_sensitivity=limits.min_sensitivity,
                groups=answered.groups,
                split="validation",
            )
            for of_seed in validation
        ]
    except EvaluationError as error:
        return Called(candidate, validation.argmax(axis=2), test.argmax(axis=2), (), (str(error),))
    at = [np.stack([decide(p, labels, operating_point=point).called for p, point in zip(of, points, strict=True)]) for of in (validation, test)]
    return Called(candidate, at[0], at[1], tuple(point.threshold for point in points), ())


def _too_blind(candidate: Candidate, called: Ints, limits: Limits) -> tuple[str, ...]:
    if limits.min_sensitivity is None:
        return ()
    truth, labels = candidate.answered("validation").truth, candidate.runs[0].setup.data.labels
    found = {label: float((called[:, truth == number] == number).mean()) for number, label in enumerate(labels) if (truth == number).any()}
    worst = min(found, key=lambda label: found[label])
    if found[worst] >= limits.min_sensitivity:
        return ()
    return (f"sensitivity of {worst} on validation {found[worst]:.3f} < {limits.min_sensitivity:g}",)


def figure(called: Called, split: Split) -> Figure:
    """Balanced accuracy of what was called."""
    classes = len(called.candidate.runs[0].setup.data.labels)
    answered = called.candidate.answered(split)
    return balanced_accuracy(np.eye(classes)[called.of(split)], answered.truth, answered.groups)


def sensitivity(called: Called, positive: str | None) -> tuple[Estimate | None, Estimate | None]:
    """On the test set, averaged over seeds: of the positive label with its specificity; without one, the worst label's sensitivity."""
    candidate = called.candidate
    labels, answered = candidate.runs[0].setup.data.labels, candidate.answered("test")
    numbers = group_numbers(answered.groups)
    asked = range(len(labels)) if positive is None else [positive_number(labels, positive)]
    present = np.stack([answered.truth == number for number in asked], axis=1).astype(float)
    hit = np.stack([(called.test == number).mean(axis=0) for number in asked], axis=1)
    found = [each for each in bootstrap_shares(group_sums(hit * present, numbers), group_sums(present, numbers)) if each is not None]
    worst = min(found, key=lambda estimate: estimate.value, default=None)
    if positive is None:
        return worst, None
    return worst, bootstrap_shares(group_sums((1 - hit) * (1 - present), numbers), group_sums(1 - present, numbers))[0]
