import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from cellclf.errors import CellclfError
from cellclf.training.framework import require_keras
from cellclf.training.imbalance import adjusted_loss, class_weights, label_prior


def test_balanced_class_weights_are_scikit_learns() -> None:
    truth = np.array([0] * 7 + [1] * 2 + [2])
    found = class_weights(truth, 3, "balanced")
    assert found is not None
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(3), y=truth), rtol=1e-6)
    assert class_weights(truth, 3, "none") is None


def test_a_label_prior_counts_images_or_groups() -> None:
    truth, groups = np.array([0, 0, 0, 0, 1, 1]), ["a", "a", "b", "c", "d", "d"]
    by_image, by_group = label_prior(truth, groups, 2, "images"), label_prior(truth, groups, 2, "groups")
    assert by_image is not None
    assert by_group is not None
    np.testing.assert_allclose(by_image, [4 / 6, 2 / 6])
    np.testing.assert_allclose(by_group, [3 / 4, 1 / 4])
    assert label_prior(truth, groups, 2, "none") is None
    further = label_prior(truth, groups, 2, "groups", 2.0)
    assert further is not None
    np.testing.assert_allclose(further, [9 / 10, 1 / 10], rtol=1e-6)


def test_a_label_prior_of_many_images_is_finite_and_one_that_teaches_nothing_is_refused() -> None:
    truth = np.repeat([0, 1], [100_000, 50_000])
    prior = label_prior(truth, [""] * len(truth), 2, "images", 4.0)
    assert prior is not None
    np.testing.assert_allclose(prior, [16 / 17, 1 / 17], rtol=1e-6)
    rare = np.repeat([0, 1], [5000, 50])
    said = r"strength 4 leaves the rarest label, with 50 of 5050 images, a share of 1e-08.*--logit-adjustment-strength"
    with pytest.raises(CellclfError, match=said):
        label_prior(rare, [""] * len(rare), 2, "images", 4.0)
    assert label_prior(rare, [""] * len(rare), 2, "images", 2.0) is not None


@given(seed=st.integers(0, 2**32 - 1))
def test_the_adjusted_loss_is_cross_entropy_of_logits_plus_the_log_prior(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, truth = generator.normal(size=(5, 3)), generator.integers(0, 3, size=5)
    prior = generator.dirichlet([2.0, 2.0, 2.0]).astype(np.float32)
    shifted = logits + np.log(prior)
    expected = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(5), truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    keras = require_keras()
    found = keras.ops.convert_to_numpy(adjusted_loss(keras, prior)(truth, probabilities.astype(np.float32)))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
