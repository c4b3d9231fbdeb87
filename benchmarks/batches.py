"""How many images a call make a core quickest, all cores at work: the reason for `batch` in the table of providers.

    python -m benchmarks.batches [FILE.onnx …]

Default: the shipped file, and MobileNet, ResNet50 and Xception with random weights. One session a core, of one thread each; batches in turns, for
each CPU provider that computes in the file's own precision. Where the blood cells are here, also files → predictions with the shipped file, 16
against 4 images a batch in turns.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.conftest import MODEL
from benchmarks.contest import usable_providers
from benchmarks.skeleton import make
from cellclf import Classifier
from cellclf.card import ModelFile, read_model_file
from cellclf.data.datasets import DATASETS, find
from cellclf.data.prepare import DataRequest
from cellclf.environment import usable_cores
from cellclf.runtime.providers import PROVIDERS
from cellclf.runtime.session import Session, open_session
from cellclf.training.recipe import make_recipe

BATCHES = (1, 2, 4, 8, 16, 32)
BACKBONES = ("mobilenet", "resnet50", "xception")
ROUNDS, WINDOW_S, PAIRS = 5, 1.0, 20


def rate(session: Session, shape: tuple[int, ...], batch: int, callers: int) -> float:
    """Images a second of `callers` threads for WINDOW_S."""
    images = np.random.default_rng(0).integers(0, 256, size=(batch, *shape), dtype=np.uint8)
    done = [0] * callers
    until = time.perf_counter() + WINDOW_S
    started = time.perf_counter()

    def calls(number: int) -> None:
        while time.perf_counter() < until:
            session.run(images)
            done[number] += batch

    threads = [threading.Thread(target=calls, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


def measure(file: ModelFile, device: str) -> dict[int, float]:
    """Median images a second by batch size."""
    cores = usable_cores()
    session = open_session(file.content, device=device, threads=1, sessions=cores, precision=file.card.precision)
    shape = (file.card.height_px, file.card.width_px, 3)
    found: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for _ in range(ROUNDS):
        for batch in BATCHES:
            found[batch].append(rate(session, shape, batch, cores))
    return {batch: statistics.median(rates) for batch, rates in found.items()}


def from_files(root: Path, device: str) -> list[float]:
    """Seconds of predict_many on 512 files with batches of 16 over those with batches of 4, pair by pair."""
    paths = sorted(root.rglob("*.jpeg"))[::4][:512]
    classifier = Classifier(MODEL, device=device)

    def seconds(batch: int) -> float:
        started = time.perf_counter()
        list(classifier.predict_many(paths, batch_size=batch))
        return time.perf_counter() - started

    seconds(4)
    return [seconds(16) / seconds(4) for _ in range(PAIRS)]


def main() -> None:
    """A line a file and provider: images a second at each batch size, and over that of one image."""
    devices = [name for name in usable_providers() if not (PROVIDERS[name].gpu or PROVIDERS[name].golden_tolerance)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(name) for name in sys.argv[1:]]
        if not files:
            files = [MODEL]
            for backbone in BACKBONES:
                make(make_recipe(backbone, DataRequest(data="blood-cells"), weights="none"), Path(folder) / backbone)
                files.append(Path(folder) / backbone / "fp32.onnx")
        for path in files:
            name = path.stem if path.parent.parent != Path(folder) else path.parent.name
            for device in devices:
                found = measure(read_model_file(path), device)
                figures = "  ".join(f"{batch}: {speed:,.0f} ({speed / found[1]:.2f})" for batch, speed in found.items())
                print(f"{name:<24} {device:<9}", figures, flush=True)
    if (root := find(DATASETS["blood-cells"])) is not None:
        for device in devices:
            pairs = from_files(root, device)
            print(f"files → predictions, {device}, seconds of 16 ÷ 4: {statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})")


if __name__ == "__main__":
    main()
