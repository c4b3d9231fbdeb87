from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellclf.report.drawing import draw, new_figure


def test_a_square_panels_title_is_inside_the_picture() -> None:
    made: list[tuple[Figure, Axes]] = []

    def build() -> Any:
        figure = new_figure(2.75)
        axes, other = figure.subplots(1, 2)
        other.set_visible(False)
        axes.pcolormesh(np.eye(2), shading="nearest")
        axes.set_aspect("equal")
        axes.set_title("1 a model")
        axes.set_xlabel("called")
        made.append((figure, axes))
        return figure

    draw("square", build, title="A square")
    ((figure, axes),) = made
    assert axes.title.get_window_extent().y1 <= 2.75 * figure.dpi
    assert axes.xaxis.label.get_window_extent().y0 >= 0
