"""Run the main job on the real data sets with the project's own commands and write docs/results/spine.json and spine.md.

    CELLCLF_DATA=… CELLCLF_WEIGHTS=… python benchmarks/spine_results.py [--only PART …]

Parts: blood-recipes, blood-official, blood-official-seeds, blood-random, chest-official, chest-random, backbones. Each replaces its part of the
JSON; the page is written from the JSON alone. A run that an earlier call left in runs/ is used again; remove it to train anew. About an hour
on 2 cores.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.spine_page import page
from benchmarks.spine_runs import (
    DIVISIONS,
    FINALISTS,
    MORE_DIVISIONS,
    MORE_SEEDS,
    OFFICIAL,
    PARTS,
    RECIPES,
    RUNS,
    SEEDED,
    SEEDED_PART,
    SLICE,
    SLICE_SIZE_PX,
)
from cellclf.backbones import BACKBONES
from cellclf.environment import Environment

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
WORK = ROOT / "runs"
PRECISIONS = ("fp32", "fp16", "int8")


def cellclf(arguments: str) -> str:
    """Run one command of the project and return what it printed on stdout; its progress goes to stderr."""
    done = subprocess.run([sys.executable, "-m", "cellclf", *arguments.split()], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def trained(run: str, options: str) -> tuple[str, dict[str, Any]]:
    """The command that makes a run, and the run's metrics; a run that is there is gone on with, or taken as it is when it has finished."""
    command = f"train {options} --name {run} --json"
    there = (WORK / run / "recipe.json").exists()
    return command, json.loads(cellclf(f"train --resume {run} --json" if there else command))


def recipes() -> list[dict[str, Any]]:
    """Validation figures of each recipe on each division of the training originals; the test set has no part in it."""
    found = []
    for number, (name, options) in enumerate(RECIPES.items()):
        for seed in (*DIVISIONS, *(MORE_DIVISIONS if name in FINALISTS else ())):
            run = f"spine-recipe-{number}-{seed}"
            train, metrics = trained(run, f"{OFFICIAL} {options} --split-seed {seed} --seed {seed}")
            commit = json.loads((WORK / run / "environment.json").read_text())["git_commit"]
            told: dict[str, Any] = {"recipe": name, "options": options, "division": seed, "command": f"cellclf {train}", "commit": commit}
            found.append(told | {key: metrics["validation"][key] for key in ("accuracy", "balanced_accuracy", "loss", "images")})
    return found


def more_seeds() -> list[dict[str, Any]]:
    """The seeded run with each other seed, on the same split: its own figures on validation and test images."""
    found = []
    for seed in MORE_SEEDS:
        run = f"spine-{SEEDED}-{seed}"
        train, metrics = trained(run, f"{RUNS[SEEDED]} --seed {seed}")
        commit = json.loads((WORK / run / "environment.json").read_text())["git_commit"]
        found.append({"seed": seed, "command": f"cellclf {train}", "commit": commit, "metrics": metrics})
    return found


def train_and_export(name: str, options: str) -> dict[str, Any]:
    """One run, its three files, and the figures of each file on the whole test set."""
    run = f"spine-{name}"
    train, metrics = trained(run, options)
    recorded = recorded_answers(run)
    files: dict[str, dict[str, Any]] = {}
    answers, commands = {}, [f"cellclf {train}"]
    for precision in PRECISIONS:
        target = f"runs/{run}/{run}-{precision}.onnx"
        steps = (f"export {run} --precision {precision} --output {target} --json", f"verify {target} --json", f"evaluate {target} --json")
        exported = exported_or_why(steps[0])
        if isinstance(exported, str):
            files[precision] = {"refused": exported}
            continue
        verified, evaluated = (json.loads(cellclf(step)) for step in steps[1:])
        commands += [f"cellclf {step}" for step in steps] if precision == PRECISIONS[0] else []
        answers[precision] = answers_of(target, [row.path for row in recorded])
        files[precision] = {
            "size_bytes": exported[0]["size_bytes"],
            "parity": exported[0]["card"]["parity"],
            "verified": verified,
            "test": evaluated["metrics"],
            "test_parity": differences(answers[precision], np.array([row.probabilities for row in recorded])),
            "same_labels_as_fp32": float((answers[precision].argmax(axis=1) == answers[PRECISIONS[0]].argmax(axis=1)).mean()),
        }
    setup = json.loads((WORK / run / "recipe.json").read_text())
    return {"commands": commands, "metrics": metrics, "leaks": setup["data"]["leaks"], "notes": setup["data"]["notes"], "files": files}


