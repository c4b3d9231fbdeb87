"""Measure `cellclf serve`: python -m benchmarks.serving.run capacity | overload | soak | restart | peers.

Each writes its part of docs/results/serving.json. wrk must be installed; psutil comes with the bench extra. Client and service share the
machine, as the in-process figure beside them does.
"""

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving.material import Sample, hostile_requests, samples, source, wrk_plan
from benchmarks.serving.open_loop import send_at_rate
from benchmarks.serving.processes import ROOT, Service, cellclf_serve, wrk
from cellclf import Classifier
from cellclf.environment import Environment, commit_of, usable_cores
from cellclf.serving.settings import Settings
from cellclf.storage import new_file

MODEL = ROOT / "exported" / "blood-cells-mobilenet025.onnx"
RESULTS = ROOT / "docs" / "results" / "serving.json"
_SAMPLES = 256
_CONNECTIONS = 64
_OPEN_CONNECTIONS = Settings(threads=1).max_connections * 9 // 10
"""Of the open loop: as many as the service lets in, with a few to spare, so that one is free when a request's time has come."""
_HOSTILE_A_SECOND = 10


def in_process(classifier: Classifier, images: list[Sample], seconds: float) -> tuple[float, float]:
    """Images a second from files to predictions with Classifier.predict_many, all cores; and processor seconds an image."""
    paths = [image.path for image in images]
    started, processor, done = time.perf_counter(), time.process_time(), 0
    for _ in classifier.predict_many(itertools.cycle(paths)):
        done += 1
        if (took := time.perf_counter() - started) > seconds:
            break
    return done / took, (time.process_time() - processor) / done


def capacity(classifier: Classifier, images: list[Sample], seconds: float, rounds: int, other: Path | None = None) -> dict[str, Any]:
    """Ours over HTTP by wrk, and in process, in turns; the ratio of each turn. other: another checkout, whose service takes its turn beside ours."""
    turns: list[dict[str, Any]] = []
    roots = {"served": ROOT, **({"other": other} if other is not None else {})}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        plan = wrk_plan(images, Path(folder) / "plan.lua")
        services = {name: running.enter_context(Service(cellclf_serve(str(MODEL)), folder=root)) for name, root in roots.items()}
        for service in services.values():
            wrk(service.port, plan, connections=_CONNECTIONS, seconds=2)
        for number in range(rounds):
            direct, direct_processor_s = in_process(classifier, images, seconds)
            turn: dict[str, Any] = {"in_process_images_per_second": direct, "processor_ms": {"in_process": 1000 * direct_processor_s}}
            for name, service in sorted(services.items(), reverse=number % 2 == 0):
                before = service.processor_s()
                turn[name] = wrk(service.port, plan, connections=_CONNECTIONS, seconds=seconds)
                turn["processor_ms"][name] = 1000 * (service.processor_s() - before) / max(1, turn[name]["right"])
            turn["ratio"] = turn["served"]["images_per_second"] / direct
            turn["processor_ratio"] = turn["processor_ms"]["in_process"] / turn["processor_ms"]["served"]
            if other is not None:
                turn["to_other"] = turn["served"]["images_per_second"] / turn["other"]["images_per_second"]
            turns.append(turn)
            print(json.dumps(turn), file=sys.stderr)
    return {
        "connections": _CONNECTIONS,
        "cores": usable_cores(),
        "turns": turns,
        **{name: statistics.median(turn[name] for turn in turns) for name in ("ratio", "processor_ratio", "to_other") if name in turns[0]},
        **({"other_commit": commit_of(other)} if other is not None else {}),
    }


def overload(images: list[Sample], seconds: float, factor: float) -> dict[str, Any]:
    """wrk as an open loop at `factor` times what wrk got through just before; memory before and after."""
    with tempfile.TemporaryDirectory() as folder, Service(cellclf_serve(str(MODEL))) as service:
        plan = wrk_plan(images, Path(folder) / "plan.lua")
        wrk(service.port, plan, connections=_CONNECTIONS, seconds=2)
        rate = wrk(service.port, plan, connections=_CONNECTIONS, seconds=min(10.0, seconds))["images_per_second"]
        before = service.resident_mb()
        found = send_at_rate(service.port, images, rate=factor * rate, seconds=seconds, most_connections=_OPEN_CONNECTIONS)
        return {
            "capacity_images_per_second": rate,
            "factor": factor,
            "asked_images_per_second": factor * rate,
            "seconds": seconds,
            "resident_mb": [before, service.resident_mb()],
            "exit_code": service.end(signal.SIGTERM),
            **found,
        }


