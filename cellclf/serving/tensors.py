"""The Open Inference Protocol's inference request and answer, JSON and the binary tensor extension. Pure functions; no I/O, no server.

https://github.com/kserve/open-inference-protocol (REST), and Triton's extensions binary tensor data, classification, and the parameter `timeout`.
"""

import base64
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cellclf.serving.refusals import RefusedError
from cellclf.serving.work import Image

__all__ = ["INPUT", "InferenceBody", "InferenceRequest", "RequestedOutput", "Tensor", "parse"]

INPUT = "image"
_OUTPUTS = ("probabilities", "label", "abstained")
_LENGTH = struct.Struct("<I")  # an element of a binary BYTES tensor: its length, 4 bytes little endian, and its bytes


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Tensor(_Part):
    """A tensor of a request: its data as JSON, or as many bytes after the JSON as the parameter binary_data_size says."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class RequestedOutput(_Part):
    """An output that is wanted. Parameters: binary_data; classification = that many labels with their probabilities instead."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceBody(_Part):
    """The JSON of an inference request. Parameters: binary_data_output; timeout in microseconds."""

    id: str | None = Field(default=None, max_length=256)
    parameters: dict[str, Any] = {}
    inputs: list[Tensor] = Field(min_length=1, max_length=16)
    outputs: list[RequestedOutput] | None = Field(default=None, max_length=16)


@dataclass(frozen=True)
class InferenceRequest:
    """What is asked: images in order, and for each output its name, whether in binary, and how many classes (0 = the tensor itself)."""

    id: str | None
    images: Sequence[Image]
    outputs: tuple[tuple[str, bool, int], ...]
    timeout_s: float | None


def parse(body: bytes, header_length: int | None, *, size_px: tuple[int, int], max_images: int) -> InferenceRequest:
    """A request's body; header_length: bytes of JSON at its beginning, None = all. Raises RefusedError 400 or 413 with the reason."""
    if header_length is not None and header_length > len(body):
        raise _wrong("Inference-Header-Content-Length is more than the body")
    cut = len(body) if header_length is None else header_length
    try:
        asked = InferenceBody.model_validate_json(body[:cut])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _wrong(f"{where}: {first['msg']}" if where else first["msg"]) from error
    if len(asked.inputs) != 1 or asked.inputs[0].name != INPUT:
        raise _wrong(f"give one input, named {INPUT}")
    tensor = asked.inputs[0]
    if any(length < 1 for length in tensor.shape):
        raise _wrong("a shape's lengths must be at least 1")
    binary = _binary_part(tensor, memoryview(body)[cut:])
    read = {"UINT8": _pixels, "BYTES": _encoded}.get(tensor.datatype)
    if read is None:
        raise _wrong(f"input {INPUT} is UINT8 pixels or BYTES of encoded images, not {tensor.datatype[:20]!r}")
    if tensor.shape and tensor.shape[0] > max_images:
        raise RefusedError(413, f"{tensor.shape[0]} images in one request; at most {max_images} are taken", reason="images")
    images = read(tensor, binary, size_px)
    return InferenceRequest(asked.id, images, tuple(_wanted(asked)), _timeout_s(asked.parameters.get("timeout")))


def _binary_part(tensor: Tensor, rest: memoryview) -> memoryview | None:
    """The tensor's bytes after the JSON; None where its data stands in the JSON."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if len(rest):
            raise _wrong(f"{len(rest)} bytes after the JSON, but input {INPUT} has no binary_data_size")
        if tensor.data is None:
            raise _wrong(f"input {INPUT} has no data")
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size != len(rest):
        raise _wrong(f"binary_data_size must be the {len(rest)} bytes that follow the JSON")
    if tensor.data is not None:
        raise _wrong(f"input {INPUT} has both data and binary_data_size")
    return rest


def _pixels(tensor: Tensor, binary: memoryview | None, size_px: tuple[int, int]) -> Sequence[Image]:
    """UINT8 [batch, height, width, 3]."""
    shape = tuple(tensor.shape)
    if shape[1:] != (*size_px, 3) or len(shape) != 4:
        raise _wrong(f"UINT8 input {INPUT} must have the shape [batch, {size_px[0]}, {size_px[1]}, 3], not {list(shape)}")
    count = math.prod(shape)
    if binary is not None:
        if len(binary) != count:
            raise _wrong(f"shape {list(shape)} wants {count} bytes, not {len(binary)}")
        return list(np.frombuffer(binary, dtype=np.uint8).reshape(shape))
    try:
        values = np.asarray(tensor.data)
    except (ValueError, OverflowError, TypeError) as error:
        raise _wrong(f"the data of input {INPUT} is no tensor") from error
    if values.dtype.kind not in "iu" or values.shape not in (shape, (count,)) or values.min() < 0 or values.max() > 255:
        raise _wrong(f"the data of input {INPUT} must be {count} whole numbers from 0 to 255, flat or in the shape given")
    return list(values.astype(np.uint8).reshape(shape))


def _encoded(tensor: Tensor, binary: memoryview | None, size_px: tuple[int, int]) -> Sequence[Image]:  # noqa: ARG001  # images of any size
    """BYTES [batch] or [batch, 1]: files, in JSON as base64."""
    if tensor.shape[1:] not in ([], [1]) or not tensor.shape:
        raise _wrong(f"BYTES input {INPUT} must have the shape [batch] or [batch, 1], not {tensor.shape}")
    if binary is not None:
        found: list[Image] = list(_elements(binary))
    else:
        found = [_from_base64(text) for text in _flat(tensor.data)]
    if len(found) != tensor.shape[0]:
        raise _wrong(f"shape {tensor.shape} wants {tensor.shape[0]} images, {len(found)} were given")
    return found


def _elements(binary: memoryview) -> Iterator[memoryview]:
    """The elements of a binary BYTES tensor."""
    position = 0
    while position < len(binary):
        start = position + _LENGTH.size
        if start > len(binary):
            raise _wrong("a BYTES element is cut short")
        (length,) = _LENGTH.unpack_from(binary, position)
        position = start + length
        if position > len(binary):
            raise _wrong("a BYTES element is cut short")
        yield binary[start:position]


def _flat(data: Any) -> list[Any]:
    """JSON data of [batch] or [batch, 1] as a list."""
    if not isinstance(data, list):
        raise _wrong(f"the data of input {INPUT} must be a list")
    return [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _wrong("BYTES in JSON must be strings, each an image file in base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _wrong("BYTES in JSON must be image files in base64; a file's own bytes go in the binary tensor extension") from error


def _wanted(asked: InferenceBody) -> Iterator[tuple[str, bool, int]]:
    """The outputs asked for; all where none is."""
    binary_all = asked.parameters.get("binary_data_output") is True
    for output in asked.outputs or [RequestedOutput(name=name) for name in _OUTPUTS]:
        if output.name not in _OUTPUTS:
            raise _wrong(f"there is no output {output.name[:50]!r}; there is: {', '.join(_OUTPUTS)}")
        classes = output.parameters.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0 or (classes and output.name != "probabilities"):
            raise _wrong("classification is a number of labels, for the output probabilities")
        yield output.name, output.parameters.get("binary_data", binary_all) is True, classes


def _timeout_s(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong("timeout is a whole number of microseconds")
    return value / 1e6 if value else None


def _wrong(message: str) -> RefusedError:
    return RefusedError(400, message, reason="protocol")
