"""`cellclf choose`."""

import math
from pathlib import Path
from typing import Annotated

import typer

from cellclf.cli import options
from cellclf.cli.console import clock, err, interval, note, out, plain_table, print_json, relative
from cellclf.cli.cost_options import DecodeOption, GramsOption, LifetimeOption, PriceOption, PricePerHourOption, UtilisationOption, assumptions
from cellclf.data.manifest import Split
from cellclf.errors import StudyError
from cellclf.report.choice import choose
from cellclf.report.choice_picture import draw_choice
from cellclf.report.collect import known_factors
from cellclf.report.contenders import Choice, Contender, Limits, Spending
from cellclf.report.cost_tables import cost_text, money
from cellclf.report.deployments import KEEPS
from cellclf.report.eligible import eligible_runs, eligible_study
from cellclf.report.prices import USUAL_ASSUMPTIONS, Assumptions, decoding
from cellclf.studies.measurements import Measurement, read_measurements
from cellclf.studies.plan import PLAN_FILE, open_study
from cellclf.training.run import find_run, runs_in

app = typer.Typer(pretty_exceptions_enable=False)


@app.command("choose")
def choose_command(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN…|STUDY FOLDER]", help="Default: all finished runs.")] = None,
    min_sensitivity: Annotated[float | None, typer.Option(help="Least sensitivity: of --positive, else of every label.")] = None,
    positive: Annotated[str | None, typer.Option(help="The label that must not be missed; its threshold is chosen on validation.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Most milliseconds an image, 95th percentile.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Largest file.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Most that a million images may cost.")] = None,
    price_per_hour: PricePerHourOption = None,
    price: PriceOption = None,
    utilisation: UtilisationOption = 0.5,
    lifetime_images: LifetimeOption = USUAL_ASSUMPTIONS.lifetime_images,
    grams_per_kwh: GramsOption = USUAL_ASSUMPTIONS.grams_per_kwh,
    decode_ms: DecodeOption = 0,
    benchmarks: Annotated[list[str] | None, typer.Option(help="JSON of pytest benchmarks/ --benchmark-json; several times.")] = None,
    by: Annotated[str, typer.Option(help="validation | test: the split whose figure decides.")] = "validation",
    factor: Annotated[str, typer.Option(help="Fields of the recipe in which runs may differ, joined by commas.")] = "backbone",
    protocol: Annotated[str | None, typer.Option(help="Of a study: only its runs under this split protocol.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Choose among runs that leak or are not comparable; it is said.")] = False,
    picture: Annotated[str | None, typer.Option(help="Write the Pareto picture to this PNG file.")] = None,
    runs: options.RunsOption = "runs",
    as_json: options.JsonOption = False,
) -> None:
    """Choose the model to deploy.

    The best balanced accuracy on validation among the comparable runs that keep the limits; tells who was excluded by what, whether the winner can be
    told from the next, and what the test set says.
    """
    _check_limit("--min-sensitivity", min_sensitivity, most=1)
    for name, value in (("--max-latency-ms", max_latency_ms), ("--max-size-mb", max_size_mb), ("--max-cost", max_cost)):
        _check_limit(name, value)
    limits = Limits(
        min_sensitivity=min_sensitivity,
        positive=positive,
        max_latency_ms=max_latency_ms,
        max_size_mb=max_size_mb,
        max_cost=max_cost,
    )
    split = _split(by)
    measured: list[Measurement] = [each for path in benchmarks or [] for each in read_measurements(Path(path))]
    if run and len(run) == 1 and (Path(run[0]) / PLAN_FILE).exists():
        candidates, notes = eligible_study(
            open_study(Path(run[0])), by=split, force=force, protocol=None if protocol is None else options.known_protocol(protocol)
        )
    elif protocol is not None:
        raise StudyError("--protocol is for a study's folder; of runs, name those that you mean")
    else:
        chosen = [find_run(name, runs=Path(runs)) for name in run] if run else runs_in(Path(runs))
        candidates, notes = eligible_runs(chosen, factors=known_factors(part.strip() for part in factor.split(",")), by=split, force=force)
    assumed = assumptions(
        price_per_hour=price_per_hour,
        price=price,
        utilisation=utilisation,
        lifetime_images=lifetime_images,
        grams_per_kwh=grams_per_kwh,
        decode_ms=decode_ms,
    )
    found = choose(candidates, measured, limits, by=split, notes=notes, assumed=assumed)
    if picture is not None:
        draw_choice(Path(picture), found)
    if as_json:
        print_json(found.model_dump_json(indent=2))
    else:
        _print(found)
        if picture is not None:
            out.print(f"picture {relative(Path(picture))}")
    if not found.kept:
        raise StudyError("no model can be chosen; each one's reason stands above")


def _check_limit(name: str, value: float | None, *, most: float = math.inf) -> None:
    """A limit above 0; NaN would exclude nothing and say nothing. Raises StudyError."""
    if value is not None and not (0 < value <= most and math.isfinite(value)):
        raise StudyError(f"{name} {value:g} must be above 0{f' and at most {most:g}' if math.isfinite(most) else ''}")


