"""A network's training steps in a process of its own, timed on request. Started by `pace` as `python -m cellclf.training.pacer`; needs Keras.

Requests come in as lines of JSON on standard input, answers go out as lines of JSON; whatever a library prints goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from cellclf.training.fit import compile_network, prepare_backend, repeated
from cellclf.training.framework import require_keras, runs_on_cpu
from cellclf.training.network import build_network
from cellclf.training.recipe import Recipe

__all__ = ["Pacer", "step_seconds"]

_CLASSES = 4
"""Of the network that is timed; the last layer's size is nothing beside the backbone's."""


def step_seconds(model: Any, feed: Any, steps: int) -> list[float]:
    """Seconds of each of so many training steps; one more comes before them, which also starts the feed, and compiles where that is needed."""
    keras = require_keras()

    class Watcher(keras.callbacks.Callback):  # type: ignore[misc, name-defined]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.times_s: list[float] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002  # Keras calls it so
            self.times_s.append(time.perf_counter())

    watcher = Watcher()
    model.fit(feed, steps_per_epoch=steps + 1, shuffle=False, verbose=0, callbacks=[watcher])
    found: list[float] = np.diff(watcher.times_s).tolist()
    return found


class Pacer:
    """One recipe's network, compiled as `fit` compiles it, from a random start, which is as quick."""

    def __init__(self, recipe: Recipe) -> None:
        self.size = recipe.image_size_px
        prepare_backend(recipe)
        self.model = build_network(recipe, classes=_CLASSES, weights=None, steps_per_epoch=1).training
        compile_network(self.model, recipe, steps=1)
        self._step_s: dict[int, float] = {}

    def images_per_second(self, batch: int, seconds: float) -> float:
        """Of batches of this size, for about so long, one step at least; the first time a step or two come before, for compiling."""
        draws = np.random.default_rng(0)
        inputs = draws.integers(0, 256, (batch, self.size, self.size, 3), dtype=np.uint8)
        feed = repeated(inputs, draws.integers(0, _CLASSES, batch))
        if batch not in self._step_s:
            self._step_s[batch] = step_seconds(self.model, feed, 1)[0]
        steps = max(1, round(seconds / self._step_s[batch]))
        return float(batch / np.median(step_seconds(self.model, feed, steps)))


def serve(requests: Iterator[str], output: TextIO) -> None:
    """First the recipe; then batch sizes."""

    def answer(**content: Any) -> None:
        output.write(json.dumps(content) + "\n")
        output.flush()

    pacer = Pacer(Recipe.parse(next(requests), where="the recipe"))
    answer(cpu=runs_on_cpu())
    for line in requests:
        answer(images_per_second=pacer.images_per_second(**json.loads(line)))


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(iter(sys.stdin.readline, ""), own)
