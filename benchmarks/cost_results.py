"""What files to deploy cost to run beside what they answer: docs/results/cost.json, cost.md and its pictures. Written by `make results-cost`.

    CELLCLF_DATA=… CELLCLF_WEIGHTS=… python -m benchmarks.cost_results [--benchmarks MORE.json]… [--page]

Runs that lie in runs/, as `make results-spine` leaves them, are used again; others are trained. --benchmarks: what was measured of these files
elsewhere, as on a GPU; --page: only write the page anew from cost.json and cost-made.json, which keeps the commands of that time and the
environment.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.best_results import PRECISIONS, RESULTS, ROOT, WORK, cellclf
from benchmarks.spine_runs import RUNS
from benchmarks.subjects import STUDY_BACKBONES
from cellclf.report.cost_page import write_cost_page
from cellclf.report.costing import Costs, ModelCost
from cellclf.report.deployments import LEAST_SAME_LABELS, MOST_POINTS_LOST
from cellclf.runtime.providers import PROVIDERS

ALIKE = (
    "--weights none --image-size 96 --hidden none --dropout 0.2 --schedule cosine --patience 0 --batch-size 16 --data chest-xray --protocol official"
    " --class-weight balanced --epochs 3"
)
"""The recipe of the five, small enough for two cores: their ImageNet weights are not at hand."""

USUAL = "--learning-rate 1e-3 --precision mixed_bfloat16"
OWN = {
    "mobilenet": "--learning-rate 1e-3 --precision float32",  # its quicker precision here
    "vgg16": "--learning-rate 1e-4 --precision mixed_bfloat16",  # it has no batch norm: at 2e-4 it called every image PNEUMONIA
}
FIVE = {f"five-{backbone}": f"--backbone {backbone} {ALIKE} {OWN.get(backbone, USUAL)}" for backbone in STUDY_BACKBONES}
COSTED = FIVE | {f"spine-{name}": RUNS[name] for name in ("chest-official", "blood-official")}
"""By the run's name, how it is trained."""

INT8_GAIN = 2.5
"""Target: int8 over fp32, the geometric mean of the five."""

FILES = ROOT / "build" / "cost"
SPEED = FILES / "speed.json"
MADE = RESULTS / "cost-made.json"
NOTES = (
    "What each file costs to run, beside what that very file answers on the data set's official test images: the five study backbones from a "
    "random start, and two of the main job (spine.md). The five have one recipe but for the learning rate of VGG16 and the training precision of "
    "MobileNet. The main job's have another: beside the five they tell what these files cost to deploy, not which network is better.",
    "The five were trained for three epochs at 96 px, for two cores: that tells what a precision changes in a trained network and what each network "
    "costs to run, not how good it becomes.",
    "Two trainings of one recipe do not give the same weights, so these need not be the very files of spine.md; cost.json names each by its SHA-256.",
    "Prices are assumptions that stand below; give your own to cellclf report, and the whole page follows.",
)


def exported(name: str) -> None:
    """Train the recipe where its run is not there yet, and export it in every precision."""
    there = (WORK / name / "recipe.json").exists()
    cellclf(f"train --resume {name} --json" if there else f"train {COSTED[name]} --name {name} --json")
    for precision in PRECISIONS:
        cellclf(f"export {name} --precision {precision} --output {FILES.relative_to(ROOT)}/{name}-{precision}.onnx --json")


def measuring(names: list[str]) -> list[str]:
    """The benchmarks of these runs' files, and of no random weights."""
    return ["benchmarks/test_inference.py", "--full", "-k", " or ".join(names)]


