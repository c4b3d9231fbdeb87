"""The tables of what was called: label by label, and at the usual threshold and the chosen one."""

from cellclf.card import Estimate
from cellclf.report.figures import Decided, ModelFigures, Section
from cellclf.report.tables import Cell, Table
from cellclf.report.words import estimate

__all__ = ["decision_note", "decision_table", "label_table"]

_NONE = "–"


def decision_note(section: Section) -> str:
    """How to read the table, or why there is none."""
    found = next((model.operating for model in section.models if model.operating), None)
    if found is None:
        return f"{section.no_threshold[:1].upper()}{section.no_threshold[1:]}." if section.no_threshold else ""
    return (
        f"Chosen: for each run the highest threshold on the probability of {found.positive} that finds {100 * found.min_sensitivity:g} % of them on "
        "validation; what that comes to on the test set, which had no part in it, may be less; usual: the most probable label. PPV and NPV are of "
        f"this test set, of which {100 * found.share_positive:.1f} % are {found.positive}; elsewhere they are others (cellclf evaluate --prevalence)."
    )


def decision_table(section: Section) -> Table:
    """Two rows a model: the most probable label, and the threshold chosen on validation."""
    rows = []
    for model in section.models:
        point = model.operating
        if point is None:
            continue
        rows.append((Cell(f"{model.number}  {model.title}"), Cell("usual", "most probable"), *_shares(point.usual, model)))
        if point.chosen is None:
            rows.append((Cell(f"{model.number}  {model.title}"), Cell("none", point.refused), *(Cell(_NONE),) * len(_shares(point.usual, model))))
            continue
        mean = sum(point.thresholds) / len(point.thresholds)
        several = f", {min(point.thresholds):.3f} to {max(point.thresholds):.3f} over seeds" if len(point.thresholds) > 1 else ""
        rows.append((Cell(f"{model.number}  {model.title}"), Cell("chosen", f"at {mean:.3f}{several}"), *_shares(point.chosen, model)))
    return Table(("Model", "Threshold", "Sensitivity, %", "Specificity, %", "Accuracy, %", "PPV, %", "NPV, %", "F1, %"), tuple(rows))


def label_table(section: Section) -> Table | None:
    """A row a model and label, where there are more than two labels: of two, the table of operating points tells the same; None without figures."""
    rows = [
        (
            Cell(f"{model.number}  {model.title}"),
            Cell(label),
            *(_cell(each, leaks=bool(model.test.leak)) for each in (found.sensitivity, found.specificity, found.ppv, found.npv, found.f1)),
        )
        for model in section.models
        for label, found in (model.by_label.items() if len(model.by_label) > 2 else ())
    ]
    return Table(("Model", "Label", "Sensitivity, %", "Specificity, %", "PPV, %", "NPV, %", "F1, %"), tuple(rows)) if rows else None


def _shares(found: Decided, model: ModelFigures) -> tuple[Cell, ...]:
    return tuple(
        _cell(each, leaks=bool(model.test.leak)) for each in (found.sensitivity, found.specificity, found.accuracy, found.ppv, found.npv, found.f1)
    )


def _cell(share: Estimate | None, *, leaks: bool) -> Cell:
    if share is None:
        return Cell(_NONE)
    value, _, detail = estimate(share).partition(" ")
    return Cell(value, detail, leaks)
