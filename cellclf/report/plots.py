"""Plots of one figure a model: learning time against accuracy, random beside official, differences that answer a question."""

from collections.abc import Sequence
from typing import Any

from cellclf.data.manifest import SPLITS, Split
from cellclf.report.comparing import LEVEL
from cellclf.report.drawing import COLOURS, INK, SERIES, Drawing, draw, new_figure
from cellclf.report.figures import Answer, Comparison, Figure, ModelFigures, Section, SideBySide
from cellclf.report.words import p_value, reach

__all__ = ["answers_plot", "scatter_plot", "side_by_side_plot"]

_MARKERS: dict[Split, str] = {"train": "^", "validation": "s", "test": "o"}
_ROW_IN = 0.42
_NEAR = 0.045


def scatter_plot(section: Section, *, name: str) -> Drawing:
    """Learning time × accuracy, a column of three marks a model, its number in the table above it."""

    def build() -> Any:
        figure = new_figure(4.0)
        axes = figure.subplots()
        times = [model.learning_time.mean for model in section.models]
        unit, label = (60, "minutes") if max(times) >= 120 else (1, "seconds")
        for model, time in zip(section.models, times, strict=True):
            accuracies = [_accuracy(model, split) for split in SPLITS]
            axes.plot([time / unit] * 3, accuracies, color=INK, alpha=0.25, linewidth=0.8, zorder=1)
        for split in SPLITS:
            leaking = any(_leaks(model, split) for model in section.models)
            axes.errorbar(
                [time / unit for time in times],
                [_accuracy(model, split) for model in section.models],
                yerr=_bars([_interval(model, split) for model in section.models]) if split == "test" else None,
                fmt=_MARKERS[split],
                color=COLOURS[split],
                markersize=6.5,
                linewidth=1.2,
                capsize=2,
                zorder=3 if split == "test" else 2,
                label=f"{split}{' (LEAKS)' if leaking else ''}",
            )
        _number_columns(axes, [(model.number, time / unit) for model, time in zip(section.models, times, strict=True)])
        axes.set_xlabel(f"learning time, {label}")
        axes.set_ylabel("accuracy, %")
        axes.margins(x=0.08, y=0.08)
        axes.ticklabel_format(useOffset=False)
        figure.legend(loc="outside lower center", ncols=3)
        return figure

    return draw(
        name,
        build,
        title=f"Learning time and accuracy, {section.title}",
        note=f"Numbers are those of the table. Training: mean over the last epoch, dropout and augmentation on. Bars: 95 % interval over "
        f"{section.models[0].test.interval_unit}s.",
    )


def side_by_side_plot(pairs: Sequence[SideBySide], *, name: str) -> Drawing:
    """A row a recipe: test accuracy under the random protocol, under another, and as published."""

    def build() -> Any:
        figure = new_figure(1.25 + _ROW_IN * len(pairs))
        axes = figure.subplots()
        rows = list(range(len(pairs)))
        protocols = dict.fromkeys(pair.protocol for pair in pairs)
        for row, pair in zip(rows, pairs, strict=True):
            axes.plot([100 * pair.random.mean.value, 100 * pair.other.mean.value], [row, row], color=INK, alpha=0.3, linewidth=2, zorder=1)
        kinds = [("random", [pair.random for pair in pairs], rows, any(pair.random_leak for pair in pairs), SERIES[4])]
        for number, protocol in enumerate(protocols):
            own = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if pair.protocol == protocol]
            leaking = any(pair.other_leak for _, pair in own)
            kinds.append((protocol, [pair.other for _, pair in own], [row for row, _ in own], leaking, SERIES[2 * number]))
        for (label, figures, places, leaking, colour), marker in zip(kinds, "sodv", strict=False):
            axes.errorbar(
                [100 * value.mean.value for value in figures],
                places,
                xerr=_bars(figures),
                fmt=marker,
                color=colour,
                markersize=7,
                linewidth=1.2,
                capsize=2.5,
                label=f"{label}{' (LEAKS)' if leaking else ''}",
            )
        printed = [(100 * pair.published, row) for row, pair in zip(rows, pairs, strict=True) if pair.published is not None]
        if printed:
            axes.plot(
                *zip(*printed, strict=True), "D", markerfacecolor="none", markeredgecolor=INK, markersize=7, linestyle="none", label="published"
            )
        axes.set_yticks(rows, [pair.title for pair in pairs])
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlabel("test accuracy, %")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2, handletextpad=0.3)
        return figure

    return draw(
        name,
        build,
        title=f"Test accuracy under the random protocol and under {' or '.join(dict.fromkeys(pair.protocol for pair in pairs))}",
        note="The same recipe, twice. What lies between the two marks is what the random protocol is worth.",
    )


