"""What ONNX Runtime's optimised graph of a file still holds beside the network's own layers. Imports onnx and onnxruntime when called."""

import collections
import tempfile
from pathlib import Path
from typing import Any

from cellclf.artifact.convert import ORT_QUIET
from cellclf.runtime.engines.onnx_runtime import DISABLED_OPTIMIZERS

__all__ = ["WATCHED", "leftovers", "optimised_graph"]

WATCHED = ("Transpose", "ReverseSequence", "Slice", "Split", "Mul", "Div", "Add", "Sub", "Pad", "Reshape", "QuantizeLinear", "DequantizeLinear")
"""Operators that move, scale or convert values, and that a fold may have left behind: layout, channel order, scaling, batch norm, padding, Q/DQ."""


def optimised_graph(content: bytes) -> Any:
    """The onnx.ModelProto that ONNX Runtime's CPU provider really runs for a serialized model, all its optimisations made."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(target)
        options.log_severity_level = ORT_QUIET
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS))
        return onnx.load(target)


def leftovers(content: bytes) -> dict[str, int]:
    """How many nodes of each WATCHED operator the optimised graph of a serialized model holds; operators without one are left out."""
    found = collections.Counter(node.op_type for node in optimised_graph(content).graph.node)
    return {operator: found[operator] for operator in WATCHED if found[operator]}
