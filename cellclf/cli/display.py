"""A training on stderr: a line an epoch, and a moving bar on a terminal."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cellclf.cli.console import clock, err, note
from cellclf.training.progress import Progress as Watcher
from cellclf.training.run import Epoch

__all__ = ["TrainingDisplay"]


class TrainingDisplay(Watcher):
    """Shows a training on stderr: a line an epoch, and a moving bar where stderr is a terminal.

    Ctrl-C ends it also where it falls into code that swallows exceptions, as hooks of the garbage collector do: then at the next thing shown.
    """

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
        self._interrupted = False
        self._catches = False

    def __enter__(self) -> Self:
        self._bar.start()
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._catches = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._bar.stop()
        finally:
            if self._catches:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show a stage's progress."""
        self._end_if_interrupted()
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
        self._end_if_interrupted()
        self._new_task(f"epoch {epoch}/{epochs}", steps)
        self._epoch_started = time.monotonic()
        self._epochs_after = epochs - epoch
        self._steps = steps

    def batch_done(self, step: int, *, loss: float, accuracy: float, images_per_second: float) -> None:
        """Move the epoch's bar."""
        self._end_if_interrupted()
        passed = time.monotonic() - self._epoch_started
        left = passed / step * (self._steps - step) + self._epochs_after * max(passed / step * self._steps, self._seconds_left)
        self._update(step, f"loss {loss:.4f} accuracy {accuracy:.4f} {images_per_second:.0f} img/s, {clock(left)} left")

    def epoch_ended(self, row: Epoch, *, best: bool, seconds_left: float) -> None:
        """Print an epoch's line."""
        self._end_if_interrupted()
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

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's signature
        self._interrupted = True
        raise KeyboardInterrupt

    def _end_if_interrupted(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def _new_task(self, description: str, total: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, figures="")

    def _update(self, done: int, figures: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, figures=figures)
