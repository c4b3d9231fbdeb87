"""docs/results/serving.json → docs/results/serving.md. python -m benchmarks.serving.page"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.open_loop import REFUSED_S
from benchmarks.serving.run import RESULTS
from cellclf.serving.settings import Settings

__all__ = ["page_of"]

_GROWTH = 1.05
"""Memory of the last third of a soak against the second: more is growth."""

_REFUSALS = {"503", "504"}
"""Statuses of a service that has too much to do; any other of 500 or more is its own fault."""


def page_of(found: dict[str, Any]) -> str:
    """The page; a part that was not measured is said to be missing."""
    lines = [
        "# Serving",
        "",
        "Written by `python -m benchmarks.serving.page` from serving.json; no figure is typed. Client, service and the in-process figure share",
        "one machine, in turns, so that ratios hold although it is shared and noisy.",
        "Model: exported/blood-cells-mobilenet025.onnx.",
    ]
    for part, make in (("capacity", _capacity), ("overload", _overload), ("soak", _soak), ("restart", _restart), ("peers", _peers)):
        lines += ["", f"## {part.capitalize()}", ""]
        lines += (
            [*make(found[part]), "", f"`{found[part]['command']}`{_images(found[part])}: {_machine(found[part]['environment'])}"]
            if part in found
            else ["Not measured yet."]
        )
    return "\n".join(lines) + "\n"


def _images(part: dict[str, Any]) -> str:
    """Of which data set the images were; older parts do not say."""
    return f", test images of {part['images_of']}" if "images_of" in part else ""


def _machine(machine: dict[str, Any]) -> str:
    wanted = ("cellclf", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow")
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in wanted if name in machine["packages"])
    return f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {versions}, commit {machine['git_commit']}"


def _table(header: Sequence[object], rows: list[list[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)]


def _judged(value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """The target, and whether the value reaches it."""
    reached = value >= at_least if at_least is not None else at_most is not None and value <= at_most
    return f"target {f'≥ {at_least:g}' if at_least is not None else f'≤ {at_most:g}'}: {'reached' if reached else 'MISSED'}"


def _capacity(part: dict[str, Any]) -> list[str]:
    rows: list[list[object]] = [
        [
            f"{turn['in_process_images_per_second']:.0f}",
            f"{turn['served']['images_per_second']:.0f}",
            f"{turn['ratio']:.2f}",
            f"{turn['processor_ratio']:.2f}",
            _client(turn["served"], part.get("cores")),
            f"{turn['served']['p50_ms']:.0f} / {turn['served']['p99_ms']:.0f}",
            turn["served"]["wrong"] + turn["served"]["failed"] + turn["served"]["connection_errors"],
        ]
        for turn in part["turns"]
    ]
    return [
        f"wrk, {part['connections']} connections, one image a request, against `Classifier.predict_many`. "
        f"Median ratio {part['ratio']:.2f}; {_judged(part['ratio'], at_least=0.85)}.",
        "",
        *_table(
            ["in process, images/s", "served, images/s", "ratio", "by processor time", "client's share", "p50 / p99, ms", "wrong or failed"], rows
        ),
        "",
        *(
            [
                f"Beside commit {part['other_commit']} in the same turns: {part['to_other']:.2f} times as many images a second (median).",
                "",
            ]
            if "to_other" in part
            else []
        ),
        "Client's share: of all cores' time, what wrk itself took to send images and check answers; in process there is no client.",
    ]


def _client(served: dict[str, Any], cores: int | None) -> str:
    """wrk's share of the machine; parts of older runs have none."""
    if cores is None or "client_processor_s" not in served:
        return ""
    return f"{served['client_processor_s'] / (served['seconds'] * cores):.0%}"


def _overload(part: dict[str, Any]) -> list[str]:
    before, after = part["resident_mb"]
    return [
        f"wrk as an open loop at {part['factor']:g} × capacity ({part['capacity_images_per_second']:.0f} images/s) for {part['seconds']:.0f} s: "
        f"{part['sent_per_second']:.0f} requests/s were sent, {part['statuses']} answered by status, {part['wrong']} wrong. "
        f"Memory {before:.0f} → {after:.0f} MB; exit code {part['exit_code']} after SIGTERM. "
        f"99 % refused within {part['refused_ms']['p99']:.0f} ms, later than {1000 * REFUSED_S:.0f} ms {1000 * part['refused_late_share']:.1f} ‰, "
        f"{_judged(1000 * part['refused_late_share'], at_most=0)}; "
        f"99 % of the accepted answered within {part['accepted_ms']['p99']:.0f} ms, of 2 × `--max-queue-ms`, "
        f"{_judged(part['accepted_ms']['p99'], at_most=2 * Settings(threads=1).max_queue_ms)}; answers that are wrong, missing or neither 200 nor "
        f"a refusal: {_faults(part)}, {_judged(_faults(part), at_most=0)}. "
        f"{_client_of(part, part['asked_images_per_second'])}",
        "",
        *_latencies(part),
    ]


