"""What probabilities are turned into: a label, or no answer. Imports little, because predict does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellclf.card import AbstainBand, OperatingPoint
from cellclf.errors import UnknownNameError

__all__ = ["Decision", "decide", "positive_number"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Decision:
    """What images are called, class numbers [images], and which of them get no answer [images]."""

    called: npt.NDArray[np.intp]
    abstained: Bools


def decide(
    probabilities: Floats, labels: Sequence[str], *, operating_point: OperatingPoint | None = None, abstain: AbstainBand | None = None
) -> Decision:
    """Probabilities [images, classes] → decisions. The one place where a threshold or a band is applied.

    Without an operating point an image is called its most probable label; with one, the positive label where its probability reaches the threshold,
    else the most probable other.
    """
    called = probabilities.argmax(axis=1)
    if operating_point is not None:
        positive = positive_number(labels, operating_point.positive)
        others = np.where(np.arange(len(labels)) == positive, -1.0, probabilities)
        called = np.where(probabilities[:, positive].astype(np.float64) >= operating_point.threshold, positive, others.argmax(axis=1))
    if abstain is None:
        return Decision(called, np.zeros(len(called), dtype=bool))
    watched = (probabilities.max(axis=1) if abstain.positive is None else probabilities[:, positive_number(labels, abstain.positive)]).astype(
        np.float64
    )
    return Decision(called, (abstain.low <= watched) & (watched < abstain.high))


def positive_number(labels: Sequence[str], positive: str) -> int:
    """The class number of a label; raises UnknownNameError naming the labels there are."""
    if positive not in labels:
        raise UnknownNameError(f"unknown label {positive!r}; the labels are {', '.join(labels)}")
    return list(labels).index(positive)
