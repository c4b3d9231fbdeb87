"""Images, what is expected of each, and what a hostile client sends."""

import io
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cellclf import Classifier, Prediction
from cellclf.data.datasets import DATASETS, find, locate

__all__ = ["Sample", "hostile_bodies", "samples", "wrk_plan"]


@dataclass(frozen=True)
class Sample:
    """An image file and what `cellclf predict` says of it."""

    name: str
    path: Path
    content: bytes
    expected: Prediction


def samples(classifier: Classifier, count: int) -> list[Sample]:
    """Images of the blood-cell test set where it is here, else of the drawn sample's, evenly over the set."""
    folder = (find(DATASETS["blood-cells"]) or locate(DATASETS["sample"])) / "TEST"
    paths = sorted(folder.rglob("*.jpeg"))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    found = []
    for number, record in enumerate(classifier.predict_many(chosen)):
        assert isinstance(record, Prediction), record
        found.append(Sample(str(number), chosen[number], chosen[number].read_bytes(), record))
    return found


def wrk_plan(images: list[Sample], into: Path, *, multipart: bool = False) -> Path:
    """The plan that check.lua reads; what is expected of an image is its label. multipart: as a form, else as the raw body."""
    rows = [f'{{name = "{image.name}", file = "{image.path}", expected = \'"label":"{image.expected.label}"\'}}' for image in images]
    into.write_text(
        f'return {{path = "/predict", multipart = {str(multipart).lower()}, images = {{\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8"
    )
    return into


def hostile_bodies(good: bytes, seed: int = 0) -> list[tuple[str, str, dict[str, str], bytes]]:
    """(what it is, path, headers, body) of requests that no service should mind: cut, changed, huge, empty, nonsense."""
    draw = random.Random(seed)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    large = io.BytesIO()
    Image.effect_noise((3000, 3000), 50).save(large, "JPEG")
    changed = bytearray(good)
    for _ in range(20):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    scan = good[good.index(b"\xff\xda") : -2]
    boundary = {"content-type": "multipart/form-data; boundary=B"}
    return [
        ("an empty body", "/predict", {}, b""),
        ("a JPEG cut in half", "/predict", {}, good[: len(good) // 2]),
        ("a JPEG with changed bytes", "/predict", {}, bytes(changed)),
        ("a PNG of 400 million pixels", "/predict", {}, bomb.getvalue()),
        ("a JPEG of 9 million pixels of noise", "/predict", {}, large.getvalue()),
        ("a JPEG of 300 scans", "/predict", {}, good[:-2] + scan * 300 + b"\xff\xd9"),
        ("noise", "/predict", {}, draw.randbytes(100_000)),
        ("noise as GIF", "/predict", {}, b"GIF89a" + draw.randbytes(1000)),
        ("noise as TIFF", "/predict", {}, b"II*\0" + draw.randbytes(1000)),
        ("a wrong parameter", "/predict?top_k=x", {}, good),
        ("an unknown model", "/predict?model=none", {}, good),
        ("a broken form", "/predict", boundary, b"--B\r\nnonsense"),
        ("a form of 500 parts", "/predict", boundary, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 500),
        ("a deadline of 1 ms", "/predict", {"x-timeout-ms": "1"}, good),
        ("an unknown model's tensors", "/v2/models/none/infer", {}, b"{}"),
        ("deep JSON", "/v2/models/blood-cells-mobilenet025/infer", {}, b'{"inputs":' + b"[" * 50_000),
        ("a header longer than the body", "/v2/models/blood-cells-mobilenet025/infer", {"inference-header-content-length": "99999999"}, b"{}"),
        (
            "a tensor that is no image",
            "/v2/models/blood-cells-mobilenet025/infer",
            {},
            b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["AAAA"]}]}',
        ),
        ("an unknown path", "/no/such/path", {}, b"x"),
    ]
