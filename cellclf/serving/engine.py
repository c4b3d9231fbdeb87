"""Engine: workers that each decode and run whole batches of one queue, with no hand-over between stages. Knows nothing of HTTP."""

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cellclf.errors import InferenceError, ModelFileError
from cellclf.serving.logs import event
from cellclf.serving.refusals import RefusedError
from cellclf.serving.runners import Answer, Runner, WorkerDiedError
from cellclf.serving.work import Image, Network, Record, Work

__all__ = ["BatchDone", "Engine"]

_ARRIVING_S = 0.25
"""A request that is being received for longer is slow, or stalls: whether its images can wait is asked again when they are here."""

_NEWEST_COUNTS = 0.2
"""Weight of the newest batch in the running mean of the time an image takes."""


@dataclass(frozen=True)
class BatchDone:
    """One batch: images that were really worked on, and the seconds it took.

    steady: whether nothing died meanwhile, so that the seconds say how long such a batch takes.
    """

    images: int
    seconds: float
    steady: bool = True


@dataclass(frozen=True)
class _Job:
    work: Work
    index: int
    image: Image


class Engine:
    """A thread a runner over one bounded queue. All methods but the workers' own and `prepare` are for the event loop's thread.

    A worker takes what waits, up to `max_batch` images of one network. With fewer than the network is quickest with, and while other requests are
    still being received (`arriving`), it waits up to `max_wait_s` for them. Images that nobody waits for any more are skipped. The records of a batch
    go to the loop in one call.
    """

    def __init__(
        self, runners: Sequence[Runner], *, max_batch: int, max_wait_s: float, on_batch: Callable[[BatchDone], None] = lambda _: None
    ) -> None:
        self.workers = len(runners)
        self.arriving = 0
        self.seconds_per_image = 0.0
        self._runners, self._max_batch, self._max_wait_s, self._on_batch = runners, max_batch, max_wait_s, on_batch
        self._changed = threading.Condition()
        self._lanes: dict[Network, deque[tuple[Work, int]]] = {}
        self._queued = 0
        self._running = 0
        self._busy = 0
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiving: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self._threads: list[threading.Thread] = []

    @property
    def queued(self) -> int:
        """Images that wait for a worker, those left out that nobody wants any more."""
        return self._queued

    @property
    def running(self) -> int:
        """Images that workers hold."""
        return self._running

    @property
    def wait_s(self) -> float:
        """How long an image that comes now will wait for a worker, by the last batches; a request on its way counts as one image, unless it stalls.

        Where every worker is busy, its batch is half done on average.
        """
        before = self._queued + self.count_arriving() + (self._running / 2 if self._busy == self.workers else 0)
        return before * self.seconds_per_image / self.workers

    def begin_receiving(self) -> int:
        """A request begins to be received; the number by which its end is told."""
        number = next(self._numbers)
        self._receiving[number] = time.monotonic()
        self.arriving = len(self._receiving)
        return number

    def end_receiving(self, number: int) -> None:
        """The request is here, or given up."""
        self._receiving.pop(number, None)
        self.arriving = len(self._receiving)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the workers; results are handed to this loop."""
        self._loop = loop
        for runner in self._runners:
            self._start_worker(runner)

    def prepare(self, network: Network) -> None:
        """Let every worker make ready for a network, between two batches; raises CellclfError. For any thread but the loop's."""
        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(lambda runner: runner.prepare(network), self._runners):
                pass

    def stop(self) -> None:
        """End the workers, and wait for those that cannot be ended within a batch; what waits in the queue is not answered any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for runner in self._runners:
            runner.close()
        for thread in self._threads:
            thread.join()

    def submit(self, work: Work) -> None:
        """Queue all images of a request that somebody waits for."""
        with self._changed:
            if not work.waiting:
                return
            lane = self._lanes.setdefault(work.network, deque())
            lane.extend((work, index) for index in range(len(work.images)))
            self._queued += work.waiting
            self._changed.notify(min(self.workers, -(-work.waiting // self._max_batch)))

    def abandon(self, work: Work) -> None:
        """Nobody waits for the request any more: its images are let go of now, and skipped by the workers."""
        with self._changed:
            if not work.gone:
                work.gone = True
                self._queued -= work.waiting
                work.waiting = 0
                work.images = ()

    def observe(self, images: int, seconds: float) -> None:
        """One worker took so long for so many images."""
        if images:
            each = seconds / images
            self.seconds_per_image += (each - self.seconds_per_image) * (_NEWEST_COUNTS if self.seconds_per_image else 1.0)

    def doubt(self) -> None:
        """A request was refused by the time an image takes although nothing is being run that could correct it: believe a little less in it."""
        if not self._queued and not self._running:
            self.seconds_per_image *= 1 - _NEWEST_COUNTS

    def count_arriving(self) -> int:
        """Requests that are being received; those no more that are for long, so that they keep nobody out."""
        latest = time.monotonic() - _ARRIVING_S
        while self._receiving and (oldest := next(iter(self._receiving.items())))[1] < latest:
            self.end_receiving(oldest[0])
        return self.arriving

    def _start_worker(self, runner: Runner) -> None:
        """Start a worker, or none any more when the engine stops: `stop` waits for all that there are."""
        with self._changed:
            if self._stopping:
                return
            thread = threading.Thread(target=self._work, args=(runner,), name=f"worker-{next(self._numbers)}", daemon=True)
            thread.start()
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]

    def _work(self, runner: Runner) -> None:
        """Batches, until told to stop. An error that nobody foresaw is this batch's only: its requests get 500, and another thread takes over."""
        runner.begin()
        batch: list[_Job] = []
        ended = False
        try:
            while batch := self._take():
                started, deaths = time.monotonic(), runner.deaths
                records = _records(runner, [job for job in batch if not job.work.gone])
                self._hand_over(batch, records, time.monotonic() - started, steady=runner.deaths == deaths)
                batch = []  # an error of taking the next one is not this one's
            ended = True
        finally:
            if batch:
                self._hand_over(batch, RefusedError(500, "the service failed on this batch; its log says how", reason="bug"), 0.0, steady=False)
            if not ended:
                self._start_worker(runner)

    def _take(self) -> list[_Job]:
        """The next batch; empty when the engine stops."""
        batch: list[_Job] = []
        with self._changed:
            while not batch:
                while not self._stopping and not self._lanes:
                    self._changed.wait()
                if self._stopping:
                    return []
                network = min(self._lanes, key=lambda each: self._lanes[each][0][0].deadline)
                self._collect(network, batch)
            until = time.monotonic() + self._max_wait_s
            while len(batch) < min(self._max_batch, network.batch_size) and self.arriving and not self._lanes and not self._stopping:
                rest = until - time.monotonic()
                if rest <= 0 or not self._changed.wait(rest):
                    break
                self._collect(network, batch)
            self._running += len(batch)
            self._busy += 1
        return batch

    def _collect(self, network: Network, batch: list[_Job]) -> None:
        """Move images of a network's lane into the batch, up to its size; what nobody waits for is dropped. Empty lanes are forgotten."""
        lane = self._lanes.get(network)
        now = time.monotonic()
        while lane and len(batch) < self._max_batch:
            work, index = lane.popleft()
            if work.gone:
                continue
            work.waiting -= 1
            self._queued -= 1
            if work.deadline > now:
                batch.append(_Job(work, index, work.images[index]))
        if lane is not None and not lane:
            del self._lanes[network]

    def _hand_over(self, batch: Sequence[_Job], records: list[tuple[_Job, Record]] | RefusedError, seconds: float, *, steady: bool) -> None:
        with self._changed:
            self._running -= len(batch)
            self._busy -= 1
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, batch, records, seconds, steady)

    def _deliver(self, batch: Sequence[_Job], records: list[tuple[_Job, Record]] | RefusedError, seconds: float, steady: bool) -> None:
        """On the loop: give the records to their requests."""
        if isinstance(records, RefusedError):
            for work in {job.work for job in batch}:
                if not work.future.done():
                    work.future.set_exception(records)
            return
        if steady:
            self.observe(len(records), seconds)
        self._on_batch(BatchDone(len(records), seconds, steady))
        for work in _filled(records):
            if not work.missing and not work.future.done():
                work.future.set_result([record for record in work.records if record is not None])


