"""The one layer against Keras' own, one for each thing that varies, wherever a range is so narrow that nothing is left to chance."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cellclf.training.framework import require_keras
from cellclf.training.variation import Variation, variation_layer

Floats = npt.NDArray[np.float32]


def smooth(height: int = 24, width: int = 20) -> Floats:
    """Two images without edges, so that no two ways of interpolating differ by much."""
    y, x = np.mgrid[0:height, 0:width] / 8
    one = np.stack([127 + 90 * np.sin(x + y), 120 + 80 * np.cos(x - y), 110 + 70 * np.sin(2 * x)], axis=-1)
    return np.stack([one, one[::-1]]).astype(np.float32)


def varied(images: Floats, **choices: Any) -> Floats:
    keras = require_keras()
    layer = variation_layer(keras, Variation(**choices))
    return np.asarray(keras.ops.convert_to_numpy(layer(images, training=True)))


def of_keras(name: str, images: Floats, *arguments: Any, **choices: Any) -> Floats:
    keras = require_keras()
    layer = getattr(keras.layers, name)(*arguments, **choices)
    return np.asarray(keras.ops.convert_to_numpy(layer(images, training=True)))


@pytest.mark.parametrize("zoom", [-0.2, 0.15])
@pytest.mark.parametrize("fill", ["reflect", "nearest"])
def test_zoom_is_that_of_keras(zoom: float, fill: str) -> None:
    expected = of_keras("RandomZoom", smooth(), (zoom, zoom), fill_mode=fill)
    np.testing.assert_allclose(varied(smooth(), zoom=(zoom, zoom), fill=fill), expected, atol=1e-2)
    assert np.abs(expected - smooth()).max() > 5, "it moves something"


def test_a_turn_is_that_of_keras_or_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = require_keras()
    expected = [of_keras("RandomRotation", smooth(24, 24), (part, part)) for part in (0.1, -0.1)]
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low, high, seed: keras.ops.full(shape, high))  # noqa: ARG005  # as Keras calls it
    found = varied(smooth(24, 24), turn=0.1)
    assert min(np.abs(found - each).max() for each in expected) < 1e-2
    assert np.abs(expected[0] - expected[1]).max() > 5


def test_a_shift_is_that_of_keras_or_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = require_keras()
    expected = [of_keras("RandomTranslation", smooth(), (part, part), (part, part), fill_mode="nearest") for part in (0.25, -0.25)]
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low, high, seed: keras.ops.full(shape, high))  # noqa: ARG005
    found = varied(smooth(), shift=0.25, fill="nearest")
    assert min(np.abs(found - each).max() for each in expected) < 1e-2


def test_images_are_turned_over_each_way_alone_and_half_of_the_time() -> None:
    images = np.repeat(smooth()[:1], 200, axis=0)
    found = varied(images, mirrored=True, flipped=True)
    kinds = [images[0], images[0][:, ::-1], images[0][::-1], images[0][::-1, ::-1]]
    nearest = [int(np.argmin([np.abs(each - kind).max() for kind in kinds])) for each in found]
    assert all(np.abs(each - kinds[kind]).max() < 0.05 for each, kind in zip(found, nearest, strict=True))
    assert all(25 <= nearest.count(kind) <= 80 for kind in range(4)), "each of the four in about a quarter"


def test_all_at_once_is_a_turn_a_scale_and_a_shift_around_the_middle_of_an_image_that_is_not_square(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = require_keras()
    seen = []

    def remembered(images: Any, transform: Any, **_: Any) -> Any:
        seen.append(np.asarray(keras.ops.convert_to_numpy(transform), dtype=np.float64))
        return images

    monkeypatch.setattr(keras.ops.image, "affine_transform", remembered)
    varied(np.repeat(smooth(), 100, axis=0), mirrored=True, flipped=True, turn=0.5, shift=0.1, zoom=(-0.2, 0.2))
    linear = seen[0][:, [0, 1, 3, 4]].reshape(-1, 2, 2)
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    expected = scale[:, None, None] ** 2 * np.eye(2)
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), expected, atol=1e-5, err_msg="circles stay circles")
    assert scale.min() > 0.8 and scale.max() < 1.2 and np.ptp(scale) > 0.3
    assert 60 <= np.sum(np.linalg.det(linear) < 0) <= 140, "half are mirror images"
    middle = np.array([(20 - 1) / 2, (24 - 1) / 2])
    moved = (linear @ middle + seen[0][:, [2, 5]] - middle) / np.array([20, 24])
    assert np.abs(moved).max() < 0.1001 and np.ptp(moved, axis=0).min() > 0.15, "the middle moves by the shift alone"


def test_pixels_keep_their_precision_where_the_network_computes_in_bfloat16() -> None:
    keras = require_keras()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = varied(smooth(), zoom=(0.0, 0.1), contrast=0.01)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == np.float32
    assert np.any(found != found.astype(np.float16).astype(np.float32)), "more than half precision is in them"


def test_colours_turn_and_pale_as_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = require_keras()
    expected = of_keras("RandomSaturation", smooth(), (0.4, 0.4), value_range=(0, 255))
    hues = [of_keras("RandomHue", smooth()[:1], (0.2, 0.2), value_range=(0, 255)) for _ in range(20)]
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low, high, seed: keras.ops.full(shape, low))  # noqa: ARG005
    np.testing.assert_allclose(varied(smooth(), saturation=0.1), expected, atol=0.05)
    turned = varied(smooth()[:1], hue=0.1)
    assert min(np.abs(turned - each).max() for each in hues) < 0.05, "Keras halves its factor and turns either way"


def test_contrast_is_around_each_channels_mean_and_brightness_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = require_keras()
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low, high, seed: keras.ops.full(shape, high))  # noqa: ARG005
    images = smooth()
    mean = images.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(varied(images, contrast=0.2), np.clip((images - mean) * 1.2 + mean, 0, 255), atol=1e-2)
    np.testing.assert_allclose(varied(images, brightness=0.1), np.clip(images + 25.5, 0, 255), atol=1e-2)


def test_each_image_is_varied_on_its_own_and_anew_each_time() -> None:
    keras = require_keras()
    layer = variation_layer(keras, Variation(turn=0.5, zoom=(-0.2, 0.2), contrast=0.2, hue=0.05))
    images = np.repeat(smooth()[:1], 3, axis=0)
    first, second = (np.asarray(keras.ops.convert_to_numpy(layer(images, training=True))) for _ in range(2))
    seen = [*first, *second]
    assert all(np.abs(one - other).max() > 1 for number, one in enumerate(seen) for other in seen[:number])
    np.testing.assert_array_equal(np.asarray(keras.ops.convert_to_numpy(layer(images, training=False))), images)
