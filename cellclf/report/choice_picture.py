"""The Pareto picture of a choice: latency against balanced accuracy, with intervals; what no other beats in both is joined by a line."""

from pathlib import Path

from cellclf.errors import StudyError
from cellclf.report.contenders import Choice, Contender
from cellclf.storage import new_file

__all__ = ["draw_choice"]

_KEPT, _EXCLUDED = "#0072B2", "#9a9a9a"  # of Okabe and Ito's colours, told apart without red and green


def draw_choice(path: Path, choice: Choice) -> None:
    """Write the picture as PNG; raises StudyError where nothing was measured."""
    from matplotlib.figure import Figure

    measured = [each for each in (*choice.kept, *choice.excluded) if each.deployment]
    if not measured:
        raise StudyError("the Pareto picture needs measurements: give --benchmarks FILE.json")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for each in measured:
        _point(axes, each)
    front = sorted((each for each in choice.kept if each.pareto and each.deployment), key=_latency)
    axes.plot([_latency(each) for each in front], [each.figure.mean.value for each in front], color=_KEPT, linewidth=1, alpha=0.5)
    axes.set_xscale("log")
    axes.set_xlabel("latency of one call, 95th percentile, ms")
    axes.set_ylabel(f"balanced accuracy, {choice.by}")
    axes.set_title("Filled: keeps the limits. Line: nothing is both better and quicker", fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _latency(each: Contender) -> float:
    return each.deployment.latency_ms if each.deployment else 0.0


def _point(axes: object, each: Contender) -> None:
    mean = each.figure.mean
    low, high = (bound if bound is not None else mean.value for bound in (mean.low, mean.high))
    colour = _EXCLUDED if each.excluded else _KEPT
    axes.errorbar(  # type: ignore[attr-defined]  # matplotlib's Axes
        _latency(each),
        mean.value,
        yerr=[[max(0.0, mean.value - low)], [max(0.0, high - mean.value)]],
        fmt="o",
        color=colour,
        markerfacecolor="white" if each.excluded else colour,
        elinewidth=1,
        capsize=2,
    )
    axes.annotate(each.describe, (_latency(each), mean.value), xytext=(6, 4), textcoords="offset points", fontsize=7)  # type: ignore[attr-defined]
