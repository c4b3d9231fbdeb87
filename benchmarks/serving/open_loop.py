"""wrk as an open loop (rate.lua): requests leave when their time has come, whether the earlier ones were answered or not."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.material import Hostile, Sample, open_loop_plan
from benchmarks.serving.processes import started_wrk, wrk_said

__all__ = ["REFUSED_S", "send_at_rate"]

REFUSED_S = 0.05
"""What a refusal may take."""

_TOLERANCE = 1e-4
_FEWEST_CONNECTIONS = 16
_SLOT_WITHIN_S = 5.0
"""Each connection must have something to send so soon, or the service, which waits 10 s for a request's head, may close it."""

_ANSWERS_S = 5
"""What is left at the end for the last answers, in which nothing is sent."""


def send_at_rate(
    port: int,
    images: Sequence[Sample],
    *,
    rate: float,
    seconds: float,
    most_connections: int,
    hostile: Sequence[Hostile] = (),
    hostile_every: int = 0,
    meanwhile: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """`rate` requests a second, evenly, of one image each, each hostile_every-th of them a hostile one in its place; figures in milliseconds.

    late_ms: how long after its time a request left: the client's own fault, or all connections waited for answers. missing: requests without an
    answer. unsent: requests whose time had come and that never left. asked_anew: what wrk sent again where a connection broke.
    meanwhile: called with the seconds gone by, now and then.
    """
    connections = min(most_connections, max(_FEWEST_CONNECTIONS, int(rate * _SLOT_WITHIN_S)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times_file = folder / "times.txt"
        plan = open_loop_plan(
            images,
            hostile,
            folder,
            rate=rate,
            sending_s=seconds,
            hostile_every=hostile_every,
            tolerance=_TOLERANCE,
            times_file=str(times_file),
        )
        found = wrk_said(
            started_wrk("rate.lua", port, plan, connections=connections, seconds=seconds + _ANSWERS_S), seconds=seconds, meanwhile=meanwhile
        )
        times = {key: np.array(values, dtype=np.float64) / 1e6 for key, *values in map(str.split, times_file.read_text().splitlines())}
    refused = times["refused"]
    return {
        **{key: found[key] for key in ("sent", "unsent", "asked_anew", "wrong", "unasked", "connection_errors")},
        "sent_per_second": found["sent"] / max(seconds, found["seconds"]),
        "missing": found["sent"] - found["answered"],
        "connections": connections,
        "statuses": _counts(found, ""),
        "hostile_statuses": {each.kind: _counts(found, each.kind) for each in hostile},
        "refused_late_share": float(np.mean(refused > REFUSED_S)) if len(refused) else 0.0,
        **{f"{key}_ms": _percentiles(values) for key, values in times.items()},
        "client_processor_s": found["client_processor_s"],
    }


def _counts(found: dict[str, Any], kind: str) -> dict[str, int]:
    """Answers to one kind of request, by status; the kind of images is empty."""
    return {key.partition("\t")[2]: found[key] for key in sorted(found) if key.startswith(f"{kind}\t")}


def _percentiles(seconds: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, float]:
    if not len(seconds):
        return {}
    return {name: float(np.percentile(seconds, percent) * 1000) for name, percent in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))}
