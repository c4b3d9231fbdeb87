"""When a time counts: three windows that agree. Knows no engine; whoever calls makes sure that the work has ended when its function returns."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["AGREE", "Latency", "Rate", "latency", "rate"]

AGREE = 0.03
"""Largest difference of three windows in a row, as a share of their median, with which a figure counts."""
_MOST_WINDOWS = 12
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Rate:
    """per_second: median of the last three windows; windows: all of them; agree: whether the last three did."""

    per_second: float
    windows: tuple[float, ...]
    agree: bool

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Latency:
    """Milliseconds by percentile (nearest rank) over `calls` calls, and the same of each third of them: whether p50 agrees."""

    ms: dict[str, float]
    calls: int
    agree: bool

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def rate(run: Callable[[int], None], *, items: int, window_s: float = 0.5, agree: float = AGREE, most: int = _MOST_WINDOWS) -> Rate:
    """Items a second of `run(n)`, which does n calls of `items` items each and returns when they have ended; at most `most` windows."""
    run(1)
    started = time.perf_counter()
    run(1)
    calls = max(1, round(window_s / max(time.perf_counter() - started, 1e-7)))
    windows: list[float] = []
    while len(windows) < most:
        started = time.perf_counter()
        run(calls)
        seconds = time.perf_counter() - started
        windows.append(calls * items / seconds)
        if seconds < window_s / 2:  # the first call alone was slower than the others
            calls = round(calls * window_s / seconds)
            continue
        if len(windows) >= 3 and _agree(windows[-3:], agree):
            break
    return Rate(float(np.median(windows[-3:])), tuple(windows), _agree(windows[-3:], agree))


def latency(call: Callable[[], None], *, calls: int, warm_up: int = 50, agree: float = 0.05) -> Latency:
    """Times of single calls, each of which returns when its work has ended."""
    for _ in range(warm_up):
        call()
    samples = np.empty(calls)
    for number in range(calls):
        started = time.perf_counter()
        call()
        samples[number] = time.perf_counter() - started
    medians = [float(np.median(part)) for part in np.array_split(samples, 3)]
    found = {str(percent): 1000 * float(np.percentile(samples, percent, method="inverted_cdf")) for percent in PERCENTILES}
    return Latency(found, calls, _agree(medians, agree))


def _agree(windows: list[float], share: float) -> bool:
    return len(windows) >= 3 and (max(windows) - min(windows)) <= share * float(np.median(windows))
