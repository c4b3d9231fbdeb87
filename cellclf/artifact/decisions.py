"""What an exported file shall decide by: temperature, threshold, band without an answer; chosen on validation predictions, never on test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cellclf.card import AbstainBand, Estimate, OperatingPoint, Temperature
from cellclf.data.manifest import Split
from cellclf.errors import EvaluationError, RunError
from cellclf.evaluation.abstention import choose_abstention, coverage_and_error
from cellclf.evaluation.calibration import apply_temperature, calibrate
from cellclf.evaluation.decision import decide, positive_number
from cellclf.evaluation.metrics import measure
from cellclf.evaluation.operating_point import choose_operating_point
from cellclf.training.run import Run

__all__ = ["Decisions", "Predicted", "Wishes", "check", "choose", "figures", "notes", "stored"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked of an export. positive: None = the second of two labels. At most one of max_error and min_coverage."""

    calibrate: bool = False
    positive: str | None = None
    min_sensitivity: float | None = None
    max_error: float | None = None
    min_coverage: float | None = None


@dataclass(frozen=True)
class Decisions:
    """What was chosen; None = the most probable label, and an answer for every image."""

    operating_point: OperatingPoint | None = None
    abstain: AbstainBand | None = None


@dataclass(frozen=True)
class Predicted:
    """Probabilities [images, classes] of one split, with the class numbers [images] and groups of its images."""

    split: Split
    labels: Sequence[str]
    probabilities: npt.NDArray[np.floating]
    truth: npt.NDArray[np.integer]
    groups: Sequence[str]

    def softened(self, temperature: Temperature | None) -> "Predicted":
        """The same images with their probabilities at a temperature."""
        return self if temperature is None else replace(self, probabilities=apply_temperature(self.probabilities, temperature.value))


def stored(run: Run, split: Split) -> Predicted:
    """A run's stored predictions of one split; raises RunError where some are missing, StoredFileError where there are none to read."""
    manifest, values = run.manifest(), run.predictions(split)
    entries = manifest.split(split)
    missing = sum(entry.path not in values for entry in entries)
    if missing:
        raise RunError(f"run {run.name} holds no prediction of {missing} of its {len(entries)} {split} images; its predictions.csv was changed")
    truth = np.array([manifest.labels.index(entry.label) for entry in entries])
    return Predicted(split, manifest.labels, np.array([values[entry.path] for entry in entries]), truth, manifest.group_keys(split))


def check(wishes: Wishes, run: Run) -> Temperature | None:
    """Prove, on stored validation predictions and before a framework is loaded, that the wishes can be met.

    Gives the temperature, None where none was asked for. Raises EvaluationError, UnknownNameError, RunError.
    """
    validation = stored(run, "validation")
    temperature = calibrate(validation.probabilities, validation.truth, split=validation.split) if wishes.calibrate else None
    choose(wishes, validation.softened(temperature))
    return temperature


def choose(wishes: Wishes, validation: Predicted) -> Decisions:
    """Threshold and band that were asked for; raises EvaluationError, UnknownNameError where that cannot be had."""
    point = band = None
    if wishes.min_sensitivity is not None:
        point = choose_operating_point(
            validation.probabilities,
            validation.truth,
            validation.labels,
            positive=_positive(wishes, validation.labels),
            min_sensitivity=wishes.min_sensitivity,
            groups=validation.groups,
            split=validation.split,
        )
    elif wishes.positive is not None:
        raise EvaluationError(f"a positive label ({wishes.positive}) is of use with a least sensitivity only; give --min-sensitivity too")
    if wishes.max_error is not None or wishes.min_coverage is not None:
        band = choose_abstention(
            validation.probabilities,
            validation.truth,
            validation.labels,
            groups=validation.groups,
            split=validation.split,
            operating_point=point,
            max_error=wishes.max_error,
            min_coverage=wishes.min_coverage,
        )
    return Decisions(point, band)


def figures(predicted: Predicted, decisions: Decisions, *, unit: str) -> dict[str, Estimate]:
    """The figures a card shows of one split, labels as the file decides them; those that are not defined on the split are left out."""
    decided = decide(predicted.probabilities, predicted.labels, operating_point=decisions.operating_point, abstain=decisions.abstain)
    metrics = measure(
        predicted.probabilities,
        predicted.truth,
        predicted.labels,
        groups=predicted.groups,
        unit="group" if unit == "group" else "file",
        predicted=decided.called,
    )
    named = {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "auc": metrics.auc,
        "average_precision": metrics.average_precision,
        "loss": metrics.loss_estimate,
        "brier": metrics.brier_estimate,
        "ece": metrics.ece_estimate,
        **{f"recall of {label}": row.recall for label, row in metrics.per_label.items()},
        **{f"specificity of {label}": row.specificity for label, row in metrics.per_label.items()},
    }
    if decisions.abstain is not None:
        right = decided.called == predicted.truth
        named["coverage"], named["error of the answered"] = coverage_and_error(right, ~decided.abstained, groups=predicted.groups)
    return {name: estimate for name, estimate in named.items() if estimate is not None}


def notes(wishes: Wishes, run: Run, temperature: Temperature | None) -> tuple[str, ...]:
    """What whoever asked for it must know."""
    found = []
    if wishes != Wishes():
        leaks = [leak for leak in run.setup().data.leaks if leak.split == "validation"]
        found += [f"temperature, threshold and band are chosen on validation images, and {leak}; on new images expect less" for leak in leaks]
    if temperature is not None and temperature.value == 1:
        found.append("every validation image is right, which does not tell how sure to be: the probabilities stay as they are (temperature 1)")
    elif temperature is not None and temperature.ece_after > temperature.ece_before:
        found.append(
            f"the temperature {temperature.value:.3g} lowered the loss but not the calibration error, {temperature.ece_before:.4f} → "
            f"{temperature.ece_after:.4f} on {temperature.images} {temperature.split} images, which may be too few to fit it"
        )
    return tuple(found)


def _positive(wishes: Wishes, labels: Sequence[str]) -> str:
    if wishes.positive is None:
        if len(labels) != 2:
            raise EvaluationError(f"with {len(labels)} labels a least sensitivity needs --positive LABEL: one of {', '.join(labels)}")
        return labels[1]
    return labels[positive_number(labels, wishes.positive)]
