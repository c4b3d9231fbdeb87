"""The run folder: the files of one training run, their names, and reading them. Loads no framework."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.manifest import Manifest, Split, read_manifest
from cellclf.data.prepare import DataRecord
from cellclf.documents import Document
from cellclf.environment import Environment
from cellclf.errors import RunError, StoredFileError
from cellclf.evaluation.metrics import SplitMetrics
from cellclf.storage import write_csv
from cellclf.training.recipe import Recipe

__all__ = [
    "FINISHED",
    "Epoch",
    "LearningTime",
    "Parameters",
    "Run",
    "RunMetrics",
    "Setup",
    "find_run",
    "is_run",
    "newest_run",
    "runs_in",
    "write_history",
]

FINISHED = "metrics.json"
"""Written last: a run folder that has it is whole."""

_HISTORY_HEADER = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
)


class Setup(Document):
    """recipe.json: the recipe, the data it was resolved to, and the weights it started from."""

    recipe: Recipe
    data: DataRecord
    weights_sha256: str | None
    batch_norm_momentum: float | None


class Epoch(Document):
    """One row of history.csv. Train figures are means over the epoch with dropout and augmentation on; seconds include validation."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float


class LearningTime(Document):
    """Seconds, over all sittings of a resumed run.

    data_s: reading, decoding, and a frozen backbone's features. compile_s: building the network, and the first step of each sitting, which
    compiles it. fit_s: the epochs, validation included.
    """

    data_s: float
    compile_s: float
    fit_s: float

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.data_s + self.compile_s + self.fit_s


class Parameters(Document):
    """Numbers of weights; trainable is what the recipe's freezing leaves."""

    total: int
    trainable: int
    non_trainable: int


class RunMetrics(Document):
    """metrics.json. best_epoch has the lowest validation loss; weights_epoch is the epoch whose weights were kept and measured."""

    parameters: Parameters
    epochs_run: int
    best_epoch: int
    weights_epoch: int
    stopped_early: bool
    train_loss: float
    train_accuracy: float
    validation: SplitMetrics
    test: SplitMetrics
    learning_time: LearningTime
    images_per_second: float


@dataclass(frozen=True)
class Run:
    """One run folder by its path; every property reads the file when it is asked for."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """Weights of the whole network, Keras' HDF5 format."""
        return self.folder / "model.weights.h5"

    @property
    def finished(self) -> bool:
        """Whether training and evaluation ended."""
        return (self.folder / FINISHED).exists()

    def setup(self) -> Setup:
        """recipe.json."""
        return Setup.read(self.folder / "recipe.json")

    def manifest(self) -> Manifest:
        """manifest.csv, its paths beneath the data's root."""
        return read_manifest(self.folder / "manifest.csv", root=Path(self.setup().data.root))

    def environment(self) -> Environment:
        """environment.json."""
        return Environment.read(self.folder / "environment.json")

    def metrics(self) -> RunMetrics:
        """metrics.json; raises StoredFileError where the run did not finish."""
        return RunMetrics.read(self.folder / FINISHED)

    def history(self) -> tuple[Epoch, ...]:
        """history.csv; raises StoredFileError."""
        path = self.folder / "history.csv"
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                return tuple(Epoch.model_validate(row) for row in csv.DictReader(stream))
        except (OSError, ValueError, csv.Error) as error:
            raise _broken(path, error) from error

    def predictions(self, split: Split) -> dict[str, tuple[float, ...]]:
        """Stored probabilities of one split, by path, in the labels' order; raises StoredFileError."""
        path = self.folder / "predictions.csv"
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.reader(stream) if row[2] == split]
            return {row[0]: tuple(float(value) for value in row[5:]) for row in rows}
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise _broken(path, error) from error

    def write_predictions(self, manifest: Manifest, probabilities: dict[Split, npt.NDArray[np.float32]]) -> None:
        """Write predictions.csv: a row an image of the given splits, probabilities [images, classes] in the manifest's order."""
        labels = manifest.labels
        rows: list[list[Any]] = []
        for split, values in probabilities.items():
            for entry, row in zip(manifest.split(split), values, strict=True):
                rows.append([entry.path, entry.group, split, entry.label, labels[int(row.argmax())], *(f"{p:.9g}" for p in row)])
        write_csv(self.folder / "predictions.csv", ["path", "group", "split", "label", "predicted", *(f"p_{label}" for label in labels)], rows)


def _broken(path: Path, error: Exception) -> StoredFileError:
    return StoredFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is damaged, or of another version'}")


def write_history(folder: Path, history: tuple[Epoch, ...]) -> None:
    """Write history.csv."""
    write_csv(
        folder / "history.csv", _HISTORY_HEADER, ([f"{v:.9g}" if isinstance(v, float) else v for v in e.model_dump().values()] for e in history)
    )


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / "recipe.json").exists()


def find_run(name: str, *, runs: Path) -> Run:
    """A run by its folder's path, or by its name beneath `runs`; raises RunError."""
    for folder in (Path(name), runs / name):
        if is_run(folder):
            return Run(folder)
    there = [run.name for run in runs_in(runs)]
    raise RunError(f"no run {name!r}: it is neither a run folder nor a name in {runs}/ ({', '.join(there[-5:]) or 'which holds none'})")


def newest_run(*, runs: Path) -> Run:
    """The finished run that ended last; raises RunError."""
    finished = [run for run in runs_in(runs) if run.finished]
    if not finished:
        raise RunError(f"no finished run in {runs}/; train one first: cellclf train")
    return max(finished, key=lambda run: ((run.folder / FINISHED).stat().st_mtime_ns, run.name))


def runs_in(runs: Path) -> list[Run]:
    """Every run folder in `runs`, finished or not, by name."""
    return [Run(path.parent) for path in sorted(runs.glob("*/recipe.json"))]
