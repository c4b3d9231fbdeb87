"""Epochs of the same batch again and again, fed by our pipeline or by the one that Keras makes of a generator. Needs Keras."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.tasks.task import Task
from cellclf.data.prepare import DataRequest
from cellclf.training.fit import fed
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import make_recipe

__all__ = ["FedEpochs", "KerasEpochs", "trained_images"]

BATCH, SIZE_PX, EPOCHS = 32, 128, 3


class KerasEpochs(Task):
    """MobileNet 0.25 at 128 px, batch 32, three epochs of so many images; `fit` is given the generator itself."""

    def __init__(self, *, images: int) -> None:
        keras = require_keras()
        recipe = make_recipe("mobilenet025", DataRequest(data="sample"), image_size_px=SIZE_PX, weights="none", augmentation="none")
        self.network = build_network(recipe, classes=4, weights=None, steps_per_epoch=1).training
        self.network.compile("adam", keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
        draws = np.random.default_rng(0)
        self.steps = images // BATCH
        pixels = draws.integers(0, 256, (BATCH, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        self.make = partial(batches, pixels, draws.integers(0, 4, BATCH))

    def run(self) -> None:
        """Three epochs."""
        self._epochs(self.steps, EPOCHS)

    def warm_up(self) -> None:
        """Two steps, the first of which compiles."""
        self._epochs(2, 1)

    def feed(self, steps: int) -> Any:
        """What `fit` is given."""
        return self.make(steps)

    def _epochs(self, steps: int, epochs: int) -> None:
        for epoch in range(epochs):
            self.network.fit(self.feed(steps), steps_per_epoch=steps, epochs=epoch + 1, initial_epoch=epoch, shuffle=False, verbose=0)


class FedEpochs(KerasEpochs):
    """The same as `cellclf train` feeds it."""

    def feed(self, steps: int) -> Any:
        """Our pipeline of the same generator."""
        return fed(partial(self.make, steps))


def trained_images(images: int) -> int:
    """Images that the epochs train on, those left out that fill no batch."""
    return EPOCHS * (images // BATCH) * BATCH


def batches(images: Any, truth: Any, steps: int) -> Iterator[tuple[Any, ...]]:
    """The same batch so many times."""
    for _ in range(steps):
        yield images, truth
