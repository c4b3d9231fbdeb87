"""Tasks, each in a process of its own, measured in turn: while one works the others stand still; a figure counts when windows agree."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.contest import Window
from benchmarks.engines import UnavailableError
from benchmarks.machine import Machine, package_energy, watched
from benchmarks.processes import Process, cores_for
from benchmarks.records import WINDOWS_KEY, Ratios, ReplayClock, ratios, window_rows
from benchmarks.steadiness import NEEDED, TOLERANCE, Plan, Turns, spread, together
from cellclf.environment import usable_cores

__all__ = ["Race", "Racer", "against", "joined", "raced"]


@dataclass(frozen=True)
class Racer:
    """A row of TASKS and its arguments."""

    task: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Race:
    """What came of one: windows and facts of each racer, by name; ours is the first. rounds: those in which all agreed, or all where none did.

    many: whether more rounds were asked for than must agree, which then all give ratios.
    """

    turns: dict[str, Turns[Window]]
    facts: dict[str, dict[str, Any]]
    rounds: tuple[int, ...]
    many: bool

    @property
    def ours(self) -> str:
        """The name of ours."""
        return next(iter(self.turns))

    def seconds(self, name: str) -> float:
        """Median duration over the windows that count."""
        turns = self.turns[name]
        return statistics.median(sample for number in turns.counted for sample in turns.by_round[number].samples_s)

    def ratios(self, peer: str) -> Ratios:
        """How many times as long the peer took, round by round: in those in which all agreed, or in all where more were asked for than must agree."""
        own, theirs = self.turns[self.ours], self.turns[peer]
        if self.many:
            return ratios(own, theirs)
        counted = {number: window for number, window in own.by_round.items() if number in self.rounds}
        return ratios(Turns(counted, own.counted, own.steady), theirs)


def raced(racers: Mapping[str, Racer], *, plan: Plan) -> Race:
    """Open everyone, warm up, and take windows in turn, the order rotating, until all agree in the same rounds; ours is the first.

    Skips the test where one cannot be had here; raises InvalidBenchmarkError where one fails.
    """
    try:
        return _raced(racers, plan)
    except UnavailableError as error:
        pytest.skip(str(error))


def joined(races: Sequence[Race]) -> Race:
    """Several races of the same, each with processes of its own, as one: a process is quicker or slower than its like for as long as it lives.

    All rounds count, so that each opening weighs as much as another; steady where each was, and their medians agree. facts: the last one's.
    """
    turns: dict[str, Turns[Window]] = {}
    for name in races[0].turns:
        windows: dict[int, Window] = {}
        for race in races:
            start = len(windows)
            windows |= {start + number: window for number, window in race.turns[name].by_round.items()}
        steady = all(race.turns[name].steady for race in races) and spread([1 / race.seconds(name) for race in races]) <= TOLERANCE
        turns[name] = Turns(windows, tuple(windows), steady)
    return Race(turns, races[-1].facts, tuple(turns[races[0].ours].by_round), many=True)


def _raced(racers: Mapping[str, Racer], plan: Plan) -> Race:
    with contextlib.ExitStack() as opened:
        processes = {name: opened.enter_context(Process(cores=cores_for(usable_cores()))) for name in racers}
        for name, racer in racers.items():
            processes[name].ask("task_open", task=racer.task, arguments=dict(racer.arguments))
            processes[name].ask("task_warm_up")
            processes[name].hold()

        def window(name: str, _: int) -> Window:
            found: list[Machine] = []
            answer: dict[str, Any] = {"cpu_s": 0.0}
            with watched(package_energy(), found, lambda: float(answer["cpu_s"])):
                answer |= processes[name].ask("task_window", seconds=plan.window_s)
            return Window(tuple(answer["samples_s"]), answer["wall_s"], answer["cpu_s"], found[0])

        turns, rounds = together(list(racers), window, lambda each: 1 / each.call_s, plan=plan)
        return Race(turns, {name: process.ask("task_facts") for name, process in processes.items()}, rounds, plan.rounds > NEEDED)


def against(benchmark: Any, clock: ReplayClock, race: Race, *, peer: str | None = None, target: float | None = None) -> None:
    """Give pytest-benchmark our samples; keep everyone's windows, and the ratios peer / ours, in extra_info."""
    own = race.turns[race.ours]
    clock.replay(benchmark, [sample for window in own.by_round.values() for sample in window.samples_s])
    benchmark.extra_info |= {
        "ours_s": race.seconds(race.ours),
        "target": target,
        "steady": {name: turns.steady for name, turns in race.turns.items()},
        "counted_rounds": {name: list(turns.counted) for name, turns in race.turns.items()},
        "rule": {"windows": NEEDED, "tolerance": TOLERANCE},
        WINDOWS_KEY: {name: window_rows(turns) for name, turns in race.turns.items()},
    }
    if peer is not None:
        found = race.ratios(peer)
        benchmark.extra_info |= {
            "peer_median_s": race.seconds(peer),
            "peer_over_ours": statistics.median(found.wall),
            "peer_over_ours_lowest": min(found.wall),
            "peer_over_ours_highest": max(found.wall),
            "ratios": list(found.wall),
            "processor_ratios": list(found.processor),
        }
