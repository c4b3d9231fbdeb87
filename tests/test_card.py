import hashlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cellclf.card import CARD_KEY, DIGEST_KEY, Card, Estimate, GoldenCase, Parity, graph_digest, read_model_file
from cellclf.errors import CellclfError, ModelFileError


def tiny_model() -> Any:
    """A valid ModelProto that multiplies by four weights."""
    weights = numpy_helper.from_array(np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32), name="weights")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "weights"], ["probabilities"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])],
        initializer=[weights],
    )
    return helper.make_model(graph, producer_name="test", opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def card_of(model: Any, **changes: Any) -> Card:
    fields: dict[str, Any] = {
        "name": "tiny",
        "created": "2024-01-01T00:00:00+00:00",
        "labels": ("NORMAL", "PNEUMONIA"),
        "height_px": 4,
        "width_px": 4,
        "resize": "stretch-bilinear-antialias",
        "scaling": "in the graph",
        "precision": "fp32",
        "backbone": "tiny",
        "parameters": 4,
        "data": "chest-xray",
        "data_fingerprint": "0" * 64,
        "recipe_fingerprint": "1" * 64,
        "recipe": {"epochs": 2, "data": {"data": "chest-xray"}},
        "protocol": "official",
        "leaks": (),
        "metrics": {"test": {"accuracy": Estimate(value=0.5, low=0.25, high=0.75)}},
        "interval_unit": "group",
        "intended_use": "Tests.",
        "licence": "none",
        "parity": Parity(images=1, split="validation", max_difference=0.0, mean_difference=0.0, flipped=0),
        "golden": (GoldenCase(seed=0, probabilities=(0.1, 0.9)),),
        "golden_tolerance": 1e-4,
        "versions": {},
        "graph_sha256": graph_digest(model.SerializeToString()),
    }
    return Card(**(fields | changes))


def with_text(model: Any, text: str, digest: str | None = None) -> bytes:
    """The model with this text for its card, sealed by its own digest unless another is given."""
    properties = {CARD_KEY: text, DIGEST_KEY: digest or hashlib.sha256(text.encode()).hexdigest()}
    copy = type(model)()
    copy.CopyFrom(model)
    helper.set_model_props(copy, properties)
    return bytes(copy.SerializeToString())


def sealed() -> bytes:
    model = tiny_model()
    return with_text(model, card_of(model).model_dump_json())


SEALED = sealed()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("card") / "model.onnx"


def refused(place: Path, content: bytes, match: str | None = None) -> None:
    place.write_bytes(content)
    with pytest.raises(ModelFileError, match=match):
        read_model_file(place)


def test_an_exported_file_gives_its_card_and_its_fingerprint(place: Path) -> None:
    place.write_bytes(SEALED)
    file = read_model_file(place)
    assert file.card == card_of(tiny_model())
    assert file.fingerprint == hashlib.sha256(SEALED).hexdigest()
    assert (file.path, file.content) == (place, SEALED)


def test_the_digest_ignores_metadata() -> None:
    assert graph_digest(SEALED) == graph_digest(tiny_model().SerializeToString())


def changed_weight(model: Any) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1, 2, 3, 4.0000005], dtype=np.float32), name="weights"))


def changed_node(model: Any) -> None:
    model.graph.node[0].op_type = "Add"


def changed_opset(model: Any) -> None:
    model.opset_import[0].version = 18


def changed_producer(model: Any) -> None:
    model.producer_name = "other"


def added_doc(model: Any) -> None:
    model.doc_string = "a comment"


def changed_ir(model: Any) -> None:
    model.ir_version = 10


@pytest.mark.parametrize("change", [changed_weight, changed_node, changed_opset, changed_producer, added_doc, changed_ir])
def test_the_digest_sees_every_change_outside_the_metadata(change: Any) -> None:
    model = tiny_model()
    before = graph_digest(model.SerializeToString())
    change(model)
    assert graph_digest(model.SerializeToString()) != before


@given(position=st.integers(0, len(tiny_model().SerializeToString()) - 1), value=st.integers(0, 255))
def test_one_changed_byte_of_the_network_is_another_digest_or_no_onnx_file(position: int, value: int) -> None:
    content = bytearray(tiny_model().SerializeToString())
    before = graph_digest(bytes(content))
    changes = content[position] != value
    content[position] = value
    try:
        after = graph_digest(bytes(content))
    except ModelFileError:
        assert changes
    else:
        assert (after != before) == changes


@settings(max_examples=300)
@given(position=st.integers(0, len(SEALED) - 1), flip=st.integers(1, 255))
def test_any_one_changed_byte_of_an_exported_file_is_refused(place: Path, position: int, flip: int) -> None:
    content = bytearray(SEALED)
    content[position] ^= flip
    refused(place, bytes(content))


def test_a_file_cut_anywhere_is_refused(place: Path) -> None:
    for length in {*range(0, len(SEALED), 7), *range(len(SEALED) - 80, len(SEALED))}:
        refused(place, SEALED[:length])


