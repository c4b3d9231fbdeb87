"""Work on many things at once, results in the order of the inputs, with a bounded number in flight. Imports nothing of ours."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """work(item) for each item on `workers` threads, yielded in input order; at most workers + 2 items are taken ahead.

    An exception of `work` is raised at its item's place; what was not started is given up then, and when the caller stops early.
    """
    pool = ThreadPoolExecutor(workers)
    flying: deque[Future[Result]] = deque()
    try:
        for item in items:
            flying.append(pool.submit(work, item))
            if len(flying) >= workers + 2:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
