"""The confusion matrix as a picture. Needs matplotlib, no display; returns a figure and writes nothing."""

from typing import Any

import numpy as np

from cellclf.card import Estimate
from cellclf.errors import MissingExtraError
from cellclf.evaluation.metrics import SplitMetrics

__all__ = ["confusion_figure"]


def confusion_figure(metrics: SplitMetrics, *, title: str) -> Any:
    """A matplotlib Figure: counts, coloured by the share of the true label's row; recall at the right, precision below."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a confusion matrix", "train") from error
    labels = list(metrics.per_label)
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.95 * len(labels)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Purples", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column, row, f"{count}\n{shares[row, column]:.1%}", ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black"
        )
    precisions = [_percent(metrics.per_label[label].precision) for label in labels]
    recalls = [_percent(metrics.per_label[label].recall) for label in labels]
    axes.set_xticks(range(len(labels)), [f"{label}\nprecision {text}" for label, text in zip(labels, precisions, strict=True)], fontsize=8)
    axes.set_yticks(range(len(labels)), [f"{label}\nrecall {text}" for label, text in zip(labels, recalls, strict=True)], fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{title}\naccuracy {metrics.accuracy.value:.4f}, balanced {metrics.balanced_accuracy.value:.4f}, {metrics.images} images", fontsize=9
    )
    return figure


def _percent(share: Estimate | None) -> str:
    return "–" if share is None else f"{share.value:.1%}"
