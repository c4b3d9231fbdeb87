"""A Keras network → an ONNX graph: input `image` uint8 [batch, H, W, 3], output `probabilities` float32 [batch, classes]. Needs TensorFlow."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from cellclf.artifact.fold import fold
from cellclf.training.framework import require_keras
from cellclf.training.network import layers_of

__all__ = ["OPSET", "ORT_QUIET", "divide_logits", "to_onnx"]

OPSET = 17
"""ONNX operator set of exported files: the newest that tf2onnx writes well and every ONNX Runtime since 1.13 reads."""

ORT_QUIET = 3
"""ONNX Runtime's log severity from which on it prints: errors."""


def to_onnx(network: Any) -> Any:
    """Convert and simplify; returns an onnx.ModelProto. The network's softmax is its last layer and its input is uint8."""
    require_keras("tensorflow")
    import tensorflow as tf
    import tf2onnx

    _, height, width, channels = network.input.shape
    signature = [tf.TensorSpec((None, height, width, channels), tf.uint8, name="image")]
    function = tf.function(lambda image: {"probabilities": network(image, training=False)}, input_signature=signature)
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    _name_batch(model)
    return fold(_simplified(model))


def divide_logits(network: Any, temperature: float) -> None:
    """Divide weights and biases of the layer whose softmax gives the probabilities, in place: softmax((W x + b) / T) at no cost."""
    last = next(layer for layer in layers_of(network) if layer.name == "probabilities")
    last.set_weights([values / temperature for values in last.get_weights()])


def _name_batch(model: Any) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _simplified(model: Any) -> Any:
    """Fold what can be folded exactly (batch norm into convolutions, padding, constants) with ONNX Runtime's hardware-independent passes."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "simplified.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = ORT_QUIET
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simplified = onnx.load(target)
    onnx.checker.check_model(simplified, full_check=True)
    return simplified
