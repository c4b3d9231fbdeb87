"""Files → predictions: the pipeline against the loop that most people write, with the same file on the same images."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from benchmarks.conftest import MODEL, compare
from cellclf import Classifier, Prediction
from cellclf.data.decoding import decode, decode_file

STAGES = ("read", "decode", "resize", "copy", "infer", "post")


@pytest.fixture(scope="session")
def rounds(full: bool) -> int:
    """How often each is timed."""
    return 5 if full else 3


def naive(session: Any, paths: list[Path], size: tuple[int, int]) -> list[int]:
    """Open, float32, one session.run an image, on the pixels that ours sees."""
    found = []
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
        found.append(int(session.run(None, {"image": pixels[None]})[0].argmax()))
    return found


def float_network() -> bytes:
    """The same network with a float32 input, as most people export it: the loop need not go back to uint8."""
    import onnx

    network = onnx.load(MODEL)
    network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.checker.check_model(network, full_check=True)
    return bytes(network.SerializeToString())


@pytest.mark.parametrize("batch_size", [1, 16, 64])
def test_files_to_predictions_against_a_naive_loop(benchmark: Any, cells: list[Path], batch_size: int, rounds: int) -> None:
    """Target: ≥ 4 times the naive loop, which gives the same labels."""
    classifier = Classifier(MODEL, device="cpu")
    session = onnxruntime.InferenceSession(float_network(), providers=["CPUExecutionProvider"])
    size = (classifier.card.width_px, classifier.card.height_px)
    assert [classifier.labels[number] for number in naive(session, cells[:64], size)] == [
        record.label for record in classifier.predict_many(cells[:64]) if isinstance(record, Prediction)
    ]
    compare(
        benchmark,
        lambda: list(classifier.predict_many(cells, batch_size=batch_size)),
        lambda: naive(session, cells, size),
        rounds=rounds,
        target=4.0,
    )
    benchmark.extra_info["images_per_second"] = len(cells) / benchmark.stats.stats.median


def test_the_work_conserving_bound(benchmark: Any, cells: list[Path], rounds: int) -> None:
    """What one core would need for decoding and for the network alone, and what share of that bound the pipeline reaches on all cores."""
    classifier = Classifier(MODEL, device="cpu", threads=1)
    whole = Classifier(MODEL, device="cpu")
    height, width = classifier.card.height_px, classifier.card.width_px
    parts: list[tuple[float, float]] = []

    def alone() -> None:
        started = time.perf_counter()
        pixels = np.stack([decode_file(path, height_px=height, width_px=width) for path in cells])
        decoded = time.perf_counter()
        for start in range(0, len(pixels), 16):
            classifier.probabilities(pixels[start : start + 16])
        parts.append((decoded - started, time.perf_counter() - decoded))

    compare(benchmark, lambda: list(whole.predict_many(cells)), alone, rounds=rounds, target=0.9 * whole.threads)
    benchmark.extra_info["decode_s"], benchmark.extra_info["network_s"] = (float(np.median([part[at] for part in parts])) for at in (0, 1))
    benchmark.extra_info["share_of_bound"] = benchmark.extra_info["peer_over_ours"] / whole.threads


def test_where_the_time_goes(benchmark: Any, cells: list[Path], rounds: int) -> None:
    """Milliseconds of one core an image, stage by stage. Resize is what decoding to the network's size takes more than to the image's own."""
    classifier = Classifier(MODEL, device="cpu", threads=1)
    spent: list[dict[str, float]] = []

    def all_stages() -> None:
        spent.append(dict.fromkeys(STAGES, 0.0))
        for start in range(0, len(cells), 16):
            for stage, seconds in stages_of(classifier, cells[start : start + 16]).items():
                spent[-1][stage] += seconds

    benchmark.pedantic(all_stages, rounds=rounds, warmup_rounds=1)
    milliseconds = {stage: 1000 * float(np.median([each[stage] for each in spent[1:]])) / len(cells) for stage in STAGES}
    benchmark.extra_info |= {"images": len(cells), "stages_ms": milliseconds}
    assert set(milliseconds) == set(STAGES)


def stages_of(classifier: Classifier, paths: list[Path]) -> dict[str, float]:
    """Seconds of each stage for one batch of files, in the pipeline's own functions."""
    height, width = classifier.card.height_px, classifier.card.width_px
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    contents = [path.read_bytes() for path in paths]
    mark()
    pixels = [decode(content, height_px=height, width_px=width) for content in contents]
    mark()
    batch = np.stack(pixels)
    mark()
    rows = classifier.probabilities(batch)
    mark()
    records = classifier.predictions([str(path) for path in paths], rows)
    mark()
    sizes = [Image.open(io.BytesIO(content)).size for content in contents]
    marks_s = np.diff(marks)
    started = time.perf_counter()
    for content, (own_width, own_height) in zip(contents, sizes, strict=True):
        decode(content, height_px=own_height, width_px=own_width)
    decoded_s = time.perf_counter() - started
    assert len(records) == len(paths)
    read, both, copied, inferred, post = (float(value) for value in marks_s)
    return {"read": read, "decode": decoded_s, "resize": both - decoded_s, "copy": copied, "infer": inferred, "post": post}
