"""What a training shows on stderr: a line an epoch everywhere, and a bar with the time left on a terminal."""

import contextlib
import io
import signal
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from cellclf.cli import display
from cellclf.cli.display import TrainingDisplay
from cellclf.training.run import Epoch

ROW = Epoch(
    epoch=2,
    train_loss=0.5,
    train_accuracy=0.75,
    validation_loss=0.625,
    validation_accuracy=0.7,
    learning_rate=1e-3,
    seconds=4.0,
    images_per_second=120.4,
)


class Clock:
    """time.monotonic() that moves when told."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(display, "time", made)
    return made


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], io.StringIO]:
    """Console on a text, which is a terminal or is not."""

    def make(terminal: bool) -> io.StringIO:
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, force_interactive=terminal, width=150, color_system=None, _environ={"TERM": "xterm"})
        monkeypatch.setattr(display, "err", console)
        return stream

    return make


def test_an_epochs_line_tells_losses_accuracies_speed_and_the_time_left(shown: Callable[[bool], io.StringIO], clock: Clock) -> None:
    stream = shown(False)
    with TrainingDisplay() as watcher:
        watcher.epoch_started(2, 3, 4)
        clock.now += 4
        watcher.batch_done(4, loss=0.5, accuracy=0.75, images_per_second=120)
        watcher.epoch_ended(ROW, best=True, seconds_left=4.0)
        watcher.epoch_started(3, 3, 4)
        watcher.epoch_ended(ROW.model_copy(update={"epoch": 3}), best=False, seconds_left=0.0)
    assert stream.getvalue().splitlines() == [
        "epoch   2  train loss 0.5000 acc 0.7500  validation loss 0.6250 acc 0.7000  120 img/s  4.0 s  best  at most 4.0 s left",
        "epoch   3  train loss 0.5000 acc 0.7500  validation loss 0.6250 acc 0.7000  120 img/s  4.0 s",
    ]


def test_on_a_terminal_a_bar_tells_the_time_left_over_all_epochs(shown: Callable[[bool], io.StringIO], clock: Clock) -> None:
    stream = shown(True)
    with TrainingDisplay() as watcher:
        watcher.epoch_started(1, 2, 4)
        clock.now += 2
        watcher.batch_done(2, loss=1.25, accuracy=0.5, images_per_second=99.6)
        watcher._bar.refresh()
    text = stream.getvalue()
    assert "epoch 1/2" in text
    assert "2/4 loss 1.2500 accuracy 0.5000 100 img/s, 6.0 s left" in text, "two batches of this epoch and four of the next, one second each"


def test_a_stage_has_its_bar_until_it_is_done(shown: Callable[[bool], io.StringIO]) -> None:
    stream = shown(True)
    with TrainingDisplay() as watcher:
        watcher.stage("decoding", 3, 10)
        watcher._bar.refresh()
        assert [task.description for task in watcher._bar.tasks] == ["decoding"]
        watcher.stage("decoding", 10, 10)
        assert watcher._bar.tasks == []
    assert "3/10" in stream.getvalue()


@pytest.fixture
def usual_handler() -> Iterator[None]:
    """Python's own handler, also where these tests were started by a shell that ignores the signal."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("usual_handler")
def test_a_ctrl_c_that_a_hook_swallowed_ends_the_training_at_the_next_batch(shown: Callable[[bool], io.StringIO]) -> None:
    shown(False)
    with TrainingDisplay() as watcher:
        watcher.epoch_started(1, 2, 4)
        watcher.batch_done(1, loss=1.25, accuracy=0.5, images_per_second=99.6)
        with contextlib.suppress(KeyboardInterrupt):  # as a hook of the garbage collector does
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            watcher.batch_done(2, loss=1.25, accuracy=0.5, images_per_second=99.6)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_caller_stays(shown: Callable[[bool], io.StringIO]) -> None:
    shown(False)
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with TrainingDisplay():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)
