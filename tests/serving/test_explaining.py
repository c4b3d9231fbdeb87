import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from cellclf.data.crops import WHOLE
from cellclf.errors import InferenceError
from cellclf.runtime.explain import Explainer
from cellclf.serving.exchange import ClientGoneError, Presence
from cellclf.serving.explaining import Explained, Explaining
from cellclf.serving.models import ServedModel, load, sources_of
from cellclf.serving.refusals import RefusedError
from cellclf.serving.settings import Settings
from tests.serving.conftest import SHIPPED, WAIT_S, picture

SOON_S = 0.05
MAPS = [Explained({"LYMPHOCYTE": [[1.0]]}, WHOLE)]


class Client:
    """An exchange whose client stays until told to go."""

    def __init__(self) -> None:
        self.presence = Presence(lambda: None)


class Held(Explaining):
    """Its thread computes until let go."""

    def __init__(self) -> None:
        super().__init__(max_pixels=1)
        self.go, self.calls = threading.Event(), 0

    def _compute(self, *_: object) -> list[Explained]:
        self.calls += 1
        assert self.go.wait(WAIT_S)
        return MAPS


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return load(sources_of([str(SHIPPED)], device="cpu")[0], Settings(threads=1))


async def maps(explaining: Explaining, model: ServedModel, client: Any, seconds: float) -> list[Explained]:
    return await explaining.maps(client, model, [picture(1)], deadline=time.monotonic() + seconds)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), WAIT_S))


def test_past_its_deadline_a_request_gets_504_and_the_thread_keeps_its_turn(model: ServedModel) -> None:
    async def work() -> None:
        explaining = Held()
        for _ in range(2):
            with pytest.raises(RefusedError) as refused:
                await maps(explaining, model, Client(), SOON_S)
            assert refused.value.status == 504
        assert explaining.calls == 1, "the second waits for the first one's thread"
        waiting = asyncio.create_task(maps(explaining, model, Client(), WAIT_S))
        explaining.go.set()
        assert await waiting == MAPS
        assert explaining.calls == 2, "nobody wanted the second any more"

    run(work)


def test_a_client_that_leaves_is_waited_for_no_longer(model: ServedModel) -> None:
    async def work() -> None:
        explaining, client = Held(), Client()
        asking = asyncio.create_task(maps(explaining, model, client, WAIT_S))
        await asyncio.sleep(SOON_S)
        client.presence.leave()
        with pytest.raises(ClientGoneError):
            await asking
        explaining.go.set()

    run(work)


def test_a_place_is_held_from_the_beginning(model: ServedModel) -> None:
    async def work() -> None:
        explaining = Explaining(max_pixels=1)
        with ExitStack() as places:
            for _ in range(4):
                places.enter_context(explaining.place(model, 1))
            with pytest.raises(RefusedError, match="too many wait"):
                places.enter_context(explaining.place(model, 1))
        with explaining.place(model, 1):
            pass

    run(work)


def test_heat_maps_that_cannot_be_computed_are_500_without_a_word_of_it(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise InferenceError("inside of the runtime")

    async def work() -> None:
        explaining = Explaining(max_pixels=1_000_000)
        assert await maps(explaining, model, Client(), WAIT_S)
        monkeypatch.setattr(Explainer, "maps", fails)
        with pytest.raises(RefusedError) as refused:
            await maps(explaining, model, Client(), WAIT_S)
        assert refused.value.status == 500
        assert "inside" not in str(refused.value)

    run(work)
