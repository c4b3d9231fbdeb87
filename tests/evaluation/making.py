"""Predictions for the tests of figures."""

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from cellclf.card import Estimate, OperatingPoint

LABELS = ("NORMAL", "PNEUMONIA")
Floats = npt.NDArray[np.float64]
Case = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


@st.composite
def predictions(draw: st.DrawFn, *, classes: int | None = None, all_occur: bool = False) -> Case:
    """Probabilities [images, classes] with many ties, and true labels."""
    count = classes or draw(st.integers(2, 4))
    truth = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=40))
    if all_occur:
        truth = [*range(count), *truth]
    weights = draw(st.lists(st.lists(st.integers(1, 9), min_size=count, max_size=count), min_size=len(truth), max_size=len(truth)))
    raw = np.array(weights, dtype=np.float64)
    return raw / raw.sum(axis=1, keepdims=True), np.array(truth, dtype=np.int64)


def point(threshold: float, positive: str = "PNEUMONIA") -> OperatingPoint:
    whole = Estimate(value=1.0)
    return OperatingPoint(
        positive=positive, threshold=threshold, min_sensitivity=0.95, sensitivity=whole, specificity=whole, split="validation", images=1, groups=1
    )


def two_labels(scores: list[float]) -> Floats:
    return np.stack([1 - np.array(scores), np.array(scores)], axis=1)
