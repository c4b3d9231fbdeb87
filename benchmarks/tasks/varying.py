"""Training steps on images that vary: by our one layer, or by Keras' own, one for each thing that varies. Needs Keras."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.tasks.task import Task
from cellclf.data.prepare import DataRequest
from cellclf.tables import Table
from cellclf.training import network
from cellclf.training.augmentation import AUGMENTATIONS, Augmentation
from cellclf.training.fit import compile_network, prepare_backend, repeated
from cellclf.training.recipe import Recipe, make_recipe
from cellclf.training.variation import Variation

__all__ = ["STEPS", "KerasVaryingSteps", "VaryingSteps"]

STEPS, CLASSES = 20, 4


class VaryingSteps(Task):
    """So many steps of one batch in memory, float32, as `cellclf train` compiles them."""

    def __init__(self, *, backbone: str, image_size_px: int, batch: int, augmentation: str) -> None:
        data = DataRequest(data="sample")
        recipe = make_recipe(backbone, data, image_size_px=image_size_px, batch_size=batch, weights="none", augmentation=augmentation)
        prepare_backend(recipe)
        self.model = self.built(recipe)
        compile_network(self.model, recipe, steps=1)
        draws = np.random.default_rng(0)
        pixels = draws.integers(0, 256, (batch, image_size_px, image_size_px, 3), dtype=np.uint8)
        self.feed = repeated(pixels, draws.integers(0, CLASSES, batch))

    def built(self, recipe: Recipe) -> Any:
        """The network that is trained."""
        return network.build_network(recipe, classes=CLASSES, weights=None, steps_per_epoch=1).training

    def run(self) -> None:
        """The steps."""
        self.model.fit(self.feed, steps_per_epoch=STEPS, shuffle=False, verbose=0)


class KerasVaryingSteps(VaryingSteps):
    """The same with Keras' layers."""

    def built(self, recipe: Recipe) -> Any:
        """The same network, with a row of the table that has Keras' layers."""
        row = AUGMENTATIONS[recipe.augmentation]
        theirs = Table("augmentation", [KerasLayers(row.name, row.description, row.variation)])
        with mock.patch.object(network, "AUGMENTATIONS", theirs):
            return super().built(recipe)


class KerasLayers(Augmentation):
    """What varies, by Keras' layers."""

    def layers(self, keras: Any) -> list[Any]:
        """One layer for each thing, in our order."""
        assert self.variation is not None
        return keras_layers(keras, self.variation)


def keras_layers(keras: Any, varies: Variation) -> list[Any]:
    """Keras' layers that draw from the same ranges; fill and colour space are the same, too."""
    layers, fill = keras.layers, {"fill_mode": varies.fill}
    sides = {(True, True): "horizontal_and_vertical", (True, False): "horizontal", (False, True): "vertical"}
    span = {"value_range": (0, 255)}
    made: list[tuple[Any, Callable[[], Any]]] = [
        (varies.mirrored or varies.flipped, lambda: layers.RandomFlip(sides[varies.mirrored, varies.flipped])),
        (varies.turn, lambda: layers.RandomRotation(varies.turn, **fill)),
        (varies.shift, lambda: layers.RandomTranslation(varies.shift, varies.shift, **fill)),
        (any(varies.zoom), lambda: layers.RandomZoom(varies.zoom, **fill)),
        (varies.contrast, lambda: layers.RandomContrast(varies.contrast, **span)),
        (varies.brightness, lambda: layers.RandomBrightness(varies.brightness, **span)),
        (varies.saturation, lambda: layers.RandomSaturation((0.5 - varies.saturation, 0.5 + varies.saturation), **span)),
        (varies.hue, lambda: layers.RandomHue(2 * varies.hue, **span)),
    ]
    return [make() for wanted, make in made if wanted]