def answers_plot(section: Section, *, name: str) -> Drawing:
    """The paired differences that answer a study's questions, with intervals, p-values and each seed's difference."""
    rows: list[Answer | Comparison] = []
    for answer in section.answers:
        rows += [answer, *answer.comparisons] if answer.comparisons else []
    leaks = any(model.test.leak for model in section.models)

    def build() -> Any:
        figure = new_figure(0.85 + _ROW_IN * len(rows))
        axes = figure.subplots()
        beside = axes.get_yaxis_transform()
        for place, row in enumerate(rows):
            if isinstance(row, Answer):
                axes.text(0.0, place + 0.15, row.text, transform=beside, fontweight="bold", va="center")
                continue
            colour = SERIES[0] if row.adjusted_p < LEVEL else SERIES[7]
            low, high = (row.test.difference if bound is None else bound for bound in (row.test.low, row.test.high))
            axes.plot([0, 0], [place - 0.5, place + 0.5], color=INK, linewidth=1)
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot([100 * value for value in row.by_seed], [place] * len(row.by_seed), "|", color=INK, markersize=10, alpha=0.6)
            axes.plot(100 * row.test.difference, place, "o", color=colour, markersize=8)
            axes.text(1.02, place, f"p {p_value(row.adjusted_p)}", transform=beside, va="center", fontsize=10)
        named = [(place, row.first) for place, row in enumerate(rows) if isinstance(row, Comparison)]
        axes.set_yticks([place for place, _ in named], [first for _, first in named])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(f"difference of test balanced accuracy, points{' (LEAKS)' if leaks else ''}")
        return figure

    references = " and ".join(dict.fromkeys(row.second for row in rows if isinstance(row, Comparison)))
    return draw(
        name,
        build,
        title=f"What the questions come to, {section.title}",
        note=f"Difference to {references}: the mark is the mean over seeds, the bar its 95 % interval over "
        f"{section.models[0].test.interval_unit}s, a stroke each seed. p after Holm's correction; blue: below {LEVEL}.",
    )


def _number_columns(axes: Any, columns: Sequence[tuple[int, float]]) -> None:
    """Write each model's number above its marks; near ones share a label, whose numbers stand on top of one another."""
    places = sorted(columns, key=lambda column: column[1])
    span = (places[-1][1] - places[0][1]) or 1.0
    together: list[list[tuple[int, float]]] = []
    for column in places:
        if together and column[1] - together[-1][-1][1] < _NEAR * span:
            together[-1].append(column)
        else:
            together.append([column])
    for near in together:
        middle = sum(place for _, place in near) / len(near)
        text = "\n".join(str(number) for number, _ in near)
        axes.annotate(text, (middle, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=10)


def _accuracy(model: ModelFigures, split: Split) -> float:
    return 100 * (model.train_accuracy.mean if split == "train" else _interval(model, split).mean.value)


def _interval(model: ModelFigures, split: Split) -> Figure:
    return model.test.accuracy if split == "test" else model.validation.accuracy


def _leaks(model: ModelFigures, split: Split) -> bool:
    return bool({"train": "", "validation": model.validation.leak, "test": model.test.leak}[split])


def _bars(figures: Sequence[Figure]) -> list[list[float]]:
    """How far intervals reach below and above, in per cent; 0 where there is none."""
    reaches = [reach(each.mean) for each in figures]
    return [[100 * below for below, _ in reaches], [100 * above for _, above in reaches]]
