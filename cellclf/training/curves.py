"""curves.png: loss and accuracy by epoch, training and validation. Needs matplotlib, no display."""

from pathlib import Path

from cellclf.errors import MissingExtraError
from cellclf.storage import new_file
from cellclf.training.run import Epoch

__all__ = ["draw_curves"]


def draw_curves(path: Path, history: tuple[Epoch, ...], *, kept_epoch: int, title: str) -> None:
    """Draw two panels side by side (loss in nats, accuracy) and mark the epoch whose weights were kept."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError("drawing curves", "train") from error
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row.epoch for row in history]
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("loss", "accuracy"), (" (cross-entropy, nats)", ""), strict=True):
        axes.plot(epochs, [getattr(row, f"train_{quantity}") for row in history], color="#8a8a8a", marker=".", label="training (dropout on)")
        axes.plot(epochs, [getattr(row, f"validation_{quantity}") for row in history], color="#7b2d8b", marker=".", label="validation")
        axes.axvline(kept_epoch, color="#7b2d8b", linestyle=":", linewidth=1, label=f"kept: epoch {kept_epoch}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity + unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
