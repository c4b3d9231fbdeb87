"""A real server in a thread of this process, on a port of its own, with the model that the project ships."""

import contextlib
import http.client
import importlib.util
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cellclf.card import read_model_file
from cellclf.data.decoding import Pixels
from cellclf.serving.keys import Keys
from cellclf.serving.models import sources_of
from cellclf.serving.server import Server, bind
from cellclf.serving.service import Service
from cellclf.serving.settings import Settings

SHIPPED = Path(__file__).resolve().parent.parent.parent / "exported" / "blood-cells-mobilenet025.onnx"
MODEL = SHIPPED.stem
CARD = read_model_file(SHIPPED).card
WAIT_S = 60
"""How long a test waits for what must happen; no test measures time."""

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    client: httpx.Client

    @property
    def service(self) -> Service:
        return self.server.service

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.client.post(path, **how)

    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


Serving = Callable[..., AbstractContextManager[Running]]


@contextlib.contextmanager
def serving(*models: str | Path, keys: Any = None, sha256: Any = (), device: Any = "cpu", **settings: Any) -> Iterator[Running]:
    """Start a server with these settings, keys (name: key), allowed hashes and device; end it with a drain, and wait for its thread."""
    sources = sources_of([str(model) for model in models or (SHIPPED,)], device=device, sha256=sha256)
    patient = {"deadline_ms": 1000.0 * WAIT_S, "drain_s": float(WAIT_S), "max_queue_ms": 1000.0 * WAIT_S}
    chosen = Settings(**{"threads": 2, "reload_s": 0.0, **patient, **settings})
    server = Server(sources, chosen, listener=bind("127.0.0.1", 0), keys=Keys(keys or {}))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    with httpx.Client(base_url=server.address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
        try:
            assert client.get("/v2/health/live").status_code == 200
            yield Running(server, client)
        finally:
            server.drain()
            thread.join(WAIT_S)
            assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """One server for all tests of a module that only ask."""
    with serving() as found:
        yield found


class HeldNetwork:
    """A classifier's `probabilities` that waits until it is let go, so that a test decides what is running and what waits."""

    def __init__(self, classifier: Any, patch: pytest.MonkeyPatch) -> None:
        self._go = threading.Event()
        self._entered = threading.Semaphore(0)
        self._answer = classifier.probabilities
        self.batches: list[int] = []
        patch.setattr(classifier, "probabilities", self)

    def __call__(self, images: Pixels) -> npt.NDArray[np.float32]:
        self.batches.append(len(images))
        self._entered.release()
        assert self._go.wait(WAIT_S)
        rows: npt.NDArray[np.float32] = self._answer(images)
        return rows

    def wait_until_running(self, batches: int = 1) -> None:
        for _ in range(batches):
            assert self._entered.acquire(timeout=WAIT_S)

    def let_go(self) -> None:
        self._go.set()


Hold = Callable[[Running], HeldNetwork]


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    """hold(running): its network waits from now on."""
    held: list[HeldNetwork] = []

    def start(running: Running) -> HeldNetwork:
        held.append(HeldNetwork(running.service.models.find().classifier, monkeypatch))
        return held[-1]

    yield start
    for network in held:
        network.let_go()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    event = threading.Event()
    for _ in range(WAIT_S * 200):
        if true():
            return
        event.wait(0.005)
    raise AssertionError("it did not happen")


def alive(process_id: int) -> bool:
    """Whether a process still runs; one that has ended and that nobody asked for does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(found) and not found.startswith("Z")


def picture(seed: int = 0, size: tuple[int, int] = (64, 48), form: str = "PNG") -> bytes:
    """A drawn image file."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).resize(size).save(stream, form)
    return stream.getvalue()


def send_in_background(running: Running, **how: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    """POST /predict from another thread; the answer is put into the list."""
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(httpx.post(f"{running.server.address}/predict", timeout=WAIT_S, **how)))
    thread.start()
    return thread, answers


def connection(running: Running) -> http.client.HTTPConnection:
    """A bare connection, to send what a client library would not."""
    return http.client.HTTPConnection("127.0.0.1", running.port, timeout=WAIT_S)
