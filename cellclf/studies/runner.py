"""Running a study: each run in a process of its own, so that one that dies takes only itself along; what is done is not done again."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO

from cellclf.data.cache import OnProgress
from cellclf.data.prepare import prepare
from cellclf.environment import usable_cores
from cellclf.studies.plan import Failure, PlannedRun, StudyFolder

__all__ = ["StudyWatcher", "run_study"]

_POLL_S = 0.1
_STOP_S = 20.0


class StudyWatcher:
    """Told what happens while a study runs; this one does nothing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Images are read or decoded."""

    def run_started(self, planned: PlannedRun, *, resumed: bool) -> None:
        """A run's process was started."""

    def run_ended(self, planned: PlannedRun, *, seconds: float, left: int, seconds_left: float) -> None:
        """A run's process ended, well or not; `left` runs are still to come."""


@dataclass
class _Child:
    planned: PlannedRun
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]
    started: float = field(default_factory=time.monotonic)


def run_study(study: StudyFolder, *, jobs: int = 1, watcher: StudyWatcher | None = None) -> tuple[PlannedRun, ...]:
    """Run what is not done yet, `jobs` processes at a time, and return the runs that failed.

    Data that cannot be used raise DataError before anything is trained. On KeyboardInterrupt the processes are stopped; run folders stay resumable.
    """
    told = watcher or StudyWatcher()
    waiting = [planned for planned in study.planned() if planned.state != "done"]
    _decode(waiting, told.stage)
    total, ended, began = len(waiting), 0, time.monotonic()
    children: list[_Child] = []
    try:
        while waiting or children:
            while waiting and len(children) < jobs:
                planned = waiting.pop(0)
                told.run_started(planned, resumed=planned.run.folder.exists())
                children.append(_start(planned, jobs=jobs))
            for child in [child for child in children if child.process.poll() is not None]:
                children.remove(child)
                _close(child)
                ended += 1
                pace = (time.monotonic() - began) / ended
                told.run_ended(child.planned, seconds=time.monotonic() - child.started, left=total - ended, seconds_left=pace * (total - ended))
            time.sleep(_POLL_S)
    finally:
        _stop(children)
    return tuple(planned for planned in study.planned() if planned.state == "failed")


def _decode(waiting: list[PlannedRun], on_progress: OnProgress) -> None:
    """Decode what the runs need before they start side by side; finds data that cannot be used."""
    needed = {(planned.recipe.data.model_dump_json(), planned.recipe.image_size_px): planned.recipe for planned in waiting}
    for recipe in needed.values():
        prepare(recipe.data, image_size_px=recipe.image_size_px, on_progress=on_progress)


def _start(planned: PlannedRun, *, jobs: int) -> _Child:
    planned.log.parent.mkdir(parents=True, exist_ok=True)
    planned.failure_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "cellclf", "train"]
    if planned.run.folder.exists():
        command += ["--resume", str(planned.run.folder)]
    else:
        command += ["--recipe", "-", "--runs", str(planned.study), "--name", planned.name]
    threads = str(max(1, usable_cores() // jobs))
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads} if jobs > 1 else None
    log = planned.log.open("ab")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if process.stdin is None:
        raise AssertionError("a pipe was asked for")
    process.stdin.write(planned.recipe.model_dump_json().encode())
    process.stdin.close()
    return _Child(planned, process, log)


def _close(child: _Child) -> None:
    """Write down why a run failed; whatever its exit code, only a finished run folder counts as done."""
    child.log.close()
    planned, code = child.planned, child.process.returncode
    if planned.run.finished:
        return
    Failure(run=planned.name, reason=_reason(planned, code), exit_code=code, log=f"logs/{planned.log.name}").write(planned.failure_file)


def _reason(planned: PlannedRun, code: int) -> str:
    lines = [line for line in planned.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("cellclf: ") if lines else "it printed nothing"
    if code < 0:
        return f"killed by signal {-code}{' (out of memory?)' if code == -9 else ''}; its last line: {last}"
    return last


def _stop(children: list[_Child]) -> None:
    for child in children:
        child.process.terminate()
    for child in children:
        try:
            child.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.log.close()