def soak(images: list[Sample], seconds: float, share: float) -> dict[str, Any]:
    """wrk as an open loop at `share` of capacity, each answer checked, with ten hostile requests a second between; memory once in a while."""
    memory: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, Service(cellclf_serve(str(MODEL))) as service:
        plan = wrk_plan(images, Path(folder) / "plan.lua")
        rate = share * wrk(service.port, plan, connections=_CONNECTIONS, seconds=5)["images_per_second"]
        found = send_at_rate(
            service.port,
            images,
            rate=rate,
            seconds=seconds,
            most_connections=_OPEN_CONNECTIONS,
            hostile=hostile_requests(images[0].content),
            hostile_every=max(2, round(rate / _HOSTILE_A_SECOND)),
            meanwhile=lambda gone_s: memory.append([gone_s, service.resident_mb()]),
        )
        alive = service.process.poll() is None
        worker_ends = service.metric("cellclf_worker_ends_total") if alive else 0.0
        return {
            "seconds": seconds,
            "images_per_second": rate,
            "resident_mb": memory,
            "restarts": int(not alive),
            "worker_ends": worker_ends,
            "exit_code": service.end(signal.SIGTERM),
            **found,
        }


def restart(rounds: int) -> dict[str, Any]:
    """kill -9 and start anew: seconds until it is ready."""
    service = Service(cellclf_serve(str(MODEL)))
    ready_s = []
    for _ in range(rounds):
        service.start()
        ready_s.append(service.ready_s)
        service.end(signal.SIGKILL)
    return {"ready_s": ready_s, "median_s": statistics.median(ready_s)}


def peers(images: list[Sample], seconds: float, rounds: int, lit_python: str | None) -> dict[str, Any]:
    """Ours, a plain FastAPI handler and LitServe in turns, by the same wrk, each alone on the machine."""
    card = Classifier(MODEL, device="cpu", threads=1).card
    arguments = [str(MODEL), "{port}", str(card.height_px), str(card.width_px), ",".join(card.labels)]
    folder = ROOT / "benchmarks" / "serving" / "peers"
    services = {"cellclf serve": Service(cellclf_serve(str(MODEL)))}
    services["plain FastAPI + onnxruntime"] = Service([sys.executable, str(folder / "plain_fastapi.py"), *arguments], "/health")
    if lit_python is not None:
        services["LitServe"] = Service([lit_python, str(folder / "lit.py"), *arguments], "/health")
    found: dict[str, Any] = {name: [] for name in services}
    with tempfile.TemporaryDirectory() as scratch:
        plan = wrk_plan(images, Path(scratch) / "plan.lua", multipart=True)
        for _ in range(rounds):
            for name, service in services.items():
                service.start()
                wrk(service.port, plan, connections=_CONNECTIONS, seconds=2)
                figures = wrk(service.port, plan, connections=_CONNECTIONS, seconds=seconds)
                found[name].append({**figures, "ready_s": service.ready_s, "resident_mb": service.resident_mb()})
                service.end(signal.SIGKILL)
                print(name, json.dumps(found[name][-1]), file=sys.stderr)
    return {"connections": _CONNECTIONS, "turns": found}


def main() -> None:
    """Measure one part, and put it into the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["capacity", "overload", "soak", "restart", "peers"])
    parser.add_argument("--seconds", type=float, help="of each measurement; default 10, overload 60, soak 1800")
    parser.add_argument("--rounds", type=int, default=5, help="turns of capacity, restart and peers")
    parser.add_argument("--other", type=Path, help="capacity: the folder of another checkout, which is measured in the same turns")
    parser.add_argument("--factor", type=float, default=3.0, help="overload: times capacity")
    parser.add_argument("--share", type=float, default=0.6, help="soak: of capacity")
    parser.add_argument("--lit-python", help="peers: the interpreter of an environment with litserve, onnxruntime, pillow and numpy")
    parser.add_argument("--into", type=Path, default=RESULTS)
    asked = parser.parse_args()
    seconds = asked.seconds or {"overload": 60.0, "soak": 1800.0}.get(asked.part, 10.0)
    classifier = Classifier(MODEL, device="cpu", threads=usable_cores())
    images = samples(classifier, _SAMPLES)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "capacity": lambda: capacity(classifier, images, seconds, asked.rounds, asked.other),
        "overload": lambda: overload(images, seconds, asked.factor),
        "soak": lambda: soak(images, seconds, asked.share),
        "restart": lambda: restart(asked.rounds),
        "peers": lambda: peers(images, seconds, asked.rounds, asked.lit_python),
    }
    found = parts[asked.part]()
    whole = json.loads(asked.into.read_text(encoding="utf-8")) if asked.into.exists() else {}
    whole[asked.part] = {
        **found,
        "images_of": source(),
        "command": f"python -m benchmarks.serving.run {' '.join(_shown(sys.argv[1:]))}",
        "environment": Environment.of_this_machine(provider=classifier.provider).model_dump(mode="json"),
    }
    whole.pop("environment", None)  # older files had one for all parts
    asked.into.parent.mkdir(parents=True, exist_ok=True)
    with new_file(asked.into) as temporary:
        temporary.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _shown(arguments: list[str]) -> list[str]:
    """Arguments without this machine's paths."""
    return [Path(text).name if "/" in text else text for text in arguments]


if __name__ == "__main__":
    main()
