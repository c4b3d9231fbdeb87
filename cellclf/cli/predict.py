"""`cellclf predict`."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cellclf.cli import options
from cellclf.cli.console import note, out, plain_table
from cellclf.data.decoding import decode_seen, decode_thumbnail
from cellclf.errors import CellclfError
from cellclf.runtime.classifier import EXPORTED, Classifier, Failure, Prediction
from cellclf.runtime.inputs import expand
from cellclf.runtime.providers import PROVIDERS

app = typer.Typer(pretty_exceptions_enable=False)

Record = Prediction | Failure

_PAINTED_PX = 512
"""Longest side of a painted picture."""

_BATCHES = f"{PROVIDERS['cpu'].batch} on a CPU, {PROVIDERS['cuda'].batch} on a GPU"

_MANY = 2000
"""Images from which on half a minute of tuning may pay."""


@app.command("predict")
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders, globs; - reads a list of paths on stdin.")],
    model: Annotated[Path | None, typer.Option("--model", "-m", help="An exported file. Default: the newest in exported/.")] = None,
    device: options.DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all that may be used.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help=f"Images a batch. Default: as tuned, else {_BATCHES}.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Show so many labels an image.")] = 1,
    explain: Annotated[
        Path | None, typer.Option(help="Paint where the network looked: a .png for one image, else a folder with one for each.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    as_ndjson: Annotated[bool, typer.Option("--ndjson", help="Print one JSON object a line, as they come.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, as they come.")] = False,
) -> None:
    """Name what images show.

    One record an input, in input order. An input that cannot be read becomes an error record, the others are still
    predicted, and the exit code is 3. Labels are called at the file's own operating point where it has one, and where it
    gives no answer the record says that it abstained.
    """
    if as_json + as_ndjson + as_csv > 1:
        raise typer.BadParameter("--json, --ndjson and --csv exclude each other")
    classifier = Classifier(model, device=device, threads=threads, on_note=note)
    if model is None:
        note(f"model {classifier.path}, the newest in {EXPORTED}/, trained on {classifier.card.data}; name another with --model")
    if explain is not None and explain.suffix.lower() == ".png":
        inputs = list(itertools.islice(expand(inputs), 2))
        if len(inputs) > 1:
            raise CellclfError(f"--explain {explain} is one picture and there are several images; name a folder")
        from cellclf.runtime.explain import may_be_written

        if not may_be_written(explain):
            raise CellclfError(f"--explain {explain}: there is something of that name that is no heat map painted before; name another")
    records = _records(classifier, inputs, batch_size, tunable=device == "auto" and threads is None)
    if explain is not None:
        records = _explained(records, classifier, explain)
    if as_json:
        failed = _write_json(records, top_k)
    elif as_ndjson:
        failed = _write_ndjson(records, top_k)
    elif as_csv:
        failed = _write_csv(records, classifier)
    else:
        failed = _write_table(records, classifier, top_k)
    if failed:
        note(f"inputs that could not be used: {failed}")
        raise typer.Exit(3)


def _records(classifier: Classifier, inputs: list[str], batch_size: int | None, *, tunable: bool) -> Iterator[Record]:
    """One file goes through all threads at once; more go through the pipeline."""
    paths = list(expand(inputs)) if "-" not in inputs else expand(inputs)
    if tunable and classifier.plan is None and isinstance(paths, list) and len(paths) >= _MANY:
        note(f"{len(paths)} images with the default settings; `cellclf tune {classifier.path}` finds out whether others are faster here")
    if isinstance(paths, list) and len(paths) == 1:
        yield classifier.record(paths[0])
    else:
        yield from classifier.predict_many(paths, batch_size=batch_size)


def _explained(records: Iterable[Record], classifier: Classifier, target: Path) -> Iterator[Record]:
    """The same records, each prediction's heat map painted over its image before it is passed on."""
    from cellclf.runtime.explain import may_be_written, write_overlay

    explainer, card = classifier.explainer(), classifier.card
    single = target.suffix.lower() == ".png"
    painted: set[Path] = set()
    for record in records:
        if isinstance(record, Prediction):
            path = target if single else target / f"{_picture_name(record)}.png"
            number = 2
            while not single and (path in painted or not may_be_written(path)):
                path = target / f"{_picture_name(record)}-{number}.png"
                number += 1
            painted.add(path)
            content = Path(record.path).read_bytes()
            pixels, part = decode_seen(content, classifier.view)
            heat = explainer.maps(pixels[None])[0][card.labels.index(record.label)]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_overlay(path, decode_thumbnail(content, longest_px=_PAINTED_PX), heat, part)
        yield record
    if painted:
        note(f"where the network looked: {target}" + ("" if single else f"/ ({len(painted)} pictures)"))


def _picture_name(record: Prediction) -> str:
    return f"{Path(record.path).stem}-{record.label}".replace("/", "_")


def _as_dict(record: Record, top_k: int) -> dict[str, Any]:
    plain = record.as_dict()
    if isinstance(record, Prediction) and top_k > 1:
        plain["top"] = [{"label": label, "probability": probability} for label, probability in record.top(top_k)]
    return plain


def _write_json(records: Iterable[Record], top_k: int) -> int:
    everything = list(records)
    print(json.dumps([_as_dict(record, top_k) for record in everything], indent=2))
    return sum(isinstance(record, Failure) for record in everything)


def _write_ndjson(records: Iterable[Record], top_k: int) -> int:
    failed = 0
    for record in records:
        print(json.dumps(_as_dict(record, top_k)), flush=True)
        failed += isinstance(record, Failure)
    return failed


def _write_csv(records: Iterable[Record], classifier: Classifier) -> int:
    failed = 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", *(f"p_{label}" for label in classifier.labels), "abstained", "error", "model", "provider"])
    for record in records:
        if isinstance(record, Prediction):
            values = [f"{record.probabilities[label]:.9g}" for label in classifier.labels]
            row = [record.path, record.label, f"{record.probability:.9g}", *values, "true" if record.abstained else "false", ""]
        else:
            failed += 1
            row = [record.path, "", "", *([""] * len(classifier.labels)), "", record.error]
        writer.writerow([*row, record.model, record.provider])
    return failed


def _write_table(records: Iterable[Record], classifier: Classifier, top_k: int) -> int:
    everything = list(records)
    doubtful = classifier.card.abstain is not None
    table = plain_table("image", "label", "probability", *(["answer"] if doubtful else []))
    for record in everything:
        if isinstance(record, Failure):
            table.add_row(record.path, Text("error", style="red"), Text(record.error, style="red"))
            continue
        table.add_row(record.path, record.label, f"{record.probability:.4f}", *(["abstains" if record.abstained else "given"] if doubtful else []))
        others = [(label, probability) for label, probability in record.top(len(record.probabilities)) if label != record.label]
        for label, probability in others[: top_k - 1]:
            table.add_row("", label, f"{probability:.4f}")
    out.print(table)
    note(f"model {classifier.path} (sha256 {classifier.fingerprint[:12]}…) on {classifier.provider}. {classifier.card.intended_use}")
    return sum(isinstance(record, Failure) for record in everything)
