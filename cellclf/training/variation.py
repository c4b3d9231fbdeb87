"""What varies in a training image, drawn anew each time, as one Keras layer: one warp for all of its geometry, one pass for its colours.

Keras' own layers, one for each thing that varies, resample an image once each and turn its colours to HSV and back once each: of a training step
of the smallest backbone they took twice as much (benchmarks/test_varying.py). They draw from the same ranges.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Variation", "variation_layer"]


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Ranges, drawn from uniformly and for each image anew.

    mirrored, flipped: left and right, top and bottom change places in half of the images. turn: up to this share of a full turn either way.
    shift: of width and of height, up to this share. zoom: the field of view is larger or smaller by up to this share, the shape stays. fill: what
    stands where the image ends, as keras.ops.image.affine_transform calls it.

    contrast: what each channel's distances from its mean are multiplied by is 1 ± this. brightness: added, up to this share of 255. saturation:
    multiplied by (.5 + u) / (.5 − u), u up to this. hue: up to this share of the colour circle. Values stay within 0–255.
    """

    mirrored: bool = False
    flipped: bool = False
    turn: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (0.0, 0.0)
    fill: Literal["reflect", "nearest"] = "reflect"
    contrast: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


def variation_layer(keras: Any, variation: Variation) -> Any:
    """The layer: images float32 0–255, RGB, [batch, H, W, 3] → the same, varied while training, as they are else."""
    ops = keras.ops

    class Varied(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__(dtype="float32", name="variation")  # in bfloat16 a pixel would lose its last bit
            self.generator = keras.random.SeedGenerator()
            self.supports_jit = keras.backend.backend() != "tensorflow"  # whose warp has no XLA kernel; JAX is lost without

        def call(self, images: Any, training: bool = False) -> Any:
            if not training:
                return images
            values = _moved(keras, images, variation, self._drawn)
            if variation.contrast or variation.brightness:
                values = _toned(keras, values, variation, self._drawn)
            return _dyed(keras, values, variation, self._drawn) if variation.saturation or variation.hue else values

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

        def _drawn(self, images: Any, low: float, high: float) -> Any:
            """A number for each image."""
            return keras.random.uniform((ops.shape(images)[0],), low, high, seed=self.generator)

    return Varied()


def _signs(keras: Any, images: Any, wanted: bool, drawn: Any) -> Any:
    """−1 for the half of the images that are turned over, else 1."""
    return keras.ops.sign(drawn(images, -1.0, 1.0) + 1e-9) if wanted else keras.ops.ones((keras.ops.shape(images)[0],))


def _moved(keras: Any, images: Any, variation: Variation, drawn: Any) -> Any:
    """Turned over, turned, zoomed and shifted by one warp around the middle."""
    ops = keras.ops
    height, width = images.shape[1], images.shape[2]
    angle = drawn(images, -variation.turn, variation.turn) * (2 * math.pi)
    scale = drawn(images, 1 + variation.zoom[0], 1 + variation.zoom[1])
    across, down = _signs(keras, images, variation.mirrored, drawn), _signs(keras, images, variation.flipped, drawn)
    cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    # Where a pixel of the result comes from: x' = a x + b y + c, y' = d x + e y + f.
    a, b, d, e = across * cosine, -across * sine, down * sine, down * cosine
    c = middle_x - a * middle_x - b * middle_y + drawn(images, -variation.shift, variation.shift) * width
    f = middle_y - d * middle_x - e * middle_y + drawn(images, -variation.shift, variation.shift) * height
    nothing = ops.zeros_like(a)
    transform = ops.stack([a, b, c, d, e, f, nothing, nothing], axis=1)
    return ops.image.affine_transform(images, transform, interpolation="bilinear", fill_mode=variation.fill)


def _toned(keras: Any, images: Any, variation: Variation, drawn: Any) -> Any:
    """Contrast around each channel's mean, and brightness."""
    ops = keras.ops
    factor = drawn(images, 1 - variation.contrast, 1 + variation.contrast)[:, None, None, None]
    added = drawn(images, -variation.brightness, variation.brightness)[:, None, None, None] * 255.0
    mean = ops.mean(images, axis=(1, 2), keepdims=True)
    return ops.clip(images * factor + (mean * (1.0 - factor) + added), 0.0, 255.0)


def _dyed(keras: Any, images: Any, variation: Variation, drawn: Any) -> Any:
    """Saturation and hue, at one turn to HSV and back."""
    ops = keras.ops
    share = drawn(images, 0.5 - variation.saturation, 0.5 + variation.saturation)[:, None, None]
    turned = drawn(images, -variation.hue, variation.hue)[:, None, None]
    hsv = ops.image.rgb_to_hsv(ops.clip(images / 255.0, 0.0, 1.0))
    hue, saturation = hsv[..., 0] + turned, ops.clip(hsv[..., 1] * (share / (1.0 - share)), 0.0, 1.0)
    return ops.image.hsv_to_rgb(ops.stack([hue - ops.floor(hue), saturation, hsv[..., 2]], axis=-1)) * 255.0
