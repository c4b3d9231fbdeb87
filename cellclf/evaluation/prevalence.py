"""What an answer is worth where the share of positives is not that of the test set, with intervals over groups. numpy only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate
from cellclf.documents import Document
from cellclf.evaluation.bootstrap import bootstrap_figures, group_numbers, group_sums

__all__ = ["PredictiveValues", "measure_at_prevalence"]

Bools = npt.NDArray[np.bool_]


class PredictiveValues(Document):
    """PPV and NPV of `positive` where a share `prevalence` of those tested has it; None where no such answer is given."""

    positive: str
    prevalence: float
    ppv: Estimate | None
    npv: Estimate | None


def measure_at_prevalence(called: Bools, present: Bools, *, positive: str, prevalence: float, groups: Sequence[str]) -> PredictiveValues:
    """`scores.predictive_values` of what was called positive [images] and what is [images], bootstrapped over groups."""
    counts = np.stack([called & present, present, called & ~present, ~present], axis=1).astype(float)
    by_group = group_sums(counts, group_numbers(groups))

    def values(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        hits, positives, false, negatives = (draws @ by_group).T
        with np.errstate(invalid="ignore", divide="ignore"):
            true_called, false_called = hits / positives * prevalence, false / negatives * (1 - prevalence)
            found: npt.NDArray[np.float64] = np.stack(
                [true_called / (true_called + false_called), (1 - prevalence - false_called) / (1 - true_called - false_called)], axis=1
            )
        return found

    ppv, npv = bootstrap_figures(values, np.arange(len(by_group)))
    return PredictiveValues(positive=positive, prevalence=prevalence, ppv=ppv, npv=npv)
