"""Measurements → the ways in which a network can be run, with what each costs, as a report shows and a choice weighs them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from cellclf.card import Estimate
from cellclf.documents import Document
from cellclf.report.cost import Cost, cost_of
from cellclf.report.prices import Assumptions, Price, measured_price, rate_with_decoding
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.measurements import MeasuredAccuracy, Measurement

__all__ = ["KEEPS", "LEAST_SAME_LABELS", "MOST_POINTS_LOST", "Deployment", "deployable", "deployments", "ways_of"]

MOST_POINTS_LOST = 0.3
"""Percentage points of accuracy that a coarser precision may cost before it is another model."""

LEAST_SAME_LABELS = 0.995
"""Of the images, those that a precision must call as fp32 does: what it gains on some images makes up for no others that it calls differently."""

KEEPS = f"loses at most {MOST_POINTS_LOST:g} points of accuracy to fp32 and calls at least {100 * LEAST_SAME_LABELS:g} % of the images as it does"

_LATENCY_PERCENTILE = "95"


class Deployment(Document):
    """How a network can be run, as measured: latency of the smallest batch (95th percentile), throughput and cost of the best batch.

    steady: whether the windows of both agreed; spread: the largest relative difference of the throughput's. price, cost_per_million: None where the
    machine has no price. joules_per_image: None where it was not measured. from_files_per_second: with decoding, None where none was assumed.

    file, file_sha256, recipe_fingerprint, data_fingerprint: what was measured and whose run it is of; '' where it was random weights, another model's
    file, or not kept. measured: what that very file answers so, None where that was not measured. accuracy: the balanced accuracy that may stand
    beside this cost for one model, and what it is of (see `ways_of`).
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
    from_files_per_second: float | None = None
    file: str = ""
    file_sha256: str = ""
    recipe_fingerprint: str = ""
    data_fingerprint: str = ""
    measured: MeasuredAccuracy | None = None
    accuracy: Estimate | None = None
    accuracy_of: Literal["file", "run", "nothing"] = "nothing"

    @property
    def on_gpu(self) -> bool:
        """Whether a card runs it."""
        return self.gpu is not None

    @property
    def paid_images_per_second(self) -> float:
        """The throughput that the cost is of."""
        return self.images_per_second if self.from_files_per_second is None else self.from_files_per_second

    @property
    def keeps_answers(self) -> bool:
        """False where it was seen to lose more points against the fp32 file, or to call more images otherwise, than KEEPS allows."""
        return not self.changes

    @property
    def changes(self) -> str:
        """What it does more than KEEPS allows; empty where nothing was seen."""
        if self.measured is None:
            return ""
        difference, same = self.measured.difference_to_fp32_points, self.measured.same_labels_as_fp32
        lost = difference is not None and difference < -MOST_POINTS_LOST
        called = same is not None and same < LEAST_SAME_LABELS
        found = [f"loses more than {MOST_POINTS_LOST:g} points"] * lost + [
            f"calls more than {100 * (1 - LEAST_SAME_LABELS):.1f} % otherwise"
        ] * called
        return ", ".join(found)

    @property
    def describe(self) -> str:
        """In a few words."""
        sessions = f" × {self.sessions} sessions" if self.sessions > 1 else ""
        if self.gpu is not None:
            return f"{self.precision} on {self.gpu}, {self.provider.removesuffix('ExecutionProvider')}{sessions}"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.precision} on {self.provider.removesuffix('ExecutionProvider')}, {threads}{sessions}"


def deployable(measured: Measurement) -> bool:
    """Whether cellclf itself can run it so; a peer is measured to be compared with, not to be chosen.

    Peers name engines of their own, or, as OpenVINO's own loop, providers that are none of ours.
    """
    rows = PROVIDERS.values()
    return measured.engine in {row.engine for row in rows} and measured.provider in {row.runs_as for row in rows}


def deployments(measurements: Iterable[Measurement], assumed: Assumptions) -> dict[tuple[str, int], tuple[Deployment, ...]]:
    """Measurements of one file that differ in their batch alone as one deployment, by backbone and image size; without peers."""
    chosen = [each for each in measurements if deployable(each)]
    answers = {_answering(each): each.accuracy for each in chosen if each.accuracy is not None and each.file_sha256}
    grouped: defaultdict[tuple[str, int], defaultdict[tuple[object, ...], list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for each in chosen:
        way = (each.engine, each.precision, each.provider, each.threads, each.sessions, each.hardware, each.card, each.made, each.file_sha256)
        grouped[each.backbone, each.image_size_px][way].append(each)
    return {
        key: tuple(_deployment(rows, assumed, answers.get(_answering(rows[0])) or _accuracy(rows)) for rows in by_way.values())
        for key, by_way in grouped.items()
    }


def ways_of(ways: Iterable[Deployment], trained: Collection[tuple[str, str]], run: Estimate | None = None) -> tuple[Deployment, ...]:
    """How one model can be run: its own files' measurements, and for what these lack the speed of the same network with other weights.

    trained: the fingerprints of recipe and data of each of its runs. run: what its runs answer, in fp32. Beside a cost stands what the measured file
    itself answered where it is the model's own; else, in fp32, which export and verify hold to what the run answers, the run's; else nothing.
    """
    everything = list(ways)
    own = [way for way in everything if (way.recipe_fingerprint, way.data_fingerprint) in trained]
    found = {_place(way): way for way in sorted((way for way in everything if way not in own), key=lambda way: way.steady)}
    for way in own:
        found.pop(_place(way), None)
    return tuple(_with_accuracy(way, run) for way in (*own, *map(_of_others, found.values())))


def _with_accuracy(way: Deployment, run: Estimate | None) -> Deployment:
    if way.measured is not None:
        return way.model_copy(update={"accuracy": way.measured.balanced, "accuracy_of": "file"})
    known = way.precision == "fp32" and run is not None
    return way.model_copy(update={"accuracy": run if known else None, "accuracy_of": "run" if known else "nothing"})


def _of_others(way: Deployment) -> Deployment:
    """Its speed alone."""
    return way.model_copy(update={"file": "", "file_sha256": "", "recipe_fingerprint": "", "data_fingerprint": "", "measured": None})


def _place(way: Deployment) -> tuple[object, ...]:
    return way.engine, way.precision, way.provider, way.threads, way.sessions, way.hardware, way.gpu


def _answering(measured: Measurement) -> tuple[object, ...]:
    """What decides which labels come out: neither batch nor threads nor sessions do."""
    return measured.file_sha256, measured.engine, measured.precision, measured.provider, measured.card


def _accuracy(rows: Sequence[Measurement]) -> MeasuredAccuracy | None:
    return next((row.accuracy for row in rows if row.accuracy is not None), None)


def _deployment(rows: Sequence[Measurement], assumed: Assumptions, accuracy: MeasuredAccuracy | None) -> Deployment:
    """What was steady goes before what was not."""
    first = min(rows, key=lambda row: (not row.steady, row.batch))
    best = max(rows, key=lambda row: (row.steady, row.images_per_second))
    price = measured_price(assumed, best)
    rate, *windows = (rate_with_decoding(assumed, best, each) for each in (best.images_per_second, *best.windows_images_per_second))
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
        cost_per_million=price and cost_of(rate, windows, price.per_hour, utilisation=assumed.utilisation),
        joules_per_image=best.joules_per_image,
        from_files_per_second=rate if assumed.decode_ms else None,
        file=first.model if first.made == "exported" else "",
        file_sha256=first.file_sha256,
        recipe_fingerprint=first.recipe_fingerprint,
        data_fingerprint=first.data_fingerprint,
        measured=accuracy,
    )
