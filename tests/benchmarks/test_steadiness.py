"""When a figure counts, and in which order windows are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.steadiness import NEEDED, TOLERANCE, Plan, agreeing, in_turn, rotated, spread, together

PLAN = Plan(window_s=0.0, rounds=3, max_rounds=6)


def test_three_windows_within_the_tolerance_agree() -> None:
    assert agreeing([100, 104, 109]) == range(3)


def test_windows_that_lie_further_apart_than_the_tolerance_do_not_agree() -> None:
    assert agreeing([100, 104, 115]) is None


def test_two_windows_are_too_few() -> None:
    assert agreeing([100, 100]) is None


def test_the_last_windows_in_a_row_that_agree_are_taken() -> None:
    assert agreeing([50, 100, 101, 102, 200]) == range(1, 4)


def test_windows_that_agree_but_not_in_a_row_do_not_count() -> None:
    assert agreeing([100, 50, 100, 50, 100]) is None


@given(st.lists(st.floats(1, 1000), min_size=NEEDED, max_size=8))
def test_what_agrees_is_always_within_the_tolerance(rates: list[float]) -> None:
    found = agreeing(rates)
    assert found is None or spread([rates[at] for at in found]) <= TOLERANCE


def test_everyone_starts_a_turn_once() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_steady_contestants_get_three_windows_in_rotating_order() -> None:
    order: list[str] = []

    def take(name: str, _: int) -> float:
        order.append(name)
        return 100.0

    turns = in_turn(["a", "b"], take, float, plan=PLAN)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert turns["a"].steady and turns["a"].counted == (0, 1, 2)


def test_one_that_is_not_steady_goes_on_with_the_reference_beside_it() -> None:
    rates = {"noisy": iter([10, 20, 30, 31, 32, 33]), "calm": iter([5.0] * 6), "reference": iter([7.0] * 6)}
    turns = in_turn(list(rates), lambda name, _: float(next(rates[name])), float, plan=PLAN, reference="reference")
    assert turns["noisy"].steady and turns["noisy"].counted == (2, 3, 4)
    assert list(turns["reference"].by_round) == [0, 1, 2, 3, 4]
    assert list(turns["calm"].by_round) == [0, 1, 2]


def test_one_that_never_agrees_is_given_up_and_marked() -> None:
    turns = in_turn(["wild"], lambda _, number: float(2**number), float, plan=PLAN)
    assert not turns["wild"].steady
    assert turns["wild"].counted == tuple(range(PLAN.max_rounds))


def test_one_that_breaks_leaves_the_others_alone() -> None:
    turns = in_turn(["broken", "whole"], lambda name, number: None if name == "broken" and number == 1 else 3.0, float, plan=PLAN)
    assert list(turns) == ["whole"]
    assert turns["whole"].steady


@pytest.mark.parametrize("names", [[], ["one"]])
def test_few_names_are_no_trouble(names: list[str]) -> None:
    assert list(in_turn(names, lambda *_: 1.0, float, plan=PLAN)) == names


def test_together_stops_when_everyone_agrees_in_the_same_rounds() -> None:
    rates = {"a": [1.0, 2.0, 2.0, 2.0, 2.0, 2.0], "b": [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]}
    turns, rounds = together(list(rates), lambda name, number: rates[name][number], float, plan=Plan(max_rounds=6))
    assert rounds == (3, 4, 5)
    assert all(each.counted == rounds and each.steady for each in turns.values())
    turns, rounds = together(list(rates), lambda name, number: rates[name][number], float, plan=Plan(max_rounds=5))
    assert rounds == (0, 1, 2, 3, 4), "no three rounds in which both agreed"
    assert not any(each.steady for each in turns.values())
