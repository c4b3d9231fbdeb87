"""The parent's side of a worker: start it on some cores, ask it, hold it still while others are measured, and end it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.engines import UnavailableError

__all__ = ["InvalidBenchmarkError", "Process", "cores_for", "require_provider"]

_ROOT = Path(__file__).resolve().parent.parent


class InvalidBenchmarkError(Exception):
    """What was measured is not what was asked for; there is no figure."""


def require_provider(asked: str, ran: str) -> None:
    """A run on another provider than the one that was asked for is no slow run, it is none; raises InvalidBenchmarkError."""
    if ran != asked:
        raise InvalidBenchmarkError(f"asked for {asked}, but {ran} ran: the benchmark is invalid")


def cores_for(threads: int) -> list[int]:
    """The last `threads` cores that this process may use: the first ones also serve the machine's interrupts."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return usable[-threads:]


class Process:
    """A worker process. Its answers come in the order of the requests; it is still (SIGSTOP) while it is not asked, once `hold` was called."""

    def __init__(self, *, cores: Sequence[int]) -> None:
        threads = str(len(cores))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._held = False
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", ",".join(map(str, cores))],
            cwd=_ROOT,
            env={
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow"),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def id(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer; raises UnavailableError, or InvalidBenchmarkError with the process's last words where it died."""
        if self._held:
            self._signal(signal.SIGCONT)
        try:
            return self._ask(do, arguments)
        finally:
            if self._held:
                self._signal(signal.SIGSTOP)

    def hold(self) -> None:
        """From now on, stand still while not asked."""
        self._held = True
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process at once."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                _close(stream)

    def _ask(self, do: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        message: dict[str, Any] = json.loads(line)
        if "unavailable" in message:
            raise UnavailableError(message["unavailable"])
        answer: dict[str, Any] = message["answer"]
        return answer

    def _death(self) -> InvalidBenchmarkError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return InvalidBenchmarkError(f"the worker ended with {code}: {lines[-1] if lines else 'it said nothing'}")

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, number)


def _close(stream: Any) -> None:
    """Close a pipe whose reader may be gone."""
    try:
        stream.close()
    except BrokenPipeError:
        return
