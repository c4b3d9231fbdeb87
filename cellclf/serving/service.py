"""Service: one request's images through admission, queue and workers to records, with its deadline, unless the client leaves."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cellclf.runtime.classifier import Failure
from cellclf.serving.admission import Admission
from cellclf.serving.bodies import Budget
from cellclf.serving.engine import Engine
from cellclf.serving.exchange import ClientGoneError, Exchange
from cellclf.serving.explaining import Explaining
from cellclf.serving.keys import Keys
from cellclf.serving.metrics import Metrics
from cellclf.serving.models import Models, ServedModel
from cellclf.serving.rates import Rates
from cellclf.serving.refusals import RefusedError
from cellclf.serving.runners import Runner
from cellclf.serving.settings import Settings
from cellclf.serving.work import Image, Record, Work

__all__ = ["TIMEOUT_HEADER", "Service"]

TIMEOUT_HEADER = b"x-timeout-ms"
"""In how many milliseconds a client wants its answer; more than the service's own deadline is that."""


@dataclass(frozen=True)
class Service:
    """What a running service holds; all of it belongs to the event loop's thread."""

    settings: Settings
    models: Models
    engine: Engine
    admission: Admission
    metrics: Metrics
    keys: Keys
    rates: Rates
    budget: Budget
    explaining: Explaining

    @classmethod
    def of(cls, models: Models, settings: Settings, keys: Keys, *, runners: Sequence[Runner], metrics: Metrics) -> "Service":
        """Put together; the engine is not started. The first guess of the time an image takes is the slowest model's in its warm-up."""
        engine = Engine(runners, max_batch=settings.max_batch, max_wait_s=settings.max_wait_ms / 1000, on_batch=metrics.on_batch)
        engine.observe(1, max(model.seconds_per_image for model in models))
        for model in models:
            metrics.in_service(model)
        rates = Rates(settings.rate, settings.burst, time.monotonic)
        return cls(
            settings,
            models,
            engine,
            Admission(engine, settings),
            metrics,
            keys,
            rates,
            Budget(settings.max_buffered_bytes),
            Explaining(max_pixels=settings.max_pixels),
        )

    def deadline(self, exchange: Exchange, seconds: float | None = None) -> float:
        """When the request must be answered, of time.monotonic(): the least of what it asks for and the service allows. Raises RefusedError 400."""
        wishes = [self.settings.deadline_ms / 1000]
        if seconds is not None:
            wishes.append(seconds)
        if (text := exchange.headers.get(TIMEOUT_HEADER)) is not None:
            if not text.isdigit() or not int(text[:12]):
                raise RefusedError(400, "X-Timeout-Ms is a whole number of milliseconds", reason="deadline")
            wishes.append(int(text[:12]) / 1000)
        return exchange.started + min(wishes)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While a request's body is being received."""
        number = self.engine.begin_receiving()
        try:
            yield
        finally:
            self.engine.end_receiving(number)

    async def records(self, exchange: Exchange, model: ServedModel, named: Sequence[tuple[str, Image]], *, deadline: float) -> list[Record]:
        """One record an image, in order. Raises RefusedError 429, 500, 503, 504; ClientGoneError where the client leaves."""
        exchange.images, exchange.model = len(named), f"{model.name}@{model.version}"
        self.admission.queue(len(named), deadline)
        self.rates.charge(exchange.client, len(named))
        loop = asyncio.get_running_loop()
        work = Work(
            model.classifier,
            view=model.classifier.view,
            names=[name for name, _ in named],
            images=[image for _, image in named],
            deadline=deadline,
            future=loop.create_future(),
        )

        def gone() -> None:
            self._give_up(work, ClientGoneError())

        timer = loop.call_later(deadline - time.monotonic(), self._give_up, work, RefusedError(504, "not answered by its deadline", reason="late"))
        self.engine.submit(work)
        exchange.presence.watch(gone)  # which may call at once
        try:
            records = await work.future
        except (RefusedError, ClientGoneError) as error:
            outcome = self.metrics.failed if isinstance(error, RefusedError) and error.status == 500 else self.metrics.dropped
            outcome.inc(len(named))
            raise
        finally:
            timer.cancel()
            exchange.presence.unwatch(gone)
            if work.missing:
                self.engine.abandon(work)
        failed = sum(isinstance(record, Failure) for record in records)
        self.metrics.predicted.inc(len(records) - failed)
        self.metrics.unreadable.inc(failed)
        return records

    def _give_up(self, work: Work, why: Exception) -> None:
        """Nobody waits for the work any more."""
        if not work.future.done():
            self.engine.abandon(work)
            work.future.set_exception(why)
