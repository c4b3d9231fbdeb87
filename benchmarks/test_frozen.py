"""A frozen backbone for ten epochs: features once and a head on them, against a Keras fit that runs the backbone each epoch."""

import shutil
from pathlib import Path
from typing import Any

from benchmarks.conftest import compare
from cellclf.data.prepare import DataRequest, prepare
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import make_recipe
from cellclf.training.train import train

EPOCHS = 10
REQUEST = DataRequest(data="sample")


def test_ten_epochs_on_a_frozen_backbone_against_keras_fit(benchmark: Any, scratch: Path) -> None:
    """Target: ≥ 8 times. Both build the network, read the same cached pixels, and validate after each epoch."""
    keras = require_keras()
    recipe = make_recipe("mobilenet", REQUEST, image_size_px=128, weights="none", freeze="all", epochs=EPOCHS, patience=0, learning_rate=1e-3)
    prepared = prepare(REQUEST, image_size_px=128)

    def ours() -> None:
        train(recipe, scratch / "run")
        shutil.rmtree(scratch / "run")

    def peer() -> None:
        keras.utils.clear_session()
        network = build_network(recipe, classes=4, weights=None, steps_per_epoch=1).whole
        manifest, cache = prepared.manifest, prepared.pixels
        sets = {}
        for split in ("train", "validation"):
            entries = [entry for entry in manifest.entries if entry.split == split]
            rows = cache.rows(entry.sha256 for entry in entries)
            sets[split] = (cache.pixels[rows], [manifest.labels.index(entry.label) for entry in entries])
        network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        train_x, train_y = sets["train"]
        validation = (sets["validation"][0], keras.ops.convert_to_tensor(sets["validation"][1]))
        network.fit(train_x, keras.ops.convert_to_tensor(train_y), validation_data=validation, batch_size=32, epochs=EPOCHS, verbose=0)

    compare(benchmark, ours, peer, rounds=2, target=8.0)
