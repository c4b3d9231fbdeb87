"""The open loop of benchmarks/serving counts what a service does wrong: a service that answers by a plan, and wrk against it."""

import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.serving.material import Hostile, Sample
from benchmarks.serving.open_loop import send_at_rate
from cellclf import Prediction

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

PROBABILITIES = {"A": 0.25, "B": 0.75}
RIGHT = {"label": "B", "model": "m", "probabilities": PROBABILITIES}
KINDS: dict[str, dict[str, Any]] = {
    "right": {},
    "nearly": {"probabilities": {"A": 0.25005, "B": 0.74995}},
    "another probability": {"probabilities": {"A": 0.2503, "B": 0.7497}},
    "a probability is missing": {"probabilities": {"B": 0.75}},
    "another label": {"label": "A"},
    "another model": {"model": "n"},
    "another image": {"path": "x"},
}
WRONG = len(KINDS) - 2


@contextmanager
def service(answer: Any) -> Iterator[int]:
    """A service on a port; answer(number of the request, name of the image) gives status and record, or None for none."""
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            path = urlsplit(self.path)
            found = (404, {}) if path.path != "/predict" else answer(next(numbers), parse_qs(path.query)["name"][0])
            if found is None:
                self.close_connection = True
                return
            status, record = found
            body = json.dumps([record]).encode()
            self.send_response(status)
            self.send_header("X-Request-Id", self.headers["X-Request-Id"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def images(tmp_path: Path) -> list[Sample]:
    expected = Prediction(path="", label="B", probability=0.75, probabilities=PROBABILITIES, abstained=False, model="m", provider="p")
    (tmp_path / "image").write_bytes(b"an image")
    return [Sample(str(number), tmp_path / "image", b"an image", expected) for number in range(len(KINDS))]


def test_each_answer_is_checked_against_what_is_expected(images: list[Sample]) -> None:
    with service(lambda _, name: (200, {"path": name, **RIGHT, **list(KINDS.values())[int(name)]})) as port:
        found = send_at_rate(port, images, rate=10 * len(KINDS), seconds=1, most_connections=4)
    rounds, rest = divmod(found["sent"], len(KINDS))
    assert rounds >= 9
    assert found["statuses"] == {"200": found["sent"]}
    assert found["wrong"] == WRONG * rounds + max(0, rest - 2)
    assert all(found[key] == 0 for key in ("missing", "unsent", "asked_anew", "unasked", "connection_errors"))
    assert found["sent_per_second"] == pytest.approx(10 * len(KINDS), abs=2)
    assert found["accepted_ms"]["p50"] > 0


def test_refusals_faults_and_missing_answers_are_counted_apart(images: list[Sample]) -> None:
    kinds = {0: (200, {"path": "0", **RIGHT}), 1: (503, {}), 2: (500, {}), 3: None}
    with service(lambda _, name: kinds[int(name)]) as port:
        found = send_at_rate(port, images[:4], rate=40, seconds=1, most_connections=4)
    assert found["missing"] == found["connection_errors"] >= 9
    assert (found["sent"] - found["asked_anew"], found["unsent"]) == (41, 0), "40 a second, at 0 and at the last moment"
    assert set(found["statuses"]) == {"200", "503", "500"}
    assert sum(found["statuses"].values()) + found["missing"] == found["sent"]
    assert found["refused_ms"]
    assert found["wrong"] == 0


def test_hostile_requests_are_counted_by_kind_and_their_answers_are_no_images(images: list[Sample]) -> None:
    hostile = [Hostile("nowhere", "/none", {}, b"x"), Hostile("elsewhere", "/nothing", {"x-a": "b"}, b"")]
    with service(lambda _, name: (200, {"path": name, **RIGHT})) as port:
        found = send_at_rate(port, images, rate=50, seconds=1, most_connections=4, hostile=hostile, hostile_every=5)
    each = [counts["404"] for counts in found["hostile_statuses"].values()]
    assert set(found["hostile_statuses"]) == {"nowhere", "elsewhere"}
    assert sum(each) == found["sent"] // 5
    assert abs(each[0] - each[1]) <= 1
    assert found["statuses"] == {"200": found["sent"] - sum(each)}
