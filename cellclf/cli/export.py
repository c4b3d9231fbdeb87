"""`cellclf export`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.card import Precision
from cellclf.cli import options
from cellclf.cli.console import decision_lines, err, interval, note, out, print_json, relative
from cellclf.cli.display import TrainingDisplay
from cellclf.errors import CellclfError
from cellclf.runtime.classifier import EXPORTED
from cellclf.training.run import find_run, newest_run

if TYPE_CHECKING:
    from cellclf.artifact.export import Exported

app = typer.Typer(pretty_exceptions_enable=False)

_DECISIONS = "Decisions, chosen on validation"
_PRECISIONS = ", ".join(Precision.__args__)  # type: ignore[attr-defined]  # a Literal's names


@app.command("export")
def export(
    run: Annotated[str | None, typer.Argument(help="A run's name or folder. Default: the run that finished last.")] = None,
    precision: Annotated[str, typer.Option("--precision", "-p", help=f"{_PRECISIONS}; several as fp32,int8; or all.")] = "fp32",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (one precision only). Default: exported/<run>[-<precision>].onnx.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature and divide the logits by it in the graph.", rich_help_panel=_DECISIONS)
    ] = False,
    min_sensitivity: Annotated[
        float | None, typer.Option(help="Call the positive label from the highest threshold that finds this share of it.", rich_help_panel=_DECISIONS)
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The label that --min-sensitivity is about. Default: the second of two.", rich_help_panel=_DECISIONS)
    ] = None,
    max_error: Annotated[
        float | None, typer.Option(help="Give no answer in the narrowest band that leaves this share of errors.", rich_help_panel=_DECISIONS)
    ] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="Instead: give no answer in the best band that leaves this share of answers.", rich_help_panel=_DECISIONS)
    ] = None,
    heatmaps: Annotated[bool, typer.Option(help="Let the file tell where the network looked.")] = True,
    runs: options.RunsOption = "runs",
    as_json: options.JsonOption = False,
) -> None:
    """Write a finished run as one ONNX file that proves itself.

    The file is compared with the trained network on validation images and is not written where its numbers moved more than
    its precision may. int8 is calibrated on training images; figures in its card are measured with the file itself.
    Temperature, threshold and band are chosen on the run's validation predictions, never on test, and predict uses them.
    """
    from cellclf.artifact.decisions import Wishes, check
    from cellclf.artifact.export import export as export_run
    from cellclf.artifact.precisions import PRECISIONS

    # Of all precisions fp32 comes last: predict takes the newest file, and should not silently take the coarsest.
    chosen = list(PRECISIONS)[::-1] if precision == "all" else [name.strip() for name in precision.split(",")]
    rows = [PRECISIONS.find(name) for name in chosen]
    if output is not None and len(rows) > 1:
        raise CellclfError("--output names one file; give it with one --precision")
    if output is not None and output.suffix != ".onnx":
        raise CellclfError(f"--output {output} must end in .onnx")
    source = find_run(run, runs=Path(runs)) if run else newest_run(runs=Path(runs))
    wishes = Wishes(calibrate=calibrate, positive=positive, min_sensitivity=min_sensitivity, max_error=max_error, min_coverage=min_coverage)
    if source.finished:
        check(wishes, source)
    err.print(f"exporting run {relative(source.folder)}")
    written: list[Exported] = []
    for row in rows:
        target = output or EXPORTED / f"{source.name}{row.suffix}.onnx"
        with TrainingDisplay() as display:
            written.append(export_run(source, target, precision=row.name, wishes=wishes, heatmaps=heatmaps, on_stage=display.stage))
        if not as_json:
            _print(written[-1])
    for text in dict.fromkeys(text for exported in written for text in exported.notes):
        note(text)
    if as_json:
        print_json("[" + ",\n".join(_as_json(exported) for exported in written) + "]")


def _print(exported: "Exported") -> None:
    card, parity = exported.card, exported.card.parity
    out.print(
        f"{relative(exported.path)}  {card.precision}  {exported.size_bytes / 1e6:.2f} MB  test accuracy {interval(card.metrics['test']['accuracy'])}"
    )
    out.print(
        f"  same as the trained network on {parity.images} validation images: probabilities differ by at most {parity.max_difference:.1e} "
        f"(mean {parity.mean_difference:.1e}), {parity.flipped} labels flipped"
    )
    if (gain := card.benefit) is not None:
        out.print(
            f"  speed: {gain.images_per_second:.3g} images/s, {gain.ratio:.2f} times fp32 ({gain.provider}, {gain.threads} threads, "
            f"batch {gain.batch}; measured on {gain.cpu})"
        )
    for name, text in decision_lines(card):
        out.print(f"  {name}: {text}")


def _as_json(exported: "Exported") -> str:
    return f'{{"path": {json.dumps(str(exported.path))}, "size_bytes": {exported.size_bytes}, "card": {exported.card.model_dump_json()}}}'
