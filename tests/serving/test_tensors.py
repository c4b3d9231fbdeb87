import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.runtime.classifier import Prediction
from cellclf.serving.refusals import RefusedError
from cellclf.serving.tensor_answers import encode
from cellclf.serving.tensors import InferenceRequest, parse

SIZE = (2, 3)
COUNT = 2 * 3 * 3


def request(tensor: dict[str, Any] | None = None, binary: bytes = b"", **others: Any) -> tuple[bytes, int | None]:
    """A body, and the length of its JSON where bytes follow."""
    pixels = {"name": "image", "shape": [1, 2, 3, 3], "datatype": "UINT8", "data": list(range(COUNT))}
    head = json.dumps({"inputs": [pixels if tensor is None else {"name": "image", **tensor}], **others}).encode()
    return head + binary, len(head) if binary else None


def parsed(body: bytes, length: int | None = None) -> InferenceRequest:
    return parse(body, length, size_px=SIZE, max_images=4)


def refused(body: bytes, length: int | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as found:
        parsed(body, length)
    return found.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("image") | json_values,
        "shape": st.lists(st.integers(-2, 10**20), max_size=9) | json_values,
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]) | json_values,
        "data": json_values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": json_values}) | json_values,
    },
)
bodies = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | json_values},
    optional={"id": json_values, "parameters": json_values, "outputs": json_values},
)


@given(st.binary(max_size=200), st.none() | st.integers(0, 300))
def test_any_bytes_are_refused_with_400_or_413(body: bytes, length: int | None) -> None:
    assert refused(body, length).status in (400, 413)


@given(bodies, st.binary(max_size=40))
def test_any_json_is_parsed_or_refused_with_a_sentence(document: dict[str, Any], binary: bytes) -> None:
    head = json.dumps(document).encode()
    try:
        parsed(head + binary, len(head))
    except RefusedError as error:
        assert error.status in (400, 413)
        assert str(error)


@given(st.integers(1, 4), st.data())
def test_pixels_are_the_same_in_json_flat_or_nested_and_in_binary(batch: int, data: st.DataObject) -> None:
    values = np.frombuffer(data.draw(st.binary(min_size=batch * COUNT, max_size=batch * COUNT)), dtype=np.uint8).reshape(batch, *SIZE, 3)
    tensor = {"shape": list(values.shape), "datatype": "UINT8"}
    flat = request({**tensor, "data": values.ravel().tolist()})
    nested = request({**tensor, "data": values.tolist()})
    binary = request({**tensor, "parameters": {"binary_data_size": values.size}}, values.tobytes())
    for body, length in (flat, nested, binary):
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in parsed(body, length).images]), values)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.booleans())
def test_files_are_the_same_as_base64_and_in_binary(files: list[bytes], column: bool) -> None:
    tensor = {"shape": [len(files), 1] if column else [len(files)], "datatype": "BYTES"}
    texts = [base64.b64encode(file).decode() for file in files]
    packed = b"".join(struct.pack("<I", len(file)) + file for file in files)
    as_json = request({**tensor, "data": [[text] for text in texts] if column else texts})
    binary = request({**tensor, "parameters": {"binary_data_size": len(packed)}}, packed)
    for body, length in (as_json, binary):
        assert [bytes(image) for image in parsed(body, length).images] == files


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        ({"shape": [1, 3, 2, 3], "datatype": "UINT8", "data": [0] * COUNT}, "[batch, 2, 3, 3]"),
        ({"shape": [2, 3, 3], "datatype": "UINT8", "data": [0] * COUNT}, "[batch, 2, 3, 3]"),
        ({"shape": [1, 2, 3, 3], "datatype": "FP32", "data": [0] * COUNT}, "FP32"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [0] * (COUNT - 1)}, "18 whole numbers"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [256] * COUNT}, "0 to 255"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [-1] * COUNT}, "0 to 255"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [0.5] * COUNT}, "whole numbers"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [10**30] * COUNT}, "whole numbers"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8", "data": [[1], [1, 2]]}, "no tensor"),
        ({"shape": [1, 2, 3, 3], "datatype": "UINT8"}, "no data"),
        ({"shape": [0], "datatype": "BYTES", "data": []}, "at least 1"),
        ({"shape": [2], "datatype": "BYTES", "data": ["AA=="]}, "wants 2 images"),
        ({"shape": [1], "datatype": "BYTES", "data": ["not base64"]}, "base64"),
        ({"shape": [1], "datatype": "BYTES", "data": [1]}, "strings"),
        ({"shape": [1], "datatype": "BYTES", "data": "AA=="}, "a list"),
    ],
)
def test_a_wrong_tensor_is_refused_with_what_is_wrong(tensor: dict[str, Any], says: str) -> None:
    error = refused(*request(tensor))
    assert error.status == 400
    assert says in str(error)


