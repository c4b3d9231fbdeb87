"""The accuracy–cost picture: what a million images cost against balanced accuracy, with intervals on both axes, and what nothing beats in both."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellclf.card import Estimate
from cellclf.report.cost import Cost
from cellclf.report.costing import Costs, ModelCost
from cellclf.report.deployments import KEEPS, Deployment
from cellclf.report.drawing import INK, SERIES, Drawing, draw, new_figure
from cellclf.report.tables import network_title
from cellclf.report.words import reach

__all__ = ["Point", "apart", "cost_plot", "front", "points_of"]

_MARKER_SHARE, _LABEL_SHARE, _LEAST_SPAN = 0.02, 0.065, 0.7  # of the axis that one takes; of an axis of at least so many e-folds
_NARROW = 5
_LINE_LENGTH, _SPACE = 52, "\N{NO-BREAK SPACE}"
_ENTRY_IN, _PAD_IN = 0.36, 0.09
_NOTE = (
    f"Numbered: each model in its cheapest steady way whose own file {KEEPS} (square: on a GPU). "
    "Small: its other ways, each at its own accuracy (hollow: not steady); where that is not known, in the table only. Bars: 95 % interval of "
    "the accuracy; cost at the quickest and slowest measured window; moved apart a little where they would cover each other. Line: the most accurate "
    "of the numbered for the money; where bars overlap it proves nothing."
)


@dataclass(frozen=True)
class Point:
    """A model run in one way. best: whether it is numbered; beside: where it is drawn, as a factor of its cost, so that numbers stay apart."""

    model: ModelCost
    way: Deployment
    cost: Cost
    accuracy: Estimate
    best: bool
    beside: float = 1.0

    @property
    def across(self) -> float:
        """Where it is drawn."""
        return self.cost.value * self.beside


def points_of(models: Sequence[ModelCost]) -> tuple[Point, ...]:
    """Every model in every way that has a price and an accuracy of its own; the best ones moved apart where they would hide each other."""
    found = [
        Point(model, way, way.cost_per_million, way.accuracy, way in model.best)
        for model in models
        for way in model.ways
        if way.cost_per_million is not None and way.accuracy is not None
    ]
    if not found:
        return ()
    best = sorted((point for point in found if point.best), key=lambda point: (point.cost.value, point.model.number))
    places = apart([math.log(point.cost.value) for point in best], _MARKER_SHARE * _span(found))
    moved = (replace(point, beside=math.exp(place) / point.cost.value) for point, place in zip(best, places, strict=True))
    return (*(point for point in found if not point.best), *moved)


def apart(places: Sequence[float], least: float) -> list[float]:
    """Sorted places, moved as little as can be (by squares) so that neighbours stand at least so far apart: pooled adjacent violators."""
    blocks: list[tuple[float, int]] = []
    for number, place in enumerate(places):
        blocks.append((place - number * least, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, many), (second, more) = blocks[-2:]
            blocks[-2:] = [((first * many + second * more) / (many + more), many + more)]
    level = [value for value, count in blocks for _ in range(count)]
    return [value + number * least for number, value in enumerate(level)]


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The best points that no other one beats in cost and accuracy both, cheapest first."""
    kept: list[Point] = []
    for point in sorted((point for point in points if point.best), key=lambda point: (point.cost.value, -point.accuracy.value)):
        if not kept or point.accuracy.value > kept[-1].accuracy.value:
            kept.append(point)
    return tuple(kept)


def cost_plot(costs: Costs, section: str, *, name: str) -> Drawing | None:
    """The picture of one section's models; None where none has a cost and an accuracy that belong together."""
    models = [model for model in costs.models if model.section == section]
    points = points_of(models)
    if not points:
        return None
    leaks = " (LEAKS)" if any(model.leak for model in models) else ""
    colours = {model.number: SERIES[place % len(SERIES)] for place, model in enumerate(models)}

    def build() -> Any:
        named = [point for point in points if point.best]
        figure = new_figure(3.8 + _ENTRY_IN * len(named))
        figure.get_layout_engine().set(h_pad=_PAD_IN)
        axes = figure.subplots()
        for point in points:
            (_marker if point.best else _dot)(axes, point, colours[point.model.number])
        _axes(axes, points, currency=costs.prices[0].currency, leaks=leaks)
        _line(axes, front(points))
        _numbers(axes, named, colours, _LABEL_SHARE * _span(points))
        if named:
            _legend(figure, named, colours)
        return figure

    return draw(name, build, title=f"Accuracy and cost{leaks}, {section}", note=_NOTE)


