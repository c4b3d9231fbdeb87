"""AUGMENTATIONS: one row = one way to vary training images, as Keras layers inside the network. Pixels stay in 0–255."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cellclf.tables import Table

__all__ = ["AUGMENTATIONS", "Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """name; what it does in words; and a function from the `keras` module to its layers, each seeded by the training loop."""

    name: str
    description: str
    layers: Callable[[Any], list[Any]]


def _light(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.RandomFlip("horizontal"), layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")]


def _cells(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.RandomFlip("horizontal_and_vertical"), layers.RandomRotation(0.5, fill_mode="reflect")]


def _cells_strong(keras: Any) -> list[Any]:
    layers = keras.layers
    return [
        *_cells(keras),
        layers.RandomZoom((-0.2, 0.2), fill_mode="reflect"),
        layers.RandomContrast(0.25, value_range=(0, 255)),
        layers.RandomBrightness(0.12, value_range=(0, 255)),
    ]


def _cells_stain(keras: Any) -> list[Any]:
    layers = keras.layers
    return [
        *_cells_strong(keras),
        layers.RandomSaturation((0.35, 0.65), value_range=(0, 255)),  # .5 leaves the saturation as it is; what leaves 0–255 is cut by the next layer
        layers.RandomHue(0.08, value_range=(0, 255)),  # Keras halves the factor: a turn of up to 4 % of the colour circle
    ]


def _xray(keras: Any) -> list[Any]:
    layers = keras.layers
    return [
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.08, 0.08, fill_mode="nearest"),
        layers.RandomZoom((-0.15, 0.15), fill_mode="nearest"),
        layers.RandomContrast(0.2, value_range=(0, 255)),
    ]


def _xray_strong(keras: Any) -> list[Any]:
    layers = keras.layers
    return [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.03, fill_mode="nearest"),
        layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
        layers.RandomZoom((-0.25, 0.15), fill_mode="nearest"),
        layers.RandomContrast(0.4, value_range=(0, 255)),
        layers.RandomBrightness(0.2, value_range=(0, 255)),
    ]


AUGMENTATIONS: Table[Augmentation] = Table(
    "augmentation",
    [
        Augmentation("none", "every epoch sees the same pixels", lambda _: []),
        Augmentation("light", "horizontal flips, shifts of up to 8 %", _light),
        Augmentation("cells", "flips on both axes, any rotation (a smear has no upright)", _cells),
        Augmentation("cells-strong", "as cells, zoom of up to 20 %, contrast of up to 25 %, brightness of up to 12 %", _cells_strong),
        Augmentation("cells-stain", "as cells-strong, hue of up to 4 % of the circle, saturation of up to 30 % (stains differ)", _cells_stain),
        Augmentation("xray", "horizontal flips, shifts of up to 8 %, zoom of up to 15 %, contrast of up to 20 %", _xray),
        Augmentation(
            "xray-strong",
            "horizontal flips, turns of up to 11°, shifts of up to 10 %, zoom of up to 25 %, contrast of up to 40 %, brightness of up to 20 %",
            _xray_strong,
        ),
    ],
)
