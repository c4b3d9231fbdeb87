import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cellclf.data.crops import View
from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError
from cellclf.runtime.classifier import Failure, Prediction
from cellclf.serving.admission import Admission
from cellclf.serving.engine import BatchDone, Engine
from cellclf.serving.refusals import RefusedError
from cellclf.serving.runners import Answer, Runner, ThreadRunner, WorkerDiedError
from cellclf.serving.settings import Settings
from cellclf.serving.work import Image, Network, Record, Work

SIZE = (4, 4)
WAIT_S = 60


class Counting:
    """A network whose answer is its image's first pixel; it waits while it is held."""

    def __init__(self, error: Exception | None = None, *, batch_size: int = 64) -> None:
        self.batch_size = batch_size
        self.batches: list[int] = []
        self.go, self.entered = threading.Event(), threading.Event()
        self.go.set()
        self.error = error

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        self.batches.append(len(images))
        self.entered.set()
        assert self.go.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        return images[:, 0, 0, :1].astype(np.float32)

    def predictions(self, names: Sequence[str], rows: npt.NDArray[np.float32]) -> list[Prediction]:
        return [Prediction(name, str(int(row[0])), 1.0, {}, False, "", "") for name, row in zip(names, rows, strict=True)]

    def failure(self, name: str, error: str) -> Failure:
        return Failure(name, error, "", "")


def pixels(value: int) -> Pixels:
    return np.full((*SIZE, 3), value, dtype=np.uint8)


def work_of(network: Counting, images: Sequence[Image], *, seconds: float = WAIT_S) -> Work:
    return Work(
        network,
        view=View(*SIZE),
        names=[str(number) for number in range(len(images))],
        images=images,
        deadline=time.monotonic() + seconds,
        future=asyncio.get_running_loop().create_future(),
    )


def runners(workers: int) -> list[ThreadRunner]:
    return [ThreadRunner(max_pixels=1000) for _ in range(workers)]


POISON = b"poison"


class Mortal(ThreadRunner):
    """A runner that dies of poison."""

    def run(self, network: Network, images: Sequence[Image], *, view: View) -> list[Answer]:
        if any(isinstance(image, bytes) and image == POISON for image in images):
            self.deaths += 1
            raise WorkerDiedError("ended")
        return super().run(network, images, view=view)


