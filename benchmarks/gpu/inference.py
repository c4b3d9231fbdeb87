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
    parser.add_argument("--limit-s", type=float, default=560, help="start nothing that cannot end by then")
    parser.add_argument("--engine-s", type=float, default=150, help="longest time of one engine on one backbone and batch")
    options = parser.parse_args()
    started = time.monotonic()
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


def run_engine(engine: str, backbone: str, batch: int, options: argparse.Namespace, *, limit_s: float) -> dict[str, Any]:
    """One engine's row; a process that fails or is too slow gives an invalid one."""
    row: dict[str, Any] = {"engine": engine, "backbone": backbone, "batch": batch}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        command = [sys.executable, "-m", ENGINES[engine], "--backbone", backbone, "--batch", str(batch), "--result", str(result)]
        command += ["--carry", str(options.carry), *(["--check"] if options.check else []), *(["--thorough"] if options.thorough else [])]
        if options.check and engine == "torch.compile":
            command += ["--size", "96", "--no-compile"]
        started = time.monotonic()
        try:
            done = subprocess.run(command, timeout=limit_s, check=False, stderr=subprocess.PIPE, text=True)
        except subprocess.TimeoutExpired:
            return row | {"invalid": f"did not end within {limit_s:.0f} s", "seconds": limit_s}
        row["seconds"] = time.monotonic() - started
        if done.returncode or not result.exists():
            return row | {"invalid": f"exit code {done.returncode}: {' '.join(done.stderr.splitlines()[-3:])[-600:]}"}
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return row | found


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
        lines.append(f"{start} {row['throughput']['per_second']:>9.0f}  {ratio} {ms['50']:>7.3f} {ms['99']:>7.3f}  {choice} {row.get('unsteady', '')}")
    return "\n".join(lines)


def _done(path: Path, check: bool) -> list[dict[str, Any]]:
    """Rows of an earlier call that gave figures; a row that failed or was too slow is tried again."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in stored["rows"] if "throughput" in row] if stored["check"] == check else []


if __name__ == "__main__":
    main()
