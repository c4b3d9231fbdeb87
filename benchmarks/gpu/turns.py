"""Measuring in turns: processes get ready side by side (imports, compilers, references), then each has the GPU for itself.

A process that shares the GPU while it is timed measures its neighbour too; one after the other, they would wait for each other's compilers.
"""

import argparse
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.record import say

__all__ = ["Contender", "add_turn_option", "take_turns", "wait_for_turn"]

_POLL_S = 0.05


def add_turn_option(parser: argparse.ArgumentParser) -> None:
    """--turn STEM: say STEM.ready when ready, go on once STEM.go is there. Without it nothing waits."""
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)


def wait_for_turn(turn: Path | None) -> float:
    """Say that this process is ready and wait until it may use the GPU alone; the seconds waited."""
    if turn is None:
        return 0.0
    Path(f"{turn}.ready").touch()
    started = time.perf_counter()
    while not Path(f"{turn}.go").exists():
        time.sleep(_POLL_S)
    return time.perf_counter() - started


@dataclass
class Contender:
    """A process that takes a turn. limit_s: longest turn. failure: why it gave no whole result, '' where it ended well."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    limit_s: float
    failure: str = ""
    prepared_s: float | None = None
    turn_s: float = 0.0
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)


def take_turns(
    contenders: Sequence[Contender],
    folder: Path,
    *,
    until: float,
    hold_s: float = 0.0,
    on_end: Callable[[Contender], None] = lambda _: None,
) -> None:
    """Start all, let them have their turns in order of the list as they get ready, and end by time.monotonic() == until.

    hold_s: nobody's turn begins before all are ready or so many seconds have passed, so that no neighbour's compiler disturbs. Logs go to
    folder/NAME.log. on_end is called after each turn, and for a process that ends before its turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started, clock = time.monotonic(), time.time()
    for contender in contenders:
        _start(contender, folder)
    waiting = list(contenders)
    try:
        while waiting and time.monotonic() < until:
            for contender in waiting:
                if contender.prepared_s is None and (marker := folder / f"{contender.name}.ready").exists():
                    contender.prepared_s = marker.stat().st_mtime - clock
            held = time.monotonic() - started < hold_s and any(one.prepared_s is None and _running(one) for one in waiting)
            ready = [one for one in waiting if not _running(one) or (one.prepared_s is not None and not held)]
            if not ready:
                time.sleep(_POLL_S)
                continue
            waiting.remove(ready[0])
            _turn(ready[0], folder, until)
            on_end(ready[0])
    finally:
        for contender in waiting:
            _stop(contender)
            contender.failure = "the time was up before its turn" if contender.prepared_s is not None else "it was not ready when the time was up"
    for contender in waiting:
        on_end(contender)


def _start(contender: Contender, folder: Path) -> None:
    turn = folder / contender.name
    for suffix in (".ready", ".go"):
        (folder / f"{contender.name}{suffix}").unlink(missing_ok=True)
    with (folder / f"{contender.name}.log").open("ab") as log:
        contender.process = subprocess.Popen([*contender.command, "--turn", str(turn)], env=dict(contender.environment), stdout=log, stderr=log)


def _turn(contender: Contender, folder: Path, until: float) -> None:
    """One turn, from the go to the end of the process."""
    assert contender.process is not None
    began = time.monotonic()
    (folder / f"{contender.name}.go").touch()
    try:
        contender.process.wait(max(0.1, min(contender.limit_s, until - began)))
    except subprocess.TimeoutExpired:
        _stop(contender)
        contender.failure = f"its turn did not end within {time.monotonic() - began:.0f} s"
    contender.turn_s = time.monotonic() - began
    if contender.process.returncode and not contender.failure:
        contender.failure = f"exit code {contender.process.returncode}: {_end_of(folder / f'{contender.name}.log')}"
    prepared = "not ready" if contender.prepared_s is None else f"ready after {contender.prepared_s:.0f} s"
    say(f"{contender.name}: {prepared}, turn of {contender.turn_s:.0f} s {contender.failure}")


def _running(contender: Contender) -> bool:
    return contender.process is not None and contender.process.poll() is None


def _stop(contender: Contender) -> None:
    if contender.process is not None:
        contender.process.kill()
        contender.process.wait()


def _end_of(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-3:])[-600:]
