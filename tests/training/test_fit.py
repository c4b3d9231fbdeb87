from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellclf.training.fit import epoch_order, fed, steps_per_epoch
from cellclf.training.framework import require_keras

sizes = st.integers(1, 200)


@given(images=sizes, batch_size=sizes, seed=st.integers(0, 2**32 - 1), epoch=st.integers(1, 99))
def test_every_image_is_seen_in_every_epoch_in_batches_of_one_size(images: int, batch_size: int, seed: int, epoch: int) -> None:
    order = epoch_order(images, batch_size, seed=seed, epoch=epoch)
    assert order.shape == (steps_per_epoch(images, batch_size), min(batch_size, images))
    assert set(order.ravel()) == set(range(images))
    assert len(order.ravel()) - images < min(batch_size, images)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(50, 8, seed=1, epoch=1)
    np.testing.assert_array_equal(first, epoch_order(50, 8, seed=1, epoch=1))
    assert (first != epoch_order(50, 8, seed=1, epoch=2)).any()
    assert (first != epoch_order(50, 8, seed=2, epoch=1)).any()


def test_batches_come_in_order_and_whole_and_nothing_tunes_itself() -> None:
    require_keras()
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3, 3), dtype=np.uint8)

    def batches() -> Iterator[tuple[Any, ...]]:
        for number, each in enumerate(images):
            yield each, np.array([number, number + 1]), np.array([0.5, 2], dtype=np.float32)

    pipeline = fed(batches)
    assert pipeline.options().autotune.enabled is False, "the thread that tunes is what an epoch's end waits for"
    found = list(pipeline.as_numpy_iterator())
    assert len(found) == len(images)
    for (pixels, truth, weights), expected in zip(found, batches(), strict=True):
        np.testing.assert_array_equal(pixels, expected[0])
        np.testing.assert_array_equal(truth, expected[1])
        np.testing.assert_array_equal(weights, expected[2])
