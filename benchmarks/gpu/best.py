"""The blood-cell recipe for a GPU, by `cellclf train` itself on JAX: several seeds at once, since a small network leaves most of the card idle.

The run folders come back as OUT/NAME.tar.gz; `cellclf export` and `evaluate` on them give the figures of docs/results/best_gpu.md.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import arguments, save, say

WEIGHTS = "mobilenet_v2_1.0_224_imagenet_notop.weights.h5"
RECIPE = (
    "--backbone mobilenetv2 --image-size 224 --crop cell --tta turns --batch-size 64 --hidden none --learning-rate 5e-4 --schedule cosine"
    " --patience 0 --dropout 0.4 --data blood-cells --protocol official --logit-adjustment groups --augment cells-stain"
)
CHECK_RECIPE = "--backbone mobilenet025 --image-size 32 --crop cell --tta mirror --batch-size 8 --data sample --weights none"


def main() -> None:
    """Train every seed side by side; what has not ended in time is stopped and not brought back."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit-s", type=float, default=240)
    options = parser.parse_args()
    started = time.monotonic()
    runs = {f"best-blood-gpu-{seed}": _start(seed, options) for seed in options.seeds}
    rows: list[dict[str, Any]] = []
    for name, process in runs.items():
        try:
            process.wait(max(0.1, started + options.limit_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        rows.append({"run": name, "exit_code": process.returncode, "seconds": time.monotonic() - started})
        if process.returncode == 0:
            with tarfile.open(options.out / f"{name}.tar.gz", "w:gz") as archive:
                archive.add(Path("runs") / name, arcname=name)
        else:
            say(f"{name}: {(options.out / f'{name}.log').read_text(encoding='utf-8', errors='replace')[-800:]}")
        say(str(rows[-1]))
    save("best", rows, options)


def _start(seed: int, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    recipe = CHECK_RECIPE if options.check else f"{RECIPE} --weights {Path(os.environ['CELLCLF_WEIGHTS']) / WEIGHTS}"
    name = f"best-blood-gpu-{seed}"
    command = [sys.executable, "-m", "cellclf", "train", *recipe.split(), "--epochs", str(1 if options.check else options.epochs)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with (options.out / f"{name}.log").open("wb") as log:
        return subprocess.Popen([*command, "--seed", str(seed), "--name", name], env=environment, stdout=log, stderr=log)


if __name__ == "__main__":
    main()
