"""What makes rare labels count where some labels have many more images: class weights, and a loss adjusted by the labels' prior."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cellclf.errors import CellclfError

__all__ = ["adjusted_loss", "class_weights", "label_prior"]

_LEAST_PRIOR = 1e-6
"""Share of a label below which its images teach nothing: Keras cuts probabilities at 1e-7."""


def class_weights(truth: npt.NDArray[np.int64], classes: int, mode: str) -> npt.NDArray[np.float32] | None:
    """Weight of each class: 'balanced' = images / (classes × images of the class), as scikit-learn has it; None for 'none'."""
    if mode == "none":
        return None
    return (len(truth) / (classes * np.bincount(truth, minlength=classes))).astype(np.float32)


def label_prior(
    truth: npt.NDArray[np.int64], groups: Sequence[str], classes: int, kind: Literal["none", "images", "groups"], strength: float = 1.0
) -> npt.NDArray[np.float32] | None:
    """Each label's share of the images, or of the groups (a group counts once for each label it has), [classes]; None for 'none'.

    strength: the power they are raised to, before they are made to add up to 1 again. Raises CellclfError where that leaves a label next to nothing.
    """
    if kind == "none":
        return None
    labels = truth if kind == "images" else np.array([label for label, _ in set(zip(truth.tolist(), groups, strict=True))])
    counts = np.bincount(labels, minlength=classes)
    powers = (counts / counts.sum()) ** strength
    prior: npt.NDArray[np.float32] = (powers / powers.sum()).astype(np.float32)
    if (prior < _LEAST_PRIOR).any():
        raise CellclfError(
            f"a logit adjustment of strength {strength:g} leaves the rarest label, with {counts.min()} of {counts.sum()} {kind}, a share of "
            f"{prior.min():.1g}, too little to learn from; give a smaller --logit-adjustment-strength"
        )
    return prior


def adjusted_loss(keras: Any, prior: npt.NDArray[np.float32]) -> Any:
    """Cross-entropy of probabilities that are multiplied by the prior and made to add up to 1: Menon et al. 2021, equation 10."""

    def logit_adjusted(truth: Any, probabilities: Any) -> Any:
        shifted = probabilities * prior
        return keras.losses.sparse_categorical_crossentropy(truth, shifted / keras.ops.sum(shifted, axis=-1, keepdims=True))

    return logit_adjusted
