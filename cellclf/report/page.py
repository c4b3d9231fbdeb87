"""A Report → its folder: report.md with plots, report.json, and one self-contained index.html. Needs jinja2 and matplotlib."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellclf.errors import MissingExtraError, StudyError
from cellclf.report import cost_tables, tables
from cellclf.report.cost_plots import cost_plot
from cellclf.report.costing import Costs, cost_everything
from cellclf.report.drawing import Drawing
from cellclf.report.figures import Report, Section
from cellclf.report.panels import confusion_plots, curve_plots, doubt_plots, reliability_plots, roc_plots
from cellclf.report.plots import answers_plot, scatter_plot, side_by_side_plot
from cellclf.report.prices import USUAL_ASSUMPTIONS, Assumptions
from cellclf.report.summary import in_short, methods
from cellclf.report.templating import environment_of_templates, tidy
from cellclf.storage import new_file
from cellclf.studies.measurements import Measurement

__all__ = ["COST_NAME", "HTML_NAME", "JSON_NAME", "MARKDOWN_NAME", "PLOTS_FOLDER", "require_libraries", "write_report"]

HTML_NAME, MARKDOWN_NAME, JSON_NAME, COST_NAME, PLOTS_FOLDER = "index.html", "report.md", "report.json", "cost.json", "plots"


@dataclass(frozen=True)
class _Plots:
    """Drawings by where they stand; by the section's place in the report where there is one each."""

    side_by_side: tuple[Drawing, ...]
    answers: tuple[tuple[Drawing, ...], ...]
    overview: tuple[tuple[Drawing, ...], ...]
    details: tuple[tuple[Drawing, ...], ...]
    cost: tuple[Drawing, ...]

    def all(self) -> tuple[Drawing, ...]:
        """Every one, each once."""
        return (
            *self.side_by_side,
            *self.cost,
            *(drawing for part in (self.answers, self.overview, self.details) for each in part for drawing in each),
        )


def write_report(
    report: Report,
    folder: Path,
    *,
    measurements: Sequence[Measurement] = (),
    assumed: Assumptions = USUAL_ASSUMPTIONS,
    thumbnails: Mapping[str, str] | None = None,
    html: bool = True,
) -> Path:
    """Write the report and return its page's path (report.md where html is False).

    measurements, assumed: what cost is made of; it is stored as cost.json.
    thumbnails: pictures of the mistakes as data: addresses, by content hash; only the HTML page holds them. Plots of an earlier report in that folder
    that this one does not have are removed. Raises StudyError where the folder is a file, MissingExtraError without jinja2 or matplotlib.
    """
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"--output {folder} is a file; name a folder")
    require_libraries()
    environment = environment_of_templates()
    costs = cost_everything(report.sections, measurements, assumed)
    plots = _draw(report, costs)
    content = _content(report, plots, costs)
    markdown = tidy(environment.get_template("report.md.j2").render(**content, plots_folder=PLOTS_FOLDER))
    page = environment.get_template("page.html.j2").render(**content, thumbnails=thumbnails or {}) if html else ""
    _write_plots(folder, plots.all())
    _write_text(folder / MARKDOWN_NAME, markdown)
    if html:
        _write_text(folder / HTML_NAME, page)
    report.write(folder / JSON_NAME)
    costs.write(folder / COST_NAME)
    return folder / (HTML_NAME if html else MARKDOWN_NAME)


def require_libraries() -> None:
    """Raise MissingExtraError where jinja2 or matplotlib is missing."""
    if importlib.util.find_spec("jinja2") is None or importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("writing a report", "train")


def _content(report: Report, plots: _Plots, costs: Costs) -> dict[str, Any]:
    """What the templates show; both show the same."""
    published = [section for section in report.sections if section.protocol == report.published_protocol]
    return {
        "report": report,
        "in_short": in_short(report),
        "methods": methods(report),
        "plots": plots,
        "tables": tables,
        "published": [section for section in published if any(model.published for model in section.models)],
        "costs": costs,
        "cost_tables": cost_tables,
        "leaks": _leaks(report.sections),
    }


def _leaks(sections: Sequence[Section]) -> list[tuple[str, tuple[str, ...]]]:
    return [(section.title, section.leaks) for section in sections if section.leaks]


def _draw(report: Report, costs: Costs) -> _Plots:
    names = _names(report.sections)
    pairs = report.side_by_side
    sections = list(zip(report.sections, names, strict=True))
    return _Plots(
        side_by_side=(side_by_side_plot(pairs, name="random-beside-others"),) if pairs else (),
        answers=tuple(
            (answers_plot(section, name=f"{name}-questions"),) if any(answer.comparisons for answer in section.answers) else ()
            for section, name in sections
        ),
        overview=tuple((scatter_plot(section, name=f"{name}-time-and-accuracy"),) for section, name in sections),
        details=tuple(
            (
                *curve_plots(section, name=f"{name}-curves"),
                *confusion_plots(section, name=f"{name}-confusion"),
                *reliability_plots(section, name=f"{name}-reliability"),
                *roc_plots(section, name=f"{name}-roc"),
                *doubt_plots(section, name=f"{name}-coverage-and-error"),
            )
            for section, name in sections
        ),
        cost=tuple(
            drawing for section, name in sections if (drawing := cost_plot(costs, section.title, name=f"{name}-accuracy-and-cost")) is not None
        ),
    )


def _names(sections: Sequence[Section]) -> list[str]:
    """A file name's beginning for each section."""
    plain = ["".join(character if character.isalnum() else "-" for character in f"{section.data}-{section.protocol}".lower()) for section in sections]
    several_data = len({section.data for section in sections}) > 1
    short = plain if several_data else ["".join(c if c.isalnum() else "-" for c in section.protocol.lower()) for section in sections]
    return [name if short.count(name) == 1 else f"{name}-{place}" for place, name in enumerate(short, start=1)]


def _write_plots(folder: Path, drawings: Sequence[Drawing]) -> None:
    plots = folder / PLOTS_FOLDER
    written = {f"{drawing.name}.png" for drawing in drawings}
    if (folder / JSON_NAME).exists():
        for stale in plots.glob("*.png"):
            if stale.name not in written:
                stale.unlink()
    for drawing in drawings:
        with new_file(plots / f"{drawing.name}.png") as temporary:
            temporary.write_bytes(drawing.png)


def _write_text(path: Path, text: str) -> None:
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
