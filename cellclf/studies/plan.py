"""The plan of a study and its folder: which runs there are, where each lives, and what became of it. Loads no framework."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cellclf.data.splits import Protocol
from cellclf.documents import Document
from cellclf.errors import StudyError
from cellclf.studies.scale import Scale, scaled
from cellclf.studies.study import Study, Variation
from cellclf.training.recipe import Recipe
from cellclf.training.run import Run

__all__ = ["PLAN_FILE", "Failure", "PlannedRun", "RunState", "StudyFolder", "StudyPlan", "open_study", "start_study"]

PLAN_FILE = "study.json"
RunState = Literal["done", "failed", "interrupted", "waiting"]


class StudyPlan(Document):
    """study.json: the study as it is run. seeds and protocols may grow; study and scale are fixed once the folder is made."""

    format: Literal[1] = 1
    study: Study
    scale: Scale
    protocols: tuple[Protocol, ...]
    seeds: tuple[int, ...]
    jobs: int = 1


class Failure(Document):
    """Why a run ended without a result."""

    run: str
    reason: str
    exit_code: int
    log: str


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan: a variation under a protocol with a seed."""

    study: Path
    variation: Variation
    protocol: Protocol
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """The run folder's name."""
        return f"{self.protocol}-{self.variation.name}-s{self.seed}"

    @property
    def run(self) -> Run:
        """The run folder, which need not exist yet."""
        return Run(self.study / self.name)

    @property
    def log(self) -> Path:
        """What its process printed."""
        return self.study / "logs" / f"{self.name}.log"

    @property
    def failure_file(self) -> Path:
        """Where its failure is written."""
        return self.study / "failures" / f"{self.name}.json"

    @property
    def state(self) -> RunState:
        """What became of it."""
        if self.run.finished:
            return "done"
        if self.failure_file.exists():
            return "failed"
        return "interrupted" if self.run.folder.exists() else "waiting"

    def failure(self) -> Failure | None:
        """Its failure, where it failed."""
        return Failure.read(self.failure_file) if self.state == "failed" else None


@dataclass(frozen=True)
class StudyFolder:
    """runs/<name>/ of a study."""

    folder: Path
    plan: StudyPlan

    def planned(self) -> tuple[PlannedRun, ...]:
        """Every run: seeds outermost, so that a study cut short has whole sets of the first seeds."""
        plan = self.plan
        return tuple(
            PlannedRun(self.folder, variation, protocol, seed, scaled(plan.study.recipe(variation, protocol=protocol, seed=seed), plan.scale))
            for seed in plan.seeds
            for protocol in plan.protocols
            for variation in plan.study.variations
        )


def open_study(folder: Path) -> StudyFolder:
    """A study's folder that exists; raises StudyError where it does not, StoredFileError where study.json is broken."""
    if not (folder / PLAN_FILE).exists():
        raise StudyError(f"{folder} holds no study; run it first: cellclf study run NAME")
    return StudyFolder(folder, StudyPlan.read(folder / PLAN_FILE))


def start_study(plan: StudyPlan, folder: Path) -> StudyFolder:
    """Make the folder, or go on in it with more seeds or protocols; raises StudyError where it holds another study or scale."""
    if (folder / PLAN_FILE).exists():
        before = open_study(folder).plan
        _check_same(before, plan, folder)
        plan = plan.model_copy(
            update={
                "protocols": (*before.protocols, *(each for each in plan.protocols if each not in before.protocols)),
                "seeds": tuple(sorted({*before.seeds, *plan.seeds})),
                "jobs": max(plan.jobs, before.jobs),
            }
        )
    started = StudyFolder(folder, plan)
    started.planned()
    plan.write(folder / PLAN_FILE)
    return started


def _check_same(before: StudyPlan, plan: StudyPlan, folder: Path) -> None:
    if before.scale != plan.scale:
        raise StudyError(f"{folder} holds this study at another scale ({before.scale.describe()}); give the same --scale, or another --name")
    if before.study.model_dump_json() != plan.study.model_dump_json():
        raise StudyError(f"{folder} holds another study of that name; give another --name")
