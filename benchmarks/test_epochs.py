"""Epochs as `cellclf train` feeds them, against Keras' own pipeline of the same generator: what an epoch's end costs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import compare
from cellclf.data.prepare import DataRequest
from cellclf.training.fit import fed
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import make_recipe

BATCH, SIZE_PX, EPOCHS = 32, 128, 3


def batches(images: Any, truth: Any, steps: int) -> Iterator[tuple[Any, ...]]:
    """The same batch so many times."""
    for _ in range(steps):
        yield images, truth


@pytest.mark.full
@pytest.mark.parametrize("images", [2_000, 4_000])
def test_epochs_against_keras_own_pipeline(benchmark: Any, images: int) -> None:
    """MobileNet 0.25 at 128 px, batch 32, three epochs; the peer gives `fit` the generator, whose tf.data pipeline tunes itself and is waited for."""
    keras = require_keras()
    recipe = make_recipe("mobilenet025", DataRequest(data="sample"), image_size_px=SIZE_PX, weights="none", augmentation="none")
    network = build_network(recipe, classes=4, weights=None, steps_per_epoch=1).training
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
    draws = np.random.default_rng(0)
    steps = images // BATCH
    make = partial(batches, draws.integers(0, 256, (BATCH, SIZE_PX, SIZE_PX, 3), dtype=np.uint8), draws.integers(0, 4, BATCH), steps)

    def epochs(feed: Callable[[], Any]) -> None:
        for epoch in range(EPOCHS):
            network.fit(feed(), steps_per_epoch=steps, epochs=epoch + 1, initial_epoch=epoch, shuffle=False, verbose=0)

    compare(benchmark, lambda: epochs(lambda: fed(make)), lambda: epochs(make), rounds=2, target=None)
    benchmark.extra_info["images"] = images
