"""What the verbs share: results to stdout, notes to stderr. Imports little, so that predict starts quickly."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cellclf.card import Card, Estimate
    from cellclf.evaluation.metrics import SplitMetrics

__all__ = [
    "clock",
    "decision_lines",
    "err",
    "has_not_learned",
    "in_fp32",
    "interval",
    "metrics_lines",
    "note",
    "out",
    "plain_table",
    "print_json",
    "relative",
]

_FILE_WIDTH = 1_000_000
"""Columns of what is not a terminal: nothing is cut or wrapped there."""


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; a stream that was closed before the start is None."""
    return stream is not None and stream.isatty()


out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if _is_terminal(sys.stdout) else _FILE_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if _is_terminal(sys.stderr) else _FILE_WIDTH)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines whose cells are folded, never cut, on a narrow terminal."""
    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def note(text: str) -> None:
    """A line on stderr that is no result."""
    err.print(text, style="dim")


def print_json(text: str) -> None:
    """A JSON text on stdout, as it is."""
    sys.stdout.write(text + "\n")


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or with one decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def interval(estimate: "Estimate | None") -> str:
    """A metric with its 95 % interval, as text; a dash where it is not defined."""
    if estimate is None:
        return "–"
    if estimate.low is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def has_not_learned(metrics: "SplitMetrics", images: str) -> list[str]:
    """A sentence where a network gives one answer to everything, whose accuracy is only that label's share; `images`: which ones, in words."""
    from cellclf.evaluation.metrics import one_answer

    label, auc = metrics.only_answer, metrics.auc
    return [one_answer("the network", f"all {metrics.images} {images}", label, auc=None if auc is None else auc.value)] if label else []


def in_fp32(card: "Card") -> str:
    """How much of an int8 file is not in int8, where it knows."""
    return "" if card.convolutions_in_fp32 is None else "; {} of {} convolutions in fp32".format(*card.convolutions_in_fp32)


def decision_lines(card: "Card") -> list[tuple[str, str]]:
    """Name and text of what a file decides by; what it has not is left out."""
    lines = []
    if (heat := card.temperature) is not None:
        lines.append(
            (
                "temperature",
                f"{heat.value:.3f} in the graph; on {heat.images} {heat.split} images loss {heat.loss_before:.4f} → {heat.loss_after:.4f}, "
                f"calibration error {heat.ece_before:.4f} → {heat.ece_after:.4f}" + _on_test(card, ("loss", "loss"), ("calibration error", "ece")),
            )
        )
    if (point := card.operating_point) is not None:
        lines.append(
            (
                "operating point",
                f"{point.positive} from a probability of {point.threshold:.4g}, for a sensitivity of {point.min_sensitivity:g}: on {point.split} "
                f"sensitivity {interval(point.sensitivity)}, specificity {interval(point.specificity)}"
                + _on_test(card, ("sensitivity", f"recall of {point.positive}"), ("specificity", f"specificity of {point.positive}")),
            )
        )
    if (band := card.abstain) is not None:
        watched = f"the probability of {band.positive}" if band.positive else "the largest probability"
        lines.append(
            (
                "abstains",
                f"where {watched} is from {band.low:.4g} to {band.high:.4g}: on {band.split} {interval(band.coverage)} answered, "
                f"error {interval(band.error)}" + _on_test(card, ("answered", "coverage"), ("error", "error of the answered")),
            )
        )
    leaks = [leak for leak in card.leaks if lines and leak.startswith("validation ")]
    return [*lines, *(("chosen on", leak) for leak in leaks)]


def _on_test(card: "Card", *figures: tuple[str, str]) -> str:
    """Text of some of a card's test figures."""
    return "; on test " + ", ".join(f"{name} {interval(card.metrics['test'].get(key))}" for name, key in figures)


def relative(path: Path) -> str:
    """A path as short as it can be written from the current folder."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def metrics_lines(metrics: "SplitMetrics") -> list[tuple[str, str]]:
    """Name and text of each figure of a split; the same names in the same order for every split."""
    return [
        ("accuracy", interval(metrics.accuracy)),
        ("balanced accuracy", interval(metrics.balanced_accuracy)),
        ("AUC", interval(metrics.auc)),
        ("average precision", interval(metrics.average_precision)),
        ("loss", interval(metrics.loss_estimate) if metrics.loss_estimate else f"{metrics.loss:.4f}"),
        ("Brier score", interval(metrics.brier_estimate) if metrics.brier_estimate else f"{metrics.brier:.4f}"),
        ("calibration error", interval(metrics.ece_estimate) if metrics.ece_estimate else f"{metrics.ece:.4f}"),
    ]
