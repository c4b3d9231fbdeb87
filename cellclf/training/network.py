"""uint8 image → scaling → backbone (global average) → flatten → dense … (ReLU) → dropout → softmax, in backend-neutral Keras."""

import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellclf.backbones import BACKBONES, PixelScaling
from cellclf.errors import RunError
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.framework import require_keras
from cellclf.training.recipe import FREEZE_PATTERN, Recipe
from cellclf.training.run import Parameters
from cellclf.training.tta import TTAS, Turn
from cellclf.training.weights import load_backbone_weights

__all__ = ["Network", "batch_norm_momentum", "build_network", "layers_of", "parameters_of", "scale_pixels"]


@dataclass(frozen=True)
class Network:
    """The parts of one network, which share their layers.

    whole: uint8 image [batch, H, W, 3] → probabilities float32 [batch, classes]; what is saved. answers: the same over the views of the recipe's
    test-time augmentation; what is measured, and what an exported file gives. training: whole with the augmentation in front. features: image →
    features [batch, F]. head: features → probabilities.
    """

    whole: Any
    answers: Any
    training: Any
    features: Any
    head: Any
    weights_sha256: str | None
    batch_norm_momentum: float | None


def build_network(recipe: Recipe, *, classes: int, weights: Path | None, steps_per_epoch: int) -> Network:
    """Build the recipe's network; `weights` is the resolved file of the backbone's pretrained weights, None for a random start."""
    keras = require_keras()
    row = BACKBONES.find(recipe.backbone)
    size = recipe.image_size_px
    backbone = pkgutil.resolve_name(row.builder)(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg", **row.arguments)
    digest = load_backbone_weights(backbone, row, weights) if weights else None
    momentum = _set_batch_norm_momentum(backbone, recipe, steps_per_epoch)
    _freeze(backbone, recipe.freeze)
    head = _head(keras, recipe, int(backbone.output.shape[-1]), classes)

    image = keras.Input((size, size, 3), dtype="uint8", name="image")
    pixels = keras.ops.cast(image, "float32")
    feature_values = backbone(scale_pixels(keras, pixels, row.scaling))
    varied = pixels
    for layer in AUGMENTATIONS.find(recipe.augmentation).layers(keras):
        varied = layer(varied)
    return Network(
        whole=(whole := keras.Model(image, head(feature_values), name="network")),
        answers=_answers(keras, recipe, backbone, head, image) or whole,
        training=keras.Model(image, head(backbone(scale_pixels(keras, varied, row.scaling))), name="training"),
        features=keras.Model(image, feature_values, name="features"),
        head=head,
        weights_sha256=digest,
        batch_norm_momentum=momentum,
    )


def _answers(keras: Any, recipe: Recipe, backbone: Any, head: Any, image: Any) -> Any | None:
    """The network whose values before the last layer are averaged over the views of the recipe's test-time augmentation; None for one view."""
    views = TTAS.find(recipe.tta).views
    if len(views) == 1:
        return None
    scaled = scale_pixels(keras, keras.ops.cast(image, "float32"), BACKBONES[recipe.backbone].scaling)
    values = backbone(keras.ops.concatenate([_turned(keras, scaled, turn) for turn in views], axis=0))
    *inner, last = [layer for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)]
    for layer in inner:
        values = layer(values)
    values = keras.ops.mean(keras.ops.reshape(values, (len(views), -1, values.shape[-1])), axis=0)
    return keras.Model(image, last(values), name="answers")


def _turned(keras: Any, images: Any, turn: Turn) -> Any:
    """Images [batch, H, W, 3], H = W, laid down in that way."""
    values = keras.ops.transpose(images, (0, 2, 1, 3)) if turn.transposed else images
    values = keras.ops.flip(values, axis=1) if turn.rows_reversed else values
    return keras.ops.flip(values, axis=2) if turn.columns_reversed else values


def scale_pixels(keras: Any, pixels: Any, scaling: PixelScaling) -> Any:
    """Scale float32 pixels 0–255, RGB, [batch, H, W, 3] as Keras Applications' preprocess_input does in that mode."""
    if scaling == "tf":
        return pixels / 127.5 - 1.0
    if scaling == "caffe":
        channels = [pixels[..., number : number + 1] for number in (2, 1, 0)]
        return keras.ops.concatenate(channels, axis=-1) - np.array([103.939, 116.779, 123.68], dtype=np.float32)
    mean, deviation = np.array([0.485, 0.456, 0.406], dtype=np.float32), np.array([0.229, 0.224, 0.225], dtype=np.float32)
    return (pixels / 255.0 - mean) / deviation


def batch_norm_momentum(own: float, *, steps_per_epoch: int) -> float:
    """The momentum a batch-norm layer is trained with: its own, or less where its averages would outlast the training.

    An average with momentum m remembers about 1 / (1 − m) steps. At most a quarter of an epoch is let through, so that after one epoch less than
    e⁻⁴ = 2 % of the average still describes the start (Keras' MobileNetV2 has .999: after two short epochs it evaluates at chance). At least .5.
    """
    return min(own, max(0.5, 1 - 4 / max(steps_per_epoch, 1)))


def layers_of(model: Any) -> Iterator[Any]:
    """All layers of a model, nested models' included."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


def parameters_of(network: Network) -> Parameters:
    """Count weights (not seeds of random layers) of the whole network."""
    trainable = sum(math.prod(variable.shape) for variable in network.whole.trainable_weights)
    total = sum(math.prod(variable.shape) for variable in network.whole.weights)
    return Parameters(total=total, trainable=trainable, non_trainable=total - trainable)


def _head(keras: Any, recipe: Recipe, features: int, classes: int) -> Any:
    layers = keras.layers
    values = start = keras.Input((features,), name="features")
    values = layers.Flatten()(values)
    for units in recipe.hidden:
        values = layers.Dense(units, activation="relu")(values)
    if recipe.dropout:
        values = layers.Dropout(recipe.dropout)(values)
    return keras.Model(start, layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(values), name="head")


def _set_batch_norm_momentum(backbone: Any, recipe: Recipe, steps_per_epoch: int) -> float | None:
    """Set the momentum of every batch-norm layer and return the lowest that was set, None without such layers."""
    keras = require_keras()
    chosen = []
    for layer in layers_of(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            fixed = recipe.batch_norm_momentum
            layer.momentum = batch_norm_momentum(layer.momentum, steps_per_epoch=steps_per_epoch) if fixed is None else fixed
            chosen.append(float(layer.momentum))
    return min(chosen) if chosen else None


def _freeze(backbone: Any, freeze: str) -> None:
    """Freeze layers; a frozen batch-norm layer runs in inference mode, which Keras does for trainable = False."""
    match = FREEZE_PATTERN.fullmatch(freeze)
    if freeze == "none" or match is None:
        return
    if freeze == "all":
        backbone.trainable = False
        return
    kept, layers = int(match.group(1)), len(backbone.layers)
    if kept > layers:
        raise RunError(f"--freeze {freeze}: the backbone has {layers} layers")
    for layer in backbone.layers[:-kept]:
        layer.trainable = False
