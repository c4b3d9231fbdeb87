import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from cellclf.training.fit import class_weights, epoch_order, steps_per_epoch

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


def test_balanced_class_weights_are_scikit_learns() -> None:
    truth = np.array([0] * 7 + [1] * 2 + [2])
    found = class_weights(truth, 3, "balanced")
    assert found is not None
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(3), y=truth), rtol=1e-6)
    assert class_weights(truth, 3, "none") is None
