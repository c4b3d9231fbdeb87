"""What a prediction costs: latency and throughput of every exported file, as records that `cellclf choose` and the report read.

Files: exported/*.onnx, or those of the folder in CELLCLF_BENCH_MODELS.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import ROOT
from cellclf import Classifier
from cellclf.environment import Environment
from cellclf.studies.measurements import EXTRA_INFO_KEY, Measurement, percentile

MODELS = sorted(Path(os.environ.get("CELLCLF_BENCH_MODELS") or ROOT / "exported").glob("*.onnx"))
PERCENTILES = (50, 90, 95, 99)
CALLS = {1: 200, 32: 20}


@pytest.mark.parametrize("batch", CALLS)
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_inference(benchmark: Any, model: Path, batch: int) -> None:
    classifier = Classifier(model, device="cpu")
    card = classifier.card
    images = np.random.default_rng(0).integers(0, 256, size=(batch, card.height_px, card.width_px, 3), dtype=np.uint8)
    benchmark.pedantic(lambda: classifier.probabilities(images), rounds=CALLS[batch], warmup_rounds=5)
    samples_s: list[float] = benchmark.stats.stats.data
    environment = Environment.of_this_machine()
    benchmark.extra_info[EXTRA_INFO_KEY] = Measurement(
        backbone=card.backbone,
        image_size_px=card.height_px,
        labels=len(card.labels),
        precision=card.precision,
        provider=classifier.provider,
        batch=batch,
        threads=classifier.threads,
        calls=len(samples_s),
        latency_ms={str(percent): 1000 * percentile(samples_s, percent) for percent in PERCENTILES},
        images_per_second=batch / percentile(samples_s, 50),
        file_size_mb=model.stat().st_size / 1e6,
        model=model.name,
        hardware=f"{environment.cpu}, {environment.cores} cores",
    ).model_dump(mode="json")
