"""fp32 graph → fp16, or → int8: Q/DQ pairs, uint8 activations in measured ranges, the first layers in fp32. Weights are rounded for images."""

import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from cellclf.artifact.moments import batches, convolutions_of, moments_of, probabilities_of
from cellclf.artifact.rounding import Floats, rounded_to_half, rounded_to_int8
from cellclf.artifact.sparing import STEADY, log_odds_noise, nodes_before, spared
from cellclf.data.decoding import Pixels

__all__ = ["halved", "round_convolutions", "rounded_for_int8", "to_fp16", "to_int8"]

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

    The first convolutions stay in fp32, more of them where the answers to these images would move too far otherwise; see `sparing`.
    """
    named = _named(model)
    numbers = spared(named, calibration)
    roundings = _roundings(named, calibration, rounded_to_int8, kept=nodes_before(named, numbers[0]))
    exact = probabilities_of(named, calibration)
    for number in numbers:
        spare = set(nodes_before(named, number))
        rounded = _replaced(named, {name: rounding for name, rounding in roundings.items() if name not in spare})
        quantized = _quantized(rounded, calibration, number)
        if number == numbers[-1] or log_odds_noise(exact, probabilities_of(quantized, calibration)) <= STEADY:
            break
    return quantized


def _quantized(rounded: Any, calibration: Pixels, number: int) -> Any:
    """Q/DQ pairs from convolution `number` on.

    A tensor's range is that of a batch of calibration images, averaged over the batches, not the widest: what a few images go beyond it is cut, and
    the steps of all others are finer. Those few are mostly such as the network is sure of.
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
        kept = nodes_before(prepared, number)
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
            extra_options={"CalibMovingAverage": True},
        )
        quantized = onnx.load(target)
    onnx.checker.check_model(quantized)
    return quantized


def rounded_for_int8(model: Any, images: Pixels) -> Any:
    """A copy of the model whose convolutions, but for the narrow start, have weights on int8 steps; see round_convolutions."""
    named = _named(model)
    return round_convolutions(named, images, rounded_to_int8, kept=nodes_before(named, spared(named, images)[0]))


def round_convolutions(model: Any, images: Pixels, rounding: _Round, *, kept: Collection[str] = ()) -> Any:
    """A copy of the model whose convolutions, but for the nodes `kept`, have weights that `rounding` allows, and biases that make up for it.

    Both are chosen for what the convolutions see on these images. Rounding a channel's weights shifts its output by
    E[(Wq − W) x]; subtracting that from the bias keeps the mean (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2, with measured instead of assumed inputs).
    """
    named = _named(model)
    return _replaced(named, _roundings(named, images, rounding, kept=kept))


def _roundings(model: Any, images: Pixels, rounding: _Round, *, kept: Collection[str]) -> dict[str, tuple[Floats, Floats]]:
    """New weights and bias of each convolution but the nodes `kept`, by node name; each is what it is whatever becomes of the others."""
    convolutions = [convolution for convolution in convolutions_of(model) if convolution.node.name not in kept]
    found = {}
    for convolution, moments in zip(convolutions, moments_of(model, convolutions, images), strict=True):
        weights = rounding(convolution.weights, moments.covariances)
        errors = (weights - convolution.weights).reshape(convolution.groups, -1, moments.means.shape[1])
        found[convolution.node.name] = weights, convolution.bias - np.einsum("gck,gk->gc", errors, moments.means).ravel()
    return found


def _replaced(model: Any, roundings: dict[str, tuple[Floats, Floats]]) -> Any:
    """A copy of the model with these weights and biases, by node name."""
    import onnx
    from onnx import numpy_helper

    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    nodes = {node.name: node for node in rounded.graph.node}
    for number, (name, (weights, bias)) in enumerate(roundings.items()):
        values = {f"rounded_weights_{number}": weights, f"corrected_bias_{number}": bias}
        del nodes[name].input[1:]
        nodes[name].input.extend(values)
        rounded.graph.initializer.extend(numpy_helper.from_array(value, label) for label, value in values.items())
    used = {name for node in rounded.graph.node for name in node.input}
    held = [tensor for tensor in rounded.graph.initializer if tensor.name in used]
    del rounded.graph.initializer[:]
    rounded.graph.initializer.extend(held)
    return rounded


def _named(model: Any) -> Any:
    """A copy of the model, all of whose nodes have names of their own."""
    import onnx

    named = onnx.ModelProto()
    named.CopyFrom(model)
    for number, node in enumerate(named.graph.node):
        node.name = node.name or f"node_{number}"
    return named
