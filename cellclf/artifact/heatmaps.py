"""A second output for the exported graph: where in the image each label's score comes from. Grad-CAM in closed form, no gradient at run time.

The network ends in a global average, dense layers with ReLU, and a softmax. The gradient of a label's score (before the softmax) by the last feature
map A is then the product of the dense layers' weights, with the units that ReLU holds at 0 left out, over the map's number of places: what Grad-CAM
(Selvaraju et al. 2017, equations 1 and 2) weighs the map's channels by.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.errors import CellclfError
from cellclf.training.network import layers_of

__all__ = ["HEATMAPS", "dense_weights", "feature_map_size", "with_heatmaps"]

HEATMAPS = "heatmaps"
"""Name of the output, float32 [batch, classes, rows, columns], at least 0. Over places, before negative ones are cut, a label's map adds up to its
score less what the biases give."""

_PASSED = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Relu", "Add", "QuantizeLinear", "DequantizeLinear")
"""Operators that may stand between the dense layers and the average; their first input leads on."""


def dense_weights(network: Any) -> list[npt.NDArray[np.float32]]:
    """The head's weight matrices [inputs, units], from the features to the labels."""
    head = network.get_layer("head")
    return [np.asarray(layer.get_weights()[0], dtype=np.float32) for layer in head.layers if type(layer).__name__ == "Dense"]


def feature_map_size(network: Any) -> tuple[int, int]:
    """Rows and columns of the last feature map, which the global average takes in."""
    pools = [layer for layer in layers_of(network) if type(layer).__name__ == "GlobalAveragePooling2D"]
    if len(pools) != 1:
        raise CellclfError(f"heat maps need one global average before the head; this network has {len(pools)}")
    _, rows, columns, _ = pools[0].input.shape
    return int(rows), int(columns)


def with_heatmaps(model: Any, weights: list[npt.NDArray[np.float32]], size: tuple[int, int]) -> Any:
    """Add the output HEATMAPS to an onnx.ModelProto, in place, and return it; `probabilities` is computed as before.

    weights: of the dense layers, as dense_weights gives. size: as feature_map_size gives. Raises CellclfError where the graph's end is not as above.
    """
    import onnx

    hidden, pool = _walk(model.graph, dense_layers=len(weights))
    add = _Adder(model.graph)
    rows, columns = size
    classes, features = weights[-1].shape[1], weights[0].shape[0]
    slope = add.constant(weights[-1].T[None] / np.float32(rows * columns), "last")  # [1, classes, units]
    for number, (values, matrix) in enumerate(zip(hidden, reversed(weights[:-1]), strict=True)):
        zero = add.constant(np.zeros((), np.float32), f"zero_{number}")
        awake = add.node("Cast", [add.node("Greater", [add.as_float(values), zero])], to=onnx.TensorProto.FLOAT)
        row = add.node("Unsqueeze", [awake, add.constant(np.array([1], np.int64), f"axis_{number}")])
        slope = add.node("MatMul", [add.node("Mul", [slope, row]), add.constant(matrix.T, f"weights_{number}")])  # [batch, classes, inputs]
    maps = add.as_float(pool.input[0])
    if pool.op_type == "ReduceMean":
        maps = add.node("Transpose", [maps], perm=[0, 3, 1, 2])
    flat = add.node("Reshape", [maps, add.constant(np.array([0, features, rows * columns], np.int64), "flat")])
    heat = add.node("Relu", [add.node("MatMul", [slope, flat])])
    add.node("Reshape", [heat, add.constant(np.array([0, classes, rows, columns], np.int64), "shape")], output=HEATMAPS)
    model.graph.output.append(onnx.helper.make_tensor_value_info(HEATMAPS, onnx.TensorProto.FLOAT, ["batch", classes, rows, columns]))
    onnx.checker.check_model(model, full_check=True)
    return model


def _walk(graph: Any, *, dense_layers: int) -> tuple[list[str], Any]:
    """From the softmax back: the values that go into each dense layer but the first, last layer first; and the average's node."""
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {initializer.name for initializer in graph.initializer}
    node, seen_softmax = made_by["probabilities"], False
    inputs: list[str] = []
    while node.op_type not in ("GlobalAveragePool", "ReduceMean"):
        if node.op_type == "Softmax" and not seen_softmax:
            seen_softmax = True
        elif node.op_type in ("Gemm", "MatMul"):
            inputs.append(node.input[0])
        elif node.op_type not in _PASSED:
            raise CellclfError(f"heat maps need a head of dense layers with ReLU behind one global average; this one has {node.op_type}")
        source = next(name for name in node.input if name not in constants)
        node = made_by[source]
    if len(inputs) != dense_layers:
        raise CellclfError(f"heat maps: the graph has {len(inputs)} dense layers behind the average, the network {dense_layers}")
    return inputs[:-1], node


class _Adder:
    """Puts nodes and constants of our own names at the end of a graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def constant(self, values: npt.NDArray[Any], name: str) -> str:
        """An initializer; returns its name."""
        import onnx

        full = f"{HEATMAPS}/{name}"
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), full))
        return full

    def node(self, operator: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """A node with one output; returns its name."""
        import onnx

        made = output or f"{HEATMAPS}/{operator}_{len(self._graph.node)}"
        self._graph.node.append(onnx.helper.make_node(operator, inputs, [made], name=made, **attributes))
        return made

    def as_float(self, name: str) -> str:
        """The tensor in fp32."""
        import onnx

        return self.node("Cast", [name], to=onnx.TensorProto.FLOAT)
