"""The five study backbones: the fp16 artifact's graph on ONNX Runtime's CUDA provider, and compiled PyTorch, each in its own process.

All get ready at once and are then timed in turns, each alone on the GPU. Writes inference.json after every turn, and goes on where a killed run
stopped.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, save, say
from benchmarks.gpu.turns import Contender, take_turns

ENGINES = {
    "onnxruntime": "benchmarks.gpu.engine_onnxruntime",
    "xla": "benchmarks.gpu.engine_xla",
    "torch.compile": "benchmarks.gpu.engine_torch",
}
BATCHES = (256, 1)
CHECK_BATCHES = (4, 1)


def main() -> None:
    """Run what is not in inference.json yet, until the time is up."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbones", nargs="*", choices=STUDY_BACKBONES, default=STUDY_BACKBONES)
    parser.add_argument("--engines", nargs="*", choices=tuple(ENGINES), default=tuple(ENGINES))
    parser.add_argument("--thorough", action="store_true", help="search more of ONNX Runtime's options (minutes more a backbone)")
    parser.add_argument("--limit-s", type=float, default=560, help="end by then")
    parser.add_argument("--hold-s", type=float, default=100, help="longest wait for all to be ready")
    parser.add_argument("--turn-s", type=float, default=90, help="longest turn: one engine, one backbone, all batch sizes")
    parser.add_argument("--search-s", type=float, default=25, help="ONNX Runtime tries no further option for a batch size after so long")
    parser.add_argument("--keep-programs", type=Path, help="a folder for XLA's programs and traces of their kernels")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    options = parser.parse_args()
    until = time.monotonic() + options.limit_s
    rows = _done(options.out / "inference.json", options.check)
    measured = {(row["engine"], row["backbone"]) for row in rows}
    waiting = [(engine, backbone) for backbone in options.backbones for engine in options.engines if (engine, backbone) not in measured]
    folder = options.out / "inference"
    contenders = [_contender(engine, backbone, folder, options) for engine, backbone in waiting]
    pairs = dict(zip((contender.name for contender in contenders), waiting, strict=True))

    def keep(contender: Contender) -> None:
        rows.extend(rows_of(contender, *pairs[contender.name], folder, _batches(options)))
        save("inference", rows, options)

    for together in [[one] for one in contenders] if options.check else [contenders]:  # a small machine cannot hold them all
        take_turns(together, folder, until=until, hold_s=options.hold_s, on_end=keep)
    say(table(rows))


def _batches(options: argparse.Namespace) -> tuple[int, ...]:
    return CHECK_BATCHES if options.check else tuple(options.batches)


def _contender(engine: str, backbone: str, folder: Path, options: argparse.Namespace) -> Contender:
    name = f"{engine.partition('.')[0]}-{backbone}"
    command = [sys.executable, "-m", ENGINES[engine], "--backbone", backbone, "--batches", *map(str, _batches(options))]
    command += ["--result", str(folder / f"{name}.json"), "--carry", str(options.carry), *(["--check"] if options.check else [])]
    if engine == "onnxruntime":
        command += ["--search-s", str(options.search_s), *(["--thorough"] if options.thorough else [])]
    elif engine == "xla":
        command += ["--keep-programs", str(options.keep_programs)] if options.keep_programs else []
    elif options.check:
        command += ["--no-compile"]
    return Contender(name, command, os.environ, options.turn_s)


def rows_of(contender: Contender, engine: str, backbone: str, folder: Path, batches: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each batch size; what a process had measured when it failed or was stopped is kept, with the reason."""
    result = folder / f"{contender.name}.json"
    found = {row["batch"]: row for row in (json.loads(result.read_text(encoding="utf-8")) if result.exists() else [])}
    rows = []
    for batch in batches:
        row: dict[str, Any] = {"engine": engine, "backbone": backbone, "batch": batch, "turn_s": contender.turn_s, **found.get(batch, {})}
        if contender.failure:
            row["stopped"] = contender.failure
        if "throughput" not in row:
            row.setdefault("invalid", contender.failure or "no figure")
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line an engine, backbone and batch, with the ratio to the peer."""
    rates = {(row["engine"], row["backbone"], row["batch"]): row["throughput"]["per_second"] for row in rows if "throughput" in row}
    lines = ["engine          backbone     batch  images/s   ratio  p50 ms  p99 ms  choice"]
    for row in rows:
        start = f"{row['engine']:<15} {row['backbone']:<12} {row['batch']:>5}"
        if "throughput" not in row:
            lines.append(f"{start}  invalid: {row['invalid'][:200]}")
            continue
        peer = rates.get(("torch.compile", row["backbone"], row["batch"]))
        ratio = f"{row['throughput']['per_second'] / peer:6.2f}" if peer else "     -"
        choice = ", ".join(f"{name}={value}" for name, value in row["choice"].items())
        ms = row["latency"]["ms"]
        speed, unsteady = row["throughput"]["per_second"], " UNSTEADY" if row["unsteady"] else ""
        lines.append(f"{start} {speed:>9.0f}  {ratio} {ms['50']:>7.3f} {ms['99']:>7.3f}  {choice}{unsteady}")
    return "\n".join(lines)


def _done(path: Path, check: bool) -> list[dict[str, Any]]:
    """Rows of an earlier call that gave figures; one that failed before is tried again."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in stored["rows"] if "throughput" in row] if stored["check"] == check else []


if __name__ == "__main__":
    main()
