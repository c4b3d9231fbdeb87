"""When a time counts."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from benchmarks.gpu import timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that only moves when told to."""
    now = [0.0]
    monkeypatch.setattr("benchmarks.gpu.timing.time.perf_counter", lambda: now[0])

    def pass_seconds(seconds: float) -> None:
        now[0] += seconds

    return pass_seconds


def test_a_steady_rate_counts_after_three_windows(clock: Callable[[float], None]) -> None:
    found = timing.rate(lambda calls: clock(0.01 * calls), items=4, window_s=0.5)
    assert found.agree
    assert len(found.windows) == 3
    assert found.per_second == pytest.approx(400)


def test_a_rate_that_never_settles_is_marked(clock: Callable[[float], None]) -> None:
    pace: Iterator[float] = itertools.cycle([0.01, 0.02])
    found = timing.rate(lambda calls: clock(next(pace) * calls), items=1, window_s=0.5)
    assert not found.agree
    assert len(found.windows) == 12


def test_a_first_call_that_compiles_does_not_shorten_the_windows(clock: Callable[[float], None]) -> None:
    pace = iter([9.0, 9.0])
    found = timing.rate(lambda calls: clock(next(pace, 0.001 * calls)), items=1, window_s=0.5)
    assert found.agree
    assert found.per_second == pytest.approx(1000)


def test_latency_gives_nearest_rank_percentiles(clock: Callable[[float], None]) -> None:
    times = iter([0.0, *([0.001] * 98), 0.002, 0.003])
    found = timing.latency(lambda: clock(next(times)), calls=100, warm_up=1)
    assert found.ms["50"] == pytest.approx(1)
    assert found.ms["99"] == pytest.approx(2)
    assert found.agree
