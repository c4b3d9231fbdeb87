"""One look for every plot, and a matplotlib figure as inline SVG and as a small PNG. Needs matplotlib, no display."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cellclf.data.manifest import Split
from cellclf.errors import MissingExtraError

__all__ = ["COLOURS", "INK", "SERIES", "Drawing", "draw", "lay_out", "new_figure"]

INK = "#24292f"
"""Text and axes; in the page it becomes the page's own text colour, so that plots follow its light or dark theme."""
COLOURS: dict[Split, str] = {"train": "#8c959f", "validation": "#e08a00", "test": "#2f81c9"}
SERIES = ("#2f81c9", "#e08a00", "#1a9e77", "#cc5fa0", "#d1495b", "#5ab4e5", "#9a7b0a", "#8c959f")
"""Hues of Okabe & Ito 2008, which stay apart under colour blindness, at a brightness that shows on white and on black."""

_WIDTH_IN = 5.2
_DOTS_PER_INCH = 110
_PNG_COLOURS = 96
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own, so that the text is as wide on every machine
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "cellclf",
    "axes.unicode_minus": True,
}
_COORDINATES = re.compile(r'(?<= )(?:d|x|y|x1|x2|y1|y2|cx|cy|r|width|height|points|transform)="[^"]*"')
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True)
class Drawing:
    """One plot. name: its file's, without suffix; title: what it shows, also for those who cannot see it; note: how to read it."""

    name: str
    title: str
    note: str
    svg: str
    png: bytes


def new_figure(height_in: float, *, width_in: float = _WIDTH_IN) -> Any:
    """An empty matplotlib Figure that is readable at a phone's width; call inside `draw`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def draw(name: str, build: Callable[[], Any], *, title: str, note: str = "") -> Drawing:
    """Build a figure in the one look and write it both ways; raises MissingExtraError without matplotlib."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingExtraError("drawing a report", "train") from error
    with rc_context(_STYLE):  # type: ignore[arg-type]  # its keys are checked when it is entered
        figure = build()
        lay_out(figure)
        return Drawing(name, title, note, _svg(figure, name, title), _png(figure))


def lay_out(figure: Any) -> None:
    """Settle where everything is, once for both files. Axes of a fixed shape move in the first pass; their titles find room in the second."""
    for _ in range(2):
        figure.draw_without_rendering()
    figure.set_layout_engine(None)


def _svg(figure: Any, name: str, title: str) -> str:
    """Inline SVG: no prolog, identifiers that are unique in the page, coordinates (and no text) rounded to a hundredth of a point."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)\bwidth="([\d.]+)pt" height="([\d.]+)pt"', rf'<svg role="img" aria-label="{_attribute(title)}" \1', text, count=1)
    text = _COORDINATES.sub(lambda attribute: _NUMBER.sub(_hundredths, attribute[0]), text)
    text = _IDENTIFIER.sub(lambda match: f"{match[1]}{name}-", text)
    text = text.replace(INK, "currentColor")
    return re.sub(r">\s+<", "><", text).strip()


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _png(figure: Any) -> bytes:
    """A PNG of few colours: a third of the size, and no difference to be seen."""
    from PIL import Image

    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    written.seek(0)
    small = io.BytesIO()
    with Image.open(written) as image:
        image.convert("RGB").quantize(_PNG_COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
