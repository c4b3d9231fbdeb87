"""A frozen backbone for ten epochs: features once and a head on them, against a Keras fit that runs the backbone each epoch."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.race import Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import NEEDED, Plan
from benchmarks.tasks.frozen import EPOCHS

CLOCK = ReplayClock()
IMAGENET = "mobilenet_v2_1.0_224_imagenet_notop.weights.h5"
"""MobileNetV2's, by the name of the file."""

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.full, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("backbone", "weights", "image_size_px", "limit_per_label"),
    [
        pytest.param("mobilenet", "none", 128, None, id="128-None"),
        pytest.param("mobilenet", "none", 128, 250, id="128-250"),
        pytest.param("mobilenet", "none", 224, 500, id="224-500"),
        pytest.param("mobilenetv2", IMAGENET, 128, 500, id="mobilenetv2-imagenet-128-500"),
    ],
)
def test_ten_epochs_on_a_frozen_backbone_against_keras_fit(
    benchmark: Any, backbone: str, weights: str, image_size_px: int, limit_per_label: int | None
) -> None:
    """Target: ≥ 8 times, on the whole data set and on 250 images a label at 128 px, and on 500 a label at MobileNet's own size.

    The images are real where they are here, else drawn. Both list the data, read the same cached pixels, build the network, validate after each
    epoch and test once; their test accuracies stand in the record. Random weights are as quick, but learn next to nothing; the row with ImageNet
    weights, where these are here, tells what both learn, by one training each in other orders of the images. limit: how many times more images the
    peer sends through the backbone; what is above it comes from a quicker forward pass. A window is one training, minutes of the peer, so that each
    gets the three that must agree.
    """
    if weights != "none":
        file = Path(os.environ.get("CELLCLF_WEIGHTS", ".")).resolve() / weights
        if not file.is_file():
            pytest.skip(f"{weights} is not on this machine (CELLCLF_WEIGHTS)")
        weights = str(file)
    choices = {"backbone": backbone, "weights": weights, "image_size_px": image_size_px, "limit_per_label": limit_per_label}
    racers = {"ours": Racer("frozen-ours", choices), "keras": Racer("frozen-keras", choices)}
    race = raced(racers, plan=Plan(window_s=0, rounds=NEEDED, max_rounds=NEEDED))
    against(benchmark, CLOCK, race, peer="keras", target=8.0 if weights == "none" else None)
    images, count = race.facts["ours"]["images"], race.facts["ours"]["count"]
    benchmark.extra_info |= {"images": images, **{f"test_accuracy_{name}": facts["test_accuracy"] for name, facts in race.facts.items()}}
    benchmark.extra_info["limit"] = (EPOCHS * (count["train"] + count["validation"]) + count["test"]) / images
