"""What the verbs share: results to stdout, progress and notes to stderr."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cellclf.evaluation.metrics import SplitMetrics
from cellclf.training.progress import Progress as Watcher
from cellclf.training.run import Epoch

__all__ = ["TrainingDisplay", "clock", "err", "interval", "metrics_lines", "note", "out", "plain_table", "print_json", "relative"]

_FILE_WIDTH = 1_000_000
"""Columns of what is not a terminal: nothing is cut or wrapped there."""

out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if sys.stderr.isatty() else _FILE_WIDTH)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines whose cells are folded, never cut, on a narrow terminal."""
    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def note(text: str) -> None:
    """A line on stderr that is no result."""
    err.print(text, style="dim")


def print_json(text: str) -> None:
    """A JSON text on stdout, as it is."""
    sys.stdout.write(text + "\n")


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or with one decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def interval(estimate: Any) -> str:
    """A metric with its 95 % interval, as text."""
    if estimate.low is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def relative(path: Path) -> str:
    """A path as short as it can be written from the current folder."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def metrics_lines(metrics: SplitMetrics) -> list[tuple[str, str]]:
    """Name and text of each figure of a split."""
    auc = [("AUC", f"{metrics.auc:.4f}")] if metrics.auc is not None else []
    return [
        ("accuracy", interval(metrics.accuracy)),
        ("balanced accuracy", interval(metrics.balanced_accuracy)),
        *auc,
        ("loss", f"{metrics.loss:.4f}"),
    ]


class TrainingDisplay(Watcher):
    """Shows a training on stderr: a line an epoch, and a moving bar where stderr is a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} {task.fields[figures]}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._epoch_started = 0.0
        self._seconds_left = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Show a stage's progress."""
        if name != self._stage:
            self._new_task(f"{name}", total)
            self._stage = name
        self._update(done, "")
        if done >= total and self._task is not None:
            self._bar.remove_task(self._task)
            self._task, self._stage = None, ""

    def note(self, text: str) -> None:
        """Print a note."""
        note(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch's bar."""
        self._new_task(f"epoch {epoch}/{epochs}", steps)
        self._epoch_started = time.monotonic()
        self._epochs_after = epochs - epoch
        self._steps = steps

    def batch_done(self, step: int, *, loss: float, accuracy: float, images_per_second: float) -> None:
        """Move the epoch's bar."""
        passed = time.monotonic() - self._epoch_started
        left = passed / step * (self._steps - step) + self._epochs_after * max(passed / step * self._steps, self._seconds_left)
        self._update(step, f"loss {loss:.4f} accuracy {accuracy:.4f} {images_per_second:.0f} img/s, {clock(left)} left")

    def epoch_ended(self, row: Epoch, *, best: bool, seconds_left: float) -> None:
        """Print an epoch's line."""
        self._seconds_left = seconds_left / self._epochs_after if self._epochs_after else 0.0
        err.print(
            f"epoch {row.epoch:3d}  train loss {row.train_loss:.4f} acc {row.train_accuracy:.4f}  "
            f"validation loss {row.validation_loss:.4f} acc {row.validation_accuracy:.4f}  "
            f"{row.images_per_second:.0f} img/s  {clock(row.seconds)}{'  best' if best else ''}"
            + (f"  at most {clock(seconds_left)} left" if seconds_left else "")
        )
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _new_task(self, description: str, total: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, figures="")

    def _update(self, done: int, figures: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, figures=figures)
