"""One backbone's fp16 graph on the engine XLA, in a process of its own: its ways compiled, checked against fp32 on the CPU, the fastest timed."""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.engine_onnxruntime import BATCH_LATENCY_CALLS, GOLDEN, LATENCY_CALLS, Batch, InvalidError, load_graph
from benchmarks.gpu.record import arguments, say, store
from benchmarks.gpu.timing import latency, rate
from benchmarks.gpu.turns import add_turn_option, wait_for_turn
from cellclf.runtime.engines.jax_operators.ways import Ways
from cellclf.runtime.engines.xla import XlaSession
from cellclf.runtime.providers import PROVIDERS, Target

TRIED = (Ways(), *(Ways.of(variant) for variant in PROVIDERS["xla"].variants))
"""What the product itself tries."""


class Compiled:
    """A batch size computed in one way. images: on the device."""

    def __init__(self, batch: Batch, ways: Ways, device: Any) -> None:
        self.batch, self.ways = batch, ways
        self.session = XlaSession(batch.graph.content, Target(PROVIDERS["xla"]), device, asdict(ways))
        self.images = self.session.put(batch.images)
        started = time.perf_counter()
        self.call()
        self.compile_s = time.perf_counter() - started

    def call(self) -> None:
        """One batch; returns when it has ended."""
        self.session.call(self.images).block_until_ready()

    def calls(self, count: int) -> None:
        """Batches one behind the other; returns when the last has ended."""
        for _ in range(count - 1):
            self.session.call(self.images)
        self.call()

    def call_from_host(self) -> Any:
        """The images to the card, and the probabilities back."""
        return np.asarray(self.session.call(self.session.put(self.batch.images)))

    def difference(self) -> float:
        """Largest difference of a probability from fp32 over every row, and over every golden image; raises InvalidError."""
        size, graph = len(self.batch.images), self.batch.graph
        off = [np.abs(np.asarray(self.session.call(self.images)) - self.batch.expected)]
        for start in range(0, GOLDEN, size) if size < GOLDEN else ():
            images = graph.golden[start : start + size]
            off.append(np.abs(np.asarray(self.session.call(self.session.put(images))) - graph.expected[start : start + size]))
        largest = max(float(values.max()) if np.isfinite(values).all() else float("inf") for values in off)
        if not largest <= graph.tolerance:
            raise InvalidError(f"probabilities differ from fp32 by {largest:.3g}; {graph.tolerance:g} is allowed")
        return largest


def measure(options: argparse.Namespace) -> None:
    """Every batch size in turn; all ways are compiled before the turn, beside other processes, whose work can mislead XLA's own search."""
    import jax

    device = jax.devices("cpu" if options.check else "cuda")[0]
    graph = load_graph(options)
    ready = [Compiled(Batch.of(graph, size), ways, device) for size in options.batches for ways in (TRIED[-1:] if options.check else TRIED)]
    say(json.dumps([[len(one.images), asdict(one.ways), one.compile_s] for one in ready]))
    wait_for_turn(options.turn)
    rows: list[dict[str, Any]] = []
    for size in options.batches:
        row: dict[str, Any] = {"engine": "xla", "backbone": options.backbone, "batch": size, "image_size_px": graph.golden.shape[1]}
        rows.append(row | best_of([one for one in ready if len(one.images) == size], options))
        store(options.result, rows)


def best_of(compiled: list[Compiled], options: argparse.Namespace) -> dict[str, Any]:
    """A quick figure of each way, and the whole ones of the fastest."""
    tried: list[dict[str, Any]] = []
    for one in compiled:
        found: dict[str, Any] = {"choice": asdict(one.ways), "compile_s": one.compile_s}
        tried.append(found)
        try:
            found["max_difference"] = one.difference()
            quick = rate(one.calls, items=len(one.images), window_s=0.005 if options.check else 0.2, most=5)
            found |= {"images_per_second": quick.per_second, "agree": quick.agree}
        except InvalidError as error:
            found["invalid"] = str(error)
        say(json.dumps(found))
    valid = [(found["images_per_second"], one) for found, one in zip(tried, compiled, strict=True) if "images_per_second" in found]
    if not valid:
        return {"tried": tried, "invalid": "; ".join(found["invalid"] for found in tried)}
    best = max(valid, key=lambda pair: pair[0])[1]
    row = {"tried": tried, "choice": asdict(best.ways), "provider": best.session.provider, **timed(best, options)}
    if options.keep_programs:
        options.keep_programs.mkdir(parents=True, exist_ok=True)
        for one in compiled:
            name = "-".join([options.backbone, str(len(one.images)), *asdict(one.ways).values()])
            (options.keep_programs / f"{name}.txt").write_text(one.session.program(one.images).as_text(), encoding="utf-8")
            trace(one, options.keep_programs / name)
    return row


def trace(one: Compiled, folder: Path) -> None:
    """What each kernel took, for reading."""
    import jax

    with jax.profiler.trace(str(folder)):
        one.calls(3)


def timed(best: Compiled, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one way."""
    size = len(best.images)
    throughput = rate(best.calls, items=size, window_s=0.005 if options.check else 0.5)
    calls = 6 if options.check else LATENCY_CALLS if size == 1 else BATCH_LATENCY_CALLS
    return {
        "throughput": throughput.record(),
        "latency": latency(best.call, calls=calls, warm_up=2 if options.check else 10).record(),
        "latency_from_host": latency(best.call_from_host, calls=min(calls, 500), warm_up=2).record(),
        "max_difference": best.difference(),
        "unsteady": not throughput.agree,
    }


def main() -> None:
    """Print what is tried; write the row to --result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--batches", type=int, nargs="*", default=(256, 1))
    parser.add_argument("--keep-programs", type=Path, help="a folder for XLA's programs and traces of their kernels")
    parser.add_argument("--result", type=Path, required=True)
    add_turn_option(parser)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others are on the card too
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
