"""The Open Inference Protocol, spoken by a public client: tritonclient's, and bare HTTP where it sends nothing wrong."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from cellclf import Classifier
from cellclf.data.crops import View
from cellclf.data.decoding import decode
from tests.serving.conftest import CARD, MODEL, SHIPPED, Running, picture, serving

FILES = [picture(1), picture(2, form="JPEG"), picture(3)]


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def expected() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels of FILES, and what a classifier says of them."""
    pixels = np.stack([decode(content, View(CARD.height_px, CARD.width_px)) for content in FILES])
    return pixels, Classifier(SHIPPED, device="cpu", threads=1).probabilities(pixels)


def pixel_input(pixels: np.ndarray[Any, Any], *, binary: bool = True) -> Any:
    tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return tensor


def file_input(files: list[bytes]) -> Any:
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_))
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata(MODEL)
    assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, CARD.height_px, CARD.width_px, 3]}]
    assert [output["name"] for output in found["outputs"]] == ["probabilities", "label", "abstained"]
    assert client.get_model_metadata(MODEL, found["versions"][0]) == found


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_pixels_give_the_classifiers_probabilities(client: Any, expected: Any, binary_in: bool, binary_out: bool) -> None:
    pixels, rows = expected
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label", "abstained")]
    found = client.infer(MODEL, [pixel_input(pixels[:2], binary=binary_in)], outputs=outputs, request_id="mine")
    np.testing.assert_allclose(found.as_numpy("probabilities"), rows[:2], atol=1e-5)
    labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("label")]
    assert labels == [Classifier(SHIPPED, device="cpu", threads=1).labels[number] for number in rows[:2].argmax(axis=1)]
    assert found.as_numpy("abstained").tolist() == [False, False]
    assert found.get_response()["id"] == "mine"
    assert found.get_response()["model_name"] == MODEL


def test_encoded_files_give_the_same_as_their_pixels_and_all_outputs_come_where_none_is_named(client: Any, expected: Any) -> None:
    found = client.infer(MODEL, [file_input(FILES)])
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected[1], atol=1e-5)
    assert found.as_numpy("label").shape == (3,)


def test_classification_through_the_client(client: Any, expected: Any) -> None:
    found = client.infer(MODEL, [file_input(FILES)], outputs=[triton.InferRequestedOutput("probabilities", class_count=2)])
    best = found.as_numpy("probabilities")
    assert best.shape == (3, 2)
    assert [int(row[0].decode().split(":")[1]) for row in best] == expected[1].argmax(axis=1).tolist()


def test_a_version_is_served_by_its_name_only(client: Any, running: Running) -> None:
    version = running.service.models.find().version
    assert client.infer(MODEL, [file_input(FILES[:1])], model_version=version).get_response()["model_version"] == version
    with pytest.raises(InferenceServerException, match="no version 'none'"):
        client.infer(MODEL, [file_input(FILES[:1])], model_version="none")


def test_an_unknown_model_is_an_error_the_client_understands(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no model 'none'"):
        client.infer("none", [file_input(FILES[:1])])


def test_an_unreadable_file_refuses_the_request_and_names_the_image(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="image 1 of the batch: not an image"):
        client.infer(MODEL, [file_input([FILES[0], b"text"])])


def test_a_compressed_body_is_refused_not_misread(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="compressed"):
        client.infer(MODEL, [file_input(FILES[:1])], request_compression_algorithm="gzip")


def test_wrong_requests_are_4xx_with_an_error_object(running: Running) -> None:
    address = f"/v2/models/{MODEL}/infer"
    for how in (
        {"content": b""},
        {"content": b"{}"},
        {"content": b"\xff\xfe"},
        {"content": b"{}", "headers": {"inference-header-content-length": "7"}},
        {"content": b"{}", "headers": {"inference-header-content-length": "x"}},
        {"content": b"{}", "headers": {"x-timeout-ms": "soon"}},
    ):
        answer = running.post(address, **how)
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]


def test_json_has_a_limit_of_its_own_because_it_holds_everybody_up() -> None:
    with serving(max_json_bytes=1000) as running:
        address = f"/v2/models/{MODEL}/infer"
        body = json.dumps({"inputs": [], "filling": "x" * 1000}).encode()
        assert running.post(address, content=body).status_code == 413
        assert running.post(address, content=body, headers={"inference-header-content-length": str(len(body))}).status_code == 413
        head = json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4 + len(FILES[0])}}]})
        binary = len(FILES[0]).to_bytes(4, "little") + FILES[0]
        answer = running.post(address, content=head.encode() + binary, headers={"inference-header-content-length": str(len(head))})
        assert answer.status_code == 200
