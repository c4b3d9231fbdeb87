"""Images, what is expected of each, and what a hostile client sends."""

import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cellclf import Classifier, Prediction
from cellclf.data.datasets import DATASETS, find, locate

__all__ = ["Hostile", "Sample", "hostile_requests", "open_loop_plan", "samples", "source", "wrk_plan"]


@dataclass(frozen=True)
class Sample:
    """An image file and what `cellclf predict` says of it."""

    name: str
    path: Path
    content: bytes
    expected: Prediction


@dataclass(frozen=True)
class Hostile:
    """A request that no service should mind: what it is, and what is POSTed where."""

    kind: str
    path: str
    headers: dict[str, str]
    body: bytes


def samples(classifier: Classifier, count: int) -> list[Sample]:
    """Images of the blood-cell test set where it is here, else of the drawn sample's, evenly over the set."""
    folder = find(DATASETS["blood-cells"]) if source() == "blood-cells" else locate(DATASETS["sample"])
    assert folder is not None
    paths = sorted((folder / "TEST").rglob("*.jpeg"))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    found = []
    for number, record in enumerate(classifier.predict_many(chosen)):
        assert isinstance(record, Prediction), record
        found.append(Sample(str(number), chosen[number], chosen[number].read_bytes(), record))
    return found


def source() -> str:
    """The data set that `samples` takes images of."""
    return "sample" if find(DATASETS["blood-cells"]) is None else "blood-cells"


def wrk_plan(images: list[Sample], into: Path, *, multipart: bool = False) -> Path:
    """The plan that check.lua reads; what is expected of an image is its label. multipart: as a form, else as the raw body."""
    rows = [f'{{name = "{image.name}", file = "{image.path}", expected = \'"label":"{image.expected.label}"\'}}' for image in images]
    into.write_text(
        f'return {{path = "/predict", multipart = {str(multipart).lower()}, images = {{\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8"
    )
    return into


def open_loop_plan(images: Sequence[Sample], hostile: Sequence[Hostile], folder: Path, **settings: float | str) -> Path:
    """The plan that rate.lua reads; what is expected of an image is its label, its probabilities and the model. Bodies are written into folder."""
    requests = []
    for number, each in enumerate(hostile):
        file = folder / f"hostile-{number}"
        file.write_bytes(each.body)
        requests.append({"kind": each.kind, "path": each.path, "headers": each.headers, "file": str(file)})
    rows = [
        {
            "name": image.name,
            "file": str(image.path),
            "label": image.expected.label,
            "model": image.expected.model,
            "probabilities": dict(image.expected.probabilities),
        }
        for image in images
    ]
    plan = folder / "plan.lua"
    plan.write_text(f"return {_lua({**settings, 'images': rows, 'hostile': requests})}\n", encoding="utf-8")
    return plan


def _lua(value: object) -> str:
    """Strings, numbers, lists and dicts as Lua writes them; texts are ASCII and quoted as JSON does, which Lua reads alike."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{_lua(key)}] = {_lua(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    text = json.dumps(value)
    assert "\\u" not in text
    return text


def hostile_requests(good: bytes, seed: int = 0) -> list[Hostile]:
    """Requests that are cut, changed, huge, empty, nonsense."""
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
        Hostile("an empty body", "/predict", {}, b""),
        Hostile("a JPEG cut in half", "/predict", {}, good[: len(good) // 2]),
        Hostile("a JPEG with changed bytes", "/predict", {}, bytes(changed)),
        Hostile("a PNG of 400 million pixels", "/predict", {}, bomb.getvalue()),
        Hostile("a JPEG of 9 million pixels of noise", "/predict", {"connection": "close"}, large.getvalue()),  # wrk goes on sending what was refused
        Hostile("a JPEG of 300 scans", "/predict", {}, good[:-2] + scan * 300 + b"\xff\xd9"),
        Hostile("noise", "/predict", {}, draw.randbytes(100_000)),
        Hostile("noise as GIF", "/predict", {}, b"GIF89a" + draw.randbytes(1000)),
        Hostile("noise as TIFF", "/predict", {}, b"II*\0" + draw.randbytes(1000)),
        Hostile("a wrong parameter", "/predict?top_k=x", {}, good),
        Hostile("an unknown model", "/predict?model=none", {}, good),
        Hostile("a broken form", "/predict", boundary, b"--B\r\nnonsense"),
        Hostile("a form of 500 parts", "/predict", boundary, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 500),
        Hostile("a deadline of 1 ms", "/predict", {"x-timeout-ms": "1"}, good),
        Hostile("an unknown model's tensors", "/v2/models/none/infer", {}, b"{}"),
        Hostile("deep JSON", "/v2/models/blood-cells-mobilenet025/infer", {}, b'{"inputs":' + b"[" * 50_000),
        Hostile("a header longer than the body", "/v2/models/blood-cells-mobilenet025/infer", {"inference-header-content-length": "99999999"}, b"{}"),
        Hostile(
            "a tensor that is no image",
            "/v2/models/blood-cells-mobilenet025/infer",
            {},
            b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["AAAA"]}]}',
        ),
        Hostile("an unknown path", "/no/such/path", {}, b"x"),
    ]
