"""`cellclf evaluate`."""

import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from cellclf.card import Card, CoveragePoint, Estimate, OperatingPoint, Precision
from cellclf.cli import options
from cellclf.cli.console import has_not_learned, interval, metrics_lines, note, out, plain_table, print_json
from cellclf.data.crops import View
from cellclf.data.datasets import DATASETS
from cellclf.data.manifest import SPLITS, Manifest
from cellclf.data.prepare import DataRequest, has_test_set, list_images
from cellclf.documents import Document
from cellclf.errors import CellclfError, DataError, MissingExtraError
from cellclf.evaluation.abstention import certainty, coverage_and_error, coverage_error_curve
from cellclf.evaluation.decision import positive_number
from cellclf.evaluation.metrics import SplitMetrics, measure
from cellclf.evaluation.picture import confusion_figure
from cellclf.evaluation.prevalence import PredictiveValues, measure_at_prevalence
from cellclf.runtime.classifier import Classifier, Failure
from cellclf.storage import is_ours, new_file

app = typer.Typer(pretty_exceptions_enable=False)

_ALL = "all"
_MADE_BY = "cellclf confusion matrix"
_PICTURE_MARK, _JSON_MARK = b"tEXtSoftware\0" + _MADE_BY.encode(), b'"model_sha256":'
"""By which a file of an earlier evaluation is known, and replaced; whatever else is there, is somebody's."""


class Evaluation(Document):
    """What was measured: which file on which images, the figures, and the images that could not be read.

    metrics are of all images, labels as the file decides them (operating_point None: the most probable). coverage: the share that the file answers
    (all, where it never abstains), with the error among them; coverage_error: what other bands would give on these images.
    """

    model: str
    model_sha256: str
    provider: str
    precision: Precision
    data: str
    split: str
    data_fingerprint: str
    same_data_as_trained: bool
    notes: tuple[str, ...]
    operating_point: OperatingPoint | None
    metrics: SplitMetrics
    at_prevalence: PredictiveValues | None
    coverage: Estimate
    error_of_the_answered: Estimate | None
    coverage_error: tuple[CoveragePoint, ...]
    unreadable: dict[str, str]


