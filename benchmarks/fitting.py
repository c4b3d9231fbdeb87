"""Training as `cellclf train` does it, step by step: our own fit() first, then windows of steps on the network that it compiled. Needs Keras."""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.prepare import DataRequest
from cellclf.training.checkpoint import FitState
from cellclf.training.fit import Examples, epoch_order, fed, fit, predict, repeated
from cellclf.training.framework import backend, require_keras
from cellclf.training.network import build_network
from cellclf.training.pacer import step_seconds
from cellclf.training.progress import Progress
from cellclf.training.recipe import make_recipe

__all__ = ["Fitting"]

_LABELS = 4
_FIRST_STEPS = 2
"""Steps of the first epoch: one that compiles, and another to tell what it cost beyond an ordinary one."""


class Fitting:
    """One network, compiled by fit(), with a memory-mapped file of drawn pixels as the image cache keeps them.

    precision, augmentation: a recipe's. batch: of the first epoch; later windows may have others. images: how many are kept, at least one batch.
    """

    def __init__(self, *, backbone: str, image_size_px: int, precision: str, augmentation: str, batch: int, images: int) -> None:
        self._keras = require_keras()
        self._keras.config.set_dtype_policy(precision)
        request = DataRequest(data="blood-cells")
        self.recipe = make_recipe(
            backbone,
            request,
            image_size_px=image_size_px,
            weights="none",
            epochs=1,
            patience=0,
            precision=precision,
            augmentation=augmentation,
            batch_size=batch,
        )
        self.network = build_network(self.recipe, classes=_LABELS, weights=None, steps_per_epoch=_FIRST_STEPS)
        self._folder = tempfile.TemporaryDirectory(prefix="cellclf-bench-")
        self.examples = self._drawn(images)

    def first_epoch(self) -> dict[str, float | str]:
        """Our fit() for a few steps: seconds that its first step took beyond an ordinary one, which is compiling, and of an ordinary one."""
        batch = self.recipe.batch_size
        seen = _Steps()
        few = Examples(
            self.examples.inputs, np.resize(self.examples.rows, _FIRST_STEPS * batch), np.resize(self.examples.truth, _FIRST_STEPS * batch)
        )
        one = Examples(self.examples.inputs, self.examples.rows[:1], self.examples.truth[:1])
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            fit(self.network.training, self.recipe, few, one, folder=Path(folder), state=FitState(), progress=seen)
        step_s = float(np.median(seen.durations_s[1:]))
        return {"compile_s": seen.durations_s[0] - step_s, "step_s": step_s, "backend": backend()}

    def steps(self, *, batch: int, steps: int, resident: bool) -> list[float]:
        """Seconds of each of so many training steps. resident: the same batch again and again from memory, so that no step waits for its input."""
        feed = self._resident(batch) if resident else fed(partial(self._batches, batch, steps + 1))
        return step_seconds(self.network.training, feed, steps)

    def predict_rate(self, batch: int) -> float:
        """Images a second of the pass over validation images, after a first one that compiles."""
        size = max(batch, 64)
        some = Examples(self.examples.inputs, np.resize(self.examples.rows, size), np.resize(self.examples.truth, size))
        predict(self.network.whole, some, batch_size=size)
        started = time.perf_counter()
        predict(self.network.whole, some, batch_size=size)
        return size / (time.perf_counter() - started)

    def _drawn(self, images: int) -> Examples:
        size = self.recipe.image_size_px
        path = Path(self._folder.name) / "pixels.npy"
        np.save(path, np.random.default_rng(0).integers(0, 256, size=(images, size, size, 3), dtype=np.uint8))
        return Examples(np.load(path, mmap_mode="r"), np.arange(images), np.arange(images) % _LABELS)

    def _batches(self, batch: int, steps: int) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Batches as fit() takes them from the image cache, epoch after epoch; `fed` brings them as it does there."""
        epoch = left = 0
        while left < steps:
            epoch += 1
            for positions in epoch_order(len(self.examples.rows), batch, seed=0, epoch=epoch):
                yield self.examples.inputs[self.examples.rows[positions]], self.examples.truth[positions]
                left += 1

    def _resident(self, batch: int) -> Any:
        rows = self.examples.rows[:batch]
        return repeated(self.examples.inputs[rows], self.examples.truth[rows])


class _Steps(Progress):
    """When each step of an epoch ended."""

    def __init__(self) -> None:
        self.durations_s: list[float] = []
        self._last = 0.0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:  # noqa: ARG002  # as Progress has it
        """Start the clock."""
        self._last = time.perf_counter()

    def batch_done(self, done: int, *, loss: float, accuracy: float, images_per_second: float) -> None:  # noqa: ARG002  # as Progress has it
        """Keep the step's seconds."""
        now = time.perf_counter()
        self.durations_s.append(now - self._last)
        self._last = now
