"""Epochs as `cellclf train` feeds them, against Keras' own pipeline of the same generator: what an epoch's end costs."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.race import Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan
from benchmarks.tasks.epochs import trained_images

CLOCK = ReplayClock()

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.full, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("images", [2_000, 4_000])
def test_epochs_against_keras_own_pipeline(benchmark: Any, images: int, plan: Plan) -> None:
    """MobileNet 0.25 at 128 px, batch 32, three epochs; the peer gives `fit` the generator, whose tf.data pipeline tunes itself and is waited for."""
    racers = {"ours": Racer("fed-epochs", {"images": images}), "keras": Racer("keras-epochs", {"images": images})}
    against(benchmark, CLOCK, raced(racers, plan=replace(plan, window_s=0)), peer="keras")
    benchmark.extra_info["images"] = trained_images(images)
