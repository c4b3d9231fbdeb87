"""Training steps on images that vary, our one layer against Keras' own, one for each thing that varies; and what varying costs of a step."""

import statistics
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.race import Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan
from benchmarks.tasks.varying import STEPS

CLOCK, BATCH = ReplayClock(), 32

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.full, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("backbone", "image_size_px", "augmentation"),
    [("mobilenet025", 128, "cells"), ("mobilenet025", 128, "cells-stain"), ("mobilenet025", 128, "xray"), ("mobilenet", 224, "cells-stain")],
)
def test_training_steps_on_images_that_vary(benchmark: Any, backbone: str, image_size_px: int, augmentation: str, plan: Plan) -> None:
    """Twenty steps of batch 32, float32, as `cellclf train` compiles them; share_of_step: of ours, what steps without augmentation do not take."""
    choices = {"backbone": backbone, "image_size_px": image_size_px, "batch": BATCH}
    racers = {
        "ours": Racer("varying-steps", {**choices, "augmentation": augmentation}),
        "keras": Racer("keras-varying-steps", {**choices, "augmentation": augmentation}),
        "none": Racer("varying-steps", {**choices, "augmentation": "none"}),
    }
    race = raced(racers, plan=replace(plan, window_s=0))
    against(benchmark, CLOCK, race, peer="keras")
    of_keras = zip(race.ratios("none").wall, race.ratios("keras").wall, strict=True)
    benchmark.extra_info |= {
        "images": STEPS * BATCH,
        "share_of_step": 1 - statistics.median(race.ratios("none").wall),
        "share_of_step_keras": 1 - statistics.median(none / keras for none, keras in of_keras),
    }
