"""Files → predictions: the pipeline against the loop that most people write, with the same file on the same images."""

import io
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from benchmarks.conftest import MODEL, compare
from cellclf import Classifier, Prediction
from cellclf.data.crops import View
from cellclf.data.decoding import decode, decode_file

FOLDER_OF = 4
"""How often each image is taken where a whole folder's time is wanted."""

OPENVINO = tuple(pytest.param("openvino", size, marks=pytest.mark.full) for size in (4, 16))

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


@pytest.mark.parametrize(("device", "batch_size"), [*(("cpu", size) for size in (1, 4, 16, 64)), *OPENVINO])
def test_files_to_predictions_against_a_naive_loop(benchmark: Any, cells: list[Path], device: str, batch_size: int, rounds: int) -> None:
    """Target: ≥ 4 times the naive loop, which gives the same labels; what two cores allow at most is most_over_naive of the bound."""
    if device == "openvino":
        pytest.importorskip("openvino")
    classifier = Classifier(MODEL, device=device)
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


class Shares:
    """As many processes as cores, each with a part of the files and a one-thread classifier of its own: no hand-over, no lock, nothing shared."""

    def __init__(self, paths: list[Path], processes: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for number in range(processes):
            ours, theirs = context.Pipe()
            self._processes.append(context.Process(target=_work_on, args=(theirs, paths[number::processes], device), daemon=True))
            self._processes[-1].start()
            self._pipes.append(ours)
        self.run()

    def run(self) -> None:
        """All parts once."""
        for pipe in self._pipes:
            pipe.send(True)
        for pipe in self._pipes:
            pipe.recv()

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(False)
            process.join()


def _work_on(pipe: Any, paths: list[Path], device: str) -> None:
    """Decode and run a batch after the other, whenever told to."""
    classifier = Classifier(MODEL, device=device, threads=1)
    while pipe.recv():
        for start in range(0, len(paths), classifier.batch_size):
            classifier.probabilities(np.stack([decode_file(path, classifier.view) for path in paths[start : start + classifier.batch_size]]))
        pipe.send(None)


@pytest.mark.parametrize("device", ["cpu", pytest.param("openvino", marks=pytest.mark.full)])
def test_the_work_conserving_bound(benchmark: Any, cells: list[Path], device: str, rounds: int) -> None:
    """Target: ≥ 90 % of what as many independent processes as cores reach, each with its part of the files and nothing to wait for.

    Each file is taken several times, so that a round is as long as a folder of some thousand files. A core's time alone is no bound: two cores at
    work share caches and memory, and are together slower than twice one. most_over_naive: how far the bound is above the naive loop, which no
    pipeline of this decoder and network exceeds.
    """
    if device == "openvino":
        pytest.importorskip("openvino")
    whole = Classifier(MODEL, device=device)
    session = onnxruntime.InferenceSession(float_network(), providers=["CPUExecutionProvider"])
    files = cells * FOLDER_OF
    shares = Shares(files, whole.threads, device)

    def loop() -> float:
        started = time.perf_counter()
        naive(session, files, (whole.card.width_px, whole.card.height_px))
        return time.perf_counter() - started

    naive_s = [loop() for _ in range(rounds)]
    compare(benchmark, lambda: list(whole.predict_many(files)), shares.run, rounds=2 * rounds, target=0.9)
    naive_s += [loop() for _ in range(rounds)]
    shares.close()
    benchmark.extra_info["share_of_bound"] = benchmark.extra_info["peer_over_ours"]
    benchmark.extra_info["images"] = len(files)
    benchmark.extra_info["most_over_naive"] = float(np.median(naive_s)) / benchmark.extra_info["peer_median_s"]


def test_where_the_time_goes(benchmark: Any, cells: list[Path], rounds: int) -> None:
    """Milliseconds of one core an image, stage by stage. Resize is what decoding to the network's size takes more than to the image's own."""
    classifier = Classifier(MODEL, device="cpu", threads=1)
    spent: list[dict[str, float]] = []

    def all_stages() -> None:
        spent.append(dict.fromkeys(STAGES, 0.0))
        for start in range(0, len(cells), classifier.batch_size):
            for stage, seconds in stages_of(classifier, cells[start : start + classifier.batch_size]).items():
                spent[-1][stage] += seconds

    benchmark.pedantic(all_stages, rounds=rounds, warmup_rounds=1)
    milliseconds = {stage: 1000 * float(np.median([each[stage] for each in spent[1:]])) / len(cells) for stage in STAGES}
    benchmark.extra_info |= {"images": len(cells), "stages_ms": milliseconds}
    assert set(milliseconds) == set(STAGES)


def stages_of(classifier: Classifier, paths: list[Path]) -> dict[str, float]:
    """Seconds of each stage for one batch of files, in the pipeline's own functions."""
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    contents = [path.read_bytes() for path in paths]
    mark()
    pixels = [decode(content, classifier.view) for content in contents]
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
        decode(content, View(own_height, own_width))
    decoded_s = time.perf_counter() - started
    assert len(records) == len(paths)
    read, both, copied, inferred, post = (float(value) for value in marks_s)
    return {"read": read, "decode": decoded_s, "resize": both - decoded_s, "copy": copied, "infer": inferred, "post": post}
