"""Running a study: each run in a process of its own, so that one that dies takes only itself along; what is done is not done again."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from cellclf.data.cache import OnProgress
from cellclf.data.prepare import prepare
from cellclf.environment import gpus, usable_cores
from cellclf.studies.plan import Failure, PlannedRun, StudyFolder
from cellclf.studies.worker import work

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
    process: BaseProcess
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
    context = _context()
    try:
        while waiting or children:
            while waiting and len(children) < jobs:
                planned = waiting.pop(0)
                told.run_started(planned, resumed=planned.run.folder.exists())
                children.append(_start(planned, context, jobs=jobs))
            for child in [child for child in children if child.process.exitcode is not None]:
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
    needed = {(planned.recipe.data.model_dump_json(), planned.recipe.view): planned.recipe for planned in waiting}
    for recipe in needed.values():
        prepare(recipe.data, view=recipe.view, on_progress=on_progress)


def _context() -> BaseContext:
    """How processes are made. Importing the framework takes longer than a short run, so where it is safe each run's process is forked from a server
    that has imported it and done nothing with it: not where a GPU's driver or another backend would come along.
    """
    forked = "forkserver" in multiprocessing.get_all_start_methods()
    if not forked or gpus() or os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return multiprocessing.get_context("spawn")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cellclf.studies.worker", "keras", "tensorflow"])
    return context


def _start(planned: PlannedRun, context: BaseContext, *, jobs: int) -> _Child:
    planned.log.parent.mkdir(parents=True, exist_ok=True)
    planned.failure_file.unlink(missing_ok=True)
    threads = max(1, usable_cores() // jobs)
    process = context.Process(  # type: ignore[attr-defined]  # every context has it
        target=work, args=(planned.recipe.model_dump_json(), planned.run.folder.absolute(), planned.log.absolute(), threads), name=planned.name
    )
    with _stderr_to(planned.study / "logs" / "server.log"):
        process.start()
    return _Child(planned, process)


@contextlib.contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """What a server process prints when it starts goes to a log, not among our own lines."""
    sys.stderr.flush()
    own = os.dup(2)
    try:
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


def _close(child: _Child) -> None:
    """Write down why a run failed; whatever its exit code, only a finished run folder counts as done."""
    planned, code = child.planned, child.process.exitcode or 0
    if planned.run.finished:
        return
    Failure(run=planned.name, reason=_reason(planned, code), exit_code=code, log=f"logs/{planned.log.name}").write(planned.failure_file)


def _reason(planned: PlannedRun, code: int) -> str:
    text = planned.log.read_text(encoding="utf-8", errors="replace") if planned.log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    if code < 0:
        return f"killed by signal {-code}{' (out of memory?)' if code == -9 else ''}; the last line of its log: {last}"
    return last


def _stop(children: list[_Child]) -> None:
    for child in children:
        child.process.terminate()
    for child in children:
        child.process.join(timeout=_STOP_S)
        if child.process.exitcode is None:
            child.process.kill()
            child.process.join()
