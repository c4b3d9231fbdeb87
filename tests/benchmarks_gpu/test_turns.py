"""Processes that take turns, with real small processes."""

import os
import sys
import time
from pathlib import Path

from benchmarks.gpu.turns import Contender, take_turns, wait_for_turn

TURN = """
import sys, time
from pathlib import Path
from benchmarks.gpu.turns import wait_for_turn
time.sleep(float(sys.argv[1]))
wait_for_turn(Path(sys.argv[sys.argv.index("--turn") + 1]))
with open(sys.argv[2], "a") as stream:
    stream.write(f"{sys.argv[3]} begins\\n"); stream.flush()
    time.sleep(float(sys.argv[4]))
    stream.write(f"{sys.argv[3]} ends\\n")
"""
ROOT = Path(__file__).resolve().parents[2]


def contender(name: str, log: Path, *, prepares_s: float = 0.0, turn_s: float = 0.1, limit_s: float = 20, code: str = TURN) -> Contender:
    command = [sys.executable, "-c", code, str(prepares_s), str(log), name, str(turn_s)]
    return Contender(name, command, {**os.environ, "PYTHONPATH": str(ROOT)}, limit_s)


def test_turns_never_overlap_and_follow_the_list_once_all_are_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended: list[str] = []
    contenders = [contender("slow", log, prepares_s=0.6), contender("quick", log), contender("third", log)]
    take_turns(contenders, tmp_path / "turns", until=time.monotonic() + 60, hold_s=60, on_end=lambda one: ended.append(one.name))
    assert log.read_text().split("\n")[:-1] == [f"{name} {what}" for name in ("slow", "quick", "third") for what in ("begins", "ends")]
    assert ended == ["slow", "quick", "third"]
    assert not any(one.failure for one in contenders)
    assert all(one.prepared_s is not None and one.turn_s >= 0.1 for one in contenders)


def test_without_a_hold_who_is_ready_first_goes_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    take_turns([contender("slow", log, prepares_s=4), contender("quick", log)], tmp_path / "turns", until=time.monotonic() + 60)
    assert log.read_text().startswith("quick begins\nquick ends\nslow begins")


def test_a_turn_that_is_too_long_is_ended_and_the_next_one_has_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    long, after = contender("long", log, turn_s=60, limit_s=1), contender("after", log)
    take_turns([long, after], tmp_path / "turns", until=time.monotonic() + 60, hold_s=60)
    assert "did not end within 1 s" in long.failure
    assert not after.failure
    assert log.read_text() == "long begins\nafter begins\nafter ends\n"


def test_who_fails_or_comes_too_late_is_named_with_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    broken = contender("broken", log, code="raise SystemExit('no such card')")
    late = contender("late", log, prepares_s=60)
    seen: list[str] = []
    take_turns([broken, late], tmp_path / "turns", until=time.monotonic() + 3, on_end=lambda one: seen.append(one.name))
    assert broken.failure == "exit code 1: no such card"
    assert late.failure == "it was not ready when the time was up"
    assert seen == ["broken", "late"]
    assert late.process is not None
    assert late.process.poll() is not None


def test_without_a_turn_nothing_waits() -> None:
    assert wait_for_turn(None) == 0.0
