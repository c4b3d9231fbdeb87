"""Test-time augmentation in the exported graph: the image is laid down in several ways, and the network's values are averaged over them.

Done last, on the graph of one view in its final precision, so that folds, calibration and heat maps need not know of it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.heatmaps import HEATMAPS
from cellclf.errors import CellclfError
from cellclf.training.tta import Tta, Turn

__all__ = ["with_views"]

_TO_THE_START = np.iinfo(np.int64).min


def with_views(model: Any, tta: Tta) -> Any:
    """Average an onnx.ModelProto's answer over the views, in place, and return it; as it was where there is one view.

    The input of the last dense layer is averaged, which is the scores' average. Heat maps are turned back and averaged, too. Raises CellclfError
    where nothing but that layer, its bias and a softmax makes the probabilities.
    """
    if len(tta.views) == 1:
        return model
    import onnx

    graph = model.graph
    last = _last_dense(graph)
    shown = next((output for output in graph.output if output.name == HEATMAPS), None)
    if shown is not None:
        for node in graph.node:
            node.output[:] = ["views/heatmaps" if name == HEATMAPS else name for name in node.output]
    before = _Nodes(graph, "before")
    laid = before.add("Concat", [before.turned("image", turn, (1, 2)) for turn in tta.views], axis=0)
    for node in graph.node:
        node.input[:] = [laid if name == "image" else name for name in node.input]
    count, values = len(tta.views), next(name for name in last.input if name not in {tensor.name for tensor in graph.initializer})
    middle = _Nodes(graph, "middle")
    width = next(tensor.dims[0] for tensor in graph.initializer if tensor.name == _weight_of(graph, last))
    shape = middle.constant(np.array([count, -1, width], np.int64), "shape")
    mean = middle.add("ReduceMean", [middle.add("Reshape", [values, shape])], axes=[0], keepdims=0)
    last.input[:] = [mean if name == values else name for name in last.input]
    after = _Nodes(graph, "after")
    if shown is not None:
        classes, rows, columns = (dimension.dim_value for dimension in shown.type.tensor_type.shape.dim[1:])
        each = after.add("Reshape", ["views/heatmaps", after.constant(np.array([count, -1, classes, rows, columns], np.int64), "maps")])
        parts = [after.add("Gather", [each, after.constant(np.array(place, np.int64), f"view_{place}")], axis=0) for place in range(count)]
        back = [after.turned(part, turn.inverse, (2, 3)) for part, turn in zip(parts, tta.views, strict=True)]
        after.add("Mean", back, output=HEATMAPS)
    place = list(graph.node).index(last)
    nodes = [*before.made, *list(graph.node)[:place], *middle.made, *list(graph.node)[place:], *after.made]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # batch sizes inside are other ones now
    onnx.checker.check_model(model, full_check=True)
    return model


def _last_dense(graph: Any) -> Any:
    """The node of the last dense layer, from the probabilities back."""
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    node = made_by["probabilities"]
    while node.op_type in ("Softmax", "Cast", "Add", "Identity", "QuantizeLinear", "DequantizeLinear"):
        node = made_by[next(name for name in node.input if name not in constants)]
    if node.op_type not in ("MatMul", "Gemm") or [attribute.name for attribute in node.attribute if attribute.name == "transA" and attribute.i]:
        raise CellclfError(f"test-time augmentation needs a dense layer before the softmax; this network has {node.op_type}")
    return node


def _weight_of(graph: Any, dense: Any) -> str:
    """The initializer that the dense layer multiplies with, its quantization looked through."""
    constants = {tensor.name for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    name = dense.input[1]
    while name not in constants:
        name = made_by[name].input[0]
    return str(name)


class _Nodes:
    """Makes nodes and constants of our own names, to be put in their place by whoever asked."""

    def __init__(self, graph: Any, place: str) -> None:
        self._graph, self._place = graph, place
        self.made: list[Any] = []

    def constant(self, values: npt.NDArray[Any], name: str) -> str:
        """An initializer, made once; returns its name."""
        import onnx

        full = f"views/{name}"
        if full not in {tensor.name for tensor in self._graph.initializer}:
            self._graph.initializer.append(onnx.numpy_helper.from_array(values, full))
        return full

    def add(self, operator: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """A node with one output; returns its name."""
        import onnx

        name = f"views/{self._place}/{operator}_{len(self.made)}"
        self.made.append(onnx.helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def turned(self, name: str, turn: Turn, axes: tuple[int, int]) -> str:
        """A four-dimensional tensor laid down in that way; axes: its rows and columns."""
        if turn.transposed:
            order = list(range(4))
            order[axes[0]], order[axes[1]] = axes[1], axes[0]
            name = self.add("Transpose", [name], perm=order)
        reversed_axes = [axis for axis, is_reversed in zip(axes, (turn.rows_reversed, turn.columns_reversed), strict=True) if is_reversed]
        if not reversed_axes:
            return name
        ends = [
            self.constant(np.array([value] * len(reversed_axes), np.int64), f"{word}_{len(reversed_axes)}")
            for word, value in (("last", -1), ("first", _TO_THE_START), ("backwards", -1))
        ]
        which = self.constant(np.array(reversed_axes, np.int64), f"axes_{'_'.join(map(str, reversed_axes))}")
        return self.add("Slice", [name, ends[0], ends[1], which, ends[2]])
