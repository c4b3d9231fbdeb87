"""An open-loop client: requests leave when their time has come, whether the earlier ones were answered or not; each answer is timed, then checked.

Client and service share the machine's cores, so the client does little meanwhile: connections are kept, and answers are checked at the end.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from benchmarks.serving.material import Sample

__all__ = ["REFUSED_S", "Tally", "exchange", "send_at_rate"]

REFUSED_S = 0.05
"""What a refusal may take."""

_TOLERANCE = 1e-4


@dataclass
class Tally:
    """What came back: seconds of accepted and refused requests, and statuses. wrong: answers that differ from `cellclf predict`.

    late_s: how long after its time a request left, which is the client's own fault.
    """

    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def figures(self) -> dict[str, object]:
        """The figures in milliseconds."""
        return {
            "sent": sum(self.statuses.values()),
            "statuses": dict(sorted(self.statuses.items())),
            "wrong": self.wrong,
            "accepted_ms": _percentiles(self.accepted_s),
            "refused_ms": _percentiles(self.refused_s),
            "refused_late_share": float(np.mean(np.array(self.refused_s) > REFUSED_S)) if self.refused_s else 0.0,
            "late_ms": _percentiles(self.late_s),
        }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {name: float(np.percentile(seconds, percent) * 1000) for name, percent in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))}


async def exchange(port: int, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body; status 0 where the connection broke."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.read()
        writer.close()
    except OSError:
        return 0, b""
    before, _, content = answer.partition(b"\r\n\r\n")
    return (int(before[9:12]), content) if before.startswith(b"HTTP/1.1 ") else (0, b"")


class _Wire(asyncio.Protocol):
    """A kept connection, one request at a time."""

    def __init__(self, idle: "list[_Wire]") -> None:
        self._idle = idle
        self._answer: asyncio.Future[tuple[int, bytes, float]] | None = None
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def ask(self, request: list[bytes]) -> "asyncio.Future[tuple[int, bytes, float]]":
        """Send it; the future gives status, body and time.perf_counter() of the answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.writelines(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The service took the connection."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """A piece of the answer; the connection is free again with the last one."""
        self._received += data
        head, separator, body = bytes(self._received).partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        start = lower.index(b"content-length:") + len(b"content-length:")
        if len(body) < int(lower[start:].split(b"\r\n", 1)[0]):
            return
        self._received.clear()
        assert self._answer is not None
        self._answer.set_result((int(head[9:12]), body, time.perf_counter()))
        if b"connection: close" not in lower:
            self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        """The service, or the end of the run, closed it; a request without its answer has status 0."""
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((0, b"", time.perf_counter()))


async def send_at_rate(port: int, images: list[Sample], *, rate: float, seconds: float, tally: Tally) -> None:
    """`rate` requests a second, evenly, of one image each; returns when all are answered, and checked."""
    idle: list[_Wire] = []
    answers: list[tuple[Sample, bytes]] = []
    tasks: set[asyncio.Task[None]] = set()
    requests = [[_head(image), image.content] for image in images]
    started = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = started + number / rate
        if (rest := due - time.perf_counter()) > 0:
            await asyncio.sleep(rest)
        which = number % len(images)
        tally.late_s.append(max(0.0, time.perf_counter() - due))
        task = asyncio.create_task(_one(port, images[which], requests[which], idle, tally, answers))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    tally.wrong += sum(not _right(content, image) for image, content in answers)


def _head(image: Sample) -> bytes:
    return f"POST /predict?name={image.name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image.content)}\r\n\r\n".encode()


async def _one(port: int, image: Sample, request: list[bytes], idle: list[_Wire], tally: Tally, answers: list[tuple[Sample, bytes]]) -> None:
    started = time.perf_counter()
    try:
        wire = idle.pop() if idle else (await asyncio.get_running_loop().create_connection(lambda: _Wire(idle), "127.0.0.1", port))[1]
        status, content, ended = await wire.ask(request)
    except OSError:
        status, content, ended = 0, b"", time.perf_counter()
    tally.statuses[str(status)] += 1
    if status == 200:
        tally.accepted_s.append(ended - started)
        answers.append((image, content))
    elif status == 503:
        tally.refused_s.append(ended - started)


def _right(content: bytes, image: Sample) -> bool:
    """Whether an answer is what `cellclf predict` says of the image."""
    (record,) = json.loads(content)
    expected = image.expected
    differences = [abs(record["probabilities"][label] - value) for label, value in expected.probabilities.items()]
    return bool((record["path"], record["label"], record["model"]) == (image.name, expected.label, expected.model) and max(differences) <= _TOLERANCE)
