"""A model's runs → what its answers come to at a threshold, and with a band of doubt, both chosen on validation. Pure functions of predictions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.card import CoveragePoint, OperatingPoint
from cellclf.errors import EvaluationError
from cellclf.evaluation.abstention import certainty, choose_abstention, coverage_error_curve
from cellclf.evaluation.bootstrap import bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.decision import decide, positive_number
from cellclf.evaluation.metrics import f1_scores
from cellclf.evaluation.operating_point import choose_operating_point
from cellclf.report.comparing import Candidate
from cellclf.report.figures import Decided, Doubt, Operating, WantedPoint

__all__ = ["by_label", "decided", "doubts_of", "operating_of", "why_no_threshold"]

_COVERAGES = np.linspace(0.05, 1, 20)
_MIN_COVERAGE = 0.9

Bools = npt.NDArray[np.bool_]


def why_no_threshold(labels: Sequence[str], wanted: WantedPoint) -> str:
    """Why no threshold is chosen for these labels, '' where one is."""
    if wanted.positive is not None:
        return "" if wanted.positive in labels else f"no threshold is chosen: there is no label {wanted.positive}"
    if len(labels) == 2:
        return ""
    return f"no threshold is chosen: of {len(labels)} labels none is the positive one; name it with --positive"


def operating_of(candidate: Candidate, wanted: WantedPoint) -> Operating | None:
    """The threshold that each run's validation answers give, and what both ways of calling come to on the test set; None: see `why_no_threshold`."""
    labels, test = candidate.runs[0].setup.data.labels, candidate.answered("test")
    if why_no_threshold(labels, wanted):
        return None
    positive = wanted.positive or labels[1]
    number = positive_number(labels, positive)
    probabilities, present = candidate.probabilities("test"), test.truth == number
    usual = probabilities.argmax(axis=2)
    by_probability = decided(usual == number, usual == test.truth, present, test.groups)
    try:
        points = _points(candidate, positive, wanted.min_sensitivity)
    except EvaluationError as error:
        return Operating(
            positive=positive,
            share_positive=float(present.mean()),
            min_sensitivity=wanted.min_sensitivity,
            usual=by_probability,
            thresholds=(),
            chosen=None,
            refused=str(error),
        )
    called = np.stack([decide(of_seed, labels, operating_point=point).called for of_seed, point in zip(probabilities, points, strict=True)])
    return Operating(
        positive=positive,
        share_positive=float(present.mean()),
        min_sensitivity=wanted.min_sensitivity,
        usual=by_probability,
        thresholds=tuple(point.threshold for point in points),
        chosen=decided(called == number, called == test.truth, present, test.groups),
        refused="",
    )


def decided(positive: Bools, right: Bools, present: Bools, groups: Sequence[str]) -> Decided:
    """Shares averaged over seeds, with intervals over groups; positive, right: [seeds, images], what was called; present: [images], what is."""
    called, hit = positive.mean(axis=0), (positive & present).mean(axis=0)
    cleared = (~positive & ~present).mean(axis=0)
    numbers = group_numbers(groups)
    hits = np.stack([hit, cleared, right.mean(axis=0), hit, cleared], axis=1)
    chances = np.stack([present, ~present, np.ones(len(present)), called, 1 - called], axis=1).astype(float)
    sensitivity, specificity, accuracy, ppv, npv = bootstrap_shares(group_sums(hits, numbers), group_sums(chances, numbers))
    assert accuracy is not None  # there is an image
    (f1,) = f1_scores(group_sums(hit[:, None], numbers), group_sums((called + present)[:, None], numbers))
    return Decided(sensitivity=sensitivity, specificity=specificity, accuracy=accuracy, ppv=ppv, npv=npv, f1=f1)


def by_label(candidate: Candidate) -> dict[str, Decided]:
    """Each label against the rest on the test set, by the most probable label."""
    labels, test = candidate.runs[0].setup.data.labels, candidate.answered("test")
    called = candidate.probabilities("test").argmax(axis=2)
    return {label: decided(called == number, called == test.truth, test.truth == number, test.groups) for number, label in enumerate(labels)}


def doubts_of(candidate: Candidate, operating: Operating | None) -> tuple[Doubt, ...]:
    """Coverage against error of the most probable label and, where there is a threshold, at it."""
    found = [_doubt(candidate, [None] * len(candidate.runs), "most probable label")]
    if operating is not None and operating.chosen is not None:
        points = _points(candidate, operating.positive, operating.min_sensitivity)
        found.append(_doubt(candidate, points, f"threshold on {operating.positive}"))
    return tuple(found)


def _points(candidate: Candidate, positive: str, min_sensitivity: float) -> list[OperatingPoint]:
    """One a run; raises EvaluationError where a run's validation answers give none."""
    labels, answered = candidate.runs[0].setup.data.labels, candidate.answered("validation")
    points = []
    for run, of_seed in zip(candidate.runs, candidate.probabilities("validation"), strict=True):
        try:
            point = choose_operating_point(
                of_seed, answered.truth, labels, positive=positive, min_sensitivity=min_sensitivity, groups=answered.groups, split="validation"
            )
        except EvaluationError as error:
            raise EvaluationError(f"{run.run.name}: {error}") from error
        points.append(point)
    return points


def _doubt(candidate: Candidate, points: Sequence[OperatingPoint | None], rule: str) -> Doubt:
    labels, validation, test = candidate.runs[0].setup.data.labels, candidate.answered("validation"), candidate.answered("test")
    errors, answered, right = [], [], []
    for on_validation, on_test, point in zip(candidate.probabilities("validation"), candidate.probabilities("test"), points, strict=True):
        band = choose_abstention(
            on_validation,
            validation.truth,
            labels,
            groups=validation.groups,
            split="validation",
            operating_point=point,
            min_coverage=_MIN_COVERAGE,
        )
        decision = decide(on_test, labels, operating_point=point, abstain=band)
        answered.append(~decision.abstained)
        right.append(decision.called == test.truth)
        curve = coverage_error_curve(certainty(on_test, labels, point), right[-1])
        errors.append(np.interp(_COVERAGES, [each.coverage for each in curve], [each.error for each in curve]))
    given, wrong = np.mean(answered, axis=0), np.mean([a & ~r for a, r in zip(answered, right, strict=True)], axis=0)
    numbers = group_numbers(test.groups)
    shares = group_sums(np.stack([given, wrong, np.ones(len(given))], axis=1), numbers)
    coverage, error = bootstrap_shares(shares[:, [0, 1]], shares[:, [2, 0]])
    assert coverage is not None  # there is an image
    return Doubt(
        rule=rule,
        curve=tuple(CoveragePoint(coverage=float(x), error=float(y)) for x, y in zip(_COVERAGES, np.mean(errors, axis=0), strict=True)),
        min_coverage=_MIN_COVERAGE,
        coverage=coverage,
        error=error,
    )
