"""Training speed: Keras on JAX in bf16 with everything on the card, against compiled PyTorch, same network and batch, each in its own process.

Writes training.json after every engine, and goes on where a killed run stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import STUDY_BACKBONES, arguments, save, say

ENGINES = {"keras-jax": "benchmarks.gpu.engine_keras", "torch.compile": "benchmarks.gpu.engine_torch_training"}
STUDIED = tuple(name for name in STUDY_BACKBONES if name != "vgg16")
CHECK_SIZE_PX = 80


def main() -> None:
    """Run what is not in training.json yet, until the time is up."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbones", nargs="*", choices=STUDY_BACKBONES, default=STUDIED)
    parser.add_argument("--engines", nargs="*", choices=tuple(ENGINES), default=tuple(ENGINES))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--limit-s", type=float, default=560)
    parser.add_argument("--engine-s", type=float, default=120)
    options = parser.parse_args()
    started = time.monotonic()
    batch = 4 if options.check else options.batch
    rows = _done(options.out / "training.json", options.check)
    for backbone in options.backbones:
        for engine in options.engines:
            left = options.limit_s - (time.monotonic() - started)
            if (engine, backbone, batch) in {(row["engine"], row["backbone"], row["batch"]) for row in rows}:
                continue
            if left < 30:
                say(f"no time left for {engine} {backbone}; the same command goes on there")
                continue
            rows.append(run_engine(engine, backbone, batch, options, limit_s=min(left, options.engine_s)))
            save("training", rows, options)
    say(table(rows))


def run_engine(engine: str, backbone: str, batch: int, options: argparse.Namespace, *, limit_s: float) -> dict[str, Any]:
    """One engine's row; what a process had measured when it failed or was stopped is kept, with the reason."""
    row: dict[str, Any] = {"engine": engine, "backbone": backbone, "batch": batch}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        command = [sys.executable, "-m", ENGINES[engine], "--backbone", backbone, "--batch", str(batch), "--result", str(result)]
        command += ["--check", "--size", str(CHECK_SIZE_PX)] if options.check else []
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        if options.check:
            environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiles in seconds
        started = time.monotonic()
        try:
            done = subprocess.run(command, timeout=limit_s, check=False, stderr=subprocess.PIPE, text=True, env=environment)
            failed = f"exit code {done.returncode}: {' '.join(done.stderr.splitlines()[-3:])[-600:]}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failed = f"did not end within {limit_s:.0f} s"
        row["seconds"] = time.monotonic() - started
        if result.exists():
            row |= json.loads(result.read_text(encoding="utf-8"))
    if failed:
        row["stopped"] = failed
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """One line an engine and backbone, with the ratio to the peer."""
    rates = {(row["engine"], row["backbone"], row["batch"]): row.get("plain", {}).get("per_second") for row in rows}
    lines = ["engine         backbone     batch  images/s  ratio  compile s  input share  augmentation share"]
    for row in rows:
        start = f"{row['engine']:<14} {row['backbone']:<12} {row['batch']:>5}"
        own, peer = (rates.get((engine, row["backbone"], row["batch"])) for engine in (row["engine"], "torch.compile"))
        if own is None:
            lines.append(f"{start}  invalid: {row.get('stopped') or row.get('plain', {}).get('invalid', 'no figure')}"[:300])
            continue
        shares = "  ".join(f"{row[name]:.3f}" if name in row else "-" for name in ("input_share", "augmentation_share"))
        lines.append(f"{start} {own:>9.0f}  {f'{own / peer:.2f}' if peer else '-':>5}  {row['plain']['compile_s']:>9.1f}  {shares}")
    return "\n".join(lines)


def _done(path: Path, check: bool) -> list[dict[str, Any]]:
    """Rows of an earlier call that ended."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in stored["rows"] if "stopped" not in row] if stored["check"] == check else []


if __name__ == "__main__":
    main()