def _span(points: Sequence[Point]) -> float:
    """How many e-folds of cost the axis covers."""
    low, high = _limits(points)
    return math.log(high / low)


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """The axis of cost: every point and interval with a margin, and never too narrow for numbers side by side."""
    costs = [cost for point in points for cost in (point.across, point.cost.low, point.cost.high) if cost is not None]
    low, high = math.log(min(costs)), math.log(max(costs))
    half = max(_LEAST_SPAN, 1.2 * (high - low)) / 2
    return math.exp((low + high) / 2 - half), math.exp((low + high) / 2 + half)


def _marker(axes: Any, point: Point, colour: str) -> None:
    """A model at its best way, with both intervals."""
    low, high = (point.cost.value if bound is None else bound for bound in (point.cost.low, point.cost.high))
    below, above = reach(point.accuracy)
    axes.errorbar(
        [point.across],
        [100 * point.accuracy.value],
        xerr=[[(point.cost.value - low) * point.beside], [(high - point.cost.value) * point.beside]],
        yerr=[[100 * below], [100 * above]],
        fmt="s" if point.way.on_gpu else "o",
        color=colour,
        markersize=8,
        linewidth=1.4,
        capsize=3,
        zorder=4,
    )


def _numbers(axes: Any, named: Sequence[Point], colours: dict[int, str], width: float) -> None:
    """Each model's number above the axes, with a line down to its bar."""
    places = apart([math.log(point.across) for point in named], width)
    for point, place in zip(named, places, strict=True):
        colour = colours[point.model.number]
        axes.annotate(
            str(point.model.number),
            (point.across, 100 * (point.accuracy.value + reach(point.accuracy)[1])),
            xytext=(math.exp(place), 1.06),
            textcoords=axes.get_xaxis_transform(),
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": f"{'square' if point.way.on_gpu else 'circle'},pad=0.25", "facecolor": colour, "edgecolor": "none"},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.9, "linestyle": ":", "shrinkB": 0},
        )


def _dot(axes: Any, point: Point, colour: str) -> None:
    """Another way of a model, faintly."""
    fill = colour if point.way.steady else "none"
    marker = "s" if point.way.on_gpu else "o"
    axes.plot([point.across], [100 * point.accuracy.value], marker, color=colour, markerfacecolor=fill, markersize=4.5, alpha=0.5, zorder=2)


def _line(axes: Any, best: Sequence[Point]) -> None:
    """The front as steps, on to the right edge: for so much money one gets so much."""
    if not best:
        return
    across = [*(point.across for point in best), axes.get_xlim()[1]]
    up = [100 * point.accuracy.value for point in (*best, best[-1])]
    axes.plot(across, up, drawstyle="steps-post", color=INK, alpha=0.45, linewidth=1.4, linestyle="--", zorder=1)


def _axes(axes: Any, points: Sequence[Point], *, currency: str, leaks: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(y=0.08)
    low, high = _limits(points)
    axes.set_xlim(low, high)
    narrow = high < _NARROW * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if narrow else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"cost of a million images, {currency}")
    axes.set_ylabel(f"test balanced accuracy, %{leaks}")


def _legend(figure: Any, points: Sequence[Point], colours: dict[int, str]) -> None:
    """A line a number below the axes; a model on several machines has a line for each."""
    from matplotlib.lines import Line2D

    lines: defaultdict[str, list[Any]] = defaultdict(list)
    for point in sorted(points, key=lambda point: (point.model.number, point.cost.value)):
        model = point.model
        named = f"{model.title}, {network_title(model.backbone)}, {model.image_size_px} px"
        text = f"{model.number}{2 * _SPACE}{_cut(named)}\n{4 * _SPACE}{_cut(point.way.describe)}"
        marker = "s" if point.way.on_gpu else "o"
        lines[text].append(Line2D([], [], marker=marker, linestyle="none", color=colours[point.model.number], markersize=8))
    figure.legend([marks[0] for marks in lines.values()], list(lines), loc="outside lower left", fontsize=10, handletextpad=0.2, borderaxespad=0.2)


def _cut(text: str) -> str:
    """A line no longer than the picture is wide."""
    return text if len(text) <= _LINE_LENGTH else f"{text[: _LINE_LENGTH - 1]}…"
