"""`cellclf study list | show | run | status | report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cellclf.cli import options
from cellclf.cli.console import clock, err, interval, note, out, plain_table, print_json, relative
from cellclf.cli.cost_options import DecodeOption, GramsOption, LifetimeOption, PriceOption, PricePerHourOption, UtilisationOption, assumptions
from cellclf.cli.report import (
    REPORT_FOLDER,
    BenchmarksOption,
    ForceOption,
    MarkdownOnlyOption,
    MinSensitivityOption,
    OutputOption,
    PicturesOption,
    PositiveOption,
    page_options,
    write,
)
from cellclf.data.splits import PROTOCOLS, Protocol
from cellclf.errors import StudyError
from cellclf.studies.plan import PLAN_FILE, PlannedRun, StudyFolder, StudyPlan, open_study, start_study
from cellclf.studies.runner import StudyWatcher, run_study
from cellclf.studies.scale import SCALE_KEYS, parse_scale
from cellclf.studies.study import Published, Study
from cellclf.studies.table import STUDIES, find_study

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True)

_SCALE_HELP = "Make it fit this machine; KEY=VALUE joined by commas: " + "; ".join(f"{name}: {key.meaning}" for name, key in SCALE_KEYS.items())

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help=f"{', '.join(f'{each.letter} {each.name}' for each in STUDIES.values())}, or a .toml or .py file.")
]
ScaleOption = Annotated[str, typer.Option("--scale", help=_SCALE_HELP)]
NameOption = Annotated[str | None, typer.Option("--name", help="Folder's name beneath --runs. Default: study-NAME.")]


@app.callback()
def _study() -> None:
    """Run the published studies, or one of your own."""


@app.command("list")
def list_studies() -> None:
    """List the studies."""
    table = plain_table("", "name", "what", "variations", "under study")
    for study in STUDIES.values():
        table.add_row(study.letter, study.name, study.title, str(len(study.variations)), ", ".join(study.factors))
    out.print(table)


@app.command("show")
def show(study: StudyArgument, scale: ScaleOption = "", as_json: options.JsonOption = False) -> None:
    """Show a study's variations, the figures that were published, and what is assumed."""
    found = find_study(study)
    plan = _plan(found, scale=scale, protocols=None, seeds=1, jobs=1)
    if as_json:
        print_json(plan.model_dump_json(indent=2))
        return
    out.print(f"{found.title} ({found.name}); data {found.data}, protocols {', '.join(plan.protocols)}; {plan.scale.describe()}")
    table = plain_table("variation", "backbone", "hidden", "rate", "epochs", "px", "published: test accuracy", "validation", "learning time")
    for planned in StudyFolder(Path(), plan.model_copy(update={"protocols": plan.protocols[:1]})).planned():
        recipe, figures = planned.recipe, planned.variation.published or Published()
        table.add_row(
            planned.variation.name,
            recipe.backbone,
            "-".join(str(units) for units in recipe.hidden) or "none",
            f"{recipe.learning_rate:g}",
            f"{recipe.epochs}{f', patience {recipe.patience}' if recipe.patience else ''}",
            str(recipe.image_size_px),
            _share(figures.test_accuracy),
            _share(figures.validation_accuracy),
            figures.learning_time or "",
        )
    out.print(table)
    for text in (*(question.text for question in found.questions), *found.notes, *_published_notes(found)):
        out.print(text)


@app.command("run")
def run(
    study: StudyArgument,
    scale: ScaleOption = "",
    seeds: Annotated[str, typer.Option(help="How many seeds, or which, as 0,1,2.")] = "1",
    protocol: Annotated[str | None, typer.Option(help=f"Which, joined by commas: {', '.join(PROTOCOLS)}. Default: the study's own.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, the cores divided among them; learning times suffer.")] = 1,
    name: NameOption = None,
    runs: options.RunsOption = "runs",
) -> None:
    """Run a study, each run in a process of its own; run the same command again to go on after a stop.

    A run that fails does not stop the others: it is reported at the end (exit code 3) and tried again next time.
    """
    found = find_study(study)
    plan = _plan(found, scale=scale, protocols=protocol, seeds=seeds, jobs=jobs)
    folder = start_study(plan, Path(runs) / (name or f"study-{found.name}"))
    states = [planned.state for planned in folder.planned()]
    note(f"{found.title}: {len(states)} runs, {states.count('done')} done already; {plan.scale.describe()}")
    with _StudyDisplay() as display:
        try:
            failed = run_study(folder, jobs=jobs, watcher=display)
        except KeyboardInterrupt:
            note("interrupted; the same command goes on")
            raise typer.Exit(130) from None
    for planned in failed:
        failure = planned.failure()
        err.print(f"failed: {planned.name}: {failure.reason if failure else ''}", style="red")
    out.print(f"study {relative(folder.folder)}/   next: cellclf study report {found.name}{'' if name is None else f' --name {name}'}")
    if failed:
        raise typer.Exit(3)


@app.command("status")
def status(study: StudyArgument, name: NameOption = None, runs: options.RunsOption = "runs", as_json: options.JsonOption = False) -> None:
    """Show what became of each run of a study."""
    folder = _open(study, name, runs)
    if as_json:
        import json

        print_json(json.dumps({planned.name: planned.state for planned in folder.planned()}, indent=2))
        return
    out.print(f"{folder.plan.study.title}; {folder.plan.scale.describe()}")
    table = plain_table("run", "state", "epochs", "validation accuracy", "test accuracy", "learning time")
    for planned in folder.planned():
        table.add_row(planned.name, *_status_of(planned))
    out.print(table)
    states = [planned.state for planned in folder.planned()]
    out.print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))


