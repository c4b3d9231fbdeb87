"""The accuracy–cost picture: what a million images cost against balanced accuracy, with intervals on both axes, and what nothing beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cellclf.card import Estimate
from cellclf.report.cost import Cost
from cellclf.report.costing import Costs, ModelCost
from cellclf.report.drawing import INK, SERIES, Drawing, draw, new_figure
from cellclf.report.words import reach

__all__ = ["Point", "cost_plot", "front", "points_of"]

_BESIDE = 1.045
_NARROW = 5
_MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Point:
    """A model run in one way. beside: where it is drawn, as a factor of its cost: models of one network cost the same."""

    number: int
    way: str
    steady: bool
    cost: Cost
    accuracy: Estimate
    beside: float = 1.0


def points_of(models: Sequence[ModelCost]) -> tuple[Point, ...]:
    """Every model in every way that has a price."""
    found = [
        Point(model.number, way.describe, way.steady, way.cost_per_million, model.balanced_accuracy.mean)
        for model in models
        for way in model.ways
        if way.cost_per_million is not None
    ]
    alike: dict[tuple[str, float], list[Point]] = {}
    for point in found:
        alike.setdefault((point.way, point.cost.value), []).append(point)
    return tuple(
        Point(point.number, point.way, point.steady, point.cost, point.accuracy, _BESIDE ** (place - (len(same) - 1) / 2))
        for same in alike.values()
        for place, point in enumerate(same)
    )


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The steady points that no other steady one beats in cost and accuracy both, cheapest first."""
    kept: list[Point] = []
    for point in sorted((point for point in points if point.steady), key=lambda point: (point.cost.value, -point.accuracy.value)):
        if not kept or point.accuracy.value > kept[-1].accuracy.value:
            kept.append(point)
    return tuple(kept)


def cost_plot(costs: Costs, section: str, *, name: str) -> Drawing | None:
    """The picture of one section's models; None where none has a cost."""
    models = [model for model in costs.models if model.section == section]
    points = points_of(models)
    if not points:
        return None
    leaks = " (LEAKS)" if any(model.leak for model in models) else ""

    def build() -> Any:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        figure = new_figure(4.2)
        axes = figure.subplots()
        ways = list(dict.fromkeys(point.way for point in points))
        best = front(points)
        axes.plot(
            [each.cost.value * each.beside for each in best], [100 * each.accuracy.value for each in best], color=INK, alpha=0.35, linewidth=1.2
        )
        for place, way in enumerate(ways):
            _way(axes, [point for point in points if point.way == way], SERIES[place % len(SERIES)], _MARKERS[place % len(_MARKERS)], way)
        axes.set_xscale("log")
        narrow = max(point.cost.value for point in points) < _NARROW * min(point.cost.value for point in points)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if narrow else (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"a million images, {costs.prices[0].currency}")
        axes.set_ylabel(f"test balanced accuracy, %{leaks}")
        axes.margins(x=0.1, y=0.08)
        figure.legend(loc="outside lower center", ncols=1 if max(map(len, ways)) > 28 else 2, fontsize=9)
        return figure

    return draw(
        name,
        build,
        title=f"Accuracy and cost{leaks}, {section}",
        note="Numbers are those of the table; models of one network cost the same and are drawn side by side. Bars: 95 % interval of the accuracy; "
        "cost at the quickest and slowest measured window. Line: no other is both cheaper and better. Hollow: the measurement was not steady.",
    )


def _way(axes: Any, points: Sequence[Point], colour: str, marker: str, label: str) -> None:
    for place, point in enumerate(points):
        across, middle = point.cost, point.cost.value * point.beside
        low, high = (across.value if bound is None else bound for bound in (across.low, across.high))
        below, above = reach(point.accuracy)
        axes.errorbar(
            [middle],
            [100 * point.accuracy.value],
            xerr=[[(across.value - low) * point.beside], [(high - across.value) * point.beside]],
            yerr=[[100 * below], [100 * above]],
            fmt=marker,
            color=colour,
            markerfacecolor=colour if point.steady else "none",
            markersize=6,
            linewidth=1.1,
            capsize=2,
            label=label if place == 0 else None,
        )
        axes.annotate(str(point.number), (middle, 100 * point.accuracy.value), xytext=(5, 4), textcoords="offset points", fontsize=9)
