"""Measurements → the ways in which a network can be run, with what each costs, as a report shows and a choice weighs them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cellclf.documents import Document
from cellclf.report.cost import Cost, cost_of
from cellclf.report.prices import Assumptions, Price, measured_price
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.measurements import Measurement

__all__ = ["MOST_POINTS_LOST", "Deployment", "deployable", "deployments"]

MOST_POINTS_LOST = 0.3
"""Percentage points of accuracy that a coarser precision may cost before it is another model."""

_LATENCY_PERCENTILE = "95"


class Deployment(Document):
    """How a network can be run, as measured: latency of the smallest batch (95th percentile), throughput and cost of the best batch.

    steady: whether the windows of both agreed; spread: the largest relative difference of the throughput's. price, cost_per_million: None where the
    machine has no price. joules_per_image: None where it was not measured.
    """

    engine: str
    precision: str
    provider: str
    threads: int
    sessions: int
    hardware: str
    gpu: str | None
    latency_ms: float
    latency_batch: int
    images_per_second: float
    throughput_batch: int
    file_size_mb: float
    steady: bool
    spread: float | None
    price: Price | None
    cost_per_million: Cost | None
    joules_per_image: float | None

    @property
    def on_gpu(self) -> bool:
        """Whether a card runs it."""
        return self.gpu is not None

    @property
    def describe(self) -> str:
        """In a few words."""
        sessions = f" × {self.sessions} sessions" if self.sessions > 1 else ""
        if self.gpu is not None:
            return f"{self.precision} on {self.gpu}, {self.provider.removesuffix('ExecutionProvider')}{sessions}"
        return f"{self.precision} on {self.provider.removesuffix('ExecutionProvider')}, {self.threads} threads{sessions}"


def deployable(measured: Measurement) -> bool:
    """Whether cellclf itself can run it so; a peer is measured to be compared with, not to be chosen.

    Peers name engines of their own, or, as OpenVINO's own loop, providers that are none of ours.
    """
    rows = PROVIDERS.values()
    return measured.engine in {row.engine for row in rows} and measured.provider in {row.runs_as for row in rows}


def _loses(measured: Measurement) -> bool:
    """Whether this way was seen to answer worse than the fp32 file; the accuracy beside a cost would not be its own."""
    difference = measured.accuracy.difference_to_fp32_points if measured.accuracy is not None else None
    return difference is not None and difference < -MOST_POINTS_LOST


def deployments(measurements: Iterable[Measurement], assumed: Assumptions) -> dict[tuple[str, int], tuple[Deployment, ...]]:
    """Measurements that differ in their batch alone as one deployment, by backbone and image size.

    Without peers, and without ways that lose more than MOST_POINTS_LOST percentage points of accuracy against the fp32 file.
    """
    grouped: defaultdict[tuple[str, int], defaultdict[tuple[object, ...], list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for each in measurements:
        if deployable(each):
            way = (each.engine, each.precision, each.provider, each.threads, each.sessions, each.hardware, each.card)
            grouped[each.backbone, each.image_size_px][way].append(each)
    return {key: tuple(_deployment(rows, assumed) for rows in by_way.values() if not any(map(_loses, rows))) for key, by_way in grouped.items()}


def _deployment(rows: Sequence[Measurement], assumed: Assumptions) -> Deployment:
    """What was steady goes before what was not."""
    first = min(rows, key=lambda row: (not row.steady, row.batch))
    best = max(rows, key=lambda row: (row.steady, row.images_per_second))
    price = measured_price(assumed, best)
    return Deployment(
        engine=first.engine,
        precision=first.precision,
        provider=first.provider,
        threads=first.threads,
        sessions=first.sessions,
        hardware=first.hardware,
        gpu=first.card,
        latency_ms=first.latency_ms[_LATENCY_PERCENTILE],
        latency_batch=first.batch,
        images_per_second=best.images_per_second,
        throughput_batch=best.batch,
        file_size_mb=first.file_size_mb,
        steady=first.steady and best.steady,
        spread=best.spread,
        price=price,
        cost_per_million=price and cost_of(best.images_per_second, best.windows_images_per_second, price.per_hour, utilisation=assumed.utilisation),
        joules_per_image=best.joules_per_image,
    )
