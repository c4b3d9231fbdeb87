"""What a pod of docs/deploy/kubernetes.yaml needs: python -m benchmarks.serving.footprint. Linux; psutil and PyYAML come with the dev extra.

Starts the service with the manifest's own arguments, and asks it for ordinary images, for heat maps, and for the largest images it takes, all at
once. Writes docs/results/footprint.json and .md; the rules by which the manifests follow from them are here.
"""

import contextlib
import http.client
import io
import json
import math
import re
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from benchmarks.serving.material import samples
from benchmarks.serving.processes import ROOT, Service, cellclf_serve
from cellclf import Classifier
from cellclf.data.datasets import DATASETS, find
from cellclf.environment import Environment
from cellclf.storage import new_file

__all__ = ["MARGIN", "START_MARGIN", "autoscaled_from", "cpu_request", "highest_mb", "manifest_arguments", "page_of"]

MODEL = ROOT / "exported" / "blood-cells-mobilenet025.onnx"
MANIFEST = ROOT / "docs" / "deploy" / "kubernetes.yaml"
RESULTS = ROOT / "docs" / "results" / "footprint.json"

MARGIN = 1.5
"""Memory limit ≥ this × the highest memory seen. The request is at least the highest seen with ordinary images."""

START_MARGIN = 10
"""A pod may take this × the measured start before it is given up: nodes are slower, and busy."""

PROMISED_IMAGES_PER_SECOND = 500
"""What a pod gives on its CPU request alone, at the share of it from which on the autoscaler adds pods."""

_CLIENTS = 16


def manifest_arguments(manifest: Path = MANIFEST) -> list[str]:
    """The arguments of the manifest's container, without the keys, which are a pod's own."""
    for document in yaml.safe_load_all(manifest.read_text(encoding="utf-8")):
        if document["kind"] == "Deployment":
            found = document["spec"]["template"]["spec"]["containers"][0]["args"]
            return [word for word in found if not word.startswith("--api-keys-file")]
    raise ValueError(f"{manifest} holds no Deployment")


