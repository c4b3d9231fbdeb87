"""Calls of one image: our session, or an engine's own loop, on the same file and pixels."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import ENGINES, Asked
from benchmarks.tasks.task import Task
from cellclf.card import read_model_file
from cellclf.runtime.session import open_session

__all__ = ["EngineCalls", "SessionCalls"]


class SessionCalls(Task):
    """So many calls of one image each on a provider of ours."""

    def __init__(self, *, file: str, device: str, threads: int, calls: int) -> None:
        self.file, self.threads, self.calls = Path(file), threads, calls
        found = read_model_file(self.file)
        self.images = np.random.default_rng(0).integers(0, 256, (1, found.card.height_px, found.card.width_px, 3), dtype=np.uint8)
        self.call = self.opened(device, found)

    def opened(self, device: str, found: Any) -> Any:
        """Images → probabilities."""
        return open_session(found.content, device=device, threads=self.threads).run

    def run(self) -> None:
        """The calls."""
        for _ in range(self.calls):
            self.values = self.call(self.images)

    def facts(self) -> dict[str, Any]:
        """The last answer."""
        return {"probabilities": np.asarray(self.values).tolist()}


class EngineCalls(SessionCalls):
    """The same by a row of ENGINES, in int8; device: its name."""

    def opened(self, device: str, found: Any) -> Any:  # noqa: ARG002  # the engine reads the file itself
        """The engine's own runner."""
        asked = Asked(file=self.file, precision="int8", provider="cpu", threads=self.threads, sessions=1)
        return ENGINES[device].open(asked).runners(1)[0]
