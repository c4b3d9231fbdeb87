"""Costs → a Markdown page of their own beside its pictures. Needs jinja2 and matplotlib."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellclf.report import cost_tables
from cellclf.report.cost_plots import cost_plot
from cellclf.report.costing import Costs
from cellclf.report.drawing import Drawing
from cellclf.report.templating import environment_of_templates, tidy
from cellclf.storage import new_file

__all__ = ["write_cost_page"]


@dataclass(frozen=True)
class _Plots:
    """As the template asks for them."""

    cost: tuple[Drawing, ...]


def write_cost_page(costs: Costs, path: Path, *, title: str, command: str, notes: Sequence[str] = (), commands: Sequence[str] = ()) -> None:
    """Write the page, and its pictures into the folder of its name without suffix; pictures of an earlier page there are removed.

    command: what writes the page; notes: paragraphs below the title; commands: what made the runs, files and measurements.
    """
    folder = path.with_suffix("")
    sections = dict.fromkeys(model.section for model in costs.models)
    drawings = tuple(drawing for section in sections if (drawing := cost_plot(costs, section, name=_name(section))) is not None)
    template = environment_of_templates().get_template("cost_page.md.j2")
    text = template.render(
        title=title,
        command=command,
        notes=notes,
        commands=commands,
        costs=costs,
        cost_tables=cost_tables,
        plots=_Plots(drawings),
        plots_folder=folder.name,
    )
    for stale in set(folder.glob("*.png")) - {folder / f"{drawing.name}.png" for drawing in drawings}:
        stale.unlink()
    for drawing in drawings:
        with new_file(folder / f"{drawing.name}.png") as temporary:
            temporary.write_bytes(drawing.png)
    with new_file(path) as temporary:
        temporary.write_text(tidy(text), encoding="utf-8")


def _name(section: str) -> str:
    """A file's name from a section's title."""
    return re.sub(r"\W+", "-", section).strip("-").lower()