def _split(by: str) -> Split:
    splits: dict[str, Split] = {"validation": "validation", "test": "test"}
    if by not in splits:
        raise StudyError(f"--by {by!r} is not known; give validation or test")
    return splits[by]


def _print(choice: Choice) -> None:
    for text in choice.notes:
        note(text)
    if choice.by == "test":
        err.print("chosen by the test set: the winner's test figure is too good by the choice", style="yellow")
    if choice.kept:
        out.print(_table(choice, choice.kept))
        out.print(verdict(choice), style="bold")
        if choice.frugal:
            out.print(f"quicker, and not told from the winner: {choice.frugal}")
    for each in choice.excluded:
        out.print(f"excluded: {each.describe}: {'; '.join(each.excluded)}", style="yellow")
    if choice.spending is not None:
        out.print(_spent(choice.spending, choice.assumed))
    _print_assumptions(choice)
    out.print(
        "in brackets: 95 % intervals over groups of images, averaged over seeds; p: the winner against it on the test images, Holm", style="dim"
    )


def _spent(found: Spending, assumed: Assumptions) -> str:
    """The winner's training, energy, and when a GPU pays, in one line."""
    parts = [f"training took {clock(found.training_s.mean)} a run"]
    if found.training is not None and found.training_per_million is not None:
        lifetime = f"over {assumed.lifetime_images:,} images {money(found.training_per_million)} a million (--lifetime-images)"
        parts.append(f"which cost {money(found.training)}, {lifetime}")
    if found.kwh_per_million is None or found.co2_g_per_million is None:
        parts.append("energy was not measured")
    else:
        parts.append(f"{money(found.kwh_per_million)} kWh and {money(found.co2_g_per_million)} g of CO₂ a million (--grams-per-kwh)")
    if found.break_even is not None:
        above = found.break_even.images_a_day
        parts.append(f"a GPU costs less above {money(above)} images a day" if above is not None else f"when a GPU pays: {found.break_even.reason}")
    return f"the winner: {'; '.join(parts)}"


def _print_assumptions(choice: Choice) -> None:
    ways = [each.deployment for each in (*choice.kept, *choice.excluded) if each.deployment]
    prices = dict.fromkeys(way.price.said for way in ways if way.price)
    if prices:
        text = f"cost of a million images at a utilisation of {choice.assumed.utilisation:g}, {decoding(choice.assumed)}; {'; '.join(prices)}"
        out.print(f"{text}; in brackets at the quickest and slowest measured window", style="dim")
    if any(way.precision != "fp32" for way in ways):
        out.print(f"figures are the runs'; another precision than fp32 is offered where that very file {KEEPS}", style="dim")


def _table(choice: Choice, kept: tuple[Contender, ...]) -> object:
    table = plain_table("", "model", f"balanced accuracy, {choice.by}", "test", *_sensitivity_columns(choice), "latency", "MB", "cost/million", "p")
    for place, each in enumerate(kept, start=1):
        way = each.deployment
        table.add_row(
            f"{place}{'*' if each.pareto else ''}",
            each.describe,
            interval(each.figure.mean),
            interval(each.test.mean),
            *([interval(each.sensitivity) if each.sensitivity else ""] if choice.limits.min_sensitivity is not None else []),
            *([interval(each.specificity) if each.specificity else ""] if choice.limits.positive is not None else []),
            f"{way.latency_ms:.1f} ms" if way else "",
            f"{way.file_size_mb:.2f}" if way else "",
            cost_text(way.cost_per_million) if way and way.cost_per_million else "",
            "" if each.adjusted_p is None else f"{each.adjusted_p:.3f}",
        )
    return table


def _sensitivity_columns(choice: Choice) -> list[str]:
    name = choice.limits.positive or "worst label"
    return [f"test sensitivity ({name})"] * (choice.limits.min_sensitivity is not None) + ["specificity"] * (choice.limits.positive is not None)


def verdict(choice: Choice) -> str:
    """The winner, and what tells it from the others."""
    winner = choice.kept[0]
    rivals = [each for each in choice.kept if each.model != winner.model]
    if not rivals:
        others = any(each.model != winner.model for each in choice.excluded)
        return f"{winner.describe}: {'no other model keeps the limits' if others else 'there is no other model'}"
    alike = dict.fromkeys(each.model for each in rivals if each.against_winner and not each.distinguishable and not each.better_on_test)
    seeds = dict.fromkeys(each.model for each in rivals if each.distinguishable and not each.seeds_apart)
    parts = [f"it cannot be told from {', '.join(alike)} on the test images"] if alike else []
    parts += [f"on the test images it is better than {', '.join(seeds)}, but that it is not the seed cannot be told"] if seeds else []
    if worse := dict.fromkeys(each.model for each in rivals if each.better_on_test):
        parts.append(f"on the test images, which had no say, {', '.join(worse)} is better: validation misled")
    if other := dict.fromkeys(each.model for each in rivals if each.against_winner is None):
        parts.append(f"{', '.join(other)} saw other test images")
    told = "; ".join(parts) or "on the test images better than every other model, with every seed (p < .05 after correction)"
    return f"{winner.describe}: {told}"
