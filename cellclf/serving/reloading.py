"""Watch the model files; a changed one takes over once it is proven, and where it fails the one in service stays."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from cellclf.errors import CellclfError
from cellclf.serving.logs import event
from cellclf.serving.metrics import Metrics
from cellclf.serving.models import Models, ServedModel, checked_file, opened
from cellclf.serving.settings import Settings
from cellclf.serving.work import Network

__all__ = ["Reloader", "Stamp", "stamp_of"]

Stamp = tuple[int, int, int] | None
"""What changes when a file does: time of change, size, inode; None where there is no file."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Reloader:
    """Looks at each file every settings.reload_s seconds. A file is tried once for each change that is seen, so that half a copy is tried again.

    stamps: of each file, by the name of its model, too: several may be served from one file.
    prepare: lets the workers make ready for a network before it takes over.
    """

    def __init__(
        self,
        models: Models,
        stamps: dict[tuple[str, Path], Stamp],
        metrics: Metrics,
        settings: Settings,
        *,
        prepare: Callable[[Network], None] = lambda _: None,
    ) -> None:
        self._models, self._stamps, self._metrics, self._settings, self._prepare = models, stamps, metrics, settings, prepare

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._settings.reload_s)
            await self.look()

    async def look(self) -> None:
        """Look at every file once."""
        for model in list(self._models):
            stamp = await asyncio.to_thread(stamp_of, model.source.path)
            key = model.name, model.source.path
            if stamp is not None and stamp != self._stamps.get(key):
                self._stamps[key] = stamp
                await self._try(model)

    async def _try(self, old: ServedModel) -> None:
        try:
            file = await asyncio.to_thread(checked_file, old.source)
            if file.fingerprint == old.classifier.fingerprint:
                event("reload", model=old.name, version=old.version, outcome="same")
                return
            new = await asyncio.to_thread(opened, old.source, file, self._settings)
            await asyncio.to_thread(self._prepare, new.classifier)
            self._models.replace(old, new)
        except CellclfError as error:
            self._metrics.reloads.labels(old.name, "kept").inc()
            event("reload", logging.ERROR, model=old.name, version=old.version, outcome="kept", reason=str(error))
            return
        self._metrics.replaced(old, new)
        event("reload", model=old.name, version=new.version, before=old.version, outcome="replaced", provider=new.classifier.provider)
