"""An ONNX graph as a JAX function: what a classifier's graph in fp32 or fp16 holds; whatever else there is is refused by name. Needs jax and onnx."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellclf.errors import ModelFileError
from cellclf.runtime.engines.jax_operators.table import OPERATORS
from cellclf.runtime.engines.jax_operators.values import TO_CHANNELS_LAST, Array, Value, first, refused
from cellclf.runtime.engines.jax_operators.ways import Ways

__all__ = ["Program", "program_of"]

_WEIGHTED = ("Conv", "MatMul", "Gemm")
_OPSETS = range(13, 18)
"""Operator sets in which the operators mean what their rows do. Exported files have 17."""
_CONSTANT_TYPES = {"float16", "float32", "int64"}
_VALUE_TYPES = {"float16", "float32", "uint8"}
"""Of what is computed; bytes are the image, moved only."""


@dataclass(frozen=True)
class Program:
    """function(weights, images uint8 [batch, H, W, 3]) → probabilities float32 [batch, classes]. weights: by name, as the function wants them.

    image_shape: (H, W, 3), the file's own.
    """

    image_shape: tuple[int, ...]
    weights: dict[str, np.ndarray[Any, Any]]
    function: Callable[[Mapping[str, Array], Array], Array]


@dataclass(frozen=True)
class _Node:
    """A node with its attributes as Python values."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


def program_of(content: bytes, ways: Ways) -> Program:
    """Read a serialized model.

    Raises ModelFileError for whatever is not known here to mean what it says: an opset, a domain, an operator, an attribute, a type. Shapes are
    checked when the function is traced.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ModelFileError("XLA cannot load the network: it is no ONNX file") from error
    graph = model.graph
    nodes = _known_nodes(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if wrong := sorted({str(array.dtype) for array in constants.values()} - _CONSTANT_TYPES):
        raise refused(f"constants of type {', '.join(wrong)}")
    kinds = {node.inputs[1]: node.kind for node in nodes if node.kind in _WEIGHTED}
    for node in nodes:
        if node.kind == "Conv" and node.inputs[1] not in constants:
            raise refused("a convolution whose weight is computed")
        if clash := next((name for place, name in enumerate(node.inputs) if name in kinds and (place != 1 or node.kind != kinds[name])), None):
            raise refused(f"a weight of {kinds[clash]} that {node.kind} reads, too")
    weights = {name: _laid_out(kinds[name], constants.pop(name)) for name in kinds if name in constants}

    def function(held: Mapping[str, Array], images: Array) -> Array:
        values = {name: Value(array) for name, array in {**constants, **held}.items()}
        values["image"] = Value(images)
        for node in nodes:
            given = [values[name] if name else None for name in node.inputs]
            made = values[node.outputs[0]] = OPERATORS[node.kind].compute(node.attributes, given, ways)
            if str(made.array.dtype) not in _VALUE_TYPES:
                raise refused(f"{node.kind} of {made.array.dtype}")
        return first(values["probabilities"])

    (image,) = (value for value in graph.input if value.name == "image")
    batch, *rest = image.type.tensor_type.shape.dim
    if batch.dim_value:
        raise refused("a file of a fixed batch size")
    return Program(tuple(int(dim.dim_value) for dim in rest), weights, function)


def _known_nodes(model: Any) -> list[_Node]:
    """The nodes that the probabilities need, each of a known meaning."""
    import onnx

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset not in _OPSETS:
        raise refused(f"opset {opset}, only {_OPSETS[0]} to {_OPSETS[-1]},")
    if "image" not in {value.name for value in model.graph.input} or "probabilities" not in {value.name for value in model.graph.output}:
        raise ModelFileError("the network has no input image or no output probabilities")
    foreign = {node.output[0]: f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    nodes = [
        _Node(node.op_type, tuple(node.input), tuple(node.output), {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute})
        for node in model.graph.node
    ]
    nodes = _needed(nodes, "probabilities")
    read = {"probabilities", *(name for node in nodes for name in node.inputs)}
    if unknown := sorted({foreign.get(node.outputs[0], node.kind) for node in nodes if node.outputs[0] in foreign or node.kind not in OPERATORS}):
        raise refused(", ".join(unknown))
    for node in nodes:
        if extra := sorted(set(node.attributes) - OPERATORS[node.kind].attributes):
            raise refused(f"{node.kind} with {', '.join(extra)}")
        if read & set(node.outputs[1:]):
            raise refused(f"a second output of {node.kind}")
    return nodes


def _needed(nodes: Sequence[_Node], output: str) -> list[_Node]:
    """The nodes that the output depends on, in order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def _laid_out(kind: str, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A convolution's weight [out, in, h, w] → [out, h, w, in], which the GPU's kernels read without turning it first."""
    return np.ascontiguousarray(weight.transpose(TO_CHANNELS_LAST)) if kind == "Conv" and weight.ndim == 4 else weight