def _faults(part: dict[str, Any]) -> int:
    """Answers that are wrong, missing, or to no request of ours; to an image neither 200 nor a refusal; to a hostile one what only a fault gives."""
    images = sum(count for status, count in part["statuses"].items() if status not in {"200", *_REFUSALS})
    hostile = sum(map(_at_fault, part["hostile_statuses"].values()))
    return int(part["wrong"] + part["missing"] + part["unasked"] + images + hostile)


def _client_of(part: dict[str, Any], asked: float) -> str:
    return (
        f"Sent of what was asked: {part['sent_per_second'] / asked:.0%}, {part['unsent']} never, {part['asked_anew']} again as a connection broke; "
        f"{part['connections']} connections; wrk took {part['client_processor_s'] / part['seconds']:.0%} of a core to send and check. "
        "Late: how long after its time a request left: the client's own fault, or all of its connections waited for answers; not in the other rows."
    )


def _at_fault(statuses: dict[str, int]) -> int:
    """Answers that a service gives only by its own fault."""
    return sum(count for status, count in statuses.items() if int(status) >= 500 and status not in _REFUSALS)


def _soak(part: dict[str, Any]) -> list[str]:
    memory = [value for _, value in part["resident_mb"]]
    third = max(1, len(memory) // 3)
    middle, last = statistics.median(memory[third : 2 * third] or memory), statistics.median(memory[-third:])
    faults = _faults(part)
    ends = part["restarts"] + part["worker_ends"]
    hostile = [[kind, ", ".join(f"{count} × {status}" for status, count in statuses.items())] for kind, statuses in part["hostile_statuses"].items()]
    return [
        f"wrk as an open loop, {part['seconds']:.0f} s at {part['images_per_second']:.0f} requests/s, some of them hostile: {part['statuses']} "
        f"images answered by status; {part['wrong']} differ from `cellclf predict`. Wrong, missing or at fault, hostile requests included: {faults}, "
        f"{_judged(faults, at_most=0)}. "
        f"The service or a worker of it ended {ends:.0f} times, {_judged(ends, at_most=0)}; exit code {part['exit_code']}. "
        f"Memory, median of the second third → of the last: {middle:.0f} → {last:.0f} MB, "
        f"{last / middle:.3f} times, {_judged(last / middle, at_most=_GROWTH)}; "
        f"at most {max(memory):.0f}. Refused later than {1000 * REFUSED_S:.0f} ms: {1000 * part['refused_late_share']:.0f} ‰ of those refused "
        f"(the target is the overload's). {_client_of(part, part['images_per_second'])}",
        "",
        *_latencies(part),
        "",
        *_table(["hostile request", "answers by status"], hostile),
    ]


def _latencies(part: dict[str, Any]) -> list[str]:
    rows: list[list[object]] = [
        [name, *(f"{value:.1f}" for value in part[key].values())]
        for name, key in (("accepted", "accepted_ms"), ("refused", "refused_ms"), ("late", "late_ms"))
        if part[key]
    ]
    return _table(["ms", "p50", "p99", "p99.9", "max"], rows)


def _restart(part: dict[str, Any]) -> list[str]:
    each = ", ".join(f"{value:.2f}" for value in part["ready_s"])
    return [f"kill -9, then seconds until ready: {each}; the median's {_judged(part['median_s'], at_most=2.0)}."]


def _peers(part: dict[str, Any]) -> list[str]:
    rows: list[list[object]] = []
    for name, turns in part["turns"].items():
        middle = {key: statistics.median(turn[key] for turn in turns) for key in ("images_per_second", "p50_ms", "p99_ms", "ready_s", "resident_mb")}
        wrong = sum(turn["wrong"] + turn["failed"] + turn["connection_errors"] for turn in turns)
        rows.append(
            [
                name,
                *(f"{middle[key]:.0f}" for key in ("images_per_second", "p50_ms", "p99_ms")),
                f"{middle['ready_s']:.1f}",
                f"{middle['resident_mb']:.0f}",
                wrong,
            ]
        )
    header = ["service", "images/s", "p50, ms", "p99, ms", "ready, s", "memory, MB", "wrong or failed"]
    return [f"The same wrk, {part['connections']} connections, each service alone in its turn; medians.", "", *_table(header, rows)]


if __name__ == "__main__":
    (Path(RESULTS).with_suffix(".md")).write_text(page_of(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
