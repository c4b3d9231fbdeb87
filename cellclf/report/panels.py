"""Plots of one panel a model: loss and accuracy by epoch, confusion matrix, reliability, ROC. Many models are drawn on several sheets."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cellclf.report.averages import ROC_POINTS
from cellclf.report.drawing import COLOURS, INK, SERIES, Drawing, draw, new_figure
from cellclf.report.figures import ModelFigures, Section
from cellclf.report.words import joined, reach

__all__ = ["confusion_plots", "curve_plots", "doubt_plots", "reliability_plots", "roc_plots"]

_ON_A_SHEET = 8
_COLUMNS = 2
_INITIALS = 4
_DARK_CELL = 0.55
_LEAKS = " LEAKS"
_TITLE_LENGTH = 22

_Panel = Callable[[Any, ModelFigures], None]


def curve_plots(section: Section, *, name: str) -> tuple[Drawing, ...]:
    """Loss and accuracy by epoch, a row a model, a line a seed."""
    return tuple(
        draw(
            f"{name}{suffix}",
            lambda models=models: _curves(models),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            title=f"Loss and accuracy by epoch, {section.title}",
            note="Grey: training (mean over the epoch, dropout and augmentation on); orange: validation; a line each seed; the dot marks the epoch "
            "whose weights were kept.",
        )
        for suffix, models in _sheets(section.models)
    )


def confusion_plots(section: Section, *, name: str) -> tuple[Drawing, ...]:
    """Confusion matrices of the test set in shares of the true label."""
    note = "Per cent of the images of the true label (rows) that were called each label (columns), averaged over seeds."
    return _panels(section, name, _confusion, what="Confusion on the test set", note=note)


def reliability_plots(section: Section, *, name: str) -> tuple[Drawing, ...]:
    """How often the answers of each confidence are right, on the test set."""
    note = "On the diagonal, answers are as often right as they are sure; below it they are too sure. Areas of the dots: numbers of images."
    return _panels(section, name, _reliability, what="Reliability on the test set", note=note)


def roc_plots(section: Section, *, name: str) -> tuple[Drawing, ...]:
    """ROC curves of the test set; nothing where no label can be told from the rest."""
    if not any(model.roc for model in section.models):
        return ()
    several = any(len(model.roc) > 1 for model in section.models)
    note = f"{'Each label against the rest' if several else 'The positive label is named'}; averaged over seeds at equal fall-out."
    return _panels(section, name, _roc, what="ROC on the test set", note=note)


def doubt_plots(section: Section, *, name: str) -> tuple[Drawing, ...]:
    """Coverage against error of the test set, as the least certain answers are left to a person."""
    doubts = [doubt for model in section.models for doubt in model.doubts]
    if not doubts:
        return ()
    rules = joined([f"{rule} ({colour})" for rule, colour in zip(dict.fromkeys(doubt.rule for doubt in doubts), ("blue", "orange"), strict=False)])
    note = (
        f"Share of the answered images that is wrong when only the most certain are answered: {rules}; mean over seeds. The mark: the band chosen on "
        f"validation to answer {100 * doubts[0].min_coverage:g} % of the images there, on the test set, with 95 % intervals."
    )
    return _panels(section, name, _doubt, what="Answers left to a person: coverage and error", note=note)


def _panels(section: Section, name: str, panel: _Panel, *, what: str, note: str) -> tuple[Drawing, ...]:
    leaks = " (LEAKS)" if any(model.test.leak for model in section.models) else ""
    return tuple(
        draw(
            f"{name}{suffix}",
            lambda models=models: _grid(models, panel),  # type: ignore[misc]
            title=f"{what}{leaks}, {section.title}",
            note=note,
        )
        for suffix, models in _sheets(section.models)
    )


def _sheets(models: Sequence[ModelFigures]) -> Iterator[tuple[str, Sequence[ModelFigures]]]:
    """A suffix of the name, and the models of a sheet."""
    for number, start in enumerate(range(0, len(models), _ON_A_SHEET), start=1):
        yield "" if len(models) <= _ON_A_SHEET else f"-{number}", models[start : start + _ON_A_SHEET]


def _grid(models: Sequence[ModelFigures], panel: _Panel) -> Any:
    """Square panels, two a row."""
    rows = -(-len(models) // _COLUMNS)
    figure = new_figure(0.2 + 2.55 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, model in zip(grid.flat, models, strict=False):
        axes.set_title(_heading(model) + (_LEAKS if model.test.leak else ""))
        panel(axes, model)
    for axes in list(grid.flat)[len(models) :]:
        axes.set_visible(False)
    return figure


def _curves(models: Sequence[ModelFigures]) -> Any:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(0.3 + 1.75 * len(models))
    grid = figure.subplots(len(models), 2, squeeze=False)
    for pair, model in zip(grid, models, strict=True):
        pair[0].set_title(_heading(model))
        pair[1].set_title(f"validation{_LEAKS}" if model.validation.leak else "")
        for axes, quantity in zip(pair, ("loss", "accuracy"), strict=True):
            for curve in model.curves:
                epochs = range(1, len(curve.train_loss) + 1)
                axes.plot(epochs, getattr(curve, f"train_{quantity}"), color=COLOURS["train"], linewidth=1.3)
                values = getattr(curve, f"validation_{quantity}")
                axes.plot(epochs, values, color=COLOURS["validation"], linewidth=1.3)
                if 1 <= curve.kept_epoch <= len(values):
                    axes.plot(curve.kept_epoch, values[curve.kept_epoch - 1], "o", color=COLOURS["validation"], markersize=4.5)
            axes.set_ylabel(quantity)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    return figure


def _confusion(axes: Any, model: ModelFigures) -> None:
    counts = np.array(model.test.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, shading="nearest", edgecolors="face", linewidth=0.3)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color="#ffffff" if share > _DARK_CELL else "#101418", fontsize=10)
    short = [label if len(label) <= _INITIALS else f"{label[: _INITIALS - 1]}." for label in model.labels]
    axes.set_xticks(range(len(short)), short, fontsize=9)
    axes.set_yticks(range(len(short)), short, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("called", fontsize=9.5)
    axes.set_ylabel("true", fontsize=9.5)


def _reliability(axes: Any, model: ModelFigures) -> None:
    bins = model.reliability
    most = max(each.images for each in bins)
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1, linestyle=":")
    axes.plot([each.confidence for each in bins], [each.accuracy for each in bins], color=COLOURS["test"], linewidth=1, alpha=0.4)
    sizes = [4 + 110 * each.images / most for each in bins]
    axes.scatter([each.confidence for each in bins], [each.accuracy for each in bins], s=sizes, color=COLOURS["test"], zorder=3, clip_on=False)
    axes.text(0.03, 0.97, f"ECE {model.test.ece.mean:.3f}", transform=axes.transAxes, va="top", fontsize=10)
    _unit_square(axes, "confidence", "share right")


def _roc(axes: Any, model: ModelFigures) -> None:
    fall_outs = np.linspace(0, 1, ROC_POINTS)
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for line, colour in zip(model.roc, SERIES * len(model.roc), strict=False):
        axes.plot(fall_outs, line.sensitivity, color=colour, linewidth=1.5, label=line.label.lower())
    if model.test.auc is not None:
        axes.text(
            0.97, 0.03 + 0.1 * min(len(model.roc), 5), f"AUC {model.test.auc.mean.value:.3f}", transform=axes.transAxes, ha="right", fontsize=10
        )
    axes.legend(loc="lower right", fontsize=8.5, handlelength=1.0, labelspacing=0.2, borderaxespad=0.1)
    _unit_square(axes, "1 − specificity", "sensitivity")


def _doubt(axes: Any, model: ModelFigures) -> None:
    for doubt, colour in zip(model.doubts, SERIES, strict=False):
        axes.plot([100 * point.coverage for point in doubt.curve], [100 * point.error for point in doubt.curve], color=colour, linewidth=1.5)
        if doubt.error is not None:
            across, up = ([[100 * side] for side in reach(each)] for each in (doubt.coverage, doubt.error))
            mark = {"fmt": "o", "color": colour, "markersize": 4.5, "linewidth": 1.1, "capsize": 2}
            axes.errorbar([100 * doubt.coverage.value], [100 * doubt.error.value], xerr=across, yerr=up, **mark)
    axes.set_xlim(-2, 102)
    axes.set_ylim(bottom=0)
    axes.set_xticks([0, 50, 100], ["0", "50", "100"])
    axes.set_xlabel("answered, %", fontsize=9.5)
    axes.set_ylabel("wrong of these, %", fontsize=9.5)


def _unit_square(axes: Any, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_aspect("equal")
    axes.set_xlabel(across, fontsize=9.5)
    axes.set_ylabel(up, fontsize=9.5)


def _heading(model: ModelFigures) -> str:
    """Number and title, cut to a panel's width."""
    title = model.title if len(model.title) <= _TITLE_LENGTH else f"{model.title[: _TITLE_LENGTH - 1]}…"
    return f"{model.number}  {title}"
