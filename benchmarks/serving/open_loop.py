"""An open-loop client: requests leave when their time has come, whether the earlier ones were answered or not; each answer is checked and timed."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serving.material import Sample

__all__ = ["Tally", "exchange", "send_at_rate"]

_TOLERANCE = 1e-4


@dataclass
class Tally:
    """What came back: seconds of accepted and refused requests, and statuses. wrong: answers that differ from `cellclf predict`."""

    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
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


async def send_at_rate(port: int, images: list[Sample], *, rate: float, seconds: float, tally: Tally) -> None:
    """`rate` requests a second, evenly, of one image each; returns when all are answered."""
    tasks: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = started + number / rate
        if (rest := due - time.perf_counter()) > 0:
            await asyncio.sleep(rest)
        task = asyncio.create_task(_one(port, images[number % len(images)], tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _one(port: int, image: Sample, tally: Tally) -> None:
    started = time.perf_counter()
    status, content = await exchange(port, f"/predict?name={image.name}", {}, image.content)
    took = time.perf_counter() - started
    tally.statuses[str(status)] += 1
    if status == 200:
        tally.accepted_s.append(took)
        tally.wrong += not _right(content, image)
    elif status == 503:
        tally.refused_s.append(took)


def _right(content: bytes, image: Sample) -> bool:
    """Whether an answer is what `cellclf predict` says of the image."""
    (record,) = json.loads(content)
    expected = image.expected
    differences = [abs(record["probabilities"][label] - value) for label, value in expected.probabilities.items()]
    return bool((record["path"], record["label"], record["model"]) == (image.name, expected.label, expected.model) and max(differences) <= _TOLERANCE)
