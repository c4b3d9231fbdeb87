"""Calls that are made at once, so that each caller finds what an engine makes for it made. Imports nothing of ours."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["all_at_once"]


def all_at_once(call: Callable[[], object], *, callers: int) -> None:
    """`call` from so many threads at one moment; raises what one of them raises."""
    start = threading.Barrier(callers)

    def wait_and_call() -> None:
        start.wait()
        call()

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(wait_and_call) for _ in range(callers)]:
            done.result()
