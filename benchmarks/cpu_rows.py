"""The rows of a benchmark JSON, and what they say of one another. Arithmetic on records; `cpu_page` writes them down."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engines import OURS, REFERENCE
from benchmarks.noise import geometric_mean, median_ratio
from benchmarks.records import WINDOWS_KEY
from benchmarks.subjects import STUDY_BACKBONES
from cellclf.backbones import BACKBONES
from cellclf.studies.measurements import EXTRA_INFO_KEY, Measurement

__all__ = ["BASE", "Row", "Target", "compact", "quickest", "rows_of", "targets"]

_DIGITS = 6
"""Of a sample's seconds in the stored file: microseconds."""


@dataclass(frozen=True)
class Row:
    """One measurement with its speed over the plain loop's in the same rounds, by wall and by processor time; 1 for the loop itself."""

    measured: Measurement
    ratio: float | None
    processor_ratio: float | None
    extra: Mapping[str, Any]

    @property
    def whole_machine(self) -> bool:
        """One session on all cores."""
        return self.measured.threads == self.measured.cores and self.measured.sessions == 1


@dataclass(frozen=True)
class Target:
    """Ours over a peer: a factor for each backbone that was measured, their geometric mean, and what is wanted.

    unsteady: backbones of which one of the two rows has windows that never agreed.
    """

    text: str
    wanted: float
    factors: dict[str, float]
    processor_factors: dict[str, float]
    backbones: tuple[str, ...]
    unsteady: frozenset[str]

    @property
    def mean(self) -> float | None:
        """Over all backbones it is about; None where one of them was not measured."""
        return geometric_mean(list(self.factors.values())) if set(self.factors) == set(self.backbones) else None

    @property
    def processor_mean(self) -> float | None:
        """The same by processor time."""
        return geometric_mean(list(self.processor_factors.values())) if set(self.processor_factors) == set(self.backbones) else None


Pick = tuple[str, str | None, str]
"""Engine, provider (None = the quickest one), precision."""

BASE: Pick = (REFERENCE, None, "fp32")


def rows_of(content: Mapping[str, Any]) -> list[Row]:
    """Every row of inference."""
    found = []
    for each in content["benchmarks"]:
        extra = each["extra_info"]
        if EXTRA_INFO_KEY in extra:
            measured = Measurement.parse(json.dumps(extra[EXTRA_INFO_KEY]), where=each["name"])
            ratios = [median_ratio(extra[name]) if extra[name] else None for name in ("ratios", "processor_ratios")]
            found.append(Row(measured, ratios[0], ratios[1], extra))
    return found


def quickest(rows: Iterable[Row], pick: Pick, *, backbone: str, batch: int) -> Row | None:
    """The row of that engine and precision at the published image size on the whole machine; of several providers the one with the best ratio."""
    engine, provider, precision = pick
    found = [
        row
        for row in rows
        if row.whole_machine
        and row.ratio is not None
        and (row.measured.backbone, row.measured.batch) == (backbone, batch)
        and row.measured.image_size_px == BACKBONES[backbone].image_size_px
        and (row.measured.engine, row.measured.precision) == (engine, precision)
        and provider in (None, row.measured.provider)
    ]
    return max(found, key=lambda row: row.ratio or 0.0, default=None)


def targets(rows: Sequence[Row], *, small: int, large: int) -> list[Target]:
    """The CPU targets, each for our quickest provider and, where that is another, for ONNX Runtime's own too."""
    own: Pick = (OURS, "CPUExecutionProvider", "int8")
    best: Pick = (OURS, None, "int8")
    five, first = STUDY_BACKBONES, STUDY_BACKBONES[:1]
    found = []
    for ours, which in ((best, "our quickest provider"), (own, "ONNX Runtime's CPU provider")):
        over = f"int8, {which}, over"
        found += [
            _target(rows, ours, BASE, batch, five, 2.5, f"{over} the plain ONNX Runtime loop in fp32, batch {batch}") for batch in (small, large)
        ]
        found.append(_target(rows, ours, ("keras-predict", None, "fp32"), large, five, 4, f"{over} Keras predict, batch {large}"))
        found.append(_target(rows, ours, ("keras-predict", None, "fp32"), small, first, 10, f"{over} Keras predict, batch {small}"))
        found += [_target(rows, ours, ("openvino", None, "int8"), batch, five, 1, f"{over} OpenVINO int8, batch {batch}") for batch in (small, large)]
    return found


def _target(rows: Sequence[Row], ours: Pick, peer: Pick, batch: int, backbones: tuple[str, ...], wanted: float, text: str) -> Target:
    factors, processor, unsteady = {}, {}, set()
    for backbone in backbones:
        own, theirs = (quickest(rows, pick, backbone=backbone, batch=batch) for pick in (ours, peer))
        if own and theirs and own.ratio and theirs.ratio:
            factors[backbone] = own.ratio / theirs.ratio
            if not (own.measured.steady and theirs.measured.steady):
                unsteady.add(backbone)
            if own.processor_ratio and theirs.processor_ratio:
                processor[backbone] = own.processor_ratio / theirs.processor_ratio
    return Target(text, wanted, factors, processor, backbones, frozenset(unsteady))


def compact(content: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmark JSON with its raw samples rounded to microseconds and without figures that can be computed from them."""
    benchmarks = []
    for each in content["benchmarks"]:
        samples = [round(sample, _DIGITS) for sample in each["stats"]["data"]]
        stats = {"median": each["stats"]["median"], "rounds": each["stats"]["rounds"], "data": samples}
        extra = {**each["extra_info"]}
        if WINDOWS_KEY in extra:
            extra[WINDOWS_KEY] = [
                {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in window.items()}
                for window in extra[WINDOWS_KEY]
            ]
        benchmarks.append({"name": each["name"], "stats": stats, "extra_info": extra})
    return {"environment": content["environment"], "datetime": content["datetime"], "benchmarks": benchmarks}
