"""Exported files with one thing changed, for the tests of what finds it out."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from cellclf.card import CARD_KEY, DIGEST_KEY, graph_digest


def resigned(source: Path, target: Path, *, network: Callable[[Any], None] | None = None, card: Mapping[str, object] | None = None) -> Path:
    """A copy whose network or card fields are changed and whose digests are valid again, as a careful forger, or another version, would write it."""
    model = onnx.load(source)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    if network is not None:
        network(model)
    fields = json.loads(properties[CARD_KEY]) | dict(card or {})
    fields["graph_sha256"] = graph_digest(model.SerializeToString())
    text = json.dumps(fields)
    for key, value in ((CARD_KEY, text), (DIGEST_KEY, hashlib.sha256(text.encode()).hexdigest())):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    target.write_bytes(model.SerializeToString())
    return target


def node_of_probabilities(model: Any) -> Any:
    """The node that makes the output `probabilities`."""
    return next(node for node in model.graph.node if "probabilities" in node.output)


def scaled_head(factor: float) -> Callable[[Any], None]:
    """A change of network: the last matrix product's weights are multiplied, so that every probability moves."""

    def change(model: Any) -> None:
        before = list(model.graph.node)[: list(model.graph.node).index(node_of_probabilities(model))]
        last = next(node for node in reversed(before) if node.op_type in ("Gemm", "MatMul"))
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
        values = onnx.numpy_helper.to_array(weights) * factor
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), weights.name))

    return change
