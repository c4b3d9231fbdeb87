"""What the best recipes' files cost to run beside what they answer: docs/results/cost.json, cost.md and its pictures. Written by `make results-cost`.

    CELLCLF_DATA=… CELLCLF_WEIGHTS=… python -m benchmarks.cost_results [--benchmarks MORE.json]… [--page]

Runs that `make results-best` left in runs/ are used again; others are trained. --benchmarks: what was measured of these files elsewhere, as on a GPU;
--page: only write the page anew from cost.json and cost-made.json, which keeps the commands of that time and the environment.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.best_results import BEST, PRECISIONS, RESULTS, ROOT, WORK, cellclf
from cellclf.report.cost_page import write_cost_page
from cellclf.report.costing import Costs

FILES = ROOT / "build" / "cost"
SPEED = FILES / "speed.json"
MADE = RESULTS / "cost-made.json"
MEASURE = ("benchmarks/test_inference.py", "--full", "-k", "best-")
NOTES = (
    "What each of the best recipes' files (best.md) costs to run, beside what that very file answers on the data set's official test images. The "
    "models differ in more than their backbone, so this compares files to deploy, not networks.",
    "Two trainings of one recipe do not give the same weights, so these need not be the very files of best.md; cost.json names each by its SHA-256.",
    "Prices are assumptions that stand below; give your own to cellclf report, and the whole page follows.",
)


def exported(name: str) -> None:
    """Train the recipe where its run is not there yet, and export it in every precision."""
    run = f"best-{name}"
    there = (WORK / run / "recipe.json").exists()
    cellclf(f"train --resume {run} --json" if there else f"train {BEST[name].train} --name {run} --json")
    for precision in PRECISIONS:
        cellclf(f"export {run} {BEST[name].export} --precision {precision} --output {FILES.relative_to(ROOT)}/{run}-{precision}.onnx --json")


def measured() -> None:
    """The speed and the answers of every exported file."""
    environment = {**os.environ, "CELLCLF_BENCH_MODELS": str(FILES)}
    command = [sys.executable, "-m", "pytest", *MEASURE, f"--benchmark-json={SPEED}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def reported(names: list[str], more: list[str]) -> Costs:
    """The costs, as the product's own report has them."""
    runs = " ".join(f"best-{name}" for name in names)
    files = " ".join(f"--benchmarks {file}" for file in (SPEED, *more))
    cellclf(f"report {runs} --factor backbone,image_size_px {files} --output {FILES / 'report'} --markdown-only --json")
    return Costs.read(FILES / "report" / "cost.json")


def commands(names: list[str]) -> list[str]:
    """What makes it all by hand."""
    lines = []
    for name in names:
        lines.append(f"cellclf train {BEST[name].train} --name best-{name}")
        lines += [
            f"cellclf export best-{name} {BEST[name].export} --precision {each} --output build/cost/best-{name}-{each}.onnx" for each in PRECISIONS
        ]
    lines.append(f"CELLCLF_BENCH_MODELS=build/cost pytest {' '.join(MEASURE)} --benchmark-json=build/cost/speed.json")
    runs = " ".join(f"best-{name}" for name in names)
    return [*lines, f"cellclf report {runs} --factor backbone,image_size_px --benchmarks build/cost/speed.json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=BEST, default=list(BEST))
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
        measured()
        reported(options.only, options.benchmarks).write(stored)
        environment = json.loads(SPEED.read_text(encoding="utf-8"))["environment"]
        MADE.write_text(json.dumps({"environment": environment, "commands": commands(options.only)}, indent=1) + "\n", encoding="utf-8")
    made = json.loads(MADE.read_text(encoding="utf-8"))
    notes = (*NOTES, _said(made["environment"]))
    title = "What the best recipes cost to run, beside their accuracy"
    write_cost_page(Costs.read(stored), RESULTS / "cost.md", title=title, command="make results-cost", notes=notes, commands=made["commands"])


def _said(environment: dict[str, Any] | None) -> str:
    """With which code and versions it was measured."""
    if environment is None:
        return "Measured before the environment was kept: the commit and the versions are not known."
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return f"Measured at commit {environment['git_commit']} with Python {environment['python']}, {versions}."


if __name__ == "__main__":
    main()