def measured(names: list[str]) -> None:
    """The speed and the answers of every exported file."""
    environment = {**os.environ, "CELLCLF_BENCH_MODELS": str(FILES)}
    command = [sys.executable, "-m", "pytest", *measuring(names), f"--benchmark-json={SPEED}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def reported(names: list[str], more: list[str]) -> Costs:
    """The costs, as the product's own report has them."""
    files = " ".join(f"--benchmarks {file}" for file in (SPEED, *more))
    cellclf(f"report {' '.join(names)} --factor backbone,image_size_px {files} --output {FILES / 'report'} --markdown-only --json")
    return Costs.read(FILES / "report" / "cost.json")


def commands(names: list[str]) -> list[str]:
    """What makes it all by hand."""
    lines = []
    for name in names:
        lines.append(f"cellclf train {COSTED[name]} --name {name}")
        lines += [f"cellclf export {name} --precision {each} --output build/cost/{name}-{each}.onnx" for each in PRECISIONS]
    lines.append(f"CELLCLF_BENCH_MODELS=build/cost pytest {shlex.join(measuring(names))} --benchmark-json=build/cost/speed.json")
    return [*lines, f"cellclf report {' '.join(names)} --factor backbone,image_size_px --benchmarks build/cost/speed.json"]


def int8_of_the_five(costs: Costs) -> list[str]:
    """What rounding to int8 changes in the answers of the five, provider by provider, against the targets."""
    said = []
    for provider in dict.fromkeys(row.runs_as for row in PROVIDERS.values()):
        found = {}
        for model in costs.models:
            if model.title in FIVE:
                ways = [way for way in model.ways if way.precision == "int8" and way.provider == provider and way.accuracy_of == "file"]
                if ways and (answers := ways[0].measured) is not None:
                    found[model.title.removeprefix("five-")] = (answers.difference_to_fp32_points, answers.same_labels_as_fp32, answers.images)
        if found:
            points, same, images = (np.array(each, float) for each in zip(*found.values(), strict=True))
            each = ", ".join(f"{name} {gap:+.2f} ({like:.2%})" for name, (gap, like, _) in found.items())
            said.append(
                f"int8 against fp32 of the five on {provider}, points of accuracy (same labels) on {images[0]:.0f} official test images: {each}. "
                f"Targets: within {MOST_POINTS_LOST:g} points, reached by {np.sum(np.abs(points) <= MOST_POINTS_LOST)} of {len(points)}, on average "
                f"{points.mean():+.2f}; at least {LEAST_SAME_LABELS:.1%} same labels, reached by {np.sum(same >= LEAST_SAME_LABELS)} of {len(same)}, "
                f"on average {same.mean():.2%}.{_int8_speed(costs, provider)}"
            )
    return said


def _int8_speed(costs: Costs, provider: str) -> str:
    """How much quicker these very int8 files are than the fp32 files on ONNX Runtime: a trained network may keep more in fp32 than cpu.md's."""
    gains = {}
    for model in costs.models:
        ours, plain = ("onnxruntime", "openvino"), ("onnxruntime", "onnxruntime-loop")
        int8, fp32 = _images_per_second(costs, model, ours, "int8", provider), _images_per_second(costs, model, plain, "fp32", "CPUExecutionProvider")
        if model.title in FIVE and int8 and fp32:
            gains[model.title.removeprefix("five-")] = int8 / fp32
    if not gains:
        return ""
    mean = statistics.geometric_mean(gains.values())
    each = ", ".join(f"{name} {gain:.2f}" for name, gain in gains.items())
    return (
        f" Speed of these very files: images a second over those of fp32 on CPUExecutionProvider, ours or the plain loop's, whichever are more, each "
        f"with its best steady batch, threads and sessions: {each}; target, a geometric mean of {INT8_GAIN:g}: "
        f"{'reached' if mean >= INT8_GAIN else 'MISSED'}, {mean:.2f}."
    )


def _images_per_second(costs: Costs, model: ModelCost, engines: tuple[str, ...], precision: str, provider: str) -> float:
    """The most that was measured of the model's own file in windows that agreed; 0 where nothing was."""
    files = {way.file_sha256 for way in model.ways if way.precision == precision and way.accuracy_of == "file"}
    rows = (each.measured for each in costs.measured)
    return max(
        (
            row.images_per_second
            for row in rows
            if row.engine in engines and row.precision == precision and row.provider == provider and row.steady and row.file_sha256 in files
        ),
        default=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=COSTED, default=list(COSTED))
    parser.add_argument("--benchmarks", action="append", default=[])
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("CELLCLF_CACHE", str(ROOT / ".cache"))
    stored = RESULTS / "cost.json"
    if not options.page:
        shutil.rmtree(FILES, ignore_errors=True)
        FILES.mkdir(parents=True)
        for name in options.only:
            exported(name)
        measured(options.only)
        reported(options.only, options.benchmarks).write(stored)
        environment = json.loads(SPEED.read_text(encoding="utf-8"))["environment"]
        MADE.write_text(json.dumps({"environment": environment, "commands": commands(options.only)}, indent=1) + "\n", encoding="utf-8")
    made = json.loads(MADE.read_text(encoding="utf-8"))
    costs = Costs.read(stored)
    notes = (*NOTES, *int8_of_the_five(costs), _said(made["environment"]))
    title = "What the exported files cost to run, beside their accuracy"
    write_cost_page(costs, RESULTS / "cost.md", title=title, command="make results-cost", notes=notes, commands=made["commands"])


def _said(environment: dict[str, Any] | None) -> str:
    """With which code and versions it was measured."""
    if environment is None:
        return "Measured before the environment was kept: the commit and the versions are not known."
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return f"Measured at commit {environment['git_commit']} with Python {environment['python']}, {versions}."


if __name__ == "__main__":
    main()
