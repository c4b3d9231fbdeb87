"""When a figure counts: windows taken in turn, in a rotating order, until three in a row agree. Arithmetic only; knows no engine."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["NEEDED", "TOLERANCE", "Plan", "Turns", "agreeing", "in_turn", "rotated", "spread", "together"]

NEEDED = 3
"""Windows in a row that must agree."""

TOLERANCE = 0.10
"""How far the quickest and the slowest of them may lie apart, as a share of their median."""

Name = TypeVar("Name")
Taken = TypeVar("Taken")


@dataclass(frozen=True)
class Plan:
    """window_s: least length of a window. rounds: windows that everyone gets; max_rounds: how many one that is not steady may get."""

    window_s: float = 1.0
    rounds: int = NEEDED
    max_rounds: int = 6


@dataclass(frozen=True)
class Turns(Generic[Taken]):
    """What one contestant's windows gave, by round; the rounds that count; whether they agreed (else all rounds count, and are marked)."""

    by_round: dict[int, Taken]
    counted: tuple[int, ...]
    steady: bool


def spread(rates: Sequence[float]) -> float:
    """(largest − smallest) / median; 0 for one value."""
    return (max(rates) - min(rates)) / statistics.median(rates)


def agreeing(rates: Sequence[float], *, needed: int = NEEDED, tolerance: float = TOLERANCE) -> range | None:
    """Positions of the last `needed` rates in a row that lie within the tolerance, None where there are none."""
    for end in range(len(rates), needed - 1, -1):
        if spread(rates[end - needed : end]) <= tolerance:
            return range(end - needed, end)
    return None


def rotated(names: Sequence[Name], turn: int) -> list[Name]:
    """The names, starting with another one each turn, so that none always follows the same neighbour's heat and cache."""
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


def in_turn(
    names: Sequence[Name], take: Callable[[Name, int], Taken | None], rate: Callable[[Taken], float], *, plan: Plan, reference: Name | None = None
) -> dict[Name, Turns[Taken]]:
    """Take a window of each name in turn, A B C B C A …; go on with those that are not steady, and with the reference, up to plan.max_rounds.

    take(name, round) measures one window, None = this one is out; rate(window) is the figure that must agree. The reference runs in every round,
    for it is what the others are compared with.
    """
    taken: dict[Name, dict[int, Taken]] = {name: {} for name in names}
    for number in range(plan.max_rounds):
        open_names = [name for name in taken if number < plan.rounds or _agreed(taken[name], rate) is None]
        if not open_names:
            break
        turn = [name for name in taken if name in open_names or name == reference]
        for name in rotated(turn, number):
            window = take(name, number)
            if window is None:
                del taken[name]
            else:
                taken[name][number] = window
    return {name: _turns(windows, rate) for name, windows in taken.items()}


def together(
    names: Sequence[Name], take: Callable[[Name, int], Taken], rate: Callable[[Taken], float], *, plan: Plan
) -> tuple[dict[Name, Turns[Taken]], tuple[int, ...]]:
    """A window of each name in every round, until those of everyone agree in the same rounds; for ratios, in which a slow spell must meet all.

    Gives the rounds in which all agreed, too: everyone's counted ones; where there are none, nobody was steady and all rounds count.
    """
    taken: dict[Name, dict[int, Taken]] = {name: {} for name in names}
    agreed: tuple[int, ...] = ()
    for number in range(plan.max_rounds):
        for name in rotated(names, number):
            taken[name][number] = take(name, number)
        last = tuple(range(max(0, number + 1 - NEEDED), number + 1))
        if number + 1 >= plan.rounds and all(agreeing([rate(windows[at]) for at in last]) for windows in taken.values()):
            agreed = last
            break
    rounds = agreed or tuple(range(plan.max_rounds))
    return {name: Turns(windows, rounds, bool(agreed)) for name, windows in taken.items()}, rounds


def _agreed(windows: dict[int, Taken], rate: Callable[[Taken], float]) -> range | None:
    return agreeing([rate(window) for window in windows.values()])


def _turns(windows: dict[int, Taken], rate: Callable[[Taken], float]) -> Turns[Taken]:
    rounds = tuple(windows)
    agreed = _agreed(windows, rate)
    return Turns(windows, rounds if agreed is None else tuple(rounds[at] for at in agreed), agreed is not None)
