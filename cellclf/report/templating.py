"""The templates of a report and the filters that they use. Needs jinja2."""

import re
from pathlib import Path
from typing import Any

from cellclf.report import tables
from cellclf.report.decision_table import decision_note, decision_table, label_table
from cellclf.report.words import leaking

__all__ = ["environment_of_templates", "tidy"]

_TEMPLATES = Path(__file__).parent / "templates"
_MARKDOWN_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})


def environment_of_templates() -> Any:
    """Jinja2 with our templates, filters and style sheet; what is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_is"] = Markup  # our own plots and style sheet
    environment.filters["md"] = _markdown
    environment.filters["md_cell"] = _markdown_cell
    environment.filters["leaking"] = leaking
    environment.filters["decision_table"] = decision_table
    environment.filters["label_table"] = label_table
    environment.filters["decision_note"] = decision_note
    environment.globals["style"] = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment


def tidy(text: str) -> str:
    """Without spaces at the ends of lines and without more than one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)).strip() + "\n"


def _markdown(text: object) -> str:
    """Text that Markdown shows as it is."""
    return str(text).translate(_MARKDOWN_SPECIAL)


def _markdown_cell(cell: tables.Cell) -> str:
    text = f"`{cell.text.replace('`', chr(39)).replace('|', '/')}`" if cell.code and cell.text else _markdown(cell.text)
    plain = cell.detail.startswith(("[", "±"))
    detail = f" {_markdown(cell.detail if plain else f'({cell.detail})')}" if cell.detail else ""
    return f"{text}{detail}{' **LEAKS**' if cell.leaks else ''}"
