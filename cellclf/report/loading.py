"""Run folders → what a report is made of, every file read once and checked; a run that cannot be used is named with its reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.data.manifest import Entry, Manifest, Split
from cellclf.environment import Environment
from cellclf.errors import CellclfError, RunError, StoredFileError
from cellclf.evaluation.metrics import IntervalUnit
from cellclf.report.figures import Failed
from cellclf.training.run import Epoch, Run, RunMetrics, Setup

__all__ = ["Answered", "LoadedRun", "load", "load_all"]

_SAME_FIGURE = 1e-6
_ADDS_UP = 1e-3  # half precision


@dataclass(frozen=True, eq=False)
class Answered:
    """What a run answered on one split. truth: [images]; probabilities: [images, classes]; groups: one a image."""

    entries: tuple[Entry, ...]
    truth: npt.NDArray[np.intp]
    groups: tuple[str, ...]
    unit: IntervalUnit
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A finished run whose files fit together."""

    run: Run
    setup: Setup
    environment: Environment
    metrics: RunMetrics
    history: tuple[Epoch, ...]
    validation: Answered
    test: Answered

    @property
    def fingerprints(self) -> tuple[str, str]:
        """Of its recipe and its data, as every file exported from it carries them."""
        return self.setup.recipe.fingerprint, self.setup.data.fingerprint


def load(run: Run) -> LoadedRun:
    """Read a finished run; raises RunError or StoredFileError naming what is missing, broken, or does not fit together."""
    if not run.finished:
        raise RunError(f"{run.name} is not finished")
    setup, metrics, manifest = run.setup(), run.metrics(), run.manifest()
    if manifest.fingerprint != setup.data.fingerprint:
        raise StoredFileError(f"{run.name}: manifest.csv does not match its recorded fingerprint {setup.data.fingerprint[:12]}: it was changed")
    loaded = LoadedRun(
        run, setup, run.environment(), metrics, run.history(), _answered(run, manifest, "validation"), _answered(run, manifest, "test")
    )
    for answered, figures in ((loaded.validation, metrics.validation), (loaded.test, metrics.test)):
        accuracy = float((answered.probabilities.argmax(axis=1) == answered.truth).mean())
        if abs(accuracy - figures.accuracy.value) > _SAME_FIGURE:
            raise StoredFileError(
                f"{run.name}: predictions.csv gives an accuracy of {accuracy:.4f}, metrics.json says {figures.accuracy.value:.4f}: one was changed"
            )
    return loaded


def load_all(runs: Iterable[Run]) -> tuple[dict[Path, LoadedRun], tuple[Failed, ...]]:
    """Every run that can be used, by folder, and each that cannot with its reason."""
    loaded: dict[Path, LoadedRun] = {}
    left_out = []
    for run in runs:
        try:
            loaded[run.folder] = load(run)
        except CellclfError as error:
            left_out.append(Failed(run=run.name, state="damaged" if run.finished else "unfinished", reason=_local(str(error), run)))
    return loaded, tuple(left_out)


def _answered(run: Run, manifest: Manifest, split: Split) -> Answered:
    entries, labels = manifest.split(split), manifest.labels
    stored = run.predictions(split)
    missing = [entry.path for entry in entries if entry.path not in stored]
    if missing:
        raise StoredFileError(f"{run.name}: predictions.csv lacks {len(missing)} of the {len(entries)} {split} images, as {missing[0]}")
    rows = [stored[entry.path] for entry in entries]
    if {len(row) for row in rows} != {len(labels)}:
        raise StoredFileError(f"{run.name}: predictions.csv does not hold {len(labels)} probabilities an image")
    probabilities = np.array(rows, dtype=np.float64)
    if not np.isfinite(probabilities).all() or probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > _ADDS_UP:
        raise RunError(f"{run.name}: its {split} predictions are no probabilities; its training diverged, or predictions.csv was changed")
    known = all(entry.group for entry in entries)
    return Answered(
        entries,
        np.array([labels.index(entry.label) for entry in entries]),
        tuple(manifest.group_keys(split)),
        "group" if known else "file",
        probabilities,
    )


def _local(reason: str, run: Run) -> str:
    """The reason without the run's own path: a page may be read on another machine."""
    return reason.replace(f"{run.folder}/", "").removeprefix(f"{run.name} ").removeprefix(f"{run.name}: ")
