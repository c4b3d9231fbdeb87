"""Who is let in: refuse at once, at constant cost, what would wait too long. Knows nothing of HTTP but its statuses."""

import time

from cellclf.serving.engine import Engine
from cellclf.serving.refusals import RefusedError
from cellclf.serving.settings import Settings

__all__ = ["Admission"]


class Admission:
    """The door in front of an engine; all methods are for the event loop's thread.

    leaving: the service says that it is not ready, but still answers, until whoever sends it requests has heard. draining: nobody is let in any more.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self.leaving = self.draining = False

    def enter(self, deadline: float) -> None:
        """Raise RefusedError 503 where a request, whose body is not read yet, cannot be answered in time. deadline: of time.monotonic()."""
        if self.draining:
            raise RefusedError(503, "the service is shutting down", reason="draining", retry_after_s=1, close=True)
        self.queue(1, deadline)

    def queue(self, images: int, deadline: float) -> None:
        """Raise RefusedError 503 where so many images, of a request that was let in, cannot be answered in time."""
        engine, settings = self._engine, self._settings
        wait_s, waiting = engine.wait_s, engine.queued + engine.arriving
        if waiting and waiting + images > settings.max_queue_images:
            raise RefusedError(503, f"{waiting} images wait already", reason="queue", retry_after_s=wait_s)
        if wait_s * 1000 > settings.max_queue_ms:
            raise RefusedError(503, f"the images before it would take {wait_s:.1f} s", reason="queue", retry_after_s=wait_s)
        if time.monotonic() + wait_s + images * engine.seconds_per_image / engine.workers > deadline:
            engine.doubt()
            raise RefusedError(503, "it could not be answered before its deadline", reason="deadline", retry_after_s=wait_s)
