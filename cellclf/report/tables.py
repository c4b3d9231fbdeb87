"""The tables of a report as text in cells; what they look like is the templates' business."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellclf.backbones import BACKBONES
from cellclf.evaluation.paired import Spread
from cellclf.report.figures import Comparison, Failed, ModelFigures, RankedSet, Report, Section, SideBySide, SplitFigures
from cellclf.report.words import area, clock, dense_units, figure, p_value, percent, plus_minus, points, rate

__all__ = [
    "Cell",
    "Table",
    "alike",
    "details_table",
    "differences_table",
    "failed_table",
    "mistakes_table",
    "network_title",
    "published_table",
    "runs_table",
    "side_by_side_table",
    "summary_table",
]

_NONE = "–"
_LOSS_DECIMALS = 3


@dataclass(frozen=True)
class Cell:
    """text; detail: beside it, smaller; leaks: whether LEAKS must stand there; code: whether it is a file's or field's name."""

    text: str
    detail: str = ""
    leaks: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A heading a column, cells by row; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def summary_table(section: Section, ranked: RankedSet) -> Table:
    """The studies' table, with intervals: Model | Hidden layers | Dense units | Learning rate | Accuracy | Learning time; and the ranks."""
    against = {comparison.first: comparison for comparison in ranked.against_first}
    ranks = dict(zip(ranked.models, ranked.ranks, strict=bool(ranked.ranks)))
    columns = ("Model", "Hidden layers", "Dense units", "Learning rate", "Accuracy, %", "Learning time", "Balanced accuracy, %")
    rows = []
    for model in _chosen(section, ranked):
        rank = ranks.get(model.number)
        ranking = () if rank is None else (Cell(str(rank)), _against(against.get(model.title), first=rank == 1))
        rows.append(
            (
                _model(model),
                Cell(str(len(model.hidden))),
                Cell(dense_units(model.hidden)),
                Cell(rate(model.learning_rate)),
                _share(figure(model.test.accuracy), model.test),
                Cell(clock(model.learning_time.mean), plus_minus(model.learning_time, decimals=0).strip() + (" s" if len(model.seeds) > 1 else "")),
                _share(figure(model.test.balanced_accuracy), model.test),
                *ranking,
            )
        )
    return Table((*columns, "Rank", "Against the first, points (p: Holm)") if ranks else columns, tuple(rows))


def details_table(section: Section, ranked: RankedSet) -> Table:
    """What the studies' table leaves out."""
    against = {comparison.first: comparison for comparison in ranked.against_first}
    areas = any(comparison.auc for comparison in against.values())
    newer = any(model.test.brier for model in _chosen(section, ranked))
    ranks = dict(zip(ranked.models, ranked.ranks, strict=bool(ranked.ranks)))
    rows = []
    for model in _chosen(section, ranked):
        stopped = f"{model.stopped_early} of {len(model.seeds)} stopped early" if model.stopped_early else ""
        rows.append(
            (
                _model(model),
                _share(area(model.test.auc), model.test),
                *((_areas_against(against.get(model.title), first=ranks.get(model.number) == 1),) if areas else ()),
                *((_spread(model.test.average_precision, model.test),) if newer else ()),
                _spread(model.test.loss, model.test),
                *((_spread(model.test.brier, model.test),) if newer else ()),
                _spread(model.test.ece, model.test),
                _share(figure(model.validation.accuracy), model.validation),
                Cell(percent(model.train_accuracy.mean), plus_minus(model.train_accuracy, scale=100).strip()),
                Cell(f"{model.epochs_run.mean:.3g}", stopped),
                Cell(f"{model.parameters:,}", f"{model.trainable:,} trainable"),
            )
        )
    gap = ("Against the first's (p: Holm)",) if areas else ()
    precision, brier = (("Average precision",), ("Brier",)) if newer else ((), ())
    after = ("ECE", "Validation accuracy, %", "Training accuracy, %", "Epochs", "Parameters")
    return Table(("Model", "AUC", *gap, *precision, "Log loss", *brier, *after), tuple(rows))


def differences_table(ranked: RankedSet) -> Table:
    """Every field that differs, with each value and which models have it."""
    found = ranked.differences or ranked.against_others
    rows = [(Cell(each.field, code=True), Cell(value), Cell(", ".join(models))) for each in found for value, models in each.values.items()]
    return Table(("Field", "Value", "Models"), tuple(rows))


def side_by_side_table(pairs: Sequence[SideBySide]) -> Table:
    """Test accuracies of a recipe under both protocols."""
    several = len({pair.data for pair in pairs}) > 1
    rows = []
    for pair in pairs:
        gap = pair.random.mean.value - pair.other.mean.value
        rows.append(
            (
                Cell(pair.title, pair.data if several else ""),
                _split_cell(figure(pair.random), leaks=bool(pair.random_leak)),
                _split_cell(figure(pair.other), leaks=bool(pair.other_leak)),
                Cell(points(gap)),
                Cell(percent(pair.published)),
            )
        )
    others = " or ".join(dict.fromkeys(pair.protocol for pair in pairs))
    published = any(pair.published is not None for pair in pairs)
    columns = ("Model", "Random, %", f"{others.capitalize()}, %", "Difference, points", "Published, %")
    return Table(columns, tuple(rows)) if published else Table(columns[:-1], tuple(row[:-1] for row in rows))


