"""Which of the runs may be chosen among: whole, honest and comparable."""

from collections.abc import Sequence
from dataclasses import replace

from cellclf.data.manifest import Split
from cellclf.data.splits import Protocol
from cellclf.errors import StudyError
from cellclf.report.collect import candidates_of, scale_of
from cellclf.report.comparing import Candidate
from cellclf.report.loading import LoadedRun, load_all
from cellclf.report.modelling import leak_of
from cellclf.studies.contract import require_comparable
from cellclf.studies.plan import StudyFolder
from cellclf.training.run import Run

__all__ = ["eligible_runs", "eligible_study"]


def eligible_study(
    study: StudyFolder, *, by: Split, force: bool = False, protocol: Protocol | None = None
) -> tuple[list[Candidate], tuple[str, ...]]:
    """The study's models whose figures do not leak, of one protocol or of all, and notes on what was left out. Raises StudyError."""
    if protocol is not None and protocol not in study.plan.protocols:
        raise StudyError(f"{study.folder} has no run under --protocol {protocol}; it has {', '.join(study.plan.protocols)}")
    protocols = study.plan.protocols if protocol is None else (protocol,)
    planned = [each for each in study.planned() if each.state == "done"]
    loaded, failed = load_all(each.run for each in planned)
    candidates: list[Candidate] = []
    notes = [f"{each.run} is left out: {each.reason}" for each in failed]
    for each_protocol in protocols:
        for variation in study.plan.study.variations:
            folders = [each.run.folder for each in planned if each.protocol == each_protocol and each.variation == variation]
            found, said = candidates_of([loaded[folder] for folder in folders if folder in loaded], variation)
            candidates += [_under(each, each_protocol) for each in found] if len(protocols) > 1 else found
            notes += said
    return _checked(candidates, study.plan.study.factors, notes, by=by, force=force)


def eligible_runs(runs: Sequence[Run], *, factors: Sequence[str], by: Split, force: bool = False) -> tuple[list[Candidate], tuple[str, ...]]:
    """The same of any runs; factors: the fields of a recipe in which they may differ."""
    loaded, failed = load_all(runs)
    candidates, notes = candidates_of(list(loaded.values()))
    return _checked(candidates, factors, [*(f"{each.run} is left out: {each.reason}" for each in failed), *notes], by=by, force=force)


def _under(candidate: Candidate, protocol: Protocol) -> Candidate:
    """The same, told apart from the same variation under another protocol."""
    title = f"{candidate.title} ({protocol})"
    return replace(candidate, title=title, model=replace(candidate.model, name=title))


def _checked(
    candidates: list[Candidate], factors: Sequence[str], notes: list[str], *, by: Split, force: bool
) -> tuple[list[Candidate], tuple[str, ...]]:
    if not candidates:
        raise StudyError(f"there is no finished run to choose from{': ' if notes else ''}{'; '.join(notes)}")
    leaks = {candidate.title: _leak(candidate.runs[0], by) for candidate in candidates}
    honest = [candidate for candidate in candidates if not _leak(candidate.runs[0], by)]
    if not honest and not force:
        raise StudyError(f"nothing can be chosen honestly: {next(iter(leaks.values()))}. --force chooses all the same")
    chosen = honest or candidates
    if len(chosen) < len(candidates):
        notes.append(f"{len(candidates) - len(chosen)} models are left out: their figures leak")
    if not honest:
        notes.append(f"chosen by figures that are too good: {next(iter(leaks.values()))}")
    if scale := scale_of([run for candidate in chosen for run in candidate.runs]):
        notes.append(scale)
    try:
        require_comparable([candidate.model for candidate in chosen], factors)
    except StudyError as error:
        if not force:
            raise
        notes.append(str(error).replace("cannot be ranked", "are ranked by force").removesuffix(". --force ranks them all the same"))
    return chosen, tuple(notes)


def _leak(run: LoadedRun, by: Split) -> str:
    """Why the split that is chosen by, or the test set, is too good."""
    return next((f"{split} LEAKS: {leak_of(run, split)}" for split in dict.fromkeys((by, "test")) if leak_of(run, split)), "")