def autoscaled_from(manifest: Path = MANIFEST) -> float:
    """The share of its CPU request that a pod uses when the autoscaler adds another."""
    for document in yaml.safe_load_all(manifest.read_text(encoding="utf-8")):
        if document["kind"] == "HorizontalPodAutoscaler":
            return float(document["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]) / 100
    raise ValueError(f"{manifest} holds no HorizontalPodAutoscaler")


def cpu_request(found: dict[str, Any], utilization: float) -> float:
    """Cores that a pod asks for: for what it promises, by the measured time of an image, rounded up to half a core."""
    return float(math.ceil(2 * PROMISED_IMAGES_PER_SECOND * found["processor_ms_per_image"] / 1000 / utilization) / 2)


def largest_pixels(arguments: list[str]) -> int:
    """Width × height of the largest image that a service with these arguments takes."""
    (pixels,) = [int(word.partition("=")[2]) for word in arguments if word.startswith("--max-pixels=")]
    return pixels


def largest_image(pixels: int) -> bytes:
    """A PNG with transparency of so many pixels, which takes most memory to decode, and little to send."""
    side = int(pixels**0.5)
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((side, pixels // side)).convert("RGBA").save(stream, "PNG")
    return stream.getvalue()


def ask(service: Service, path: str, bodies: list[bytes], seconds: float) -> dict[str, int]:
    """POST the bodies from several clients for so long; counts by status. A refused client waits a moment."""
    until = time.perf_counter() + seconds

    def one(_: int) -> Iterator[int]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as wire:
            for body in cycle(bodies):
                wire.request("POST", path, body)
                answer = wire.getresponse()
                answer.read()
                yield answer.status
                if answer.status == 503:
                    wire.close()
                    time.sleep(0.05)
                if time.perf_counter() > until:
                    return

    found: dict[str, int] = {}
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for statuses in pool.map(lambda number: list(one(number)), range(_CLIENTS)):
            for status in statuses:
                found[str(status)] = found.get(str(status), 0) + 1
    return found


def highest_mb(process_id: int) -> float:
    """The most memory a process and its workers ever had, in MB, as Linux counts it: no short peak is missed.

    Peaks of all of them are added up as if they came at once, and pages that they share are counted for each: a limit that holds this holds them.
    """
    import psutil

    whole = psutil.Process(process_id)
    return sum(_highest_mb_of(each.pid) for each in (whole, *whole.children(recursive=True)))


def _highest_mb_of(process_id: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process_id}/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(seconds: float) -> dict[str, Any]:
    """Start, rest, ordinary images, heat maps, largest images; `seconds` each of the last three."""
    arguments = manifest_arguments()
    pixels = largest_pixels(arguments)
    images = [sample.content for sample in samples(Classifier(MODEL, device="cpu"), 64)]
    with Service(cellclf_serve(*arguments)) as service:
        found: dict[str, Any] = {"arguments": arguments, "clients": _CLIENTS, "ready_s": service.ready_s, "idle_mb": service.resident_mb()}
        found["images"] = "images of the blood-cell test set" if find(DATASETS["blood-cells"]) else "images of the drawn sample"
        found["start_processor_s"] = before = service.processor_s()
        answered = ask(service, "/predict", images, seconds)
        found["processor_ms_per_image"] = 1000 * (service.processor_s() - before) / answered["200"]
        found |= {"ordinary": answered, "ordinary_mb": highest_mb(service.process.pid)}
        found |= {"heat_maps": ask(service, "/predict?explain=true", images, seconds), "heat_maps_mb": highest_mb(service.process.pid)}
        found |= {"largest": ask(service, "/predict", [largest_image(pixels)], seconds), "largest_mb": highest_mb(service.process.pid)}
        found |= {"after_mb": service.resident_mb(), "exit_code": service.end(signal.SIGTERM)}
    return found


def page_of(found: dict[str, Any]) -> str:
    """docs/results/footprint.md."""
    machine, pixels = found["environment"], largest_pixels(found["arguments"])
    versions = ", ".join(
        f"{name} {machine['packages'][name]}" for name in ("cellclf", "numpy", "onnxruntime-gpu", "onnxruntime") if name in machine["packages"]
    )
    rows = [
        ("at rest (then)", "idle_mb", ""),
        (found["images"], "ordinary_mb", found["ordinary"]),
        ("with heat maps", "heat_maps_mb", found["heat_maps"]),
        (f"images of {pixels / 1e6:g} million pixels with transparency", "largest_mb", found["largest"]),
        ("afterwards (then)", "after_mb", ""),
    ]
    table = [
        f"| {name} | {found[key]:.0f} | {', '.join(f'{count} × {status}' for status, count in dict(told or {}).items())} |"
        for name, key, told in rows
    ]
    share = autoscaled_from()
    per_second = 1000 / found["processor_ms_per_image"]
    lines = [
        "# What a pod needs",
        "",
        f"Written by `{found['command']}`; no figure is typed. `cellclf serve {' '.join(found['arguments'])}`,",
        f"{found['clients']} clients, on {machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions},",
        f"commit {machine['git_commit']}.",
        "",
        "| | memory, MB: the highest so far, or what it is then | answers by status |",
        "|---|---|---|",
        *table,
        "",
        f"Ready after {found['ready_s']:.1f} s ({found['start_processor_s']:.1f} s of one core). An ordinary image takes",
        f"{found['processor_ms_per_image']:.1f} ms of one core: a core gives at most {per_second:.0f} images a second.",
        "",
        "In [docs/deploy](../deploy/README.md): memory request ≥ the highest with ordinary images; memory limit",
        f"≥ {MARGIN:g} × the highest of all, and ≥ rest + what the service's own limits let requests and decoding take;",
        f"CPU request = {PROMISED_IMAGES_PER_SECOND} images a second × that time ÷ the {share:.0%} from which on the autoscaler adds",
        f"pods, rounded up to half a core: {cpu_request(found, share):g}; CPU limit = `--threads`; start-up probe ≥ {START_MARGIN} × the start.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    found = measure(seconds)
    found["environment"] = Environment.of_this_machine().model_dump(mode="json")
    found["command"] = " ".join(["python -m benchmarks.serving.footprint", *sys.argv[1:]])
    with new_file(RESULTS) as file:
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    with new_file(RESULTS.with_suffix(".md")) as file:
        file.write_text(page_of(found), encoding="utf-8")


if __name__ == "__main__":
    main()