@app.command("report")
def report(
    study: StudyArgument,
    name: NameOption = None,
    force: ForceOption = False,
    output: OutputOption = None,
    markdown_only: MarkdownOnlyOption = False,
    pictures: PicturesOption = None,
    min_sensitivity: MinSensitivityOption = 0.95,
    positive: PositiveOption = None,
    benchmarks: BenchmarksOption = None,
    price_per_hour: PricePerHourOption = None,
    price: PriceOption = None,
    utilisation: UtilisationOption = 0.5,
    lifetime_images: LifetimeOption = 10_000_000,
    grams_per_kwh: GramsOption = 400.0,
    decode_ms: DecodeOption = 0,
    runs: options.RunsOption = "runs",
    as_json: options.JsonOption = False,
) -> None:
    """Write a study's page: its table with intervals, the published figures beside, its questions answered.

    Needs no run to be missing: those without a result are listed with their reasons. A finished run that cannot be read is
    named (exit code 3).
    """
    from cellclf.report.collect import collect_study
    from cellclf.report.figures import WantedPoint

    folder = _open(study, name, runs)
    write(
        lambda: collect_study(
            folder,
            force=force,
            wanted=WantedPoint(min_sensitivity=min_sensitivity, positive=positive),
            options=page_options(force=force, min_sensitivity=min_sensitivity, positive=positive, benchmarks=benchmarks),
        ),
        output=output,
        default=folder.folder / REPORT_FOLDER,
        markdown_only=markdown_only,
        pictures=pictures,
        benchmarks=benchmarks,
        assumed=assumptions(
            price_per_hour=price_per_hour,
            price=price,
            utilisation=utilisation,
            lifetime_images=lifetime_images,
            grams_per_kwh=grams_per_kwh,
            decode_ms=decode_ms,
        ),
        as_json=as_json,
    )


def _status_of(planned: PlannedRun) -> tuple[str, str, str, str, str]:
    if planned.state == "done":
        metrics = planned.run.metrics()
        leaking = {leak.split for leak in planned.run.setup().data.leaks}
        marks = {split: " LEAKS" if split in leaking else "" for split in ("validation", "test")}
        validation, test = interval(metrics.validation.accuracy) + marks["validation"], interval(metrics.test.accuracy) + marks["test"]
        return "done", str(metrics.epochs_run), validation, test, clock(metrics.learning_time.total_s)
    failure = planned.failure()
    epochs = str(len(planned.run.history())) if planned.run.folder.exists() else ""
    return f"failed: {failure.reason}" if failure else planned.state, epochs, "", "", ""


def _open(study: str, name: str | None, runs: str) -> StudyFolder:
    """A study's folder by the study's name, a user's own by the name it ran under, or straight by the folder's path."""
    if Path(study).is_dir():
        return open_study(Path(study))
    if name is None and (Path(runs) / f"study-{study}" / PLAN_FILE).exists():
        return open_study(Path(runs) / f"study-{study}")
    return open_study(Path(runs) / (name or f"study-{find_study(study).name}"))


def _plan(study: Study, *, scale: str, protocols: str | None, seeds: str | int, jobs: int) -> StudyPlan:
    return StudyPlan(study=study, scale=parse_scale(scale), protocols=_protocols(study, protocols), seeds=_seeds(str(seeds)), jobs=jobs)


def _protocols(study: Study, text: str | None) -> tuple[Protocol, ...]:
    if text is None:
        return study.protocols or ("grouped",)
    return tuple(dict.fromkeys(options.known_protocol(part.strip()) for part in text.split(",")))


def _seeds(text: str) -> tuple[int, ...]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise StudyError(f"--seeds {text!r} must be a number of seeds, or the seeds joined by commas") from error
    chosen = tuple(range(numbers[0])) if len(numbers) == 1 else tuple(dict.fromkeys(numbers))
    if not chosen or min(chosen) < 0:
        raise StudyError(f"--seeds {text!r} gives no seed; give at least 1")
    return chosen


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _published_notes(study: Study) -> list[str]:
    return [f"{each.name}: {each.published.note}" for each in study.variations if each.published and each.published.note]


class _StudyDisplay(StudyWatcher):
    """A line a run on stderr, and a bar on a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> "_StudyDisplay":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        if name != self._stage or self._task is None:
            self._task, self._stage = self._bar.add_task(name, total=total), name
        self._bar.update(self._task, completed=done)
        if done >= total:
            self._bar.remove_task(self._task)
            self._task = None

    def run_started(self, planned: PlannedRun, *, resumed: bool) -> None:
        note(f"{'resuming' if resumed else 'starting'} {planned.name}")

    def run_ended(self, planned: PlannedRun, *, seconds: float, left: int, seconds_left: float) -> None:
        if planned.state == "done":
            metrics = planned.run.metrics()
            figures = f"validation accuracy {metrics.validation.accuracy.value:.4f}, test {metrics.test.accuracy.value:.4f}"
        else:
            figures = f"FAILED, see {relative(planned.log)}"
        ahead = f"; {left} to come, about {clock(seconds_left)}" if left else ""
        err.print(f"{planned.name}: {figures}, {clock(seconds)}{ahead}")
