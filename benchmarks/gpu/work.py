"""What a network must at least compute and move: multiply-adds and bytes of each layer, and the images a second that allows. Needs onnx."""

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Layer", "Roofline", "layers_of", "multiply_adds", "roofline"]

_FREE = ("Relu", "Clip", "Cast", "Mul", "Sub", "Transpose", "Reshape", "Squeeze", "Softmax", "Concat", "Slice", "Identity", "Flatten", "Div")
"""Done while another layer's output is written, or without touching it; a Concat's parts are written to their place."""


@dataclass(frozen=True)
class Layer:
    """multiply_adds and elements read and written for one image; weights: elements read once a batch."""

    name: str
    multiply_adds: int
    elements: int
    weights: int


@dataclass(frozen=True)
class Roofline:
    """Images a second on a machine of this peak and bandwidth that no implementation exceeds that keeps layers apart.

    images_per_second: the longer of all arithmetic at the peak, and all layers' bytes at the bandwidth (each layer reads its inputs and writes its
    output once, pointwise steps for nothing). layer_by_layer: every layer waits for the slower of its own two; lower, and no bound for an
    implementation that joins layers or runs two at once.
    """

    images_per_second: float
    layer_by_layer: float
    multiply_adds: int
    bytes_per_image: float


def layers_of(model: Any) -> list[Layer]:
    """The layers of an onnx.ModelProto with input `image` [batch, H, W, 3], for one image; weights need only shapes."""
    shapes = _shapes(model)
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        out = math.prod(shapes[node.output[0]])
        if node.op_type == "Add" and not any(name in weights for name in node.input):
            found.append(Layer(node.name, 0, math.prod(shapes[node.input[1]]), 0))  # the other operand is read where the sum is written
        elif node.op_type in ("Conv", "MatMul", "Gemm"):
            kernel = dims[node.input[1]]
            per_output = math.prod(kernel[1:]) if node.op_type == "Conv" else kernel[0]
            elements = math.prod(shapes[node.input[0]]) + out
            found.append(Layer(node.name, out * per_output, elements, sum(weights.get(name, 0) for name in node.input[1:])))
        elif "Pool" in node.op_type or node.op_type == "ReduceMean":
            found.append(Layer(node.name, 0, math.prod(shapes[node.input[0]]) + out, 0))
        elif node.op_type not in _FREE and node.op_type != "Add":
            raise ValueError(f"work of operator {node.op_type} is not known")
    return found


def multiply_adds(model: Any) -> int:
    """Multiply-adds of convolutions and matrix products for one image."""
    return sum(layer.multiply_adds for layer in layers_of(model))


def roofline(model: Any, *, tflops: float, bytes_per_second: float, batch: int, element_bytes: int = 2) -> Roofline:
    """The bound at a measured matrix rate (TFLOP/s, 2 operations a multiply-add) and copy bandwidth (bytes read plus written)."""
    layers = layers_of(model)
    arithmetic = [2 * layer.multiply_adds / (tflops * 1e12) for layer in layers]
    moved = [element_bytes * (layer.elements + layer.weights / batch) for layer in layers]
    each = [max(pair) for pair in zip(arithmetic, (size / bytes_per_second for size in moved), strict=True)]
    return Roofline(
        images_per_second=1 / max(sum(arithmetic), sum(moved) / bytes_per_second),
        layer_by_layer=1 / sum(each),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        bytes_per_image=sum(moved),
    )


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor for a batch of one."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del fixed.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return {value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim) for value in values}
