"""`cellclf export`."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.artifact.formats import FORMATS, FormatRow
from cellclf.artifact.triton import INSTANCE_KINDS, Deployment, Written, check_name
from cellclf.card import Card, ModelFile, Precision, read_model_file
from cellclf.cli import options
from cellclf.cli.console import decision_lines, err, has_not_learned, in_fp32, interval, note, out, print_json, relative
from cellclf.cli.display import TrainingDisplay
from cellclf.errors import CellclfError, ParityError
from cellclf.runtime.classifier import EXPORTED
from cellclf.training.run import Run, find_run, is_run, newest_run

if TYPE_CHECKING:
    from cellclf.artifact.decisions import Wishes
    from cellclf.artifact.export import Exported
    from cellclf.artifact.precisions import PrecisionRow

app = typer.Typer(pretty_exceptions_enable=False)

_DECISIONS = "Decisions, chosen on validation"
_REPOSITORY = "A repository's model, as --format triton"
_PRECISIONS = ", ".join(Precision.__args__)  # type: ignore[attr-defined]  # a Literal's names
_FORMATS = "; ".join(f"{row.name}, {row.description}" for row in FORMATS.values())
_DEPLOYMENT = Deployment()


@app.command("export")
def export(
    run: Annotated[
        str | None, typer.Argument(help="A run's name or folder, or with a DIR an exported .onnx file. Default: the run that finished last.")
    ] = None,
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="A repository's folder; it may stand alone: cellclf export --format triton DIR.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help=f"{_FORMATS}.")] = "onnx",
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
    name: Annotated[
        str | None, typer.Option(help="The model's name. Default: <run>[-<precision>], or the file's without .onnx.", rich_help_panel=_REPOSITORY)
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help=f"Images a batch. Default: {_DEPLOYMENT.max_batch_size}.", rich_help_panel=_REPOSITORY)
    ] = None,
    max_queue_delay_us: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Microseconds that a request may wait for others to share a batch. Default: {_DEPLOYMENT.max_queue_delay_us}.",
            rich_help_panel=_REPOSITORY,
        ),
    ] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help=f"Copies at work on each device. Default: {_DEPLOYMENT.instances}.", rich_help_panel=_REPOSITORY)
    ] = None,
    instance_kind: Annotated[
        str | None,
        typer.Option(help=f"{' | '.join(INSTANCE_KINDS)}. Default: {_DEPLOYMENT.instance_kind}, GPUs if any.", rich_help_panel=_REPOSITORY),
    ] = None,
    heatmaps: Annotated[bool, typer.Option(help="Let the file tell where the network looked.")] = True,
    runs: options.RunsOption = "runs",
    as_json: options.JsonOption = False,
) -> None:
    """Write a finished run as one ONNX file that proves itself.

    The file is compared with the trained network on validation images and is not written where its numbers moved more than
    its precision may. fp16 and int8 are calibrated on training images; figures in its card are measured with the file itself.
    Temperature, threshold and band are chosen on the run's validation predictions, never on test, and predict uses them.
    With --format triton the file becomes the next version of a model in DIR, which Triton serves as it is.
    """
    from cellclf.artifact.decisions import Wishes

    wishes = Wishes(calibrate=calibrate, positive=positive, min_sensitivity=min_sensitivity, max_error=max_error, min_coverage=min_coverage)
    chosen = {"max_batch_size": max_batch, "max_queue_delay_us": max_queue_delay_us, "instances": instances, "instance_kind": instance_kind}
    given = {key: value for key, value in chosen.items() if value is not None}
    row = FORMATS.find(form)
    if row.write is not None:
        source, target = _repository(run, folder, row, Path(runs))
        if output is not None:
            raise CellclfError(f"--format {row.name} writes to a folder, DIR, and not to --output")
        if source is not None and source.endswith(".onnx") and (precision != "fp32" or wishes != Wishes() or not heatmaps):
            raise CellclfError(f"{source} is exported already and stays as it is: --precision, decisions and --no-heatmaps need a run")
        deployment = Deployment(**given)  # type: ignore[arg-type]  # as Typer read them
        files = _models(source, precision, name, wishes=wishes, heatmaps=heatmaps, runs=Path(runs))
        _write_models(files, target, row.write, deployment, as_json=as_json)
    elif folder is not None or name is not None or given:
        raise CellclfError(f"--format {row.name} writes one file: DIR, --name and the options of a repository's model need another --format")
    else:
        _write_files(run, precision, output, wishes=wishes, heatmaps=heatmaps, runs=Path(runs), as_json=as_json)


def _write_files(run: str | None, precision: str, output: Path | None, *, wishes: "Wishes", heatmaps: bool, runs: Path, as_json: bool) -> None:
    """A run's files, where predict finds them or at `output`."""
    rows = _rows(precision)
    if output is not None and len(rows) > 1:
        raise CellclfError("--output names one file; give it with one --precision")
    if output is not None and output.suffix != ".onnx":
        raise CellclfError(f"--output {output} must end in .onnx")
    source = _source(run, runs, wishes)
    written: list[Exported] = []
    refused: list[ParityError] = []
    for row in rows:
        try:
            written.append(_export_run(source, output or EXPORTED / f"{source.name}{row.suffix}.onnx", row, wishes=wishes, heatmaps=heatmaps))
        except ParityError as error:
            refused.append(error)  # the others do not depend on it, and fp32, which comes last, must not be kept from being the newest
            continue
        if not as_json:
            _print(written[-1])
    for text in dict.fromkeys(text for exported in written for text in exported.notes):
        note(text)
    if as_json:
        print_json("[" + ",\n".join(_as_json(str(exported.path), exported.card, exported.size_bytes) for exported in written) + "]")
    if refused:
        raise ParityError("; ".join(map(str, refused)))


