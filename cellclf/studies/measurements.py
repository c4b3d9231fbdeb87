"""Measured speed and size of a network, as `pytest benchmarks/` writes them into its JSON, and reading them back."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from cellclf.card import Precision
from cellclf.documents import Document
from cellclf.errors import StoredFileError

__all__ = ["EXTRA_INFO_KEY", "Measurement", "cost_per_million", "percentile", "read_measurements"]

EXTRA_INFO_KEY = "measurement"
"""Under which name a benchmark keeps its Measurement in pytest-benchmark's extra_info."""


class Measurement(Document):
    """One network on one provider at one batch size and number of threads.

    Weights do not change the speed, so a measurement holds for every run of the same backbone, image size and number of labels. latency_ms: one call
    of `batch` images, by percentile ('50', '90', '95', '99'); images_per_second: at the median call. model: the file, or how the network was made.
    """

    backbone: str
    image_size_px: int
    labels: int
    precision: Precision
    provider: str
    batch: int
    threads: int
    calls: int
    latency_ms: dict[str, float]
    images_per_second: float
    file_size_mb: float
    model: str
    hardware: str

    @property
    def describe(self) -> str:
        """Precision, provider, batch and threads in a few words."""
        return f"{self.precision}, {self.provider.removesuffix('ExecutionProvider')}, batch {self.batch}, {self.threads} threads"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least `percent` % of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def cost_per_million(images_per_second: float, price_per_hour: float) -> float:
    """What a million images cost on a machine of that price an hour, kept busy; in the price's currency."""
    return 1e6 / images_per_second / 3600 * price_per_hour


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """The measurements in a pytest-benchmark JSON file; raises StoredFileError where it is none or holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [row["extra_info"][EXTRA_INFO_KEY] for row in content["benchmarks"] if EXTRA_INFO_KEY in row["extra_info"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"it is no pytest-benchmark JSON ({type(error).__name__})"
        raise StoredFileError(f"{path} cannot be read: {reason}") from error
    if not found:
        raise StoredFileError(f"{path} holds no measurement of a network; make one with: pytest benchmarks/test_inference.py --benchmark-json={path}")
    return tuple(Measurement.parse(json.dumps(row), where=f"a measurement in {path}") for row in found)
