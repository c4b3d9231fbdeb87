"""fp32 graph → fp16, or → int8: Q/DQ pairs, uint8 activations in measured ranges, the first narrow layers in fp32. Weights are rounded for images."""

import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from cellclf.artifact.moments import Convolution, batches, convolutions_of, moments_of
from cellclf.artifact.rounding import Floats, rounded_to_half, rounded_to_int8
from cellclf.data.decoding import Pixels

__all__ = ["halved", "round_convolutions", "rounded_for_int8", "to_fp16", "to_int8"]

_QUANTIZED_OPERATORS = ["Conv", "Add", "MaxPool", "AveragePool", "Concat", "Clip", "Relu", "GlobalAveragePool"]
"""The few matrix products of the head stay in fp32: they cost nothing, and the probabilities depend on them most."""

_NARROW = 32
"""Channels up to which, in or out, a convolution at the start of the network stays in fp32.

A sum over few channels does not average rounding errors out, and all later layers inherit them; nor is int8 faster with so few: of MobileNet
0.25 this keeps nine convolutions, of MobileNet and InceptionV3 three, of Xception two, of ResNet50 and VGG16 the first.
"""


def to_fp16(model: Any, calibration: Pixels) -> Any:
    """Half precision, weights rounded for what the convolutions see on training images uint8 [n, H, W, 3]; see `halved`.

    Almost all of the error is that of the weights, which have 11 bits: to the nearest half, a small network's probabilities moved several times as
    far as they do so (docs/results/spine.md).
    """
    return halved(round_convolutions(model, calibration, rounded_to_half))


def halved(model: Any) -> Any:
    """Weights and activations in half precision; input and probabilities keep their types, and the softmax is computed in fp32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=["Softmax"]))
    converted.topological_sort()
    onnx.checker.check_model(converted.model, full_check=True)
    return converted.model


def to_int8(model: Any, calibration: Pixels) -> Any:
    """Quantize an onnx.ModelProto statically; calibration: training images uint8 [n, H, W, 3]."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self.batches = iter(batches(calibration))

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    logging.getLogger("root").setLevel(logging.ERROR)  # ONNX Runtime's quantizer advises on its own preprocessing there
    with tempfile.TemporaryDirectory() as folder:
        source, ready, target = (Path(folder) / name for name in ("source.onnx", "ready.onnx", "int8.onnx"))
        onnx.save(rounded_for_int8(model, calibration), source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        prepared = onnx.load(ready)
        kept = _narrow_start(prepared)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=_QUANTIZED_OPERATORS,
            nodes_to_exclude=kept,
        )
        quantized = onnx.load(target)
    onnx.checker.check_model(quantized)
    return quantized


def rounded_for_int8(model: Any, images: Pixels) -> Any:
    """A copy of the model whose convolutions, but for those that stay in fp32, have weights on int8 steps; see round_convolutions."""
    import onnx

    named = onnx.ModelProto()
    named.CopyFrom(model)
    return round_convolutions(named, images, rounded_to_int8, kept=_narrow_start(named))


def round_convolutions(model: Any, images: Pixels, rounding: Callable[[Floats, Floats | None], Floats], *, kept: Collection[str] = ()) -> Any:
    """A copy of the model whose convolutions, but for the nodes `kept`, have weights that `rounding` allows, and biases that make up for it.

    Both are chosen for what the convolutions see on these images. Rounding a channel's weights shifts its output by
    E[(Wq − W) x]; subtracting that from the bias keeps the mean (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2, with measured instead of assumed inputs).
    """
    import onnx
    from onnx import numpy_helper

    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    convolutions = [convolution for convolution in convolutions_of(rounded) if convolution.node.name not in kept]
    for number, (convolution, moments) in enumerate(zip(convolutions, moments_of(model, convolutions, images), strict=True)):
        weights = rounding(convolution.weights, moments.covariances)
        errors = (weights - convolution.weights).reshape(convolution.groups, -1, moments.means.shape[1])
        biases = convolution.bias - np.einsum("gck,gk->gc", errors, moments.means).ravel()
        named = {f"rounded_weights_{number}": weights, f"corrected_bias_{number}": biases}
        del convolution.node.input[1:]
        convolution.node.input.extend(named)
        rounded.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in named.items())
    used = {name for node in rounded.graph.node for name in node.input}
    held = [tensor for tensor in rounded.graph.initializer if tensor.name in used]
    del rounded.graph.initializer[:]
    rounded.graph.initializer.extend(held)
    return rounded


def _narrow_start(model: Any) -> list[str]:
    """Names of the nodes before the first convolution with more than _NARROW channels both in and out; nodes without a name are given one."""
    wide = [convolution.node.output[0] for convolution in convolutions_of(model) if _channels(convolution) > _NARROW]
    names = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
        if wide and node.output[0] == wide[0]:
            break
        names.append(node.name)
    return names


def _channels(convolution: Convolution) -> int:
    """Of its inputs or its outputs, whichever are fewer."""
    outputs, inputs = convolution.weights.shape[:2]
    return min(int(outputs), int(inputs) * convolution.groups)
