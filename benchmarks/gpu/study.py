"""The four-backbone blood-cell study, 30 epochs each: wall time with compilation, and accuracy on the official test set. Goes on after a kill.

--route cellclf runs cellclf's own `train`, which feeds batches from the host; --route resident runs the same recipe, network, order of batches
and evaluation with the data set on the card and an epoch in one compiled call. All processes compile at once and then train in turns, each alone
on the GPU. --peers: compiled PyTorch's training step takes turns among them, in the same batch size; training.json then holds both.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import arguments, save, say
from benchmarks.gpu.timing import AGREE
from benchmarks.gpu.turns import Contender, add_turn_option, take_turns
from cellclf.backbones import BACKBONES
from cellclf.data.prepare import prepare
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
    parser.add_argument("--peers", action="store_true", help="measure compiled PyTorch's training too")
    parser.add_argument("--batch", type=int, default=None, help="default: the study's own 32")
    parser.add_argument("--epochs", type=int, default=None, help="default: the study's own 30")
    parser.add_argument("--data", default="blood-cells", help="with --check: another data set")
    parser.add_argument("--limit-s", type=float, default=560)
    parser.add_argument("--hold-s", type=float, default=0, help="longest wait for all to be compiled; speeds of the first are disturbed without it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    add_turn_option(parser)
    options = parser.parse_args()
    if options.one:
        from benchmarks.gpu import study_run

        study_run.run(
            recipe_of(options.one, options), options.runs / options.route / options.one, route=options.route, check=options.check, turn=options.turn
        )
        return
    _supervise(options)


def _supervise(options: argparse.Namespace) -> None:
    started = time.monotonic()
    folder = options.runs / options.route
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "wall.json"
    before = json.loads(clock.read_text(encoding="utf-8"))["wall_s"] if clock.exists() else 0.0
    failures: dict[str, str] = {}
    _decode(options)
    contenders = []
    for name in options.variations:
        contenders += [] if (folder / name / "result.json").exists() else [_study_process(name, options)]
        contenders += [_peer_process(name, folder, options)] if options.peers and not _peer_result(name, folder).exists() else []

    def keep(contender: Contender) -> None:
        if contender.failure:
            failures[contender.name] = contender.failure
        wall_s = before + time.monotonic() - started
        clock.write_text(json.dumps({"wall_s": wall_s}), encoding="utf-8")
        _write(folder, wall_s, failures, options)
        if options.peers:
            _write_training(folder, failures, options)

    for together in [[one] for one in contenders] if options.check else [contenders]:  # a small machine cannot hold them all
        take_turns(together, folder, until=started + options.limit_s, hold_s=options.hold_s, on_end=keep)
    for row in _rows(folder, before + time.monotonic() - started, failures, options):
        say("  ".join(f"{name}={value}" for name, value in row.items() if name not in ("history", "recipe")))


def _decode(options: argparse.Namespace) -> None:
    """Decode the images once, before the processes that share them start."""
    recipes = [recipe_of(name, options) for name in options.variations]
    for view, recipe in {recipe.view: recipe for recipe in recipes}.items():
        began = time.monotonic()
        prepare(recipe.data, view=view)
        say(f"{view.height_px} px: images ready after {time.monotonic() - began:.1f} s")


def _study_process(name: str, options: argparse.Namespace) -> Contender:
    """One backbone's run; killed at the end of the time, it goes on after its last checkpoint."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.runs / "compiled"))
    if options.check:
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-m", "benchmarks.gpu.study", *sys.argv[1:], "--one", name]
    return Contender(name, command, environment, limit_s=options.limit_s)


def _peer_result(name: str, folder: Path) -> Path:
    return folder / f"torch-{name}.json"


def _peer_process(name: str, folder: Path, options: argparse.Namespace) -> Contender:
    recipe = recipe_of(name, options)
    backbone = "mobilenet" if options.check else recipe.backbone
    command = [sys.executable, "-m", "benchmarks.gpu.engine_torch_training", "--backbone", backbone, "--batch", str(recipe.batch_size)]
    command += ["--modes", "default", "--result", str(_peer_result(name, folder)), *(["--check", "--size", "32"] if options.check else [])]
    return Contender(f"torch-{name}", command, os.environ, limit_s=60)


def _write_training(folder: Path, failures: dict[str, str], options: argparse.Namespace) -> None:
    """training.json: the speed of the study's own epochs beside the peer's."""
    runs = {row["backbone"]: row for row in _rows(folder, 0.0, failures, options) if row.get("state") == "done"}
    rows: list[dict[str, Any]] = []
    for name in options.variations:
        rows += [training_row(runs[name])] if name in runs else []
        if _peer_result(name, folder).exists():
            rows.append(json.loads(_peer_result(name, folder).read_text(encoding="utf-8")))
        elif failures.get(f"torch-{name}"):
            batch = recipe_of(name, options).batch_size
            rows.append({"engine": "torch.compile", "backbone": name, "batch": batch, "stopped": failures[f"torch-{name}"]})
    save("training", rows, options)


def training_row(run: dict[str, Any]) -> dict[str, Any]:
    """A run's epochs as windows of a training speed: their median, and whether the last three agree."""
    epochs = [epoch["images_per_second"] for epoch in run["history"]]
    last = epochs[-3:]
    agree = len(last) == 3 and max(last) - min(last) <= AGREE * sorted(last)[1]
    speed = {"per_second": run["images_per_second"], "windows": epochs, "agree": agree, "compile_s": run["compile_s"], "device": run["device"]}
    start = {"engine": "keras-jax", "backbone": run["recipe"]["backbone"], "batch": run["recipe"]["batch_size"]}
    return {**start, "plain": speed, "input_share": run["input_share"], "depthwise": run["depthwise"]}


def _write(folder: Path, wall_s: float, failures: dict[str, str], options: argparse.Namespace) -> None:
    """study-ROUTE.json: the wall time over all calls so far, the peers' turns included, and a row a backbone."""
    save(f"study-{options.route}", _rows(folder, wall_s, failures, options), options)


def _rows(folder: Path, wall_s: float, failures: dict[str, str], options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"what": "study", "route": options.route, "wall_s": wall_s, "peers": options.peers, "backbones": len(options.variations)}
    ]
    for name in options.variations:
        row: dict[str, Any] = {"what": "run", "backbone": name, "state": "unfinished"}
        for file, state in (("result.json", "done"), ("progress.json", "unfinished")):
            if (folder / name / file).exists():
                row |= {"state": state, **json.loads((folder / name / file).read_text(encoding="utf-8"))}
                break
        rows.append(row | ({"failure": failures[name]} if name in failures else {}))
    rows[0]["done"] = sum(row.get("state") == "done" for row in rows)
    return rows


if __name__ == "__main__":
    main()
