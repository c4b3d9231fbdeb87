"""Temperature scaling (Guo et al. 2017): one number that makes probabilities as sure as they are right. numpy only."""

import numpy as np
import numpy.typing as npt

from cellclf.card import Temperature
from cellclf.evaluation.scores import cross_entropy, expected_calibration_error, reliability_curve

__all__ = ["LARGEST_TEMPERATURE", "SMALLEST_TEMPERATURE", "apply_temperature", "calibrate", "fit_temperature"]

SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.1, 10.0
"""Where the search ends: a network ten times too sure, or ten times too unsure, has other faults."""

_SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
_HALVINGS = 60

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def apply_temperature(probabilities: Floats, temperature: float) -> npt.NDArray[np.float64]:
    """softmax(ln p / temperature), [images, classes]: what the network gives with its logits divided by `temperature`.

    Above 1 less sure, below 1 surer; the order of a row's classes stays as it is. Probabilities that float32 gave as 0 count as its smallest number.
    """
    return _softmax(_logits(probabilities) / temperature)


def fit_temperature(probabilities: Floats, truth: Ints) -> float:
    """The temperature with the lowest log loss on probabilities [images, classes] and their true class numbers [images].

    The loss is convex in 1 / temperature, so that halving the interval by the sign of its slope finds the one minimum. Where every image's most
    probable class is right the loss only falls with ever surer probabilities and says nothing of how sure to be: the temperature is then 1.
    """
    if (probabilities.argmax(axis=1) == truth).all():
        return 1.0
    logits = _logits(probabilities)
    of_truth = logits[np.arange(len(truth)), truth].mean()

    def slope(inverse: float) -> float:
        """Derivative of the mean log loss by 1 / temperature: the expected logit less the truth's."""
        return float((_softmax(logits * inverse) * logits).sum(axis=1).mean() - of_truth)

    low, high = 1 / LARGEST_TEMPERATURE, 1 / SMALLEST_TEMPERATURE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def calibrate(probabilities: Floats, truth: Ints, *, split: str) -> Temperature:
    """Fit on one split's probabilities [images, classes], and tell what it changed there."""
    temperature = fit_temperature(probabilities, truth)
    after = apply_temperature(probabilities, temperature)
    return Temperature(
        value=temperature,
        split=split,
        images=len(truth),
        loss_before=cross_entropy(probabilities, truth),
        loss_after=cross_entropy(after, truth),
        ece_before=expected_calibration_error(reliability_curve(probabilities, truth)),
        ece_after=expected_calibration_error(reliability_curve(after, truth)),
    )


def _logits(probabilities: Floats) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return softmax
