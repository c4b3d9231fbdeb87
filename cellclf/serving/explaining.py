"""Heat maps for people who ask where the network looked: one request at a time, beside the engine, and refused when too many wait."""

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from cellclf.errors import ModelFileError
from cellclf.runtime.explain import Explainer
from cellclf.serving.images import decoded
from cellclf.serving.models import ServedModel
from cellclf.serving.refusals import RefusedError
from cellclf.serving.work import Image

__all__ = ["MAX_EXPLAINED", "Explaining", "Heatmaps"]

Heatmaps = dict[str, list[list[float]]]
"""Of one image: for each label its map, rows of numbers of at least 0."""

MAX_EXPLAINED = 16
"""Images of one request whose heat maps are told."""

_MOST_WAITING = 4
_RETRY_AFTER_S = 2.0


class Explaining:
    """Computes heat maps in a thread. For the event loop's thread."""

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._explainers: WeakKeyDictionary[ServedModel, Explainer] = WeakKeyDictionary()

    def admit(self, model: ServedModel, images: int) -> None:
        """Raise RefusedError 422 where the file holds no heat maps or there are too many images, 503 where too many requests wait."""
        if model.classifier.card.heatmap is None:
            raise RefusedError(422, f"{model.name} holds no heat maps; export its run again", reason="query")
        if images > MAX_EXPLAINED:
            raise RefusedError(422, f"explain takes at most {MAX_EXPLAINED} images a request, and here are {images}", reason="query")
        if self._waiting >= _MOST_WAITING:
            raise RefusedError(503, "too many wait for heat maps", reason="full", retry_after_s=_RETRY_AFTER_S)

    async def maps(self, model: ServedModel, images: Sequence[Image], *, deadline: float) -> list[Heatmaps]:
        """The maps of readable images, in order; raises RefusedError 504 past the deadline (of time.monotonic())."""
        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())), self._turn:
                return await asyncio.to_thread(self._compute, model, images)
        except TimeoutError as error:
            raise RefusedError(504, "not answered by its deadline", reason="late") from error
        finally:
            self._waiting -= 1

    def _compute(self, model: ServedModel, images: Sequence[Image]) -> list[Heatmaps]:
        if model not in self._explainers:
            self._explainers[model] = model.classifier.explainer()
        pixels = [decoded(image, size_px=model.size_px, max_pixels=self._max_pixels) for image in images]
        readable = [image for image in pixels if not isinstance(image, str)]
        if len(readable) != len(images):
            raise ModelFileError("an image that was read is not readable")
        maps = self._explainers[model].maps(np.stack(readable))
        return [dict(zip(model.classifier.labels, np.round(each, 4).tolist(), strict=True)) for each in maps]
