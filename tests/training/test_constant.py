import numpy as np
import pytest

from cellclf.backbones import BACKBONES
from cellclf.training.constant import with_constant_weights
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network, layers_of
from tests.conftest import small_recipe


@pytest.mark.parametrize("name", ["mobilenet025", "mobilenetv2", "vgg16"])
def test_a_network_with_constant_weights_predicts_the_same_for_any_batch(name: str) -> None:
    keras = require_keras()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    row = BACKBONES[name]
    size = row.min_image_size_px
    recipe = small_recipe(image_size_px=size).model_copy(update={"backbone": name})
    features = build_network(recipe, classes=4, weights=None, steps_per_epoch=10).features
    draw = np.random.default_rng(0)
    for layer in layers_of(features):
        if isinstance(layer, keras.layers.BatchNormalization):  # far from what they start with, so that folding them matters
            layer.set_weights([draw.uniform(0.5, 1.5, value.shape).astype(np.float32) for value in layer.get_weights()])
    constant = with_constant_weights(features)
    for count in (1, 3):
        images = draw.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        expected = features.predict_on_batch(images)
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(constant.predict_on_batch(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_later_changes_of_the_weights_are_not_seen() -> None:
    keras = require_keras()
    image = keras.Input((2, 2, 3), dtype="uint8")
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Model(image, dense(keras.layers.Flatten()(keras.ops.cast(image, "float32"))))
    constant = with_constant_weights(model)
    ones = np.ones((1, 2, 2, 3), dtype=np.uint8)
    before = float(constant.predict_on_batch(ones)[0, 0])
    dense.set_weights([np.zeros_like(value) for value in dense.get_weights()])
    assert float(model.predict_on_batch(ones)[0, 0]) == 0
    assert float(constant.predict_on_batch(ones)[0, 0]) == before == 12