def run(scenario: Callable[[Engine], Awaitable[Any]], *, workers: int = 1, by: Sequence[Runner] | None = None, **options: Any) -> list[BatchDone]:
    """Run a scenario on an engine of one worker and batches of 4."""
    done: list[BatchDone] = []

    async def whole() -> None:
        engine = Engine(by or runners(workers), **{"max_batch": 4, "max_wait_s": 0.0, "on_batch": done.append, **options})
        engine.start(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(scenario(engine), WAIT_S)
        finally:
            engine.stop()
        assert (engine.queued, engine.running) == (0, 0)
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker-")], "stop waits for every worker"

    asyncio.run(whole())
    return done


def labels(records: Sequence[Record]) -> list[str]:
    return [record.label if isinstance(record, Prediction) else record.error for record in records]


@pytest.mark.parametrize("workers", [1, 3])
def test_records_come_in_the_order_of_the_images_in_batches_of_at_most_max_batch(workers: int) -> None:
    network = Counting()

    async def scenario(engine: Engine) -> None:
        works = [work_of(network, [pixels(10 * number + index) for index in range(7)]) for number in range(5)]
        for work in works:
            engine.submit(work)
        for number, work in enumerate(works):
            assert labels(await work.future) == [str(10 * number + index) for index in range(7)]

    done = run(scenario, workers=workers)
    assert sum(batch.images for batch in done) == sum(network.batches) == 35
    assert max(network.batches) <= 4


def test_a_batch_is_run_in_calls_of_what_its_network_is_quickest_with() -> None:
    network = Counting(batch_size=3)

    async def scenario(engine: Engine) -> None:
        work = work_of(network, [pixels(number) for number in range(8)])
        engine.submit(work)
        assert labels(await work.future) == [str(number) for number in range(8)]

    done = run(scenario, max_batch=8)
    assert [batch.images for batch in done] == [8]
    assert network.batches == [3, 3, 2]


def test_requests_are_run_together_when_they_wait_together() -> None:
    network = Counting()
    network.go.clear()

    async def scenario(engine: Engine) -> None:
        works = [work_of(network, [pixels(number)]) for number in range(5)]
        engine.submit(works[0])
        await asyncio.to_thread(network.entered.wait, WAIT_S)
        for work in works[1:]:
            engine.submit(work)
        assert engine.queued == 4
        network.go.set()
        assert [labels(await work.future) for work in works] == [[str(number)] for number in range(5)]

    run(scenario)
    assert network.batches == [1, 4]


def test_a_worker_waits_for_a_request_that_is_being_received() -> None:
    network = Counting()

    async def scenario(engine: Engine) -> None:
        engine.arriving = 1
        first, second = work_of(network, [pixels(1)]), work_of(network, [pixels(2)])
        engine.submit(first)
        await asyncio.sleep(0.05)
        engine.submit(second)
        await asyncio.gather(first.future, second.future)

    run(scenario, max_wait_s=float(WAIT_S), max_batch=2)
    assert network.batches == [2]


def test_an_unreadable_image_is_a_failure_at_its_place_and_the_others_are_predicted() -> None:
    network = Counting()

    async def scenario(engine: Engine) -> None:
        work = work_of(network, [pixels(1), b"no image", pixels(3)])
        engine.submit(work)
        first, second, third = await work.future
        assert isinstance(second, Failure)
        assert labels([first, third]) == ["1", "3"]

    run(scenario)


def test_images_of_which_none_can_be_read_never_reach_the_network() -> None:
    network = Counting()

    async def scenario(engine: Engine) -> None:
        work = work_of(network, [b"", b"x"])
        engine.submit(work)
        assert all(isinstance(record, Failure) for record in await work.future)

    run(scenario)
    assert network.batches == []


def test_abandoned_work_leaves_the_queue_at_once_and_is_never_run() -> None:
    network = Counting()
    network.go.clear()

    async def scenario(engine: Engine) -> None:
        running, gone, kept = (work_of(network, [pixels(number)] * 2) for number in (1, 2, 3))
        engine.submit(running)
        await asyncio.to_thread(network.entered.wait, WAIT_S)
        engine.submit(gone)
        engine.submit(kept)
        engine.abandon(gone)
        engine.abandon(gone)
        assert engine.queued == 2
        assert gone.images == ()
        network.go.set()
        assert labels(await kept.future) == ["3", "3"]
        assert not gone.future.done()

    run(scenario)
    assert network.batches == [2, 2]


def test_work_past_its_deadline_is_dropped() -> None:
    network = Counting()

    async def scenario(engine: Engine) -> None:
        late, good = work_of(network, [pixels(1)], seconds=-1), work_of(network, [pixels(2)])
        engine.submit(late)
        engine.submit(good)
        assert labels(await good.future) == ["2"]
        assert not late.future.done()

    run(scenario)
    assert network.batches == [1]


def test_networks_are_never_mixed_in_a_batch() -> None:
    first, second = Counting(), Counting()

    async def scenario(engine: Engine) -> None:
        works = [work_of(network, [pixels(number)]) for number in range(6) for network in (first, second)]
        for work in works:
            engine.submit(work)
        await asyncio.gather(*(work.future for work in works))

    run(scenario)
    assert sum(first.batches) == sum(second.batches) == 6


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can, so that what goes wrong between two of them does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("error", [InferenceError("no"), ZeroDivisionError("a bug")])
def test_a_failing_batch_is_answered_500_and_the_next_one_is_worked_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    broken, network = Counting(error), Counting()

    async def scenario(engine: Engine) -> None:
        bad, good = work_of(broken, [pixels(1)] * 2), work_of(network, [pixels(2)])
        engine.submit(bad)
        with pytest.raises(RefusedError) as refused:
            await bad.future
        assert refused.value.status == 500
        assert "a bug" not in str(refused.value)
        engine.submit(good)
        assert labels(await good.future) == ["2"]

    run(scenario)
    assert [each.exc_value for each in told] == ([] if isinstance(error, InferenceError) else [error])
    logged = [record for record in caplog.records if record.name == "cellclf.serving" and record.getMessage() == "inference"]
    assert len(logged) == isinstance(error, InferenceError), "the answer says only that it failed, and the log why"


@pytest.mark.usefixtures("hurried")
def test_an_error_of_taking_a_batch_costs_no_worker_and_no_batch_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    network, take, calls = Counting(), Engine._take, itertools.count()

    def fails_once(engine: Engine) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError("a bug")
        return take(engine)

    monkeypatch.setattr(Engine, "_take", fails_once)

    async def scenario(engine: Engine) -> None:
        for number in (1, 2, 3):
            work = work_of(network, [pixels(number)])
            engine.submit(work)
            assert labels(await work.future) == [str(number)]
        assert (engine.running, engine._busy) == (0, 0)

    run(scenario, by=runners(1))
    assert [str(each.exc_value) for each in told] == ["a bug"]
    assert network.batches == [1, 1, 1]


async def held(engine: Engine, network: Counting) -> None:
    """Let the one worker be busy, so that what comes next waits together until network.go is set."""
    network.go.clear()
    engine.submit(work_of(network, [pixels(0)]))
    await asyncio.to_thread(network.entered.wait, WAIT_S)


def test_what_was_run_beside_an_image_that_the_worker_dies_of_is_run_again_alone() -> None:
    network, runner = Counting(), Mortal(max_pixels=1000)

    async def scenario(engine: Engine) -> None:
        await held(engine, network)
        good, bad, late = work_of(network, [pixels(1)]), work_of(network, [pixels(2), POISON, pixels(3)]), work_of(network, [pixels(4)])
        for work in (good, bad, late):
            engine.submit(work)
        network.go.set()
        assert labels(await good.future) == ["1"]
        assert labels(await bad.future) == [
            "2",
            "cannot be decoded: what tried died of it, twice",
            "was not tried: what decodes images died of another one of this request",
        ]
        assert labels(await late.future) == ["4"]

    done = run(scenario, by=[runner], max_batch=4)
    assert runner.deaths == 2
    assert [batch.steady for batch in done] == [True, False, True], "how long a death takes says nothing of the next batch"


def test_after_a_death_nobodys_images_are_not_run_again() -> None:
    network, runner = Counting(), Mortal(max_pixels=1000)

    async def scenario(engine: Engine) -> None:
        await held(engine, network)
        bad, gone = work_of(network, [POISON]), work_of(network, [pixels(1)])
        for work in (bad, gone):
            engine.submit(work)
        first = runner.run

        def leaves(*given: Any, **how: Any) -> list[Answer]:
            engine.abandon(gone)
            return first(*given, **how)

        runner.run = leaves  # type: ignore[method-assign]
        network.go.set()
        assert labels(await bad.future) == ["cannot be decoded: what tried died of it, twice"]

    run(scenario, by=[runner])
    assert network.batches == [1]


def test_the_time_an_image_takes_is_believed_less_while_it_keeps_everybody_out() -> None:
    engine = Engine(runners(1), max_batch=4, max_wait_s=0)
    engine.observe(1, 100.0)
    door = Admission(engine, Settings(threads=1))
    for _ in range(1000):
        try:
            door.queue(1, time.monotonic() + 1)
        except RefusedError:
            continue
        break
    assert engine.seconds_per_image < 1


def test_the_time_an_image_takes_follows_the_batches() -> None:
    engine = Engine(runners(2), max_batch=4, max_wait_s=0)
    assert engine.wait_s == 0
    engine.observe(4, 1.0)
    assert engine.seconds_per_image == 0.25
    for _ in range(100):
        engine.observe(2, 1.0)
    assert engine.seconds_per_image == pytest.approx(0.5)
    engine.arriving = 4
    assert engine.wait_s == pytest.approx(1.0)
