"""Our sessions against OpenVINO's own loop on single images, in short turns: the same runtime, so what our engine adds; and the other one."""

from typing import Any

import numpy as np
import pytest

from benchmarks.race import Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan
from benchmarks.subjects import STUDY_BACKBONES, skeleton

CLOCK = ReplayClock()
THREADS, CALLS, ROUNDS = 2, 20, 25

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.full, pytest.mark.timeout(600)]


@pytest.mark.parametrize("backbone", STUDY_BACKBONES)
@pytest.mark.parametrize("device", ["openvino", "cpu"])
def test_one_image_in_int8_against_openvino_s_own_loop(benchmark: Any, device: str, backbone: str) -> None:
    """Twenty calls of one image each a turn, random weights, two threads; the peer is OpenVINO's API with the batch fixed, one request."""
    choices = {"file": str(skeleton(backbone).ready().files["int8"]), "threads": THREADS, "calls": CALLS}
    racers = {
        "ours": Racer("session-calls", {**choices, "device": device}),
        "openvino": Racer("engine-calls", {**choices, "device": "openvino"}),
    }
    race = raced(racers, plan=Plan(window_s=0, rounds=ROUNDS, max_rounds=ROUNDS))
    if device == "openvino":  # the other runtime rounds otherwise
        np.testing.assert_allclose(race.facts["ours"]["probabilities"], race.facts["openvino"]["probabilities"], atol=1e-5)
    against(benchmark, CLOCK, race, peer="openvino")
    benchmark.extra_info["images"] = CALLS
