"""Tasks in turn, each in a process of its own, and the page that is made of them."""

import sys
from typing import Any

import pytest

from benchmarks.compare import paired
from benchmarks.conftest import MODEL
from benchmarks.processes import InvalidBenchmarkError
from benchmarks.race import Race, Racer, against, joined, raced
from benchmarks.records import ReplayClock
from benchmarks.speed_page import merged, row
from benchmarks.steadiness import Plan
from cellclf.data.datasets import DATASETS, locate

BRIEF = Plan(window_s=0, max_rounds=3)


def python(code: str) -> Racer:
    return Racer("command", {"arguments": [sys.executable, "-c", code], "environment": {"CELLCLF_TOLD": "1"}})


@pytest.fixture(scope="module")
def files() -> list[str]:
    return [str(path) for path in sorted((locate(DATASETS["sample"]) / "TEST").rglob("*.jpeg"))[:12]]


@pytest.fixture(scope="module")
def race(files: list[str]) -> Race:
    racers = {
        "ours": Racer("pipeline", {"model": str(MODEL), "device": "cpu", "files": files, "batch": 4}),
        "naive": Racer("naive-loop", {"model": str(MODEL), "files": files}),
        "shares": Racer("shares", {"model": str(MODEL), "device": "cpu", "files": files * 20, "infer": True}),
        "decode": Racer("shares", {"model": str(MODEL), "device": "cpu", "files": files, "infer": False}),
        "network": Racer("inference", {"model": str(MODEL), "device": "cpu", "images": len(files)}),
        "stages": Racer("stages", {"model": str(MODEL), "files": files}),
    }
    return raced(racers, plan=BRIEF)


def test_everyone_gets_as_many_windows_and_says_what_came_of_them(race: Race, files: list[str]) -> None:
    assert {name: len(turns.by_round) for name, turns in race.turns.items()} == dict.fromkeys(race.turns, 3)
    assert race.facts["ours"]["labels"] == race.facts["naive"]["labels"]
    assert len(race.facts["naive"]["labels"]) == len(files)
    assert race.facts["ours"]["provider"] == "CPUExecutionProvider"
    assert all(value >= 0 for name, value in race.facts["stages"]["stages_ms"].items() if name != "resize")


def test_the_parts_of_a_folder_count_the_processor_time_of_their_processes(race: Race) -> None:
    for window in race.turns["shares"].by_round.values():
        assert window.cpu_s > 0.05, "240 images take more than that, the process that waits for them next to none"


def test_races_opened_anew_join_to_one_with_all_their_windows(race: Race) -> None:
    found = joined([race, race])
    assert {len(turns.by_round) for turns in found.turns.values()} == {6}
    every = found.ratios("naive").wall
    assert len(every) == 6 and every[:3] == every[3:]
    assert set(race.ratios("naive").wall) <= set(every)
    assert found.turns["ours"].counted == tuple(range(6)), "each opening weighs as much as another"
    assert found.turns["ours"].steady is race.turns["ours"].steady


def test_a_process_that_runs_a_command_gives_it_no_requests_to_read_and_the_variables_it_is_told() -> None:
    code = "import os, sys, time; assert sys.stdin.read() == '' and os.environ['CELLCLF_TOLD'] == '1'\nwhile time.process_time() < 0.3: pass"
    found = raced({"ours": python(code), "peer": python("pass")}, plan=BRIEF)
    assert len(found.ratios("peer").wall) == 3 and min(found.ratios("peer").wall) > 0
    assert all(window.cpu_s >= 0.3 for window in found.turns["ours"].by_round.values()), "children's time counts"


def test_a_racer_that_fails_is_an_invalid_benchmark() -> None:
    with pytest.raises(InvalidBenchmarkError, match="returned non-zero exit status 3"):
        raced({"ours": python("raise SystemExit(3)")}, plan=BRIEF)


def test_a_row_of_the_page_marks_what_never_was_steady_and_judges_by_the_rounds_that_count(race: Race) -> None:
    clock = ReplayClock()

    class Benchmark:
        def __init__(self) -> None:
            self.extra_info: dict[str, Any] = {"commit": "abc"}
            self.timed: list[float] = []

        def pedantic(self, target: Any, *, rounds: int, warmup_rounds: int) -> None:
            assert warmup_rounds == 0
            for _ in range(rounds):
                start = clock()
                target()
                self.timed.append(clock() - start)

    benchmark = Benchmark()
    against(benchmark, clock, race, peer="naive", target=1e-9)
    samples = [sample for window in race.turns["ours"].by_round.values() for sample in window.samples_s]
    assert benchmark.timed == pytest.approx(samples)
    benchmark.extra_info["steady"] = {"ours": False, "naive": True}
    line = row({"name": "test_x", "extra_info": benchmark.extra_info})
    assert line.startswith(f"| test_x | {race.seconds('ours'):.3f} * | {race.seconds('naive'):.3f} | ")
    assert "≥ 0.00: reached, not steady | 3 |" in line
    (key,) = paired({"benchmarks": [{"name": "test_x", "extra_info": benchmark.extra_info}, {"name": "test_y", "extra_info": {}}]})
    assert key[0] == "test_x", "what a race found can be compared across commits"


def test_a_row_of_before_windows_were_kept_is_marked_and_only_what_is_asked_for_stays() -> None:
    old = {"name": "test_frozen[1]", "stats": {"median": 2.0, "data": [1.0, 3.0]}, "extra_info": {"commit": "old"}}
    gone = {"name": "test_gone[1]", "stats": {"median": 2.0, "data": [1.0]}, "extra_info": {"commit": "old"}}
    new = {"name": "test_new", "extra_info": {}}
    found = merged(
        {"benchmarks": [new], "environment": {"git_commit": "now"}}, {"benchmarks": [old, gone], "environment": {"git_commit": "older"}}, "frozen"
    )
    assert [each["name"] for each in found["benchmarks"]] == ["test_frozen[1]", "test_new"]
    assert row(found["benchmarks"][0]) == "| test_frozen[1] † | 2.000 |  |  |  | 2 |  | old |"
