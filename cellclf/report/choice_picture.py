"""The Pareto picture of a choice: latency, and cost where there are prices, against balanced accuracy; what no other beats in both is joined."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cellclf.errors import MissingExtraError, StudyError
from cellclf.report.contenders import Choice, Contender
from cellclf.report.cost import Cost
from cellclf.report.words import reach
from cellclf.storage import new_file

__all__ = ["draw_choice", "unbeaten"]

_KEPT, _EXCLUDED = "#0072B2", "#9a9a9a"  # of Okabe and Ito's colours, told apart without red and green

_Across = Callable[[Contender], Cost | None]


def draw_choice(path: Path, choice: Choice) -> None:
    """Write the picture as PNG; raises StudyError where nothing was measured, MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing the Pareto picture", "train") from error

    everything = (*choice.kept, *choice.excluded)
    if not any(each.deployment for each in everything):
        raise StudyError("the Pareto picture needs measurements: give --benchmarks FILE.json")
    kinds: list[tuple[str, _Across]] = [("latency of one call, 95th percentile, ms", _latency)]
    if any(_cost(each) for each in everything):
        kinds.append((f"cost of a million images, {_currency(choice)}", _cost))
    figure = Figure(figsize=(7 * len(kinds), 4.5), layout="constrained")
    for axes, (label, across) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for place, each in enumerate(everything, start=1):
            _point(axes, each, across(each), label="" if each.excluded else str(place))
        best = unbeaten(choice.kept, across)
        axes.plot([value.value for _, value in best], [each.figure.mean.value for each, _ in best], color=_KEPT, linewidth=1, alpha=0.5)
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel(f"balanced accuracy, {choice.by}")
        axes.set_title("Numbers: places in the table of choose; hollow: excluded. Line: nothing is better in both", fontsize=9, loc="left")
        axes.grid(alpha=0.3)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def unbeaten(contenders: Sequence[Contender], across: _Across) -> list[tuple[Contender, Cost]]:
    """Those that no other beats in both, from the least of `across` on."""
    known = [(each, value) for each in contenders if (value := across(each)) is not None]
    best: list[tuple[Contender, Cost]] = []
    for each, value in sorted(known, key=lambda pair: (pair[1].value, -pair[0].figure.mean.value)):
        if not best or each.figure.mean.value > best[-1][0].figure.mean.value:
            best.append((each, value))
    return best


def _latency(each: Contender) -> Cost | None:
    return Cost(value=each.deployment.latency_ms) if each.deployment else None


def _cost(each: Contender) -> Cost | None:
    return each.deployment.cost_per_million if each.deployment else None


def _currency(choice: Choice) -> str:
    prices = [each.deployment.price for each in (*choice.kept, *choice.excluded) if each.deployment and each.deployment.price]
    return prices[0].currency


def _point(axes: Any, each: Contender, across: Cost | None, *, label: str) -> None:
    if across is None:
        return
    low, high = (across.value if bound is None else bound for bound in (across.low, across.high))
    colour = _EXCLUDED if each.excluded else _KEPT
    axes.errorbar(
        across.value,
        each.figure.mean.value,
        xerr=[[across.value - low], [high - across.value]],
        yerr=[[side] for side in reach(each.figure.mean)],
        fmt="o",
        color=colour,
        markerfacecolor="white" if each.excluded else colour,
        elinewidth=1,
        capsize=2,
    )
    axes.annotate(label, (across.value, each.figure.mean.value), xytext=(5, 3), textcoords="offset points", fontsize=8)