def exported_or_why(command: str) -> list[dict[str, Any]] | str:
    """What export says of its file, or why it wrote none: its numbers moved more than its precision may."""
    done = subprocess.run([sys.executable, "-m", "cellclf", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 1:
        return done.stderr.splitlines()[-1].removeprefix("cellclf: ")
    done.check_returncode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Recorded:
    """What the trained network said of a test image."""

    path: str
    probabilities: list[float]


def recorded_answers(run: str) -> list[Recorded]:
    """Every test image of a run, from its predictions.csv."""
    root = Path(json.loads((WORK / run / "recipe.json").read_text())["data"]["root"])
    with (WORK / run / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    return [Recorded(str(root / row["path"]), [float(value) for name, value in row.items() if name.startswith("p_")]) for row in rows]


def answers_of(model: str, paths: list[str]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """What a file says of each of these images, [images, classes]."""
    done = subprocess.run(
        [sys.executable, "-m", "cellclf", "predict", "-", "--model", model, "--ndjson"],
        cwd=ROOT,
        input="\n".join(paths),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == paths
    return np.array([list(record["probabilities"].values()) for record in records])


def differences(found: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", network: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, float]:
    """The file against the trained network on the same images."""
    apart = np.abs(found - network)
    flipped = int((found.argmax(axis=1) != network.argmax(axis=1)).sum())
    return {"images": len(found), "max_difference": float(apart.max()), "mean_difference": float(apart.mean()), "flipped": flipped}


def every_backbone() -> dict[str, Any]:
    """One epoch of each backbone of the table on a small slice of real images, exported and verified."""
    found = {}
    for row in BACKBONES.values():
        run = f"spine-slice-{row.name}"
        train, metrics = trained(run, f"--backbone {row.name} {SLICE.format(size=SLICE_SIZE_PX)}")
        target = f"runs/{run}/{run}.onnx"
        exported = json.loads(cellclf(f"export {run} --output {target} --json"))[0]
        verified = json.loads(cellclf(f"verify {target} --json"))
        (ROOT / target).unlink()
        found[row.name] = {
            "command": f"cellclf {train}",
            "parameters": metrics["parameters"],
            "learning_time": metrics["learning_time"],
            "images_per_second": metrics["images_per_second"],
            "size_bytes": exported["size_bytes"],
            "parity": exported["card"]["parity"],
            "verified": verified,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--pages", action="store_true", help="run nothing: write spine.md anew from spine.json")
    asked = parser.parse_args()
    parts = [] if asked.pages else asked.only
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / "spine.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
    os.environ.setdefault("CELLCLF_CACHE", str(ROOT / ".cache"))
    for part in parts:
        environment = Environment.of_this_machine(keras_backend="tensorflow", provider="CPUExecutionProvider")
        lists: dict[str, tuple[str, Callable[[], Any]]] = {
            "backbones": ("backbones", every_backbone),
            "blood-recipes": ("recipes", recipes),
            SEEDED_PART: ("runs", more_seeds),
        }
        found = {lists[part][0]: lists[part][1]()} if part in lists else train_and_export(part, RUNS[part])
        results[part] = {"environment": environment.model_dump(mode="json"), **found}
        target.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{part}: done", file=sys.stderr)
    (RESULTS / "spine.md").write_text(page(results))


if __name__ == "__main__":
    main()
