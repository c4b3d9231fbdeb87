"""The smallest change that the noise lets one see: a bootstrap over the spread of windows measured in pairs. Arithmetic only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["geometric_mean", "median_ratio", "residuals", "smallest_visible_change"]

_DRAWS = 4000
_CONFIDENCE = 95

Floats = npt.NDArray[np.float64]


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log x)) of positive values."""
    return float(np.exp(np.log(values).mean()))


def median_ratio(ratios: Sequence[float]) -> float:
    """The median, taken of logarithms, so that a / b and b / a are one another's inverse for an even number too."""
    return float(np.exp(np.median(np.log(ratios))))


def residuals(groups: Sequence[Sequence[float]]) -> Floats:
    """How far each paired ratio's logarithm lies from its group's median, all groups together.

    Each is widened by sqrt(n / (n − 1)) for the median that was taken from the same n values; groups of one say nothing and are left out.
    """
    found = [np.log(group) - np.median(np.log(group)) for group in groups if len(group) > 1]
    return np.concatenate([part * np.sqrt(len(part) / (len(part) - 1)) for part in found]) if found else np.zeros(0)


def smallest_visible_change(noise: Floats, before: Sequence[int], after: Sequence[int], *, seed: int = 0) -> float:
    """The relative change that 95 of 100 comparisons of equally quick commits stay below.

    noise: residuals as above. before, after: paired windows of each case before and after; a case's figure is the median of its windows, and the
    figure compared is the geometric mean over cases. Raises ValueError without noise to draw from.
    """
    if not len(noise):
        raise ValueError("no case has two paired windows, so the noise is not known")
    generator = np.random.default_rng(seed)
    changes = np.zeros(_DRAWS)
    for old, new in zip(before, after, strict=True):
        medians = [np.median(generator.choice(noise, (_DRAWS, count)), axis=1) for count in (old, new)]
        changes += (medians[1] - medians[0]) / len(before)
    return float(np.expm1(np.percentile(np.abs(changes), _CONFIDENCE)))
