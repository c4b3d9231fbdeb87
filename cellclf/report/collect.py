"""Run folders → a Report: what is comparable, its figures, its questions answered. Reads run folders only; writes nothing."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellclf.errors import StudyError
from cellclf.report.comparing import Candidate
from cellclf.report.figures import USUAL_POINT, Failed, Report, Section, WantedPoint
from cellclf.report.loading import LoadedRun, load_all
from cellclf.report.sections import make_section, side_by_side
from cellclf.report.words import joined
from cellclf.studies.contract import ALL_IMAGES, gather_models, images_used
from cellclf.studies.plan import PlannedRun, StudyFolder, StudyPlan
from cellclf.studies.study import Variation
from cellclf.studies.table import STUDIES
from cellclf.training.recipe import Recipe
from cellclf.training.run import Run

__all__ = ["Collected", "candidates_of", "collect_runs", "collect_study", "known_factors", "scale_of"]

_SHOWN = 5


@dataclass(frozen=True)
class Collected:
    """A report, and where the images of its mistakes lie on this machine, by content hash (not part of the report: it may travel)."""

    report: Report
    images: dict[str, Path]

    @property
    def damaged(self) -> tuple[Failed, ...]:
        """Finished runs that could not be used."""
        return tuple(run for run in self.report.failed if run.state == "damaged")


def collect_study(study: StudyFolder, *, force: bool = False, wanted: WantedPoint = USUAL_POINT, options: Sequence[str] = ()) -> Collected:
    """The report of a study's finished runs; force: rank what differs; wanted: the operating point; options: as the page's command shows them.

    Raises StudyError where there is no run, and where the operating point is for a label that none has.
    """
    plan, planned = study.plan, study.planned()
    loaded, left_out = load_all(each.run for each in planned if each.state == "done")
    if not loaded:
        raise StudyError(f"{study.folder} holds no finished run to report on{_reasons(left_out)}; run it with: cellclf study run {plan.study.name}")
    published = {variation.name: variation.published for variation in plan.study.variations}
    sections: list[Section] = []
    members: list[Sequence[Candidate]] = []
    notes: list[str] = []
    for protocol in plan.protocols:
        candidates: list[Candidate] = []
        for variation in plan.study.variations:
            folders = [each.run.folder for each in planned if each.protocol == protocol and each.variation == variation]
            found, said = candidates_of([loaded[folder] for folder in folders if folder in loaded], variation)
            candidates += found
            notes += said
        if candidates:
            members.append(candidates)
            sections.append(
                make_section(candidates, factors=plan.study.factors, force=force, questions=plan.study.questions, published=published, wanted=wanted)
            )
    header = _Header(
        title=plan.study.title,
        study=plan.study.name,
        letter=plan.study.letter,
        scale=plan.scale.describe(),
        factors=plan.study.factors,
        published_protocol=(plan.study.protocols or plan.protocols)[0],
        notes=(*plan.study.notes, *_published_notes(plan.study.variations), *_side_by_side_runs(plan), *notes),
        commands=_commands(study, options),
    )
    return _collected(header, sections, members, (*_unfinished(planned), *left_out), wanted)


def known_factors(factors: Iterable[str]) -> tuple[str, ...]:
    """The factors, all of which are fields of a recipe; raises StudyError."""
    found = tuple(factors)
    unknown = [factor for factor in found if factor not in Recipe.model_fields]
    if unknown:
        raise StudyError(f"{unknown[0]!r} is no field of a recipe, so it cannot be a factor; the fields are {', '.join(Recipe.model_fields)}")
    return found


def collect_runs(
    runs: Sequence[Run],
    *,
    factors: Sequence[str] = ("backbone",),
    force: bool = False,
    command: str = "cellclf report",
    wanted: WantedPoint = USUAL_POINT,
) -> Collected:
    """The report of any runs; factors: the fields of a recipe under study; force: rank everything in one table.

    Raises StudyError where a factor is no field of a recipe, where no run can be used, and where the operating point is for a label that none has.
    """
    known_factors(factors)
    loaded, left_out = load_all(runs)
    if not loaded:
        raise StudyError(f"there is no run to report on{_reasons(left_out)}")
    candidates, notes = candidates_of(list(loaded.values()))
    apart: defaultdict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        data = candidate.runs[0].setup.data
        apart[("", "") if force else (data.name, data.protocol)].append(candidate)
    header = _Header(
        title="Runs compared",
        study="",
        letter="",
        scale=scale_of([run for candidate in candidates for run in candidate.runs]),
        factors=tuple(factors),
        published_protocol="",
        notes=notes,
        commands=(command,),
    )
    members = list(apart.values())
    sections = [make_section(each, factors=tuple(factors), force=force, questions=(), published={}, wanted=wanted) for each in members]
    return _collected(header, sections, members, left_out, wanted)


def scale_of(runs: Sequence[LoadedRun]) -> str:
    """What was left out of the data sets, in words; '' where nothing was."""
    amounts = dict.fromkeys(images_used(run.setup.recipe.data) for run in runs)
    reduced = [amount for amount in amounts if amount != ALL_IMAGES]
    return f"reduced scale: {joined(list(amounts))}" if reduced else ""


def candidates_of(runs: Sequence[LoadedRun], variation: Variation | None = None) -> tuple[list[Candidate], tuple[str, ...]]:
    """Runs as models under titles of their own, and a note on each run that another replaces.

    A title is the variation's, with the seeds where its runs differ in more than the seed; without a variation the first run's name.
    """
    loaded = {run.run.folder: run for run in runs}
    models, notes = gather_models(run.run for run in runs)
    names = [model.name for model in models]
    found = []
    for model in models:
        title = model.name if names.count(model.name) == 1 else f"{model.runs[0].folder.absolute().parent.name}/{model.name}"
        if variation is not None:
            title = variation.title if len(models) == 1 else f"{variation.title} (seed {', '.join(str(seed) for seed in model.seeds)})"
        own = tuple(loaded[run.folder] for run in model.runs)
        found.append(Candidate(title, variation.name if variation else "", replace(model, name=title), own))
    return found, notes


@dataclass(frozen=True)
class _Header:
    title: str
    study: str
    letter: str
    scale: str
    factors: tuple[str, ...]
    published_protocol: str
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def _collected(
    header: _Header, sections: Sequence[Section], members: Sequence[Sequence[Candidate]], failed: tuple[Failed, ...], wanted: WantedPoint
) -> Collected:
    """Sections whose test set does not leak come first."""
    labels = dict.fromkeys(label for candidates in members for candidate in candidates for label in candidate.runs[0].setup.data.labels)
    if wanted.positive is not None and wanted.positive not in labels:
        raise StudyError(f"--positive {wanted.positive!r} is no label of these runs; theirs are {', '.join(labels)}")
    order = sorted(range(len(sections)), key=lambda place: any(model.test.leak for model in sections[place].models))
    everything = [candidate for place in order for candidate in members[place]]
    conditions = [candidate.model.conditions for candidate in everything]
    report = Report(
        **vars(header),
        hardware=tuple(dict.fromkeys(each["hardware"] for each in conditions)),
        software=tuple(dict.fromkeys(each["software"] for each in conditions)),
        commits=tuple(dict.fromkeys(commit for place in order for model in sections[place].models for commit in model.commits)),
        sections=tuple(sections[place] for place in order),
        side_by_side=side_by_side([sections[place] for place in order]),
        failed=failed,
    )
    mistaken = {mistake.sha256 for section in report.sections for mistake in section.mistakes}
    return Collected(report, _files(everything, mistaken))


def _files(candidates: Sequence[Candidate], wanted: set[str]) -> dict[str, Path]:
    return {
        entry.sha256: Path(run.setup.data.root) / entry.path
        for candidate in candidates
        for run in candidate.runs[:1]
        for entry in run.test.entries
        if entry.sha256 in wanted
    }


def _unfinished(planned: Sequence[PlannedRun]) -> tuple[Failed, ...]:
    found = []
    for each in planned:
        failure = each.failure()
        if each.state != "done":
            found.append(Failed(run=each.name, state=each.state, reason=failure.reason if failure else ""))
    return tuple(found)


def _commands(study: StudyFolder, shown: Sequence[str]) -> tuple[str, ...]:
    """What makes the runs and the page again; a user's own study stands in a file that only the user can name."""
    plan, name = study.plan, study.plan.study.name
    scale = plan.scale.option()
    several = str(len(plan.seeds)) if plan.seeds == tuple(range(len(plan.seeds))) else ",".join(str(seed) for seed in plan.seeds)
    options = [f"--scale '{scale}'" if scale else "", f"--seeds {several}", f"--protocol {','.join(plan.protocols)}"]
    named = f" --name {study.folder.name}" if study.folder.name != f"study-{name}" else ""
    ran = " ".join(["cellclf study run", name if name in STUDIES else "FILE.toml", *filter(None, options)])
    return ran + named, " ".join([f"cellclf study report {name}{named}", *map(shlex.quote, shown)])


def _side_by_side_runs(plan: StudyPlan) -> tuple[str, ...]:
    return (f"Up to {plan.jobs} runs shared the machine: learning times are longer than of a run alone.",) if plan.jobs > 1 else ()


def _published_notes(variations: Sequence[Variation]) -> tuple[str, ...]:
    return tuple(f"{each.title}: {each.published.note}" for each in variations if each.published and each.published.note)


def _reasons(left_out: Sequence[Failed]) -> str:
    more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return f": {'; '.join(f'{run.run}: {run.reason}' for run in left_out[:_SHOWN])}{more}" if left_out else ""