def _repository(run: str | None, folder: str | None, row: FormatRow, runs: Path) -> tuple[str | None, Path]:
    """What to export, None = the newest run, and the repository's folder, which may stand alone."""
    source, target = (None, run) if folder is None else (run, folder)
    if target is None:
        raise CellclfError(f"--format {row.name} needs a folder to write to: cellclf export --format {row.name} DIR")
    if target.endswith(".onnx") or is_run(Path(target)) or is_run(runs / target):
        raise CellclfError(f"{target} is no folder to write to; name one behind it: cellclf export --format {row.name} {target} DIR")
    return source, Path(target)


def _models(
    source: str | None, precision: str, name: str | None, *, wishes: "Wishes", heatmaps: bool, runs: Path
) -> Iterator[tuple[str, ModelFile, tuple[str, ...]]]:
    """Each model to write: its name, its file, and the notes of its export."""
    if source is not None and source.endswith(".onnx"):
        yield check_name(name or Path(source).stem), read_model_file(Path(source)), ()
        return
    rows = _rows(precision)
    if name is not None and len(rows) > 1:
        raise CellclfError("--name names one model; give it with one --precision")
    run = _source(source, runs, wishes)
    names = [check_name(name or f"{run.name}{row.suffix}") for row in rows]
    with tempfile.TemporaryDirectory(prefix="cellclf-") as scratch:
        for row, model in zip(rows, names, strict=True):
            exported = _export_run(run, Path(scratch) / f"{model}.onnx", row, wishes=wishes, heatmaps=heatmaps)
            yield model, read_model_file(exported.path), exported.notes


def _write_models(
    models: Iterator[tuple[str, ModelFile, tuple[str, ...]]], target: Path, write: Callable[..., Written], deployment: Deployment, *, as_json: bool
) -> None:
    """Add each model to the repository, and tell what became of it."""
    notes: list[str] = []
    records: list[str] = []
    for name, file, told in models:
        written = write(file, target, name=name, deployment=deployment)
        notes += [*told, *written.notes]
        records.append(_as_json(str(written.path), file.card, len(file.content), version=written.version))
        if not as_json:
            out.print(f"{relative(written.path)}  model {name}, version {written.version}  {file.card.precision}  sha256 {file.fingerprint}")
    for text in dict.fromkeys(notes):
        note(text)
    if as_json:
        print_json("[" + ",\n".join(records) + "]")


def _rows(precision: str) -> "list[PrecisionRow]":
    """The rows that --precision names. Of all, fp32 comes last: predict takes the newest file, and should not silently take the coarsest."""
    from cellclf.artifact.precisions import PRECISIONS

    chosen = list(PRECISIONS)[::-1] if precision == "all" else dict.fromkeys(name.strip() for name in precision.split(","))
    return [PRECISIONS.find(name) for name in chosen]


def _source(run: str | None, runs: Path, wishes: "Wishes") -> Run:
    """The run that was asked for, once it is known that the wishes can be met."""
    from cellclf.artifact.decisions import check

    source = find_run(run, runs=runs) if run else newest_run(runs=runs)
    if source.finished:
        check(wishes, source)
        for text in has_not_learned(source.metrics().validation, "validation images"):
            err.print(text, style="bold red")
    err.print(f"exporting run {relative(source.folder)}")
    return source


def _export_run(source: Run, target: Path, row: "PrecisionRow", *, wishes: "Wishes", heatmaps: bool) -> "Exported":
    from cellclf.artifact.export import export as export_run

    with TrainingDisplay() as display:
        return export_run(source, target, precision=row.name, wishes=wishes, heatmaps=heatmaps, on_stage=display.stage)


def _print(exported: "Exported") -> None:
    card, parity = exported.card, exported.card.parity
    out.print(
        f"{relative(exported.path)}  {card.precision}{in_fp32(card)}  {exported.size_bytes / 1e6:.2f} MB  "
        f"test accuracy {interval(card.metrics['test']['accuracy'])}"
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


def _as_json(path: str, card: Card, size_bytes: int, **more: int) -> str:
    before = json.dumps({"path": path, **more, "size_bytes": size_bytes})
    return f'{before[:-1]}, "card": {card.model_dump_json()}}}'
