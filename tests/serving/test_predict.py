import contextlib
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cellclf import Classifier
from cellclf.runtime.classifier import Prediction
from tests.serving.conftest import MODEL, SHIPPED, Running, connection, picture, serving


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    """Names and contents: PNG, JPEG, an odd name, text, a cut file, nothing."""
    cut = picture(4, form="JPEG")
    return {
        "a.png": picture(1),
        "b.jpeg": picture(2, form="JPEG"),
        'ü "quoted" 日本.png': picture(3),
        "text.png": b"no picture",
        "cut.jpeg": cut[: len(cut) // 2],
        "empty.png": b"",
    }


def as_multipart(images: dict[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", item) for item in images.items()]


def same(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    """Equal, but for probabilities, which may differ in the last digits with the batch they were in."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if name in ("probability", "probabilities"):
                assert one[name] == pytest.approx(value, abs=1e-5)
            else:
                assert one[name] == value


def test_multipart_answers_the_records_of_predict_in_order(running: Running, images: dict[str, bytes], tmp_path: Path) -> None:
    names = ["a.png", "b.jpeg", "text.png", "cut.jpeg", "empty.png"]
    for name in names:
        (tmp_path / name).write_bytes(images[name])
    with contextlib.chdir(tmp_path):
        expected = [record.as_dict() for record in Classifier(SHIPPED, device="cpu", threads=1).predict_many(names)]
    answer = running.post("/predict", files=as_multipart({name: images[name] for name in names}))
    assert answer.status_code == 200
    assert answer.headers["x-model-name"] == MODEL
    same(answer.json(), expected)


def test_a_raw_body_is_one_image_and_its_name_may_be_given(running: Running, images: dict[str, bytes]) -> None:
    for how, name in (
        ({}, ""),
        ({"params": {"name": "mine.png"}}, "mine.png"),
        ({"headers": {"content-disposition": 'attachment; filename="mine.png"'}}, "mine.png"),
        ({"headers": {"content-type": "application/x-www-form-urlencoded"}}, ""),
    ):
        (record,) = running.post("/predict", content=images["a.png"], **how).json()
        assert record["path"] == name
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_names_come_back_as_they_were_given(running: Running, images: dict[str, bytes]) -> None:
    name = 'ü "quoted" 日本.png'
    body = f'--B\r\nContent-Disposition: form-data; name="x"; filename="{name.replace(chr(34), chr(92) + chr(34))}"\r\n\r\n'.encode()
    answer = running.post("/predict", content=body + images[name] + b"\r\n--B--\r\n", headers={"content-type": "multipart/form-data; boundary=B"})
    assert [record["path"] for record in answer.json()] == [name]


def test_none_readable_is_422_with_the_error_records(running: Running) -> None:
    answer = running.post("/predict", files=as_multipart({"x": b"text", "y": b""}))
    assert answer.status_code == 422
    assert [set(record) for record in answer.json()] == [{"path", "error", "model", "provider"}] * 2


def test_top_k_adds_the_best_labels(running: Running, images: dict[str, bytes]) -> None:
    (record,) = running.post("/predict?top_k=3", content=images["a.png"]).json()
    best = sorted(record["probabilities"].items(), key=lambda item: -item[1])[:3]
    assert [(entry["label"], entry["probability"]) for entry in record["top"]] == best


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict?top_k=0", 422),
        ("/predict?top_k=-1", 422),
        ("/predict?top_k=x", 422),
        ("/predict?top_k=", 422),
        ("/predict?model=none", 404),
        ("/predict?version=none", 404),
        ("/predict?" + "&".join(f"a{number}=1" for number in range(100)), 400),
        ("/Predict", 404),
    ],
)
def test_what_is_asked_wrongly_is_a_4xx_with_one_sentence(running: Running, images: dict[str, bytes], path: str, status: int) -> None:
    answer = running.post(path, content=images["a.png"])
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_an_option_that_comes_as_a_field_is_refused_and_not_taken_for_an_image(running: Running, images: dict[str, bytes]) -> None:
    answer = running.post("/predict", files=as_multipart(images), data={"top_k": "2"})
    assert answer.status_code == 422
    assert "?top_k=" in answer.json()["error"]


def test_a_compressed_body_is_415(running: Running, images: dict[str, bytes]) -> None:
    assert running.post("/predict", content=gzip.compress(images["a.png"]), headers={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("path", ["/predict", "/v2/models/any/infer"])
def test_the_quick_verbs_take_post_only(running: Running, path: str) -> None:
    answer = running.client.get(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_health_answers_head_too(running: Running) -> None:
    answer = running.client.head("/v2/health/ready")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_refused_body_of_some_megabytes_is_read_so_that_its_sender_reads_why(small: Running) -> None:
    with contextlib.closing(connection(small)) as wire:
        wire.request("POST", "/predict", body=bytes(7_000_000))
        assert wire.getresponse().status == 413


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "multipart/mixed; boundary=B"])
def test_a_type_that_holds_no_image_is_415(running: Running, kind: str) -> None:
    assert running.post("/predict", content=b"{}", headers={"content-type": kind}).status_code == 415


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=B", b""),
        ("multipart/form-data; boundary=B", b"--B--\r\n"),
        ("multipart/form-data; boundary=B", b"something else"),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\nabc'),
        ("multipart/form-data; boundary=" + "B" * 5000, b"--B--\r\n"),
        ("multipart/form-data; boundary=B", b"--B\r\n" + b"A" * 10_000 + b": x\r\n\r\n"),
    ],
)
def test_a_multipart_body_that_is_none_is_400(running: Running, kind: str, body: bytes) -> None:
    answer = running.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_the_path_of_a_record_never_shows_the_servers_own(running: Running) -> None:
    answer = running.post("/predict", content=b"x", headers={"content-disposition": "attachment; filename=../../etc/passwd"})
    assert "cellclf" not in json.dumps([record["error"] for record in answer.json()])
    assert answer.json()[0]["path"] == "../../etc/passwd"


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """A server with low limits."""
    with serving(max_body_bytes=50_000, max_images=3, max_pixels=10_000) as found:
        yield found


def test_more_images_than_allowed_are_413(small: Running) -> None:
    images = {f"{number}.png": picture(number) for number in range(4)}
    assert small.post("/predict", files=as_multipart(images)).status_code == 413
    assert small.post("/predict", files=as_multipart(dict(list(images.items())[:3]))).status_code == 200


def test_a_larger_body_than_allowed_is_413_announced_or_not(small: Running) -> None:
    assert small.post("/predict", content=bytes(50_001)).status_code == 413

    def piece_by_piece() -> Iterator[bytes]:
        for _ in range(60):
            yield bytes(1000)

    assert small.post("/predict", content=piece_by_piece()).status_code == 413
    assert small.post("/predict", content=picture(1)).status_code == 200


def test_a_body_announced_as_huge_is_refused_before_it_is_sent(small: Running) -> None:
    with contextlib.closing(connection(small)) as wire:
        wire.putrequest("POST", "/predict")
        wire.putheader("Content-Length", str(10**12))
        wire.endheaders()
        answer = wire.getresponse()
        assert (answer.status, answer.getheader("connection")) == (413, "close")


def test_an_image_of_more_pixels_than_allowed_is_an_error_record(small: Running) -> None:
    answer = small.post("/predict", content=picture(1, size=(200, 200), form="JPEG"))
    assert answer.status_code == 422
    assert "10,000 pixels" in answer.json()[0]["error"]


def test_a_decompression_bomb_is_refused_by_its_head(running: Running, tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    answer = running.post("/predict", content=(tmp_path / "bomb.png").read_bytes())
    assert answer.status_code == 422
    assert "25,000,000 pixels" in answer.json()[0]["error"]


def test_a_jpeg_of_thousands_of_scans_is_refused(running: Running) -> None:
    plain = picture(1, form="JPEG")
    scan = plain[plain.index(b"\xff\xda") : -2]
    answer = running.post("/predict", content=plain[:-2] + scan * 200 + b"\xff\xd9")
    assert "scans" in answer.json()[0]["error"]


def test_every_answer_has_the_security_headers_and_the_requests_id(running: Running) -> None:
    for answer in (
        running.client.get("/v2"),
        running.client.get("/docs"),
        running.client.get("/no/such"),
        running.post("/predict", content=picture(1)),
        running.post("/predict?model=none"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert answer.headers["x-request-id"]


def test_a_plain_request_id_is_kept_and_another_is_replaced(running: Running) -> None:
    assert running.client.get("/v2", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in (b"a b", b"x" * 200, "é".encode()):
        assert running.client.get("/v2", headers={b"x-request-id": odd}).headers["x-request-id"].encode() != odd


def test_two_models_are_served_by_name_and_the_first_is_the_default() -> None:
    with serving(f"first={SHIPPED}", f"second={SHIPPED}") as running:
        told = [running.post("/predict", params=params, content=picture(1)).headers["x-model-name"] for params in ({}, {"model": "second"})]
        assert told == ["first", "second"]


def test_answers_to_many_clients_at_once_are_each_its_own(running: Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pictures = [picture(number) for number in range(40)]
    classifier = Classifier(SHIPPED, device="cpu", threads=1)
    expected = [classifier.predict(content) for content in pictures]

    def ask(number: int) -> httpx.Response:
        return running.post("/predict", params={"name": str(number)}, content=pictures[number])

    with ThreadPoolExecutor(8) as pool:
        for number, answer in enumerate(pool.map(ask, range(40))):
            (record,) = answer.json()
            assert record["path"] == str(number)
            assert isinstance(expected[number], Prediction)
            assert record["probabilities"] == pytest.approx(expected[number].probabilities, abs=1e-5)
