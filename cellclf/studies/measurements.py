"""Measured speed and size of a network, as `pytest benchmarks/` writes them into its JSON, and reading them back."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from cellclf.card import Estimate
from cellclf.documents import Document
from cellclf.errors import StoredFileError
from cellclf.runtime.providers import PROVIDERS

__all__ = ["EXTRA_INFO_KEY", "Made", "MeasuredAccuracy", "MeasuredPrecision", "Measurement", "percentile", "read_measurements"]

EXTRA_INFO_KEY = "measurement"
"""Under which name a benchmark keeps its Measurement in pytest-benchmark's extra_info."""

MeasuredPrecision = Literal["fp32", "fp16", "bf16", "int8"]
"""What a network was run in; bf16 is no precision of an exported file, but an engine may choose it."""

Share = Annotated[float, Field(ge=0, le=1)]

_READ_PERCENTILES = {"50", "95"}
"""Of a call's milliseconds: those that a report and a choice read."""

Made = Literal["exported", "skeleton"]
"""A trained file, or a network of the right shape with random weights: as quick, but without an accuracy."""


class MeasuredAccuracy(Document):
    """What exactly the measured file answers on exactly the measured provider, on `images` images of a data set's split.

    accuracy, balanced_accuracy: shares; balanced_accuracy_low, _high: 95 % interval over `groups` originals or patients, None where it was not kept.
    difference_to_fp32_points: accuracy − that of the fp32 file on these images, in percentage points. same_labels_as_fp32: share of images called
    the same.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    dataset: str
    split: str
    images: PositiveInt
    accuracy: Share
    balanced_accuracy: Share
    difference_to_fp32_points: Annotated[float, Field(ge=-100, le=100)] | None = None
    same_labels_as_fp32: Share | None = None
    balanced_accuracy_low: Share | None = None
    balanced_accuracy_high: Share | None = None
    groups: PositiveInt | None = None

    @property
    def balanced(self) -> Estimate:
        """The balanced accuracy with its interval."""
        return Estimate(value=self.balanced_accuracy, low=self.balanced_accuracy_low, high=self.balanced_accuracy_high)


class Measurement(Document):
    """One network on one engine and provider at one batch size, number of threads and number of sessions.

    Weights do not change the speed, so a speed holds for every run of the same backbone, image size and number of labels; accuracy is of the very
    file alone. file_sha256 names it, recipe_fingerprint and data_fingerprint tell whose run it is of; '' where they were not kept. latency_ms: one
    call of `batch` images, by percentile ('50', '90', '95', '99'); images_per_second: at the median call, of all sessions together. model: the file,
    or how the network was made. engine: onnxruntime (ours), or a peer: openvino, keras-predict, tf-function, onnxruntime-loop, torch-compile …

    steady: whether the windows agreed; a measurement that is not is shown and marked, and never wins a choice. windows_images_per_second: the
    throughput of each window; spread: their largest relative difference (0.05 = 5 %). load_s: opening the session; cold_start_s: process start to
    first prediction. joules_per_image: of the whole machine or card, as its counters tell. machine: its kind in the table of prices, '' where it is
    to be found from `gpu`, the card that it ran on (None: it ran on the CPU), or the machine's `cores`. None: not measured.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    backbone: str
    image_size_px: PositiveInt
    labels: PositiveInt
    precision: MeasuredPrecision
    provider: str
    batch: PositiveInt
    threads: PositiveInt
    calls: PositiveInt
    latency_ms: dict[str, PositiveFloat]
    images_per_second: PositiveFloat
    file_size_mb: PositiveFloat
    model: str
    hardware: str
    made: Made = "exported"
    file_sha256: str = ""
    recipe_fingerprint: str = ""
    data_fingerprint: str = ""
    engine: str = "onnxruntime"
    steady: bool = True
    windows_images_per_second: tuple[PositiveFloat, ...] = ()
    spread: NonNegativeFloat | None = None
    sessions: PositiveInt = 1
    load_s: NonNegativeFloat | None = None
    cold_start_s: NonNegativeFloat | None = None
    peak_ram_mb: NonNegativeFloat | None = None
    gpu_memory_mb: NonNegativeFloat | None = None
    joules_per_image: NonNegativeFloat | None = None
    accuracy: MeasuredAccuracy | None = None
    machine: str = ""
    cores: PositiveInt | None = None
    gpu: str | None = None

    @field_validator("latency_ms")
    @classmethod
    def _has_what_is_read(cls, values: dict[str, float]) -> dict[str, float]:
        if missing := _READ_PERCENTILES - set(values):
            raise ValueError(f"lacks the percentile {', '.join(sorted(missing))}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _made_by_its_name(cls, fields: Any) -> Any:
        """Records from before `made` was kept: an .onnx file's name means an exported file."""
        if isinstance(fields, dict) and "made" not in fields:
            return {**fields, "made": "exported" if str(fields.get("model", "")).endswith(".onnx") else "skeleton"}
        return fields

    @property
    def card(self) -> str | None:
        """The GPU that it ran on, 'GPU' where its name was not kept; None: the CPU."""
        gpus = {provider.runs_as for provider in PROVIDERS.values() if provider.gpu}
        return self.gpu or ("GPU" if self.provider in gpus else None)

    @property
    def machine_cores(self) -> int | None:
        """`cores`; of records from before it was kept, as `hardware` tells."""
        told = re.search(r"(\d+) cores", self.hardware)
        return self.cores if self.cores is not None or told is None else int(told[1])

    @property
    def describe(self) -> str:
        """Precision, provider, batch and threads in a few words; the engine where it is a peer's."""
        way = f"{self.precision}, {self.provider.removesuffix('ExecutionProvider')}, batch {self.batch}, {self.threads} threads"
        sessions = f" × {self.sessions} sessions" if self.sessions > 1 else ""
        return f"{way}{sessions}" if self.engine == "onnxruntime" else f"{self.engine} {way}{sessions}"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least `percent` % of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """The measurements in a pytest-benchmark JSON file; raises StoredFileError where it is none or holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [row["extra_info"][EXTRA_INFO_KEY] for row in content["benchmarks"] if EXTRA_INFO_KEY in row["extra_info"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"it is no pytest-benchmark JSON ({type(error).__name__})"
        raise StoredFileError(f"{path} cannot be read: {reason}") from error
    if not found:
        raise StoredFileError(f"{path} holds no measurement of a network; make one with: pytest benchmarks/test_inference.py --benchmark-json={path}")
    return tuple(Measurement.parse(json.dumps(row), where=f"a measurement in {path}") for row in found)
