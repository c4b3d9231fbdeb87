"""Files → predictions with one model: our pipeline, the loop that most people write, what as many processes as cores reach, and each stage alone."""

import io
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.tasks.task import Task
from cellclf import Classifier, Prediction
from cellclf.data.crops import View
from cellclf.data.decoding import decode, decode_file
from cellclf.environment import usable_cores

__all__ = ["STAGES", "Inference", "NaiveLoop", "OurPipeline", "Shares", "Stages"]

STAGES = ("read", "decode", "resize", "copy", "infer", "post")


class OurPipeline(Task):
    """predict_many. batch: None = the provider's own."""

    def __init__(self, *, model: str, device: str, files: Sequence[str], batch: int | None) -> None:
        self.files, self.batch = [Path(file) for file in files], batch
        self.classifier = Classifier(Path(model), device=device)
        self.labels: list[str | None] = []

    def run(self) -> None:
        """All files once."""
        records = self.classifier.predict_many(self.files, batch_size=self.batch)
        self.labels = [record.label if isinstance(record, Prediction) else None for record in records]

    def facts(self) -> dict[str, Any]:
        """The labels, in order; what ran, in which batches."""
        return {"labels": self.labels, "provider": self.classifier.provider, "batch": self.batch or self.classifier.batch_size}


class NaiveLoop(Task):
    """Open, float32, one session.run an image, on the pixels that ours sees."""

    def __init__(self, *, model: str, files: Sequence[str]) -> None:
        import onnxruntime

        self.files = [Path(file) for file in files]
        classifier = Classifier(Path(model), device="cpu")
        self.names, self.size = classifier.labels, (classifier.card.width_px, classifier.card.height_px)
        self.session = onnxruntime.InferenceSession(float_network(Path(model)), providers=["CPUExecutionProvider"])
        self.found: list[int] = []

    def run(self) -> None:
        """All files once."""
        self.found = []
        for path in self.files:
            pixels = np.asarray(Image.open(path).convert("RGB").resize(self.size, Image.Resampling.BILINEAR), dtype=np.float32)
            self.found.append(int(self.session.run(None, {"image": pixels[None]})[0].argmax()))

    def facts(self) -> dict[str, Any]:
        """The labels, in order."""
        return {"labels": [self.names[number] for number in self.found]}


def float_network(model: Path) -> bytes:
    """The same network with a float32 input, as most people export it: the loop need not go back to uint8."""
    import onnx

    network = onnx.load(model)
    network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.checker.check_model(network, full_check=True)
    return bytes(network.SerializeToString())


class Shares(Task):
    """As many processes as cores, each with a part of the files and a one-thread classifier of its own: no hand-over, no lock, nothing shared.

    infer: whether the images are also run, not decoded only.
    """

    def __init__(self, *, model: str, device: str, files: Sequence[str], infer: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        self._spent = 0.0
        cores = usable_cores()
        for number in range(cores):
            ours, theirs = context.Pipe()
            arguments = (theirs, model, device, [Path(file) for file in files[number::cores]], infer)
            self._processes.append(context.Process(target=_work_on, args=arguments, daemon=True))
            self._processes[-1].start()
            theirs.close()  # a part that dies ends the race, and keeps nobody waiting
            self._pipes.append(ours)

    def run(self) -> None:
        """All parts once."""
        for pipe in self._pipes:
            pipe.send(True)
        self._spent = sum(pipe.recv() for pipe in self._pipes)

    def cpu_s(self) -> float:
        """The parts' own processor seconds: they have not ended, so that they are no children's yet."""
        return super().cpu_s() + self._spent


def _work_on(pipe: Any, model: str, device: str, paths: list[Path], infer: bool) -> None:
    """Decode and run a batch after the other, whenever told to; gives the processor seconds so far."""
    classifier = Classifier(Path(model), device=device, threads=1)
    while pipe.recv():
        for start in range(0, len(paths), classifier.batch_size):
            pixels = np.stack([decode_file(path, classifier.view) for path in paths[start : start + classifier.batch_size]])
            if infer:
                classifier.probabilities(pixels)
        pipe.send(time.process_time())


class Inference(Task):
    """Images that lie decoded in memory, batch by batch: what the network alone takes."""

    def __init__(self, *, model: str, device: str, images: int) -> None:
        self.classifier = Classifier(Path(model), device=device)
        card, size = self.classifier.card, self.classifier.batch_size
        self.pixels = np.random.default_rng(0).integers(0, 256, (size, card.height_px, card.width_px, 3), dtype=np.uint8)
        self.batches = -(-images // size)

    def run(self) -> None:
        """All batches once."""
        for _ in range(self.batches):
            self.classifier.probabilities(self.pixels)


class Stages(Task):
    """Our pipeline's own functions one after the other on one core, each timed. Resize is what decoding to the network's size takes more than to
    the image's own."""

    def __init__(self, *, model: str, files: Sequence[str]) -> None:
        self.files = [Path(file) for file in files]
        self.classifier = Classifier(Path(model), device="cpu", threads=1)
        self.spent: list[dict[str, float]] = []

    def run(self) -> None:
        """All files once."""
        self.spent.append(dict.fromkeys(STAGES, 0.0))
        for start in range(0, len(self.files), self.classifier.batch_size):
            for stage, seconds in self._batch(self.files[start : start + self.classifier.batch_size]).items():
                self.spent[-1][stage] += seconds

    def facts(self) -> dict[str, Any]:
        """Milliseconds an image of each stage: the median of all times but the first, which warmed up."""
        return {"stages_ms": {stage: 1000 * float(np.median([each[stage] for each in self.spent[1:]])) / len(self.files) for stage in STAGES}}

    def _batch(self, paths: list[Path]) -> dict[str, float]:
        classifier = self.classifier
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
        started = time.perf_counter()
        for content, (own_width, own_height) in zip(contents, sizes, strict=True):
            decode(content, View(own_height, own_width))
        decoded_s = time.perf_counter() - started
        if len(records) != len(paths):
            raise RuntimeError(f"{len(records)} records of {len(paths)} files")
        read, both, copied, inferred, post = (float(value) for value in np.diff(marks))
        return {"read": read, "decode": decoded_s, "resize": both - decoded_s, "copy": copied, "infer": inferred, "post": post}
