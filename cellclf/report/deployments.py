"""Measurements → the ways in which a network can be run, as a choice weighs them."""

from collections import defaultdict
from collections.abc import Iterable

from cellclf.documents import Document
from cellclf.studies.measurements import Measurement, cost_per_million

__all__ = ["Deployment", "deployments"]

_LATENCY_PERCENTILE = "95"


class Deployment(Document):
    """How a network can be run, as measured: latency of the smallest batch (95th percentile), throughput of the best."""

    precision: str
    provider: str
    threads: int
    hardware: str
    latency_ms: float
    latency_batch: int
    images_per_second: float
    file_size_mb: float
    cost_per_million: float | None

    @property
    def describe(self) -> str:
        """In a few words."""
        return f"{self.precision} on {self.provider.removesuffix('ExecutionProvider')}, {self.threads} threads"


def deployments(measurements: Iterable[Measurement], *, price_per_hour: float | None) -> dict[tuple[str, int], tuple[Deployment, ...]]:
    """Measurements of one precision, provider and number of threads as one deployment, by backbone and image size."""
    grouped: defaultdict[tuple[str, int], defaultdict[tuple[str, str, int, str], list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for each in measurements:
        grouped[each.backbone, each.image_size_px][each.precision, each.provider, each.threads, each.hardware].append(each)
    return {key: tuple(_deployment(rows, price_per_hour) for rows in by_way.values()) for key, by_way in grouped.items()}


def _deployment(rows: list[Measurement], price_per_hour: float | None) -> Deployment:
    quickest = min(rows, key=lambda row: row.batch)
    speed = max(row.images_per_second for row in rows)
    return Deployment(
        precision=quickest.precision,
        provider=quickest.provider,
        threads=quickest.threads,
        hardware=quickest.hardware,
        latency_ms=quickest.latency_ms[_LATENCY_PERCENTILE],
        latency_batch=quickest.batch,
        images_per_second=speed,
        file_size_mb=quickest.file_size_mb,
        cost_per_million=None if price_per_hour is None else cost_per_million(speed, price_per_hour),
    )
