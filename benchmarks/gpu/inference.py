"""The five study backbones: the fp16 artifact's graph on ONNX Runtime's CUDA provider, and compiled PyTorch, in turn, each in its own process.

Writes inference.json after every engine, and goes on where a killed run stopped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, save, say

ENGINES = {"onnxruntime": "benchmarks.gpu.engine_onnxruntime", "torch.compile": "benchmarks.gpu.engine_torch"}
BATCHES = (256, 1)
CHECK_BATCHES = (4, 1)


def main() -> None:
    """Run what is not in inference.json yet, until the time is up."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbones", nargs="*", choices=STUDY_BACKBONES, default=STUDY_BACKBONES)
    parser.add_argument("--engines", nargs="*", choices=tuple(ENGINES), default=tuple(ENGINES))
    parser.add_argument("--thorough", action="store_true", help="search more options of both engines (minutes more a backbone)")
    parser.add_argument("--warm", action="store_true", help="only compile PyTorch's networks, all at once, into its cache on disk")
    parser.add_argument("--limit-s", type=float, default=560, help="start nothing that cannot end by then")
    parser.add_argument("--engine-s", type=float, default=150, help="longest time of one engine on one backbone and batch")
    options = parser.parse_args()
    started = time.monotonic()
    if options.warm:
        warm(options)
        return
    rows = _done(options.out / "inference.json", options.check)
    have = {(row["engine"], row["backbone"], row["batch"]) for row in rows}
    for backbone in options.backbones:
        for batch in CHECK_BATCHES if options.check else BATCHES:
            for engine in options.engines:
                left = options.limit_s - (time.monotonic() - started)
                if (engine, backbone, batch) in have:
                    continue
                if left < 20:
                    say(f"no time left for {engine} {backbone} batch {batch}; the same command goes on there")
                    continue
                rows.append(run_engine(engine, backbone, batch, options, limit_s=min(left, options.engine_s)))
                save("inference", rows, options)
    say(table(rows))


def warm(options: argparse.Namespace) -> None:
    """Compile every PyTorch network in processes at once; timed later, one after the other, they find their kernels in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        running = [
            subprocess.Popen([*_command("torch.compile", backbone, batch, Path(folder) / f"{backbone}-{batch}.json", options), "--compile-only"])
            for backbone in options.backbones
            for batch in (CHECK_BATCHES if options.check else BATCHES)
        ]
        until = time.monotonic() + options.limit_s
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _command(engine: str, backbone: str, batch: int, result: Path, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", ENGINES[engine], "--backbone", backbone, "--batch", str(batch), "--result", str(result)]
    command += ["--carry", str(options.carry), *(["--check"] if options.check else []), *(["--thorough"] if options.thorough else [])]
    return [*command, "--no-compile"] if options.check and engine == "torch.compile" else command


def run_engine(engine: str, backbone: str, batch: int, options: argparse.Namespace, *, limit_s: float) -> dict[str, Any]:
    """One engine's row; what a process had measured when it failed or was stopped is kept, with the reason."""
    row: dict[str, Any] = {"engine": engine, "backbone": backbone, "batch": batch}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        command = _command(engine, backbone, batch, result, options)
        started = time.monotonic()
        try:
            done = subprocess.run(command, timeout=limit_s, check=False, stderr=subprocess.PIPE, text=True)
            failed = f"exit code {done.returncode}: {' '.join(done.stderr.splitlines()[-3:])[-600:]}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failed = f"did not end within {limit_s:.0f} s"
        row["seconds"] = time.monotonic() - started
        if result.exists():
            row |= json.loads(result.read_text(encoding="utf-8"))
    if failed:
        row["stopped"] = failed
    if "throughput" not in row:
        row.setdefault("invalid", failed or "no figure")
    return row


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
    """Rows of an earlier call that gave figures; a row that failed or was too slow is tried again."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in stored["rows"] if "throughput" in row] if stored["check"] == check else []


if __name__ == "__main__":
    main()