@given(tail=st.binary(min_size=1, max_size=40))
def test_bytes_after_the_end_are_refused(place: Path, tail: bytes) -> None:
    refused(place, SEALED + b"\x0a" + bytes([len(tail)]) + tail)


def test_an_empty_file_is_refused(place: Path) -> None:
    refused(place, b"", "is empty")


def test_a_plain_onnx_file_is_refused_as_not_ours(place: Path) -> None:
    refused(place, tiny_model().SerializeToString(), "carries no cellclf card: it was not written by `cellclf export`")


@pytest.mark.parametrize("part", ["graph", "tensor", "node"])
def test_other_protocol_buffers_messages_are_refused(place: Path, part: str) -> None:
    graph = tiny_model().graph
    message = {"graph": graph, "tensor": graph.initializer[0], "node": graph.node[0]}[part]
    refused(place, message.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"not a model\n",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x80" * 20,
        b"\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x72\x04\x0a\x02\xff\xfe",
        b"\x72\x03\x0a\x01k",
        b"\x0b",
    ],
    ids=["text", "png", "zip", "endless varint", "field zero", "length past the end", "key not UTF-8", "key without value", "group"],
)
def test_what_is_no_model_is_refused_by_name(place: Path, content: bytes) -> None:
    refused(place, content, "model.onnx")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.onnx cannot be read: No such file or directory"):
        read_model_file(tmp_path / "gone.onnx")
    with pytest.raises(ModelFileError, match="Is a directory"):
        read_model_file(tmp_path)


def test_a_changed_card_is_refused(place: Path) -> None:
    model = tiny_model()
    text = card_of(model).model_dump_json()
    refused(
        place,
        with_text(model, text.replace("PNEUMONIA", "PNEUMONIE"), hashlib.sha256(text.encode()).hexdigest()),
        "its card was changed after export",
    )


def test_a_card_without_its_digest_is_refused(place: Path) -> None:
    model = tiny_model()
    text = card_of(model).model_dump_json()
    helper.set_model_props(model, {CARD_KEY: text})
    refused(place, model.SerializeToString(), "its card was changed after export")


def test_another_files_card_is_refused(place: Path) -> None:
    other = tiny_model()
    changed_weight(other)
    refused(place, with_text(tiny_model(), card_of(other).model_dump_json()), "its network was changed after export")


def test_a_card_of_the_first_version_reads_without_its_unused_threshold() -> None:
    card = card_of(tiny_model())
    fields = json.loads(card.model_dump_json())
    for name in ("temperature", "operating_point", "abstain"):
        assert fields.pop(name) is None
    assert Card.parse(json.dumps(fields | {"threshold": None}), where="here") == card
    with pytest.raises(CellclfError, match="threshold: Extra inputs"):
        Card.parse(json.dumps(fields | {"threshold": 0.5}), where="here")


@pytest.mark.parametrize("text", ["{}", "", "no JSON", '{"format": 2}'])
def test_a_well_sealed_card_of_another_version_is_an_error_that_names_the_card(place: Path, text: str) -> None:
    place.write_bytes(with_text(tiny_model(), text))
    with pytest.raises(CellclfError, match=r"the card of .*model\.onnx cannot be read"):
        read_model_file(place)


@settings(deadline=timedelta(seconds=5))
@given(content=st.binary(max_size=2000))
def test_arbitrary_bytes_raise_a_model_file_error_and_nothing_else(place: Path, content: bytes) -> None:
    refused(place, content)


_FIELDS = st.tuples(st.integers(1, 20), st.sampled_from([0, 1, 2, 5]), st.binary(max_size=40))


def message_of(fields: list[tuple[int, int, bytes]]) -> bytes:
    """A protocol-buffers message in form, whatever it says."""
    written = b""
    for number, wire_type, value in fields:
        body = {0: b"\x01", 1: value[:8].ljust(8), 2: bytes([len(value)]) + value, 5: value[:4].ljust(4)}[wire_type]
        tag = number << 3 | wire_type
        written += (bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])) + body
    return written


@settings(deadline=timedelta(seconds=5))
@given(fields=st.lists(_FIELDS, max_size=12), cut=st.integers(0, 8))
def test_any_message_of_the_right_form_raises_a_model_file_error_and_nothing_else(
    place: Path, fields: list[tuple[int, int, bytes]], cut: int
) -> None:
    content = message_of(fields)
    refused(place, content[: len(content) - cut] if cut else content)


@pytest.mark.parametrize(
    "unit", [b"\x80", b"\x08\x01", b"\x72\x00", b"\x0a\x00", b"\xff"], ids=["varint", "fields", "empty metadata", "empty", "ones"]
)
def test_hostile_bytes_are_refused_in_little_time(place: Path, unit: bytes) -> None:
    started = time.process_time()
    refused(place, unit * (1_000_000 // len(unit)))
    assert time.process_time() - started < 10
