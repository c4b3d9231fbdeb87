"""Prometheus metrics of a service, in a registry of its own. Imports nothing of ours but what it counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cellclf.serving.engine import BatchDone, Engine
from cellclf.serving.models import ServedModel

__all__ = ["Metrics"]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All figures of one service; routes are templates, never paths as they came, so that no client can make new ones."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("cellclf_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.latency = Histogram(
            "cellclf_request_seconds", "From a request's head to its answer.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.refusals = Counter("cellclf_refusals", "Requests refused, by reason.", ["reason"], registry=self.registry)
        images = Counter("cellclf_images", "Images of requests that were let in, by what became of them.", ["outcome"], registry=self.registry)
        self.predicted, self.unreadable = images.labels("predicted"), images.labels("unreadable")
        self.dropped, self.failed = images.labels("dropped"), images.labels("failed")
        self.batch_images = Histogram("cellclf_batch_images", "Images that a worker ran at once.", buckets=_IMAGES, registry=self.registry)
        self.batch_seconds = Histogram("cellclf_batch_seconds", "Decoding and running one batch.", buckets=_SECONDS, registry=self.registry)
        self.model = Gauge("cellclf_model", "1 for each version in service.", ["model", "version", "provider", "precision"], registry=self.registry)
        self.reloads = Counter("cellclf_reloads", "Changed model files, by whether they took over.", ["model", "outcome"], registry=self.registry)
        self.worker_ends = Counter("cellclf_worker_ends", "Worker processes that died and were started anew.", registry=self.registry)
        self._answered: dict[tuple[str, int], Counter] = {}
        self._took: dict[str, Histogram] = {}
        self.ready = Gauge("cellclf_ready", "Whether requests are let in.", registry=self.registry)

    def watch(self, engine: Engine, connections: Callable[[], int]) -> None:
        """Read the engine's state when the metrics are asked for."""
        for name, text, value in (
            ("queued_images", "Images that wait for a worker.", lambda: engine.queued),
            ("running_images", "Images that workers hold.", lambda: engine.running),
            ("arriving_requests", "Requests whose body is being received.", engine.count_arriving),
            ("seconds_per_image", "What an image takes one worker, running mean.", lambda: engine.seconds_per_image),
            ("workers", "Workers.", lambda: engine.workers),
            ("connections", "Open connections.", connections),
        ):
            Gauge(f"cellclf_{name}", text, registry=self.registry).set_function(value)

    def in_service(self, model: ServedModel) -> None:
        """Tell of a version."""
        self.model.labels(*_facts(model)).set(1)

    def replaced(self, old: ServedModel, new: ServedModel) -> None:
        """A changed file took over."""
        self.model.remove(*_facts(old))
        self.in_service(new)
        self.reloads.labels(new.name, "replaced").inc()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request. Children are kept: to look one up by its labels costs as much as to count."""
        if (route, status) not in self._answered:
            self._answered[route, status] = self.requests.labels(route, str(status))
        self._answered[route, status].inc()
        if route not in self._took:
            self._took[route] = self.latency.labels(route)
        self._took[route].observe(seconds)

    def on_batch(self, batch: BatchDone) -> None:
        """Count a batch."""
        if batch.images:
            self.batch_images.observe(batch.images)
            self.batch_seconds.observe(batch.seconds)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


def _facts(model: ServedModel) -> tuple[str, str, str, str]:
    return model.name, model.version, model.classifier.provider, model.classifier.card.precision
