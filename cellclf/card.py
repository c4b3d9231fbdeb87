"""The card: the versioned JSON document inside an exported .onnx file, and the reading of it without any ONNX library.

An .onnx file is one protocol-buffers message (onnx.proto, ModelProto). Its metadata_props hold the card; the digest in the
card covers every other top-level field, so a changed weight or a cut file is found before a session is opened.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from cellclf.documents import Document
from cellclf.errors import ModelFileError, StoredFileError

__all__ = [
    "CARD_KEY",
    "DIGEST_KEY",
    "AbstainBand",
    "Benefit",
    "Card",
    "CoveragePoint",
    "Estimate",
    "GoldenCase",
    "ModelFile",
    "OperatingPoint",
    "Parity",
    "Precision",
    "Temperature",
    "graph_digest",
    "read_model_file",
]

Precision = Literal["fp32", "fp16", "int8"]

CARD_KEY = "cellclf.card"
DIGEST_KEY = "cellclf.card_sha256"
_METADATA_PROPS_FIELD = 14  # onnx.proto: repeated StringStringEntryProto metadata_props = 14
_KEY_FIELD, _VALUE_FIELD = 1, 2  # onnx.proto: StringStringEntryProto


class Estimate(Document):
    """A metric with its 95 % interval; `low` and `high` are None where no interval could be computed."""

    value: float
    low: float | None = None
    high: float | None = None


class GoldenCase(Document):
    """One self-test: the image drawn from `seed`, and the probabilities [classes] that the file gave where it was made."""

    seed: int
    probabilities: tuple[float, ...]


class Parity(Document):
    """How the exported file compared with the trained network on `images` real images of `split`."""

    images: int
    split: str
    max_difference: float
    mean_difference: float
    flipped: int


class Temperature(Document):
    """What the logits were divided by in the graph, fitted on `images` images of `split`; loss and ECE there, without and with it."""

    value: float
    split: str
    images: int
    loss_before: float
    loss_after: float
    ece_before: float
    ece_after: float


class OperatingPoint(Document):
    """`positive` is called where its probability is at least `threshold`; else the most probable other label.

    The threshold is the highest whose sensitivity on `split` is at least `min_sensitivity`; sensitivity and specificity are those of the very images
    that it was chosen on, so a little too good.
    """

    positive: str
    threshold: float
    min_sensitivity: float
    sensitivity: Estimate
    specificity: Estimate
    split: str
    images: int
    groups: int


class CoveragePoint(Document):
    """The share of images that is answered when the least certain are left to a person, and the share of those that is wrong."""

    coverage: float
    error: float


class AbstainBand(Document):
    """No answer is given where low ≤ p(positive) < high; without a positive label, where low ≤ the largest probability < high.

    Chosen on `split` for `max_error` among the answered, or for the least error at `min_coverage`. coverage, error: what it comes to there; error is
    None where nothing is answered. curve: coverage against error there, for other bands.
    """

    positive: str | None
    low: float
    high: float
    max_error: float | None
    min_coverage: float | None
    coverage: Estimate
    error: Estimate | None
    split: str
    images: int
    curve: tuple[CoveragePoint, ...]


class Benefit(Document):
    """Speed beside the fp32 graph of the same network, batches of `batch` on `threads` threads of `cpu`; ratio: median of windows in turn."""

    ratio: float
    images_per_second: float
    fp32_images_per_second: float
    batch: int
    threads: int
    provider: str
    cpu: str


class Card(Document):
    """Everything an exported file knows about itself.

    heatmap: rows and columns of the maps that the output `heatmaps` gives, None where the file has no such output. convolutions_in_fp32: of an int8
    file, how many of its convolutions are not in int8, and how many it has.
    """

    format: Literal[1] = 1
    name: str
    created: str
    labels: tuple[str, ...]
    height_px: int
    width_px: int
    resize: str
    scaling: str
    precision: Precision
    backbone: str
    parameters: int
    data: str
    data_fingerprint: str
    recipe_fingerprint: str
    recipe: dict[str, Any]
    protocol: str
    leaks: tuple[str, ...]
    metrics: dict[str, dict[str, Estimate]]
    interval_unit: str
    temperature: Temperature | None = None
    operating_point: OperatingPoint | None = None
    abstain: AbstainBand | None = None
    intended_use: str
    licence: str
    parity: Parity
    golden: tuple[GoldenCase, ...]
    golden_tolerance: float
    calibration_images: int | None = None
    convolutions_in_fp32: tuple[int, int] | None = None
    benefit: Benefit | None = None
    heatmap: tuple[int, int] | None = None
    versions: dict[str, str]
    graph_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _without_threshold(cls, fields: Any) -> Any:
        """Files of the first version carry a `threshold` that was never used, always null."""
        if isinstance(fields, dict) and "threshold" in fields and fields["threshold"] is None:
            return {name: value for name, value in fields.items() if name != "threshold"}
        return fields


class ModelFile:
    """An exported file, read and checked: its bytes, its card, and its fingerprint (SHA-256 of the whole file)."""

    def __init__(self, path: Path, content: bytes, card: Card) -> None:
        self.path = path
        self.content = content
        self.card = card
        self.fingerprint = hashlib.sha256(content).hexdigest()


def read_model_file(path: Path) -> ModelFile:
    """Read an exported file and prove it unchanged; raises ModelFileError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise ModelFileError(f"{path} is empty")
    properties, digest = _properties_and_digest(content, path)
    if CARD_KEY not in properties:
        raise ModelFileError(f"{path} carries no cellclf card: it was not written by `cellclf export`, so its labels and pixels are unknown")
    text = properties[CARD_KEY]
    if hashlib.sha256(text.encode()).hexdigest() != properties.get(DIGEST_KEY):
        raise ModelFileError(f"{path}: its card was changed after export; get the file again or export it again")
    try:
        card = Card.parse(text, where=f"the card of {path}")
    except StoredFileError as error:
        raise ModelFileError(str(error)) from error
    if card.graph_sha256 != digest:
        raise ModelFileError(f"{path}: its network was changed after export; get the file again or export it again")
    return ModelFile(path, content, card)


def graph_digest(content: bytes) -> str:
    """Hexadecimal SHA-256 over every top-level field of a serialized ModelProto but metadata_props, in file order."""
    return _properties_and_digest(content, Path("model"))[1]


def _properties_and_digest(content: bytes, path: Path) -> tuple[dict[str, str], str]:
    properties: dict[str, str] = {}
    digest = hashlib.sha256()
    view = memoryview(content)
    try:
        for number, start, value_start, end in _fields(view):
            if number == _METADATA_PROPS_FIELD:
                entry = view[value_start:end]
                pair = {key: bytes(entry[a:b]).decode() for key, _, a, b in _fields(entry)}
                properties[pair[_KEY_FIELD]] = pair[_VALUE_FIELD]
            else:
                digest.update(view[start:end])
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is not an ONNX file, or is cut short ({len(content)} bytes)") from error
    return properties, digest.hexdigest()


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Walk a protocol-buffers message: field number, start of its tag, start of its value, end; IndexError where it is cut or no message."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        wire_type = tag & 7
        value_start = position
        if wire_type == 0:
            _, position = _varint(message, position)
        elif wire_type == 2:
            length, value_start = _varint(message, position)
            position = value_start + length
        elif wire_type in (1, 5):
            position += 8 if wire_type == 1 else 4
        else:
            raise IndexError("no such wire type")
        if position > len(message) or tag >> 3 == 0:
            raise IndexError("past the end")
        yield tag >> 3, start, value_start, position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("varint too long")
