"""Run the published studies at scales that two cores can finish, and write each one's report into docs/results/studies/.

    CELLCLF_DATA=… CELLCLF_WEIGHTS=… python benchmarks/study_results.py [--only B E …] [--jobs N]
    python benchmarks/study_results.py --pages      # nothing is run: the pages anew from the figures recorded in report.json

A run that an earlier call left in runs/ is used again. A and C train their backbones from a random start, because only MobileNet 0.25's and
MobileNetV2's ImageNet weights are small enough to be at hand here; each page states its scale. About an hour and a half on 2 cores.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cellclf.report.comparing import adjusted
from cellclf.report.figures import Report
from cellclf.report.page import JSON_NAME, write_report
from cellclf.studies.study import Study
from cellclf.studies.table import find_study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "studies"


@dataclass(frozen=True)
class Plan:
    """How a study is run here."""

    scale: str
    seeds: int


SMALL = Plan("images=0.05,size=80,epochs=4,batch=16,weights=none,lr=20", 1)
PLANS = {
    "B": Plan("images=0.2,size=96,epochs=6,batch=16,backbone=mobilenet:mobilenet025,lr=20", 3),
    "E": Plan("images=0.3,size=96,epochs=5,backbone=mobilenet:mobilenet025,lr=25", 3),
    "A": SMALL,
    "C": SMALL,
    "D": SMALL,
}


def cellclf(*arguments: str) -> None:
    """Run one command of the project; its output is shown. Exit code 3 = some runs failed and are reported."""
    done = subprocess.run([sys.executable, "-m", "cellclf", *arguments], cwd=ROOT, check=False)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)


def rewritten(report: Report, study: Study) -> Report:
    """Recorded figures under today's rules: which protocol was published, and how comparisons with the first are corrected."""
    sections = []
    for section in report.sections:
        sets = [
            ranked.model_copy(update={"against_first": adjusted(ranked.against_first, family=len(ranked.models) * (len(ranked.models) - 1) // 2)})
            for ranked in section.sets
        ]
        sections.append(section.model_copy(update={"sets": tuple(sets)}))
    return report.model_copy(update={"sections": tuple(sections), "published_protocol": study.protocols[0]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--only", nargs="*", choices=PLANS, default=list(PLANS))
    parser.add_argument("--jobs", default="1")
    arguments = parser.parse_args()
    os.environ.setdefault("CELLCLF_CACHE", str(ROOT / ".cache"))
    for letter in arguments.only:
        plan, study = PLANS[letter], find_study(letter)
        if arguments.pages:
            write_report(rewritten(Report.read(RESULTS / study.name / JSON_NAME), study), RESULTS / study.name, html=False)
            continue
        cellclf("study", "run", study.name, "--scale", plan.scale, "--seeds", str(plan.seeds), "--jobs", arguments.jobs)
        cellclf("study", "report", study.name, "--markdown-only", "--output", str(RESULTS / study.name))


if __name__ == "__main__":
    main()
