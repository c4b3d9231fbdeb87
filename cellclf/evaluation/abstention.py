"""Which images to leave to a person: a band of doubt, and how many answers it costs against how many errors it saves. numpy only."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.card import AbstainBand, CoveragePoint, Estimate, OperatingPoint
from cellclf.errors import EvaluationError
from cellclf.evaluation.bootstrap import bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.decision import decide, positive_number

__all__ = ["certainty", "choose_abstention", "coverage_and_error", "coverage_error_curve"]

_CURVE_POINTS = 20
_ROUNDING = 1e-12

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


def certainty(probabilities: Floats, labels: Sequence[str], operating_point: OperatingPoint | None = None) -> npt.NDArray[np.float64]:
    """How sure a decision is, [images]: the largest probability; at an operating point, how far the positive's log-odds are from the threshold's."""
    if operating_point is None:
        return np.asarray(probabilities.max(axis=1), dtype=np.float64)
    positive = probabilities[:, positive_number(labels, operating_point.positive)].astype(np.float64)
    distance: npt.NDArray[np.float64] = np.abs(_log_odds(positive) - _log_odds(np.array(operating_point.threshold)))
    return distance


def coverage_error_curve(certain: Floats, right: Bools, *, points: int = _CURVE_POINTS) -> tuple[CoveragePoint, ...]:
    """Coverage against error as ever more images, the most certain first, are answered; certain, right: [images]. At most `points`, the last at 1.

    Images that are equally certain are answered together (risk–coverage curve: El-Yaniv & Wiener 2010).
    """
    _, answered, wrong = _prefixes(certain, right)
    wanted = np.ceil(np.arange(1, points + 1) * len(certain) / points)
    places = np.unique(np.searchsorted(answered, wanted))
    return tuple(CoveragePoint(coverage=float(answered[at] / len(certain)), error=float(wrong[at] / answered[at])) for at in places)


def choose_abstention(
    probabilities: Floats,
    truth: Ints,
    labels: Sequence[str],
    *,
    groups: Sequence[str],
    split: str,
    operating_point: OperatingPoint | None = None,
    max_error: float | None = None,
    min_coverage: float | None = None,
) -> AbstainBand:
    """The narrowest band that leaves at most `max_error` wrong among the answered, or that with the least error at `min_coverage` or more.

    At an operating point the band lies around the threshold, equally far in log-odds on both sides. Exactly one wish is given; raises EvaluationError
    where it cannot be met on these images, or is no share.
    """
    wish = max_error if max_error is not None else min_coverage
    if wish is None or (max_error is not None and min_coverage is not None):
        raise EvaluationError("an abstain band is chosen for a largest error or for a least coverage: give one of the two")
    if not 0 <= wish <= 1:
        raise EvaluationError(f"an error or coverage of {wish:g} cannot be asked for; give a share from 0 to 1")
    certain = certainty(probabilities, labels, operating_point)
    right = decide(probabilities, labels, operating_point=operating_point).called == truth
    level = _level(certain, right, max_error, min_coverage)
    coverage, error = coverage_and_error(right, certain >= level, groups=groups)
    low, high = _band(level, operating_point)
    return AbstainBand(
        positive=operating_point.positive if operating_point else None,
        low=low,
        high=high,
        max_error=max_error,
        min_coverage=min_coverage,
        coverage=coverage,
        error=error,
        split=split,
        images=len(truth),
        curve=coverage_error_curve(certain, right),
    )


def coverage_and_error(right: Bools, answered: Bools, *, groups: Sequence[str]) -> tuple[Estimate, Estimate | None]:
    """The share of images that is answered, and the share of those that is wrong (None: nothing is answered); right, answered: [images]."""
    counts = np.stack([answered, answered & ~right, np.ones(len(right), dtype=bool)], axis=1).astype(float)
    sums = group_sums(counts, group_numbers(groups))
    coverage, error = bootstrap_shares(sums[:, [0, 1]], sums[:, [2, 0]])
    assert coverage is not None  # there is an image
    return coverage, error


def _prefixes(certain: Floats, right: Bools) -> tuple[npt.NDArray[np.float64], Ints, Ints]:
    """Distinct certainties, highest first; how many images are at least so certain; how many of those are wrong."""
    order = np.argsort(-certain, kind="stable")
    falling = certain[order].astype(np.float64)
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    return falling[last], last + 1, np.cumsum(~right[order], dtype=np.intp)[last]


def _level(certain: Floats, right: Bools, max_error: float | None, min_coverage: float | None) -> float:
    """The certainty from which on images are answered, half-way between two that occur; 0 where all are."""
    levels, answered, wrong = _prefixes(certain, right)
    errors = wrong / answered
    if max_error is not None:
        good = np.flatnonzero(errors <= max_error)
        if not len(good):
            raise EvaluationError(
                f"no band leaves an error of {max_error:g} or less: it is {errors[-1]:.3f} on all {len(right)} images and nowhere below "
                f"{errors.min():.3f}"
            )
        place = int(good[-1])
    else:
        allowed = np.flatnonzero(answered >= (min_coverage or 0) * len(right) - _ROUNDING)
        place = int(allowed[errors[allowed] == errors[allowed].min()][-1])
    return 0.0 if place == len(levels) - 1 else float((levels[place] + levels[place + 1]) / 2)


def _band(level: float, operating_point: OperatingPoint | None) -> tuple[float, float]:
    """Bounds of the watched probability between which decisions are less certain than `level`."""
    if operating_point is None:
        return 0.0, level
    if level == 0:
        return operating_point.threshold, operating_point.threshold
    middle = float(_log_odds(np.array(operating_point.threshold)))
    low, high = (1 / (1 + math.exp(-(middle + side * level))) for side in (-1, 1))
    return low, high


def _log_odds(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(probability, _ROUNDING, 1 - _ROUNDING)
    log_odds: npt.NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return log_odds
