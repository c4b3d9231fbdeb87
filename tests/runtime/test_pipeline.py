import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf.runtime.pipeline import in_order

WAIT_S = 20


class Counted:
    """An endless source of 0, 1, 2 … that knows how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.taken += 1
            yield self.taken - 1


def double(number: int) -> int:
    return 2 * number


def fail_at_five(number: int) -> int:
    if number == 5:
        raise ValueError("five")
    return number


@settings(max_examples=40, deadline=None)
@given(items=st.lists(st.integers(), max_size=30), workers=st.integers(1, 6))
def test_in_order_is_map(items: list[int], workers: int) -> None:
    assert list(in_order(double, items, workers=workers)) == [double(item) for item in items]


def test_results_keep_the_order_of_the_inputs_although_later_work_ends_first() -> None:
    ended: list[int] = []

    def slow_if_early(number: int) -> int:
        time.sleep(0.02 * (4 - number % 4))
        ended.append(number)
        return number

    assert list(in_order(slow_if_early, range(12), workers=4)) == list(range(12))
    assert ended != sorted(ended), "the work was to end out of order"


def test_as_many_items_as_workers_are_worked_on_at_once() -> None:
    all_there = threading.Barrier(3, timeout=WAIT_S)

    def meet(number: int) -> int:
        all_there.wait()
        return number

    assert list(in_order(meet, range(6), workers=3)) == list(range(6))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_endless_source_is_never_read_more_than_workers_plus_two_ahead(workers: int) -> None:
    source = Counted()
    results = in_order(double, source, workers=workers)
    for done, result in enumerate(itertools.islice(results, 50)):
        assert result == 2 * done
        assert source.taken <= done + workers + 2
    results.close()  # type: ignore[attr-defined]  # in_order is a generator


def test_nothing_is_read_and_no_thread_is_started_before_the_first_result_is_asked_for() -> None:
    source, before = Counted(), threading.active_count()
    in_order(double, source, workers=2)
    assert source.taken == 0
    assert threading.active_count() == before


def test_an_exception_comes_at_its_items_place() -> None:
    results = in_order(fail_at_five, range(100), workers=3)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert list(results) == []


def test_an_exception_of_work_gives_up_what_was_not_started() -> None:
    started: list[int] = []

    def fail_first(number: int) -> int:
        started.append(number)
        if number == 0:
            raise ValueError("first")
        return number

    with pytest.raises(ValueError, match="first"):
        list(in_order(fail_first, itertools.count(), workers=2))
    assert len(started) <= 2 + 2


def test_an_exception_of_the_source_is_raised_and_stops_the_threads() -> None:
    before = threading.active_count()

    def broken_source() -> Iterator[int]:
        yield 1
        raise OSError("the list ended badly")

    with pytest.raises(OSError, match="ended badly"):
        list(in_order(double, broken_source(), workers=2))
    assert threading.active_count() == before


@pytest.mark.parametrize("taken", [1, 7])
def test_a_caller_that_stops_early_leaves_no_thread_and_reads_no_further(taken: int) -> None:
    source, before = Counted(), threading.active_count()
    results = in_order(double, source, workers=3)
    assert list(itertools.islice(results, taken)) == [2 * number for number in range(taken)]
    results.close()  # type: ignore[attr-defined]  # in_order is a generator
    assert threading.active_count() == before
    assert source.taken <= taken + 3 + 2


def test_no_thread_is_left_after_the_last_result() -> None:
    before = threading.active_count()
    assert len(list(in_order(double, range(20), workers=4))) == 20
    assert threading.active_count() == before
