"""A backbone's shape with random weights, exported in every precision: `python -m benchmarks.skeleton BACKBONE FOLDER`. Needs TensorFlow.

As quick as a trained one, for no operator's speed depends on the weights, as long as they are ordinary numbers; but in int8 a trained network may
keep more of its first convolutions in fp32, which its own file tells (docs/results/cost.md).
"""

import datetime
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.engines import saved_weights
from cellclf.artifact import quantize
from cellclf.artifact.convert import to_onnx
from cellclf.artifact.moments import Convolution, Moments
from cellclf.artifact.precisions import PRECISIONS
from cellclf.card import CARD_KEY, DIGEST_KEY, Card, Parity, graph_digest
from cellclf.data.decoding import Pixels
from cellclf.data.prepare import DataRequest
from cellclf.environment import installed_versions
from cellclf.storage import new_folder
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.recipe import Recipe, make_recipe

__all__ = ["LABELS", "make", "plain_rounding"]

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
_IMAGES = 16


def make(recipe: Recipe, folder: Path) -> None:
    """Write fp32.onnx, fp16.onnx, int8.onnx … and the Keras weights into a new folder."""
    keras = require_keras("tensorflow")
    keras.utils.set_random_seed(recipe.seed)
    size = recipe.image_size_px
    images = np.random.default_rng(1).integers(0, 256, size=(_IMAGES, size, size, 3), dtype=np.uint8)
    network = build_network(recipe, classes=len(LABELS), weights=None, steps_per_epoch=1).whole
    # With momentum 0, one step in training mode makes the batch-norm averages those of the images, so that no layer's values fade to nothing.
    network(images[:8], training=True)
    model = to_onnx(network)
    parameters = sum(int(np.prod(weights.shape)) for weights in network.weights)
    with new_folder(folder) as temporary:
        network.save_weights(saved_weights(temporary / "fp32.onnx"))
        for row in PRECISIONS.values():
            with plain_rounding():
                converted = row.convert(model, images)
            (temporary / f"{row.name}.onnx").write_bytes(_with_card(converted, recipe, row.name, parameters))


@contextmanager
def plain_rounding() -> Iterator[None]:
    """Let the export round weights to the nearest step, not by what the convolutions see, which takes minutes and changes no operator.

    Nor do more convolutions than the narrow ones stay in fp32 for the answers' sake: those of random weights say nothing.
    """
    with mock.patch.object(quantize, "moments_of", _no_moments), mock.patch.object(quantize, "log_odds_noise", lambda _exact, _coarse: 0.0):
        yield


def _no_moments(_: Any, convolutions: list[Convolution], __: Pixels) -> list[Moments]:
    widths = [(each.groups, each.weights[0].size) for each in convolutions]
    return [Moments(np.zeros(shape, dtype=np.float32), None) for shape in widths]


def _with_card(model: Any, recipe: Recipe, precision: str, parameters: int) -> bytes:
    """The file with a card, so that it is opened as every exported file is; it says that it knows nothing."""
    nothing = "none: random weights, for measuring speed"
    card = Card.model_validate(
        {
            "name": f"{recipe.backbone}-{recipe.image_size_px}",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "labels": LABELS,
            "height_px": recipe.image_size_px,
            "width_px": recipe.image_size_px,
            "resize": recipe.view.resize,
            "scaling": "in the graph",
            "precision": precision,
            "backbone": recipe.backbone,
            "parameters": parameters,
            "data": "none",
            "data_fingerprint": "",
            "recipe_fingerprint": recipe.fingerprint,
            "recipe": recipe.model_dump(mode="json"),
            "protocol": "official",
            "leaks": (),
            "metrics": {},
            "interval_unit": "file",
            "intended_use": nothing,
            "licence": nothing,
            "parity": Parity(images=0, split="validation", max_difference=0, mean_difference=0, flipped=0),
            "golden": (),
            "golden_tolerance": PRECISIONS[precision].tolerance.golden,
            "versions": installed_versions(),
            "graph_sha256": graph_digest(model.SerializeToString()),
        }
    )
    text = card.model_dump_json()
    for key, value in ((CARD_KEY, text), (DIGEST_KEY, hashlib.sha256(text.encode()).hexdigest())):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def main() -> None:
    """Make one, its batch-norm momentum 0."""
    backbone, folder = sys.argv[1:]
    make(make_recipe(backbone, DataRequest(data="blood-cells"), weights="none", batch_norm_momentum=0.0), Path(folder))


if __name__ == "__main__":
    main()
