"""Records → the Open Inference Protocol's answer, JSON and binary tensors. Pure functions."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from cellclf.runtime.classifier import Prediction
from cellclf.serving.tensors import InferenceRequest

__all__ = ["encode"]


def encode(request: InferenceRequest, predictions: Sequence[Prediction], *, name: str, version: str) -> tuple[bytes, int | None]:
    """The answer's body, and how many bytes of it are JSON where binary tensors follow."""
    outputs, binary = [], bytearray()
    for output, as_binary, classes in request.outputs:
        datatype, shape, values = _tensor(output, classes, predictions)
        described: dict[str, Any] = {"name": output, "datatype": datatype, "shape": shape}
        if as_binary:
            packed = _packed(datatype, values)
            described["parameters"] = {"binary_data_size": len(packed)}
            binary += packed
        else:
            described["data"] = values
        outputs.append(described)
    answer = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    head = json.dumps(answer).encode()
    return (head + binary, len(head)) if any(as_binary for _, as_binary, _ in request.outputs) else (head, None)


def _tensor(output: str, classes: int, predictions: Sequence[Prediction]) -> tuple[str, list[int], list[Any]]:
    """Datatype, shape and flat values of an output."""
    batch = len(predictions)
    if output == "label":
        return "BYTES", [batch], [each.label for each in predictions]
    if output == "abstained":
        return "BOOL", [batch], [each.abstained for each in predictions]
    if classes:
        best = [_classes(each, classes) for each in predictions]
        return "BYTES", [batch, len(best[0])], [text for texts in best for text in texts]
    values = [value for each in predictions for value in each.probabilities.values()]
    return "FP32", [batch, len(predictions[0].probabilities)], values


def _classes(prediction: Prediction, count: int) -> list[str]:
    """value:index:label of the most probable, as Triton's classification extension writes it."""
    indices = {label: index for index, label in enumerate(prediction.probabilities)}
    return [f"{value:f}:{indices[label]}:{label}" for label, value in prediction.top(count)]


def _packed(datatype: str, values: Sequence[Any]) -> bytes:
    """Values as the binary tensor extension lays them out, little endian."""
    if datatype == "FP32":
        return struct.pack(f"<{len(values)}f", *values)
    if datatype == "BOOL":
        return bytes(values)
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
