"""fp32 graph → fp16, or → int8: Q/DQ pairs, uint8 activations in measured ranges, the first layers in fp32. Weights are rounded for images."""

import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from cellclf.artifact.moments import batches, convolutions_of, moments_of, probabilities_of
from cellclf.artifact.rounding import Floats, rounded_to_half, rounded_to_int8
from cellclf.artifact.sparing import LARGEST_NOISE, log_odds_noise, nodes_in_fp32, start_in_fp32
from cellclf.data.decoding import Pixels

__all__ = ["convolutions_in_fp32", "halved", "round_convolutions", "to_fp16", "to_int8"]

_Round = Callable[[Floats, Floats | None], Floats]
"""Weights and covariances → weights; see `rounding`."""

_QUANTIZED_OPERATORS = ["Conv", "Add", "MaxPool", "AveragePool", "Concat", "Clip", "Relu", "GlobalAveragePool"]
"""The few matrix products of the head stay in fp32: they cost nothing, and the probabilities depend on them most."""


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
    """Quantize an onnx.ModelProto statically; calibration: training images uint8 [n, H, W, 3].

    The first convolutions stay in fp32, more of them where the answers to these very images would move too far otherwise; see `sparing`.
    """
    starts = start_in_fp32(model, calibration)
    roundings = _roundings(model, calibration, rounded_to_int8, kept=starts[0])
    exact = probabilities_of(model, calibration)
    for kept in starts:
        rounded = _replaced(model, {output: rounding for output, rounding in roundings.items() if output not in kept})
        quantized = _quantized(rounded, calibration, kept)
        if kept == starts[-1] or log_odds_noise(exact, probabilities_of(quantized, calibration)) <= LARGEST_NOISE:
            break
    return quantized


def convolutions_in_fp32(model: Any) -> tuple[int, int]:
    """How many of an onnx.ModelProto's convolutions have floats for weights, and how many there are."""
    return len(convolutions_of(model)), sum(node.op_type == "Conv" for node in model.graph.node)


def _quantized(rounded: Any, calibration: Pixels, kept: list[str]) -> Any:
    """Q/DQ pairs, but for the convolutions with the outputs `kept` and what comes before the first other one.

    A tensor's range is that of a batch of calibration images, averaged over the batches, not the widest: what a few images go beyond it is cut, and
    the steps of all others are finer.
    """
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
        onnx.save(rounded, source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        prepared = onnx.load(ready)
        for number, node in enumerate(prepared.graph.node):
            node.name = f"node_{number}"  # nodes are excluded by name, which need not be there, nor be one node's only
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
            nodes_to_exclude=nodes_in_fp32(prepared, kept),
            extra_options={"CalibMovingAverage": True},
        )
        quantized = onnx.load(target)
    onnx.checker.check_model(quantized)
    return quantized


def round_convolutions(model: Any, images: Pixels, rounding: _Round, *, kept: Collection[str] = ()) -> Any:
    """A copy of the model whose convolutions have weights that `rounding` allows, and biases that make up for it; but for the outputs `kept`.

    Both are chosen for what the convolutions see on these images. Rounding a channel's weights shifts its output by
    E[(Wq − W) x]; subtracting that from the bias keeps the mean (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2, with measured instead of assumed inputs).
    """
    return _replaced(model, _roundings(model, images, rounding, kept=kept))


def _roundings(model: Any, images: Pixels, rounding: _Round, *, kept: Collection[str]) -> dict[str, tuple[Floats, Floats]]:
    """New weights and bias by the convolution's output, but for the outputs `kept`; each is what it is whatever becomes of the others."""
    convolutions = [convolution for convolution in convolutions_of(model) if convolution.node.output[0] not in kept]
    found = {}
    for convolution, moments in zip(convolutions, moments_of(model, convolutions, images), strict=True):
        weights = rounding(convolution.weights, moments.covariances)
        errors = (weights - convolution.weights).reshape(convolution.groups, -1, moments.means.shape[1])
        found[convolution.node.output[0]] = weights, convolution.bias - np.einsum("gck,gk->gc", errors, moments.means).ravel()
    return found


def _replaced(model: Any, roundings: dict[str, tuple[Floats, Floats]]) -> Any:
    """A copy of the model with these weights and biases, by the convolution's output."""
    import onnx
    from onnx import numpy_helper

    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    nodes = {node.output[0]: node for node in rounded.graph.node}
    for number, (output, (weights, bias)) in enumerate(roundings.items()):
        values = {f"rounded_weights_{number}": weights, f"corrected_bias_{number}": bias}
        del nodes[output].input[1:]
        nodes[output].input.extend(values)
        rounded.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    used = {name for node in rounded.graph.node for name in node.input}
    held = [tensor for tensor in rounded.graph.initializer if tensor.name in used]
    del rounded.graph.initializer[:]
    rounded.graph.initializer.extend(held)
    return rounded
