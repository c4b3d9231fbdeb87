import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cellclf.errors import MissingExtraError
from cellclf.evaluation.metrics import SplitMetrics, measure
from cellclf.evaluation.picture import confusion_figure


def figures(matrix: list[list[int]], labels: tuple[str, ...]) -> SplitMetrics:
    """Figures of a confusion matrix: one certain prediction an image."""
    cells = [(true, called) for true, row in enumerate(matrix) for called, count in enumerate(row) for _ in range(count)]
    truth, called = np.array(cells).T
    return measure(np.eye(len(labels))[called], truth, labels, groups=[str(number) for number in range(len(cells))], unit="file")


@pytest.fixture(scope="module")
def drawn() -> Figure:
    metrics = figures([[7, 3, 0], [1, 9, 0], [2, 3, 0]], ("NORMAL", "BACTERIA", "VIRUS"))
    figure = confusion_figure(metrics, title="mobilenet025 on chest-xray")
    assert isinstance(figure, Figure)
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_cell_tells_its_count_and_its_share_of_the_true_label(drawn: Figure) -> None:
    assert texts(drawn) == [
        *("7\n70.0%", "3\n30.0%", "0\n0.0%"),
        *("1\n10.0%", "9\n90.0%", "0\n0.0%"),
        *("2\n40.0%", "3\n60.0%", "0\n0.0%"),
    ]


def test_the_truth_is_at_the_left_and_the_prediction_below(drawn: Figure) -> None:
    axes = drawn.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    cell = next(text for text in axes.texts if text.get_text().startswith("9\n"))
    assert cell.get_position() == (1, 1)


def test_labels_stand_with_their_precision_and_recall_and_a_dash_where_there_is_none(drawn: Figure) -> None:
    axes = drawn.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["NORMAL\nprecision 70.0%", "BACTERIA\nprecision 60.0%", "VIRUS\nprecision –"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["NORMAL\nrecall 70.0%", "BACTERIA\nrecall 90.0%", "VIRUS\nrecall 0.0%"]


def test_the_title_tells_what_was_measured_and_on_how_many_images(drawn: Figure) -> None:
    assert drawn.axes[0].get_title() == "mobilenet025 on chest-xray\naccuracy 0.6400, balanced 0.5333, 25 images"


def test_the_picture_can_be_saved_without_a_display(drawn: Figure, tmp_path: Any) -> None:
    drawn.savefig(tmp_path / "confusion.png", dpi=50)
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_opens_no_window_and_leaves_no_figure_behind(drawn: Figure) -> None:
    assert drawn.axes
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_label_that_does_not_occur_is_drawn_as_zeros() -> None:
    assert texts(confusion_figure(figures([[3, 0], [0, 0]], ("A", "B")), title="one"))[2:] == ["0\n0.0%", "0\n0.0%"]


def test_without_matplotlib_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cellclf\[train\]'"):
        confusion_figure(figures([[1, 0], [0, 1]], ("A", "B")), title="none")
