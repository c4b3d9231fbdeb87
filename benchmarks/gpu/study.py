"""The four-backbone blood-cell study, 30 epochs each: wall time with compilation, and accuracy on the official test set. Goes on after a kill.

--route cellclf runs cellclf's own `train`, which feeds batches from the host; --route resident runs the same recipe, network, order of batches
and evaluation with the data set on the card and an epoch in one compiled call. Backbones run at once, --parallel of them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import arguments, save, say
from cellclf.backbones import BACKBONES
from cellclf.studies.table import STUDIES
from cellclf.training.recipe import Recipe
from cellclf.training.weights import places

STUDY = "blood-backbones"
VARIATIONS = tuple(variation.name for variation in STUDIES[STUDY].variations)
SCRATCH: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "cosine"}
"""From a random start the studies' rates of 1e-5 to 1e-4 learn nothing in 30 epochs; the speed does not depend on it."""


def recipe_of(name: str, options: argparse.Namespace) -> Recipe:
    """The study's own recipe in bf16; from a random start, and with SCRATCH, where its ImageNet weights are not at hand."""
    study = STUDIES[STUDY]
    variation = next(each for each in study.variations if each.name == name)
    recipe = study.recipe(variation, protocol="official", seed=0)
    changes: dict[str, Any] = {"precision": "mixed_bfloat16", "batch_size": options.batch, "epochs": options.epochs}
    if not any(path.exists() for path in places(BACKBONES[variation.backbone])):
        changes |= {"weights": "none", **SCRATCH}
    if options.check:
        changes |= {"backbone": "mobilenet025", "image_size_px": 32, "weights": "none", "data": recipe.data.model_copy(update={"data": options.data})}
    return Recipe.model_validate(recipe.model_dump() | {name: value for name, value in changes.items() if value is not None} | _plain(changes))


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    return {"data": changes["data"].model_dump()} if "data" in changes else {}


def main() -> None:
    """Run or continue every backbone's process until all have ended or the time is up."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--route", choices=("cellclf", "resident"), default="resident")
    parser.add_argument("--variations", nargs="*", choices=VARIATIONS, default=VARIATIONS)
    parser.add_argument("--runs", type=Path, default=Path("/tmp/gpu-study"), help="where runs and their checkpoints live; the same again to go on")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--batch", type=int, default=None, help="default: the study's own 32")
    parser.add_argument("--epochs", type=int, default=None, help="default: the study's own 30")
    parser.add_argument("--data", default="blood-cells", help="with --check: another data set")
    parser.add_argument("--limit-s", type=float, default=560)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        from benchmarks.gpu import study_run

        study_run.run(recipe_of(options.one, options), options.runs / options.route / options.one, route=options.route, check=options.check)
        return
    _supervise(options)


def _supervise(options: argparse.Namespace) -> None:
    started = time.monotonic()
    folder = options.runs / options.route
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "wall.json"
    before = json.loads(clock.read_text(encoding="utf-8"))["wall_s"] if clock.exists() else 0.0
    waiting = [name for name in options.variations if not (folder / name / "result.json").exists()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    failures: dict[str, str] = {}
    while waiting or running:
        elapsed = time.monotonic() - started
        while waiting and len(running) < options.parallel and elapsed < options.limit_s:
            name = waiting.pop(0)
            running[name] = _start(name, folder, options)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    failures[name] = f"exit code {process.returncode}: {_end_of(folder / f'{name}.log')}"
                say(f"{elapsed:6.0f} s  {name} ended with {process.returncode}")
                clock.write_text(json.dumps({"wall_s": before + time.monotonic() - started}), encoding="utf-8")
                _write(folder, before + time.monotonic() - started, failures, options)
        if elapsed > options.limit_s:
            for process in running.values():
                process.kill()  # runs go on after their last whole epoch
            for process in running.values():
                process.wait()
            break
        time.sleep(0.2)
    wall_s = before + time.monotonic() - started
    clock.write_text(json.dumps({"wall_s": wall_s}), encoding="utf-8")
    _write(folder, wall_s, failures, options)


def _start(name: str, folder: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.gpu.study", *sys.argv[1:], "--one", name]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.85 / options.parallel:.2f}"}
    if options.check:
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _write(folder: Path, wall_s: float, failures: dict[str, str], options: argparse.Namespace) -> None:
    """study-ROUTE.json: the wall time over all calls so far, and a row a backbone."""
    rows: list[dict[str, Any]] = [
        {"what": "study", "route": options.route, "wall_s": wall_s, "parallel": options.parallel, "backbones": len(options.variations)}
    ]
    for name in options.variations:
        for file, state in (("result.json", "done"), ("progress.json", "unfinished")):
            if (folder / name / file).exists():
                found = json.loads((folder / name / file).read_text(encoding="utf-8"))
                rows.append({"what": "run", "backbone": name, "state": state, **found} | ({"failure": failures[name]} if name in failures else {}))
                break
        else:
            rows.append({"what": "run", "backbone": name, "state": "unfinished", **({"failure": failures[name]} if name in failures else {})})
    rows[0]["done"] = sum(row.get("state") == "done" for row in rows)
    save(f"study-{options.route}", rows, options)
    for row in rows:
        say("  ".join(f"{name}={value}" for name, value in row.items() if name not in ("history", "recipe")))


def _end_of(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-3:])[-600:]


if __name__ == "__main__":
    main()
