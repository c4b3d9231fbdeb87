"""A service as a process: started, waited for, looked at, ended; and wrk against it."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ROOT", "Service", "cellclf_serve", "free_port", "started_wrk", "wrk", "wrk_said"]

ROOT = Path(__file__).resolve().parent.parent.parent
_WAIT_S = 120.0


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Service:
    """command: with {port} for the port. It is ready when it answers on ready_path with 200. folder: where it runs."""

    command: Sequence[str]
    ready_path: str = "/v2/health/ready"
    folder: Path = ROOT

    def __post_init__(self) -> None:
        self.port = free_port()
        self.ready_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end(signal.SIGKILL)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start, and wait until it is ready; ready_s says how long that took."""
        started = time.perf_counter()
        command = [part.replace("{port}", str(self.port)) for part in self.command]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while not self._ready():
            if self._process.poll() is not None or time.perf_counter() - started > _WAIT_S:
                raise RuntimeError(f"{' '.join(command)} did not become ready: it ended with {self._process.poll()}")
            time.sleep(0.01)
        self.ready_s = time.perf_counter() - started

    def end(self, number: int) -> int:
        """Send a signal to the process (to all of its group where it kills) and wait; the exit code."""
        if self.process.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        return self.process.wait(_WAIT_S)

    def resident_mb(self) -> float:
        """Memory of the process now; its children's, where it has some, too."""
        import psutil

        whole = psutil.Process(self.process.pid)
        return float(sum(each.memory_info().rss for each in (whole, *whole.children(recursive=True))) / 1e6)

    def processor_s(self) -> float:
        """Processor time that the process has used, its children's too: no busy neighbour stretches it."""
        import psutil

        whole = psutil.Process(self.process.pid)
        return float(sum(each.cpu_times().user + each.cpu_times().system for each in (whole, *whole.children(recursive=True))))

    def metric(self, name: str) -> float:
        """A figure of /metrics, without labels."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as wire:
            wire.request("GET", "/metrics")
            lines = wire.getresponse().read().decode().splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        return float(value)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as wire:
                wire.sendall(f"GET {self.ready_path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return wire.recv(100).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def cellclf_serve(*options: str) -> list[str]:
    """The command of our service; it writes no line a request, as the peers do not."""
    return [sys.executable, "-m", "cellclf", "serve", "--device", "cpu", "--port", "{port}", "--log-level", "warning", *options]


def wrk(port: int, plan: Path, *, connections: int, seconds: float) -> dict[str, Any]:
    """wrk with check.lua: counts of right, wrong, refused and failed answers, latencies in milliseconds, and wrk's own processor seconds."""
    found = wrk_said(started_wrk("check.lua", port, plan, connections=connections, seconds=seconds), seconds=seconds)
    found["images_per_second"] = found["right"] / found["seconds"]
    return found


def started_wrk(script: str, port: int, plan: Path, *, connections: int, seconds: float) -> "subprocess.Popen[str]":
    """wrk with one of our scripts, on one thread."""
    options = ["-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "30s", "-s", str(Path(__file__).with_name(script))]
    return subprocess.Popen(["wrk", *options, f"http://127.0.0.1:{port}", "--", str(plan)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wrk_said(started: "subprocess.Popen[str]", *, seconds: float, meanwhile: Callable[[float], None] = lambda _: None) -> dict[str, Any]:
    """What its script wrote when it ended, and client_processor_s; meanwhile is called with the seconds gone by, 60 times, every second at most."""
    before, started_s = _children_s(), time.perf_counter()
    try:
        while True:
            try:
                out, err = started.communicate(timeout=max(1.0, seconds / 60))
                break
            except subprocess.TimeoutExpired:
                meanwhile(time.perf_counter() - started_s)
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    if started.returncode:
        raise RuntimeError(f"wrk ended with {started.returncode}: {err or out}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    found["client_processor_s"] = _children_s() - before
    return found


def _children_s() -> float:
    """Processor seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
