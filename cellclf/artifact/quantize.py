"""fp32 graph → int8 graph: Q/DQ pairs, int8 weights a channel, uint8 activations in measured ranges, biases corrected for what rounding shifts."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.convert import ORT_QUIET
from cellclf.data.decoding import Pixels

__all__ = ["correct_biases", "rounded_to_int8", "to_int8"]

_BATCH = 16
_QUANTIZED_OPERATORS = ["Conv", "Add", "MaxPool", "AveragePool", "Concat", "Clip", "Relu", "GlobalAveragePool"]
"""The few matrix products of the head stay in fp32: they cost nothing, and the probabilities depend on them most."""

Floats = npt.NDArray[np.float32]


def to_int8(model: Any, calibration: Pixels) -> Any:
    """Quantize an onnx.ModelProto statically; calibration: training images uint8 [n, H, W, 3]."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self.batches = iter(_batches(calibration))

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    logging.getLogger("root").setLevel(logging.ERROR)  # ONNX Runtime's quantizer advises on its own preprocessing there
    with tempfile.TemporaryDirectory() as folder:
        source, ready, target = (Path(folder) / name for name in ("source.onnx", "ready.onnx", "int8.onnx"))
        onnx.save(correct_biases(model, calibration), source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=_QUANTIZED_OPERATORS,
        )
        quantized = onnx.load(target)
    onnx.checker.check_model(quantized)
    return quantized


def rounded_to_int8(weights: Floats) -> Floats:
    """What symmetric int8 with one scale an output channel (the first axis) makes of convolution weights."""
    axes = tuple(range(1, weights.ndim))
    scale = np.abs(weights).max(axis=axes, keepdims=True) / 127
    scale[scale == 0] = 1
    rounded: Floats = (np.round(weights / scale) * scale).astype(np.float32)
    return rounded


def correct_biases(model: Any, images: Pixels) -> Any:
    """A copy of the model whose convolution biases cancel the mean shift that int8 weights will cause on these images.

    Rounding a channel's weights shifts its output by E[(Wq − W) x]; subtracting that from the bias keeps the mean (Nagel et al. 2019,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with measured instead of assumed inputs).
    """
    import onnx
    from onnx import numpy_helper

    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    values = {tensor.name: tensor for tensor in corrected.graph.initializer}
    convolutions = [node for node in corrected.graph.node if node.op_type == "Conv" and node.input[1] in values]
    shifts = _mean_shifts(model, convolutions, values, images)
    for number, (node, shift) in enumerate(zip(convolutions, shifts, strict=True)):
        name = f"corrected_bias_{number}"
        biased = len(node.input) > 2 and node.input[2]
        bias = numpy_helper.to_array(values[node.input[2]]) if biased else np.zeros_like(shift)
        del node.input[2:]
        node.input.append(name)
        corrected.graph.initializer.append(numpy_helper.from_array((bias - shift).astype(np.float32), name))
    used = {name for node in corrected.graph.node for name in node.input}
    kept = [tensor for tensor in corrected.graph.initializer if tensor.name in used]
    del corrected.graph.initializer[:]
    corrected.graph.initializer.extend(kept)
    return corrected


def _mean_shifts(model: Any, convolutions: list[Any], values: dict[str, Any], images: Pixels) -> list[Floats]:
    """E[(Wq − W) x] a channel for each convolution: a sibling of each, with the weights' rounding errors, is averaged over images and places."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [f"mean_shift_{number}" for number in range(len(convolutions))]
    for name, node in zip(names, convolutions, strict=True):
        weights = numpy_helper.to_array(values[node.input[1]])
        probe.graph.initializer.append(numpy_helper.from_array(rounded_to_int8(weights) - weights, f"{name}_weights"))
        sibling = helper.make_node("Conv", [node.input[0], f"{name}_weights"], [f"{name}_places"])
        sibling.attribute.extend(node.attribute)
        probe.graph.node.extend([sibling, helper.make_node("ReduceMean", [f"{name}_places"], [name], axes=[2, 3], keepdims=0)])
        probe.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ORT_QUIET
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums = [sum(parts) for parts in zip(*(_summed(session.run(names, {"image": batch})) for batch in _batches(images)), strict=True)]
    return [np.asarray(total / len(images), dtype=np.float32) for total in sums]


def _summed(outputs: list[Floats]) -> list[Floats]:
    return [output.sum(axis=0) for output in outputs]


def _batches(images: Pixels) -> list[Pixels]:
    return np.array_split(images, max(1, len(images) // _BATCH))
