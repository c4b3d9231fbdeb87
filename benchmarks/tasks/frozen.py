"""Training on a frozen backbone: `cellclf train`, which computes features once, or a Keras fit that runs the backbone each epoch. Needs Keras."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks.task import Task
from cellclf.backbones import BACKBONES
from cellclf.data.crops import View
from cellclf.data.datasets import DATASETS, find
from cellclf.data.manifest import SPLITS
from cellclf.data.prepare import DataRequest, Prepared, prepare
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import Recipe, make_recipe
from cellclf.training.train import train
from cellclf.training.weights import resolve_weights

__all__ = ["EPOCHS", "FrozenKeras", "FrozenOurs"]

EPOCHS = 10
_FEW = 8
"""Images a label of the warm-up."""


class FrozenOurs(Task):
    """A backbone, all frozen, ten epochs at 1e-3: 64 % to train, 16 % to validate after each epoch, 20 % to test on once.

    weights: a file of ImageNet weights, or none: a random start, which is as quick and learns next to nothing.

    limit_per_label: None = the whole data set, which is the blood cells where they are here, else the drawn sample. Pixels are decoded once, in
    the warm-up.
    """

    def __init__(self, *, backbone: str, weights: str, image_size_px: int, limit_per_label: int | None) -> None:
        self.keras = require_keras()
        self.backbone, self.weights = backbone, weights
        self.image_size_px = image_size_px
        self.recipe = self._recipe(limit_per_label, EPOCHS)
        self.accuracy = float("nan")

    def run(self) -> None:
        """List the data, read the cached pixels, build, train, validate, test."""
        self.accuracy = self.learn(self.recipe)

    def warm_up(self) -> None:
        """Decode everything; one epoch on a few images for what is loaded on first use."""
        self.prepared(self.recipe)
        self.learn(self._recipe(_FEW, 1))

    def facts(self) -> dict[str, Any]:
        """Test accuracy of the last time; images of the whole and of each split."""
        entries = self.prepared(self.recipe).manifest.entries
        count = {split: sum(entry.split == split for entry in entries) for split in SPLITS}
        return {"test_accuracy": self.accuracy, "images": len(entries), "count": count}

    def learn(self, recipe: Recipe) -> float:
        """Test accuracy of one training."""
        with tempfile.TemporaryDirectory(prefix="cellclf-bench-") as folder:
            return train(recipe, Path(folder) / "run").metrics().test.accuracy.value

    def prepared(self, recipe: Recipe) -> Prepared:
        """Manifest and pixels."""
        return prepare(recipe.data, view=View(self.image_size_px, self.image_size_px))

    def _recipe(self, limit_per_label: int | None, epochs: int) -> Recipe:
        name = "blood-cells" if find(DATASETS["blood-cells"]) else "sample"
        request = DataRequest(data=name, protocol="random", limit_per_label=limit_per_label)
        return make_recipe(
            self.backbone,
            request,
            image_size_px=self.image_size_px,
            weights=self.weights,
            freeze="all",
            epochs=epochs,
            patience=0,
            learning_rate=1e-3,
        )


class FrozenKeras(FrozenOurs):
    """The same by Keras' own fit() on the whole network."""

    def learn(self, recipe: Recipe) -> float:
        """Compile, fit and evaluate."""
        keras = self.keras
        keras.utils.clear_session()
        keras.utils.set_random_seed(recipe.seed)
        prepared = self.prepared(recipe)
        labels = prepared.manifest.labels
        weights = resolve_weights(BACKBONES[recipe.backbone], recipe.weights)
        network = build_network(recipe, classes=len(labels), weights=weights, steps_per_epoch=1).whole
        network.compile(keras.optimizers.Adam(recipe.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        sets = {}
        for split in SPLITS:
            chosen = prepared.manifest.split(split)
            rows = prepared.pixels.rows(entry.sha256 for entry in chosen)
            sets[split] = (prepared.pixels.pixels[rows], np.array([labels.index(entry.label) for entry in chosen]))
        network.fit(*sets["train"], validation_data=sets["validation"], batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)
        return float(network.evaluate(*sets["test"], batch_size=recipe.batch_size, verbose=0, return_dict=True)["accuracy"])