@pytest.mark.parametrize("binary", [b"\x05\x00\x00\x00abc", b"\x01\x00", b"\xff\xff\xff\xff"])
def test_a_cut_binary_element_is_refused(binary: bytes) -> None:
    assert "cut short" in str(refused(*request({"shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(binary)}}, binary)))


@pytest.mark.parametrize("size", [1, COUNT + 1, -1, True, "18", None])
def test_binary_data_size_must_be_what_follows(size: Any) -> None:
    tensor = {"shape": [1, 2, 3, 3], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    assert refused(*request(tensor, bytes(COUNT))).status == 400


def test_more_images_than_allowed_are_413() -> None:
    assert refused(*request({"shape": [5], "datatype": "BYTES", "data": ["AA=="] * 5})).status == 413


@pytest.mark.parametrize(
    "others",
    [
        {"outputs": [{"name": "logits"}]},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
        {"parameters": {"timeout": -1}},
        {"parameters": {"timeout": "soon"}},
        {"id": 7},
        {"inputs": []},
        {"inputs": [{"name": "other", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}]},
    ],
)
def test_wrong_wishes_are_400(others: dict[str, Any]) -> None:
    assert refused(*request(**others)).status == 400


def test_deep_json_is_refused_not_a_crash() -> None:
    assert refused(b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}").status == 400


def test_a_timeout_is_in_microseconds() -> None:
    assert parsed(*request(parameters={"timeout": 250_000})).timeout_s == 0.25
    assert parsed(*request(parameters={"timeout": 0})).timeout_s is None


PREDICTIONS = [Prediction("", "b", 0.75, {"a": 0.25, "b": 0.75}, False, "m", "p"), Prediction("", "a", 0.5, {"a": 0.5, "b": 0.5}, True, "m", "p")]


def answer(*outputs: tuple[str, bool, int]) -> tuple[dict[str, Any], bytes]:
    body, length = encode(InferenceRequest("7", [], outputs, None), PREDICTIONS, name="n", version="v")
    return json.loads(body[:length]), body[len(body) if length is None else length :]


def test_the_answer_as_json() -> None:
    found, rest = answer(("probabilities", False, 0), ("label", False, 0), ("abstained", False, 0))
    assert rest == b""
    assert found == {
        "model_name": "n",
        "model_version": "v",
        "id": "7",
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["b", "a"]},
            {"name": "abstained", "datatype": "BOOL", "shape": [2], "data": [False, True]},
        ],
    }


def test_the_answer_in_binary_follows_the_json_in_order() -> None:
    found, rest = answer(("label", True, 0), ("probabilities", True, 0), ("abstained", True, 0))
    assert [output["parameters"]["binary_data_size"] for output in found["outputs"]] == [10, 16, 2]
    assert rest == b"\x01\0\0\0b\x01\0\0\0a" + struct.pack("<4f", 0.25, 0.75, 0.5, 0.5) + b"\0\1"


def test_classification_gives_the_best_labels_as_triton_writes_them() -> None:
    found, _ = answer(("probabilities", False, 1))
    (output,) = found["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [2, 1], ["0.750000:1:b", "0.500000:0:a"])