def _records(runner: Runner, jobs: Sequence[_Job]) -> list[tuple[_Job, Record]] | RefusedError:
    """Unreadable images become failures, a network that cannot be run becomes the answer to all."""
    if not jobs:
        return []
    network, view = jobs[0].work.network, jobs[0].work.view
    try:
        try:
            found = list(zip(jobs, runner.run(network, [job.image for job in jobs], view=view), strict=True))
        except WorkerDiedError:
            found = _one_by_one(runner, jobs)
    except (InferenceError, ModelFileError) as error:
        event("inference", logging.ERROR, outcome="failed", images=len(jobs), reason=str(error))
        return RefusedError(500, "the network could not be run on these images", reason="inference")
    failed = [(job, network.failure(job.work.names[job.index], answer)) for job, answer in found if isinstance(answer, str)]
    read = [(job, answer) for job, answer in found if not isinstance(answer, str)]
    if not read:
        return [*failed]
    names, rows = [job.work.names[job.index] for job, _ in read], np.stack([row for _, row in read])
    return [*failed, *zip((job for job, _ in read), network.predictions(names, rows), strict=True)]


def _one_by_one(runner: Runner, jobs: Sequence[_Job]) -> list[tuple[_Job, Answer]]:
    """The images of a batch that something died of, each alone, but for those that nobody waits for any more.

    One that is died of again cannot be read, and what comes after it in its request is not tried: requests of many such images would stop all others.
    """
    found: list[tuple[_Job, Answer]] = []
    deadly: set[Work] = set()
    for job in jobs:
        if job.work in deadly:
            found.append((job, "was not tried: what decodes images died of another one of this request"))
        elif not job.work.gone and job.work.deadline > time.monotonic():
            try:
                (answer,) = runner.run(job.work.network, [job.image], view=job.work.view)
            except WorkerDiedError:
                deadly.add(job.work)
                answer = "cannot be decoded: what tried died of it, twice"
            found.append((job, answer))
    return found


def _filled(records: Iterable[tuple[_Job, Record]]) -> list[Work]:
    """Put each record at its place; the requests that got some, each once."""
    found = dict.fromkeys(job.work for job, _ in records)
    for job, record in records:
        job.work.records[job.index] = record
        job.work.missing -= 1
    return list(found)
