import pkgutil
import warnings
from typing import Any

import numpy as np
import pytest

from cellclf.backbones import BACKBONES
from cellclf.errors import RunError
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.fit import compile_network
from cellclf.training.framework import require_keras
from cellclf.training.network import batch_norm_momentum, build_network, layers_of, parameters_of, scale_pixels
from cellclf.training.recipe import Recipe
from tests.conftest import small_recipe

PREPROCESSING = {
    "mobilenet": "keras.applications.mobilenet",
    "inceptionv3": "keras.applications.inception_v3",
    "xception": "keras.applications.xception",
    "resnet50": "keras.applications.resnet50",
    "vgg16": "keras.applications.vgg16",
    "mobilenetv2": "keras.applications.mobilenet_v2",
    "mobilenet025": "keras.applications.mobilenet",
}


def network(recipe: Recipe, classes: int = 4, steps: int = 100) -> Any:
    require_keras().utils.clear_session()
    return build_network(recipe, classes=classes, weights=None, steps_per_epoch=steps)


def test_resnet50_with_16_units_and_two_classes_has_the_studies_parameters() -> None:
    counted = parameters_of(network(small_recipe(image_size_px=224).model_copy(update={"backbone": "resnet50"}), classes=2))
    assert (counted.total, counted.trainable, counted.non_trainable) == (23_620_530, 23_567_410, 53_120)


@pytest.mark.parametrize("name", BACKBONES)
def test_pixels_are_scaled_as_the_backbones_weights_expect(name: str) -> None:
    keras = require_keras()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.float32)
    expected = pkgutil.resolve_name(PREPROCESSING[name]).preprocess_input(pixels.copy())
    found = keras.ops.convert_to_numpy(scale_pixels(keras, keras.ops.convert_to_tensor(pixels), BACKBONES[name].scaling))
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-4)


def test_every_backbone_of_the_table_has_its_reference_scaling_here() -> None:
    assert set(PREPROCESSING) == set(BACKBONES)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_keeps_shape_and_pixel_range(name: str) -> None:
    keras = require_keras()
    values = keras.ops.convert_to_tensor(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.float32))
    for layer in AUGMENTATIONS[name].layers(keras):
        values = layer(values, training=True)
    found = keras.ops.convert_to_numpy(values)
    assert found.shape == (3, 16, 16, 3)
    assert found.min() >= -1e-3
    assert found.max() <= 255.001


def test_augmentation_is_off_in_inference() -> None:
    built = network(small_recipe(augmentation="cells"))
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3)).astype(np.uint8)
    np.testing.assert_allclose(np.asarray(built.training(images, training=False)), np.asarray(built.whole(images, training=False)), atol=1e-6)


def test_on_a_gpu_tensorflow_is_not_asked_to_warp_images_by_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA has no kernel for it; Keras would warn at each training."""
    monkeypatch.setattr("cellclf.training.fit.runs_on_cpu", lambda: False)
    recipe = small_recipe(augmentation="cells")
    built = network(recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_network(built.training, recipe, steps=1)
    assert built.training.jit_compile is False
    assert [layer.name for layer in built.training.layers if not layer.supports_jit] == ["variation"]


def test_the_last_layer_is_a_softmax_in_float32_under_mixed_precision() -> None:
    keras = require_keras()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        built = network(small_recipe(precision="mixed_bfloat16"))
    finally:
        keras.config.set_dtype_policy("float32")
    values = np.asarray(built.whole(np.zeros((2, 48, 48, 3), dtype=np.uint8), training=False))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_more_layers_than_there_are_cannot_be_left_free() -> None:
    with pytest.raises(RunError, match=r"--freeze all-but-9999: the backbone has \d+ layers"):
        network(small_recipe(freeze="all-but-9999"))


@pytest.mark.parametrize(("freeze", "trainable"), [("none", 81), ("all", 0), ("all-but-4", 3)])
def test_freezing_leaves_the_layers_it_names(freeze: str, trainable: int) -> None:
    """MobileNet's last four layers with its pooling: pointwise convolution, batch norm, ReLU, average."""
    built = network(small_recipe(freeze=freeze, hidden=(8,)))
    assert len(built.whole.trainable_weights) == trainable + 4


def test_a_frozen_batch_norm_layer_runs_in_inference_mode_while_training() -> None:
    keras = require_keras()
    built = network(small_recipe(freeze="all-but-4"))
    norms = [layer for layer in layers_of(built.training) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.moving_mean.numpy() for layer in norms]
    built.training(np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3)).astype(np.uint8), training=True)
    changed = [bool((old != layer.moving_mean.numpy()).any()) for old, layer in zip(before, norms, strict=True)]
    assert changed == [layer.trainable for layer in norms]
    assert sum(changed) == 1


def test_batch_norm_averages_never_outlast_a_quarter_of_an_epoch() -> None:
    assert batch_norm_momentum(0.999, steps_per_epoch=100) == pytest.approx(0.96)
    assert batch_norm_momentum(0.99, steps_per_epoch=10_000) == 0.99
    assert batch_norm_momentum(0.99, steps_per_epoch=1) == 0.5
    for steps in (8, 40, 250, 4000):
        assert batch_norm_momentum(0.999, steps_per_epoch=steps) ** steps <= np.exp(-4) + 1e-9


def test_mobilenetv2_evaluates_well_after_a_few_short_epochs() -> None:
    """Keras' own momentum of .999 leaves the averages at their start, and evaluation at chance, however well the training went."""
    keras = require_keras()
    recipe = small_recipe(hidden=(), dropout=0.0).model_copy(update={"backbone": "mobilenetv2"})
    generator = np.random.default_rng(0)
    truth = np.arange(32) % 2
    images = (generator.integers(0, 60, (32, 48, 48, 3)) + truth[:, None, None, None] * 150).astype(np.uint8)
    scores = {}
    for name, momentum in (("ours", None), ("Keras'", 0.999)):
        keras.utils.set_random_seed(0)
        built = network(recipe.model_copy(update={"batch_norm_momentum": momentum}), classes=2, steps=4)
        built.training.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        built.training.fit(images, truth, batch_size=8, epochs=4, verbose=0)
        scores[name] = float((np.asarray(built.whole(images, training=False)).argmax(axis=1) == truth).mean())
    assert scores["ours"] >= 0.9
    assert scores["Keras'"] <= 0.6
