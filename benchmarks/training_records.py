"""What training windows say: images a second, what a step waits for its input, and how long a row of a study would take. Arithmetic on records."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.contest import Window
from benchmarks.records import WINDOWS_KEY, window_rows
from benchmarks.steadiness import Turns
from cellclf.data.datasets import DATASETS, find
from cellclf.data.request import DataRequest
from cellclf.data.scan import scan
from cellclf.studies.study import Study, Variation
from cellclf.studies.table import STUDIES

__all__ = ["TRAINING_KEY", "StudyRow", "input_stall", "row_of", "row_seconds", "study_estimate", "training_record"]

TRAINING_KEY = "training"
"""Under which name a row of training keeps its figures."""


@dataclass(frozen=True)
class StudyRow:
    """A published study's row: images of each pass, and epochs, as its source has them."""

    study: str
    title: str
    train_images: int
    other_images: int
    epochs: int


def input_stall(files: Turns[Window], resident: Turns[Window]) -> float | None:
    """Share of a step that it takes longer with batches from the image cache than with one from memory; the median of the rounds both ran.

    Below 0 where the noise is larger than the stall; None without a common round.
    """
    pairs = [(files.by_round[number].call_s, resident.by_round[number].call_s) for number in files.by_round if number in resident.by_round]
    return statistics.median(1 - own / theirs for theirs, own in pairs) if pairs else None


def row_seconds(row: StudyRow, *, batch: int, images_per_second: float, predict_images_per_second: float, compile_s: float) -> float:
    """Compile once; an epoch is the training images in whole batches and a pass over the validation images; test images once.

    An estimate: it leaves out decoding (once a data set), start-up, checkpoints and figures.
    """
    trained = row.epochs * math.ceil(row.train_images / batch) * batch
    return compile_s + trained / images_per_second + (row.epochs * row.other_images + row.other_images) / predict_images_per_second


def row_of(backbone: str) -> StudyRow | None:
    """The first row of a study with this backbone, for the published split; None where its data set is not on this machine."""
    chosen = next(((study, row) for study in STUDIES.values() for row in study.variations if row.backbone == backbone), None)
    if chosen is None or find(DATASETS[chosen[0].data]) is None:
        return None
    return _sized(*chosen)


def _sized(study: Study, variation: Variation) -> StudyRow:
    files = len(scan(study.data).files)
    train, validation, _ = DataRequest(data=study.data).fractions
    epochs = study.recipe(variation, protocol=None, seed=0).epochs
    return StudyRow(f"{study.letter}: {study.title}", variation.title, round(files * train), round(files * validation), epochs)


def study_estimate(backbone: str, **rates: float) -> dict[str, Any] | None:
    """The row and its estimated seconds; rates as row_seconds takes them."""
    row = row_of(backbone)
    if row is None:
        return None
    seconds = row_seconds(row, batch=int(rates.pop("batch")), **rates)
    return {"study": row.study, "row": row.title, "images": row.train_images, "epochs": row.epochs, "estimated_s": seconds}


def training_record(
    *,
    name: Mapping[str, Any],
    files: Turns[Window],
    resident: Turns[Window] | None,
    opened: Mapping[str, Any],
    predict_images_per_second: float,
    peak_ram_mb: float | None,
) -> dict[str, Any]:
    """extra_info of one backbone, precision and batch size; rates of the windows that count."""
    batch = int(name["batch"])
    rate = batch / statistics.median(sample for number in files.counted for sample in files.by_round[number].samples_s)
    estimate = study_estimate(
        name["backbone"], batch=batch, images_per_second=rate, predict_images_per_second=predict_images_per_second, compile_s=opened["compile_s"]
    )
    return {
        **name,
        "images_per_second": rate,
        "rounds_images_per_second": {str(number): batch / window.call_s for number, window in files.by_round.items()},
        "steady": files.steady,
        WINDOWS_KEY: {feed: window_rows(turns) for feed, turns in (("files", files), ("resident", resident)) if turns is not None},
        "input_stall": None if resident is None else input_stall(files, resident),
        "compile_s": opened["compile_s"],
        "backend": opened["backend"],
        "predict_images_per_second": predict_images_per_second,
        "peak_ram_mb": peak_ram_mb,
        "study_row": estimate,
    }
