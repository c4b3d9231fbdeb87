"""A network without its weights, small enough to carry; filled with seeded random weights where it is measured. Needs onnx, no framework.

Weights do not change the speed, but zeros and values that vanish or overflow do (and they would hide wrong numbers), so each weight's scale is
chosen so that every convolution's output has a standard deviation of 1, as behind a batch norm.
"""

import gzip
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FILL_SEED", "calibrated_scales", "fill", "read_skeleton", "strip", "weight_names", "write_skeleton"]

FILL_SEED = 0
WEIGHTED = ("Conv", "MatMul", "Gemm")
SCALES_KEY = "random weights: standard deviation of each"
_PASSES = 4
_SMALLEST = 1e-6


def weight_names(model: Any) -> list[str]:
    """Initializers that convolutions and matrix products multiply with, in the graph's order, each once."""
    held = {tensor.name for tensor in model.graph.initializer}
    names = [node.input[1] for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in held]
    return list(dict.fromkeys(names))


def strip(model: Any, scales: dict[str, float]) -> Any:
    """A copy whose weights keep type and shape only; scales: standard deviation of each weight, kept in the metadata."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.name in scales:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    onnx.helper.set_model_props(bare, {SCALES_KEY: json.dumps(scales)})
    return bare


def fill(skeleton: Any, *, seed: int = FILL_SEED, scales: dict[str, float] | None = None) -> Any:
    """A copy with normal random weights of the stored scales (or these); the same everywhere for one seed.

    A weight is drawn by the name of what is made with it: tf2onnx numbers weights in another order each time.
    """
    import onnx

    stored = {entry.key: entry.value for entry in skeleton.metadata_props}
    chosen: dict[str, float] = scales if scales is not None else json.loads(stored[SCALES_KEY])
    whole = onnx.ModelProto()
    whole.CopyFrom(skeleton)
    made = {node.input[1]: node.output[0] for node in reversed(whole.graph.node) if node.op_type in WEIGHTED}
    for tensor in whole.graph.initializer:
        if tensor.name in chosen:
            generator = np.random.default_rng([seed, zlib.crc32(made[tensor.name].encode())])
            values = generator.standard_normal(tuple(tensor.dims), dtype=np.float32) * np.float32(chosen[tensor.name])
            tensor.raw_data = values.astype("<f4").tobytes()
    return whole


def write_skeleton(skeleton: Any, path: Path) -> None:
    """Write it gzipped, the same bytes for the same graph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(skeleton.SerializeToString(), mtime=0))


def read_skeleton(path: Path) -> Any:
    """Read what write_skeleton wrote."""
    import onnx

    return onnx.load_from_string(gzip.decompress(path.read_bytes()))


def calibrated_scales(model: Any, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Standard deviation of each weight for which every convolution's and matrix product's output has one of about 1 on these images.

    A pass runs the network, then goes through it in order and predicts how each tensor's size changes when the weights before it do; biases and
    clipping make that inexact, so it is done a few times.
    """
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    weights_of = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in dims}
    scales = {name: math.sqrt(2 / _fan_in(dims[name])) for name in weights_of.values()}
    for _ in range(_PASSES):
        sizes = _sizes(fill(model, scales=scales), images)
        change: dict[str, float] = {}
        for node in model.graph.node:
            inputs = [name for name in node.input if name in sizes]
            for output in (name for name in node.output if name in sizes):
                if output in weights_of:
                    deviation = max(sizes[output][1], _SMALLEST)
                    scales[weights_of[output]] /= deviation * change.get(node.input[0], 1.0)
                    change[output] = 1 / deviation
                else:
                    change[output] = _combined(inputs, sizes, change)
    return scales


def _fan_in(dims: tuple[int, ...]) -> int:
    """Inputs of one output: of a convolution [out, in, h, w], or of a matrix product [in, out]."""
    return math.prod(dims[1:]) if len(dims) == 4 else dims[0]


def _combined(inputs: list[str], sizes: dict[str, tuple[float, float]], change: dict[str, float]) -> float:
    """How much larger a tensor gets that is made of these: their energies add up."""
    before = sum(sizes[name][0] ** 2 for name in inputs)
    after = sum((sizes[name][0] * change.get(name, 1.0)) ** 2 for name in inputs)
    return math.sqrt(after / before) if before > 0 else 1.0


def _sizes(model: Any, images: npt.NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    """Root mean square and standard deviation of every float tensor that a node makes."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    floats = {value.name for value in shaped.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    own = {value.name for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name in floats and name not in own]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    values = cpu_session(model)(names, images)
    return {name: (float(np.sqrt(np.mean(np.square(value)))), float(value.std())) for name, value in zip(names, values, strict=True)}


def cpu_session(model: Any) -> Callable[[list[str], npt.NDArray[np.uint8]], list[Any]]:
    """A function (names of outputs, images) → their values, on ONNX Runtime's CPU provider, in the model's own precision."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda names, images: list(session.run(names, {"image": images}))