def published_table(section: Section) -> Table:
    """Two rows a model: the published figures, and ours under the published protocol."""
    columns = (
        "Model",
        "From",
        "Train loss",
        "Train acc., %",
        "Val. loss",
        "Val. acc., %",
        "Test loss",
        "Test acc., %",
        "Learning time",
        "Parameters",
    )
    rows = []
    for model in section.models:
        printed = model.published
        if printed is None:
            continue
        losses = (printed.train_loss, printed.validation_loss, printed.test_loss)
        shares = (printed.train_accuracy, printed.validation_accuracy, printed.test_accuracy)
        between = [cell for loss, share in zip(losses, shares, strict=True) for cell in (Cell(_loss(loss)), Cell(percent(share)))]
        count = _NONE if printed.parameters is None else f"{printed.parameters:,}"
        rows.append((Cell(model.title), Cell("published"), *between, Cell(printed.learning_time or _NONE), Cell(count)))
        rows.append(
            (
                Cell(model.title),
                Cell("here"),
                Cell(_loss(model.train_loss.mean)),
                Cell(percent(model.train_accuracy.mean), plus_minus(model.train_accuracy, scale=100).strip()),
                _leaky(_loss(model.validation.loss.mean), model.validation),
                _share(figure(model.validation.accuracy), model.validation),
                _leaky(_loss(model.test.loss.mean), model.test),
                _share(figure(model.test.accuracy), model.test),
                Cell(clock(model.learning_time.mean)),
                Cell(f"{model.parameters:,}"),
            )
        )
    return Table(columns, tuple(rows))


def mistakes_table(section: Section) -> Table:
    """The most confident mistakes in words."""
    rows = [
        (
            Cell(mistake.path, code=True),
            Cell(mistake.label),
            Cell(mistake.called),
            Cell(percent(mistake.probability)),
            Cell(f"{mistake.models_wrong} of {mistake.models}"),
        )
        for mistake in section.mistakes
    ]
    return Table(("Test image", "Label", "Called", "Sure, %", "Models that err"), tuple(rows))


def failed_table(failed: Sequence[Failed]) -> Table:
    """Runs without a result, and why; those of one state and reason in one row."""
    rows = [(Cell(", ".join(runs), code=True), Cell(state), Cell(reason or _NONE)) for (state, reason), runs in alike(failed).items()]
    return Table(("Runs", "State", "Reason"), tuple(rows))


def alike(failed: Sequence[Failed]) -> dict[tuple[str, str], list[str]]:
    """Names of runs by state and reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for run in failed:
        names.setdefault((run.state, run.reason), []).append(run.run)
    return names


def runs_table(report: Report) -> Table:
    """Which run folders each figure comes from."""
    rows = [
        (Cell(model.title, section.title), Cell(", ".join(model.runs), code=True), Cell(", ".join(str(seed) for seed in model.seeds)))
        for section in report.sections
        for model in section.models
    ]
    return Table(("Model", "Runs", "Seeds"), tuple(rows))


def _chosen(section: Section, ranked: RankedSet) -> list[ModelFigures]:
    by_number = {model.number: model for model in section.models}
    return [by_number[number] for number in ranked.models]


def _model(model: ModelFigures) -> Cell:
    return Cell(f"{model.number}  {model.title}", f"{network_title(model.backbone)}, {model.image_size_px} px")


def network_title(backbone: str) -> str:
    """A backbone's title; its name where the table has no such row."""
    return BACKBONES[backbone].title if backbone in BACKBONES else backbone


def _against(comparison: Comparison | None, *, first: bool) -> Cell:
    if comparison is None:
        return Cell("first" if first else "other images")
    test = comparison.test
    bounds = "" if test.low is None or test.high is None else f"[{points(test.low)}, {points(test.high)}], "
    return Cell(points(test.difference), f"{bounds}p {p_value(comparison.adjusted_p)}")


def _areas_against(comparison: Comparison | None, *, first: bool) -> Cell:
    if comparison is None or comparison.auc is None or comparison.auc_adjusted_p is None:
        return Cell("first" if first else _NONE)
    test = comparison.auc
    bounds = "" if test.low is None or test.high is None else f"[{_signed(test.low)}, {_signed(test.high)}], "
    return Cell(_signed(test.difference), f"{bounds}p {p_value(comparison.auc_adjusted_p)}")


def _signed(value: float) -> str:
    """With three decimals and a true minus."""
    return f"{value:+.3f}".replace("-", "−")


def _share(text: str, split: SplitFigures) -> Cell:
    """A figure; its interval and spread are the detail."""
    return _split_cell(text, leaks=bool(split.leak) and text != _NONE)


def _split_cell(text: str, *, leaks: bool) -> Cell:
    value, _, detail = text.partition(" ")
    return Cell(value, detail, leaks)


def _leaky(text: str, split: SplitFigures) -> Cell:
    return Cell(text, leaks=bool(split.leak))


def _spread(found: Spread | None, split: SplitFigures) -> Cell:
    """Mean over seeds; their spread is the detail."""
    if found is None:
        return Cell(_NONE)
    return Cell(_loss(found.mean), plus_minus(found, decimals=_LOSS_DECIMALS).strip(), leaks=bool(split.leak))


def _loss(value: float | None) -> str:
    return _NONE if value is None else f"{value:.{_LOSS_DECIMALS}f}"
