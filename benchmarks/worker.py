"""One engine in a process of its own: requests come in as lines of JSON on standard input, answers go out as lines of JSON.

Started by benchmarks.processes as `python -m benchmarks.worker CORES`. Whatever a library prints goes to standard error.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Worker", "serve"]

_DIE_WITH_PARENT = 1  # prctl(2): PR_SET_PDEATHSIG
_LONG_CALL_S = 0.25
"""Calls that last longer need no fresh warm-up before each window: what a pause cools down is warm again after milliseconds."""

_FIRST_WARM_UP_S = 0.5


class Worker:
    """What a process knows between requests; each method is a request and gives its answer as plain data."""

    def __init__(self) -> None:
        self.opened: Any = None
        self.runners: list[Any] = []
        self.images: Any = None
        self.last_call_s = 0.0
        self.training: Any = None
        self.task: Any = None

    def open(self, *, engine: str, file: str, precision: str, provider: str, threads: int, sessions: int) -> dict[str, Any]:
        """Open an engine: seconds for its packages and for the session, and what really runs."""
        from benchmarks.engines import ENGINES, Asked

        row = ENGINES.find(engine)
        started = time.perf_counter()
        row.load_packages()
        imported = time.perf_counter()
        self.opened = row.open(Asked(Path(file), precision, provider, threads, sessions))
        opened = time.perf_counter()
        return {
            "provider": self.opened.provider,
            "same_weights": self.opened.same_weights,
            "import_s": imported - started,
            "load_s": opened - imported,
            "versions": {name: _version(name) for name in row.packages},
        }

    def prepare(self, *, batch: int, image_size_px: int) -> dict[str, Any]:
        """Make ready for a batch size: seconds to prepare, and of the first call."""
        import numpy as np

        started = time.perf_counter()
        self.runners = []  # what an engine compiled for another batch size is given back
        self.runners = self.opened.runners(batch)
        prepared = time.perf_counter()
        self.images = np.random.default_rng(0).integers(0, 256, size=(batch, image_size_px, image_size_px, 3), dtype=np.uint8)
        self._call(self.runners[0])
        return {"prepare_s": prepared - started, "first_call_s": self.last_call_s}

    def warm_up(self) -> dict[str, Any]:
        """Untimed calls, at least two, for half a second; gives what the last one answered."""
        end = time.perf_counter() + _FIRST_WARM_UP_S
        self._all_at_once()
        values = self._call(self.runners[0])
        while time.perf_counter() < end:
            values = self._call(self.runners[0])
        return {"probabilities": values.tolist()}

    def window(self, *, seconds: float) -> dict[str, Any]:
        """Calls for so many seconds, at least one a session: their durations, the wall time and this process's processor time."""
        if self.last_call_s < _LONG_CALL_S:
            self._all_at_once()
        wall, cpu = time.perf_counter(), time.process_time()
        if len(self.runners) == 1:
            samples = self._loop(self.runners[0], wall + seconds)
        else:
            with ThreadPoolExecutor(len(self.runners)) as pool:
                parts = pool.map(lambda runner: self._loop(runner, wall + seconds), self.runners)
                samples = [sample for part in parts for sample in part]
        return {"samples_s": samples, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    def predict(self, *, images: str, into: str) -> dict[str, Any]:
        """Answer a whole .npy file of images, batch by batch, the last one filled up; the probabilities become another .npy file."""
        import numpy as np

        pixels, size = np.load(images, mmap_mode="r"), len(self.images)
        parts = []
        for start in range(0, len(pixels), size):
            chosen = np.ascontiguousarray(pixels[start : start + size])
            whole = np.resize(chosen, (size, *pixels.shape[1:]))
            parts.append(np.array(self.runners[0](whole)[: len(chosen)]))
        np.save(into, np.concatenate(parts))
        return {"images": len(pixels)}

    def train_open(self, **choices: Any) -> dict[str, Any]:
        """Build and compile a network for training; see benchmarks.fitting."""
        from benchmarks.fitting import Fitting

        self.training = Fitting(**choices)
        return dict(self.training.first_epoch())

    def train_window(self, *, batch: int, steps: int, resident: bool) -> dict[str, Any]:
        """Training steps: their durations, the wall time and this process's processor time."""
        wall, cpu = time.perf_counter(), time.process_time()
        samples = self.training.steps(batch=batch, steps=steps, resident=resident)
        return {"samples_s": samples, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    def train_predict(self, *, batch: int) -> dict[str, Any]:
        """Images a second of the validation pass."""
        return {"images_per_second": self.training.predict_rate(batch)}

    def task_open(self, *, task: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Make a row of TASKS ready."""
        from benchmarks.tasks import TASKS

        self.task = TASKS.find(task).open(**arguments)
        return {}

    def task_warm_up(self) -> dict[str, Any]:
        """Untimed: what only the first time costs."""
        self.task.warm_up()
        return {}

    def task_window(self, *, seconds: float) -> dict[str, Any]:
        """The task again and again for so many seconds, at least once: durations, wall time, processor time with that of its children."""
        wall, cpu = time.perf_counter(), self.task.cpu_s()
        samples: list[float] = []
        while not samples or time.perf_counter() < wall + seconds:
            started = time.perf_counter()
            self.task.run()
            samples.append(time.perf_counter() - started)
        return {"samples_s": samples, "wall_s": time.perf_counter() - wall, "cpu_s": self.task.cpu_s() - cpu}

    def task_facts(self) -> dict[str, Any]:
        """What came of it."""
        return dict(self.task.facts())

    def memory(self) -> dict[str, Any]:
        """The most memory held at once since the process began, opening included; None where the system does not tell."""
        return {"peak_ram_mb": _peak_ram_mb()}

    def _all_at_once(self) -> None:
        """One call of each runner, all at a time: an engine may have something to make for each of them."""
        from cellclf.runtime.warming import all_at_once

        waiting = iter(self.runners)
        all_at_once(lambda: next(waiting)(self.images), callers=len(self.runners))

    def _loop(self, runner: Any, end: float) -> list[float]:
        samples = []
        while True:
            started = time.perf_counter()
            runner(self.images)
            now = time.perf_counter()
            samples.append(now - started)
            if now >= end:
                return samples

    def _call(self, runner: Any) -> Any:
        started = time.perf_counter()
        values = runner(self.images)
        self.last_call_s = time.perf_counter() - started
        return values


def serve(requests: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer each request line in turn. What an engine raises ends the process: its last line on standard error is the reason."""
    from benchmarks.engines import UnavailableError
    from cellclf.errors import MissingExtraError

    worker = Worker()
    for line in requests:
        request = json.loads(line)
        try:
            answer({"answer": getattr(worker, request.pop("do"))(**request)})
        except (UnavailableError, MissingExtraError) as error:
            answer({"unavailable": str(error)})


def _version(package: str) -> str:
    return str(getattr(sys.modules[package], "__version__", "?"))


def _peak_ram_mb() -> float | None:
    """VmHWM: unlike ru_maxrss it does not begin with what the parent process held."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def _own_output() -> TextIO:
    """Standard output for answers only; file descriptor 1 becomes standard error for everyone else."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


def main() -> None:
    """Take the cores, die with the parent, and serve."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    output = _own_output()

    def answer(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    serve(iter(sys.stdin.readline, ""), answer)


if __name__ == "__main__":
    main()