@app.command("evaluate")
def evaluate(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file.")],
    data: Annotated[str | None, typer.Option("--data", "-d", help="As for train. Default: the data set the model was trained on.")] = None,
    split: Annotated[
        str | None, typer.Option(help="test | validation | train | all. Default: test, or all where the data have no test set of their own.")
    ] = None,
    protocol: options.ProtocolOption = None,
    group_rule: options.GroupRuleOption = None,
    device: options.DeviceOption = "auto",
    prevalence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Give PPV and NPV where this share of those tested is positive, too.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The label that --prevalence is about. Default: the file's positive label, or the second of two.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix into this .png.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON to this file too.")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure an exported file on labelled images.

    Accuracy, balanced accuracy, AUC, average precision, calibration, and each label's sensitivity, specificity, PPV and NPV,
    with intervals over groups where groups are known; the confusion matrix. Images are read as predict reads them; one that
    cannot be read is reported and the exit code is 3.
    """
    if picture is not None and picture.suffix != ".png":
        raise CellclfError(f"--picture {picture} must end in .png")
    if picture is not None and importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing the confusion matrix (--picture)", "train")
    for target, mark, what in ((picture, _PICTURE_MARK, "picture of a confusion matrix"), (output, _JSON_MARK, "evaluation")):
        if target is not None and target.is_dir():
            raise CellclfError(f"{target} is a folder; name a file")
        if target is not None and not is_ours(target, mark):
            raise CellclfError(f"{target} exists and is no {what} of ours; give another name, or remove it")
    classifier = Classifier(model, device=device, on_note=note)
    request, own = _request(classifier, data, protocol, group_rule)
    manifest, chosen, same = _images(classifier, request, own, split)
    at = None if prevalence is None else (_positive(classifier.card, positive), prevalence)
    found = _measure(classifier, manifest, chosen, request, same, at)
    text = found.model_dump_json(indent=2)
    if output is not None:
        found.write(output)
    if picture is not None:
        figure = confusion_figure(found.metrics, title=f"{model.name} on {request.data}, {chosen}")
        with new_file(picture) as temporary:
            figure.savefig(temporary, dpi=120, format="png", metadata={"Software": _MADE_BY})
    if as_json:
        print_json(text)
    else:
        _print(found)
    for text in has_not_learned(found.metrics, "images"):
        note(text)
    if found.unreadable:
        note(f"images that could not be used: {len(found.unreadable)}")
        raise typer.Exit(3)


def _request(classifier: Classifier, data: str | None, protocol: str | None, group_rule: str | None) -> tuple[DataRequest, bool]:
    """What to measure on, and whether it is the model's own data, divided as in training, so that test means what it meant there."""
    card = classifier.card
    own = DataRequest.model_validate(card.recipe["data"])
    if data is None and own.data not in DATASETS:
        raise DataError(f"the model was trained on {own.data!r}, which is no named data set; give its folder or .csv with --data")
    if protocol is not None or group_rule is not None:
        return options.data_request(data or own.data, protocol=protocol, group_rule=group_rule), False
    if data is None or data == own.data:
        return own, True
    again = own.model_copy(update={"data": data})
    if _fingerprint(again, classifier.view) == card.data_fingerprint:
        return again, True
    return options.data_request(data), False


def _fingerprint(request: DataRequest, view: View) -> str | None:
    """The fingerprint of the manifest a request makes; None where it makes none."""
    try:
        return list_images(request, divided=True, view=view).fingerprint
    except DataError:
        return None


def _images(classifier: Classifier, request: DataRequest, own: bool, split: str | None) -> tuple[Manifest, str, bool]:
    """The manifest to measure on, the split, and whether it is exactly what the model was trained with."""
    card, view = classifier.card, classifier.view
    if split not in (None, *SPLITS, _ALL):
        raise CellclfError(f"--split {split!r} is not known; give {', '.join(SPLITS)} or {_ALL}")
    chosen = split or ("test" if own or has_test_set(request) else _ALL)
    if chosen == _ALL:
        return list_images(request, divided=False, view=view), _ALL, False
    manifest = list_images(request, divided=True, view=view)
    same = manifest.fingerprint == card.data_fingerprint
    if own and not same and card.protocol != "official":
        raise DataError(
            f"{request.data} is not as it was when {card.name} was trained (fingerprint "
            f"{manifest.fingerprint[:12]}, not {card.data_fingerprint[:12]}), "
            "so its test split cannot be told from what was trained on; give --data with a .csv of images that were not"
        )
    return manifest, chosen, same


def _positive(card: Card, asked: str | None) -> str:
    """The label that a prevalence is of."""
    if asked is None and card.operating_point is not None:
        return card.operating_point.positive
    if asked is None and len(card.labels) != 2:
        raise CellclfError(f"--prevalence needs --positive LABEL: one of {', '.join(card.labels)}")
    return card.labels[1 if asked is None else positive_number(card.labels, asked)]


def _measure(classifier: Classifier, manifest: Manifest, split: str, request: DataRequest, same: bool, at: tuple[str, float] | None) -> Evaluation:
    strangers = sorted(set(manifest.labels) - set(classifier.labels))
    if strangers:
        raise DataError(f"the data have labels that the model does not know: {', '.join(strangers)} (it knows {', '.join(classifier.labels)})")
    wanted = "test" if split == _ALL else split
    entries = [entry for entry in manifest.entries if entry.split == wanted]
    kept, records, unreadable = [], [], {}
    for entry, record in zip(entries, classifier.predict_many(manifest.file(entry) for entry in entries), strict=True):
        if isinstance(record, Failure):
            unreadable[entry.path] = record.error
        else:
            kept.append(entry)
            records.append(record)
    if not records:
        raise DataError(f"none of the {len(entries)} images could be read")
    known = all(entry.group for entry in kept)
    notes = tuple(leak for leak in classifier.card.leaks if same and leak.startswith(f"{split} "))
    if same and split == "train":
        notes = ("these are the images it was trained on: the figures say nothing of new ones",)
    if not same:
        notes = ("these are not the very images and splits the model was trained with; that none of them was trained on is not known here",)
    probabilities = np.array([[record.probabilities[label] for label in classifier.labels] for record in records], dtype=np.float32)
    truth, called = (np.array([classifier.labels.index(each.label) for each in labelled]) for labelled in (kept, records))
    groups = [entry.group or entry.sha256 for entry in kept]
    coverage, error = coverage_and_error(called == truth, np.array([not record.abstained for record in records]), groups=groups)
    return Evaluation(
        model=str(classifier.path),
        model_sha256=classifier.fingerprint,
        provider=classifier.provider,
        precision=classifier.card.precision,
        data=request.data,
        split=split,
        data_fingerprint=manifest.fingerprint,
        same_data_as_trained=same,
        notes=notes,
        operating_point=classifier.card.operating_point,
        metrics=measure(probabilities, truth, classifier.labels, groups=groups, unit="group" if known else "file", predicted=called),
        at_prevalence=at and _at_prevalence(classifier, called, truth, groups, *at),
        coverage=coverage,
        error_of_the_answered=error,
        coverage_error=coverage_error_curve(certainty(probabilities, classifier.labels, classifier.card.operating_point), called == truth),
        unreadable=unreadable,
    )


def _at_prevalence(
    classifier: Classifier, called: npt.NDArray[np.integer], truth: npt.NDArray[np.integer], groups: list[str], positive: str, prevalence: float
) -> PredictiveValues:
    number = classifier.labels.index(positive)
    return measure_at_prevalence(called == number, truth == number, positive=positive, prevalence=prevalence, groups=groups)


def _print(found: Evaluation) -> None:
    metrics = found.metrics
    out.print(f"{found.model} ({found.precision}, {found.provider}) on {found.data}, {found.split}: {metrics.images} images, {metrics.groups} groups")
    for name, text in metrics_lines(metrics):
        out.print(f"{name:18s} {text}")
    counted = plain_table("label", "images", *(f"→ {label}" for label in metrics.per_label))
    rates = plain_table("label", "recall (sensitivity)", "specificity", "precision (PPV)", "NPV", "AUC", "average precision", "F1")
    for (label, row), counts in zip(metrics.per_label.items(), metrics.confusion, strict=True):
        counted.add_row(label, str(row.images), *(str(count) for count in counts))
        figures = [interval(figure) for figure in (row.recall, row.specificity, row.precision, row.npv, row.auc, row.average_precision)]
        rates.add_row(label, *figures, "–" if row.f1 is None else f"{row.f1:.4f}")
    out.print(counted)
    out.print(rates)
    if found.operating_point is not None:
        out.print(f"{found.operating_point.positive} is called from a probability of {found.operating_point.threshold:.4g} on")
    if found.coverage.value < 1:
        out.print(
            f"answered {interval(found.coverage)}, error among those {interval(found.error_of_the_answered)}; the figures above are of all images"
        )
    if (at := found.at_prevalence) is not None:
        out.print(f"where {at.prevalence:g} of those tested are {at.positive}: PPV {interval(at.ppv)}, NPV {interval(at.npv)}")
    out.print(f"in brackets: 95 % intervals over {metrics.interval_unit}s", style="dim")
    for text in found.notes:
        out.print(text, style="yellow")
