"""Heat maps for people who ask where the network looked: one request at a time, beside the engine, and refused when too many wait."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from cellclf.data.crops import Shares
from cellclf.errors import InferenceError, ModelFileError
from cellclf.runtime.explain import Explainer
from cellclf.serving.exchange import ClientGoneError, Exchange
from cellclf.serving.images import decoded_seen
from cellclf.serving.models import ServedModel
from cellclf.serving.refusals import RefusedError
from cellclf.serving.work import Image

__all__ = ["MAX_EXPLAINED", "Explained", "Explaining"]


@dataclass(frozen=True)
class Explained:
    """Of one image: for each label its map, rows of numbers of at least 0; and the part of the upright image that the maps are of, in shares."""

    heatmaps: dict[str, list[list[float]]]
    seen: Shares


MAX_EXPLAINED = 16
"""Images of one request whose heat maps are told."""

_MOST_WAITING = 4
_RETRY_AFTER_S = 2.0


class Explaining:
    """Computes heat maps in a thread, for one request at a time. For the event loop's thread."""

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._explainers: WeakKeyDictionary[ServedModel, Explainer] = WeakKeyDictionary()
        self._computing: set[asyncio.Task[list[Explained]]] = set()

    @contextmanager
    def place(self, model: ServedModel, images: int) -> Iterator[None]:
        """A place among the requests that want heat maps, held from before their images are predicted until they are answered.

        Raises RefusedError 422 where the file holds no heat maps or there are too many images, 503 where too many requests hold a place.
        """
        if model.classifier.card.heatmap is None:
            raise RefusedError(422, f"{model.name} holds no heat maps; export its run again", reason="query")
        if images > MAX_EXPLAINED:
            raise RefusedError(422, f"explain takes at most {MAX_EXPLAINED} images a request, and here are {images}", reason="query")
        if self._waiting >= _MOST_WAITING:
            raise RefusedError(503, "too many wait for heat maps", reason="full", retry_after_s=_RETRY_AFTER_S)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def maps(self, exchange: Exchange, model: ServedModel, images: Sequence[Image], *, deadline: float) -> list[Explained]:
        """The maps of readable images, in order. Raises RefusedError 504 past the deadline (of time.monotonic()), ClientGoneError."""
        wanted = asyncio.Event()
        wanted.set()
        task = asyncio.create_task(self._in_turn(model, images, wanted))
        self._computing.add(task)  # a thread that has begun cannot be stopped: it keeps its turn until it ends
        task.add_done_callback(self._computing.discard)
        left = asyncio.get_running_loop().create_future()

        def gone() -> None:
            if not left.done():
                left.set_result(None)

        exchange.presence.watch(gone)
        try:
            await asyncio.wait({task, left}, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            wanted.clear()
            exchange.presence.unwatch(gone)
        if left.done():
            raise ClientGoneError
        raise RefusedError(504, "not answered by its deadline", reason="late")

    async def _in_turn(self, model: ServedModel, images: Sequence[Image], wanted: asyncio.Event) -> list[Explained]:
        async with self._turn:
            return await asyncio.to_thread(self._compute, model, images) if wanted.is_set() else []

    def _compute(self, model: ServedModel, images: Sequence[Image]) -> list[Explained]:
        if model not in self._explainers:
            self._explainers[model] = model.classifier.explainer()
        found = [decoded_seen(image, view=model.classifier.view, max_pixels=self._max_pixels) for image in images]
        readable = [each for each in found if not isinstance(each, str)]
        if len(readable) != len(images):
            raise RefusedError(500, "an image that was read before cannot be read again", reason="inference")
        try:
            maps = self._explainers[model].maps(np.stack([pixels for pixels, _ in readable]))
        except (InferenceError, ModelFileError) as error:
            raise RefusedError(500, "the heat maps could not be computed", reason="inference") from error
        labels = model.classifier.labels
        return [Explained(dict(zip(labels, np.round(each, 4).tolist(), strict=True)), part) for each, (_, part) in zip(maps, readable, strict=True)]
