"""`cellclf report`, and what `cellclf study report` shares with it."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.cli import options
from cellclf.cli.console import err, note, out, print_json, relative
from cellclf.cli.cost_options import DecodeOption, GramsOption, LifetimeOption, PriceOption, PricePerHourOption, UtilisationOption, assumptions
from cellclf.errors import CellclfError, StudyError
from cellclf.studies.plan import PLAN_FILE
from cellclf.training.run import Run, find_run, runs_in

if TYPE_CHECKING:
    from cellclf.report.collect import Collected
    from cellclf.report.figures import Report
    from cellclf.report.prices import Assumptions

app = typer.Typer(pretty_exceptions_enable=False)

REPORT_FOLDER = "report"

ForceOption = Annotated[
    bool, typer.Option("--force", help="Rank what differs in more than what is under study; the differences stand above the table.")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write to. Default: report/ beside the runs.")]
MarkdownOnlyOption = Annotated[bool, typer.Option("--markdown-only", help="Write report.md with its plots and report.json, no page.")]
PicturesOption = Annotated[
    bool | None,
    typer.Option("--pictures/--no-pictures", help="Show the mistakes' images on the page (never in report.md). Default: unless --output is given."),
]
MinSensitivityOption = Annotated[
    float, typer.Option(min=0.01, max=1, help="Share of the positive label's images that the operating points are to find on validation.")
]
PositiveOption = Annotated[str | None, typer.Option(help="The label that the operating points are for. Default: of two labels the second.")]
BenchmarksOption = Annotated[
    list[Path] | None, typer.Option(help="JSON of pytest benchmarks/ --benchmark-json: adds what the networks cost to run; several times.")
]


@app.command("report")
def report(
    named: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders or names. Default: every finished run in --runs.")
    ] = None,
    factor: Annotated[str, typer.Option(help="Fields of a recipe that may differ within a ranking, joined by commas.")] = "backbone",
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
    """Compare finished runs on one page.

    Groups what is comparable, names every field that differs, and ranks only models that agree in all but --factor.
    Writes index.html, report.md with plots, and report.json. A run that cannot be used is named (exit code 3).
    """
    from cellclf.report.collect import collect_runs
    from cellclf.report.figures import WantedPoint

    chosen = _chosen(named, Path(runs))
    factors = [part.strip() for part in factor.split(",") if part.strip()]
    shown = ["cellclf", "report", *(run.name for run in (chosen if named else ())), *(("--factor", factor) if factor != "backbone" else ())]
    write(
        lambda: collect_runs(
            chosen,
            factors=factors,
            force=force,
            command=shlex.join([*shown, *page_options(force=force, min_sensitivity=min_sensitivity, positive=positive, benchmarks=benchmarks)]),
            wanted=WantedPoint(min_sensitivity=min_sensitivity, positive=positive),
        ),
        output=output,
        default=Path(runs) / REPORT_FOLDER,
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
        named=bool(named),
    )


def page_options(*, force: bool, min_sensitivity: float, positive: str | None, benchmarks: list[Path] | None) -> list[str]:
    """What decides the page's content, as it was typed; what is the default is left out. The cost's assumptions stand on the page themselves."""
    shown = [*(("--force",) if force else ()), *(() if min_sensitivity == 0.95 else ("--min-sensitivity", f"{min_sensitivity:g}"))]
    return [*shown, *(("--positive", positive) if positive else ()), *(word for path in benchmarks or () for word in ("--benchmarks", str(path)))]


def write(
    collect: Callable[[], "Collected"],
    *,
    output: Path | None,
    default: Path,
    markdown_only: bool,
    pictures: bool | None,
    benchmarks: list[Path] | None,
    assumed: "Assumptions",
    as_json: bool,
    named: bool = False,
) -> None:
    """Collect, write and tell; exits with 3 where a run could not be used. named: whether each run was asked for by name."""
    from cellclf.report.mistakes import thumbnails
    from cellclf.report.page import require_libraries, write_report
    from cellclf.report.prices import check_assumptions
    from cellclf.report.tables import alike
    from cellclf.studies.measurements import read_measurements

    if markdown_only and pictures:
        raise CellclfError("--pictures cannot be given with --markdown-only: report.md never shows images of the data")
    require_libraries()
    measurements = [each for path in benchmarks or [] for each in read_measurements(path)]
    check_assumptions(assumed, measurements)
    collected = collect()
    found = collected.report
    shown = {}
    if not markdown_only and (output is None if pictures is None else pictures):
        shown = thumbnails([mistake for section in found.sections for mistake in section.mistakes], collected.images)
    written = write_report(found, output or default, measurements=measurements, assumed=assumed, thumbnails=shown, html=not markdown_only)
    if as_json:
        print_json(found.model_dump_json(indent=2))
    else:
        _print(found)
        out.print(f"report {relative(written)}")
    for text in _not_ranked(found):
        note(text)
    missing = found.failed if named else collected.damaged
    for (state, reason), names in alike(found.failed).items():
        style = "red" if any(run.run in names for run in missing) else "dim"
        err.print(f"left out ({state}): {', '.join(names)}{f': {reason}' if reason else ''}", style=style)
    if missing:
        raise typer.Exit(3)


def _chosen(named: list[str] | None, runs: Path) -> list[Run]:
    if not named:
        finished = [run for run in runs_in(runs) if run.finished]
        if not finished:
            raise StudyError(f"no finished run in {runs}/; train one first (cellclf train), or name a study's page: cellclf study report NAME")
        return finished
    for name in named:
        if (Path(name) / PLAN_FILE).exists():
            raise StudyError(f"{name} is a study, not a run; its page is made by: cellclf study report {name}")
    found = {run.folder.resolve(): run for run in (find_run(name, runs=runs) for name in named)}
    return list(found.values())


def _print(found: "Report") -> None:
    from cellclf.report.summary import in_short

    if found.scale:
        out.print(f"{found.title}; {found.scale}")
    for sentence in in_short(found):
        out.print(sentence)
    for section in found.sections:
        for answer in section.answers:
            out.print(f"{answer.text} ({section.protocol}) {answer.sentence}")


def _not_ranked(found: "Report") -> list[str]:
    texts = []
    for section in found.sections:
        fields = dict.fromkeys(difference.field for ranked in section.sets for difference in ranked.against_others)
        if fields:
            texts.append(f"{section.title}: not all can be ranked together, they differ in {', '.join(fields)}; --force ranks them all the same")
    if len(found.sections) > 1 and not found.study:
        texts.append(f"not ranked together, because data or split differ: {'; '.join(section.title for section in found.sections)}")
    return texts
