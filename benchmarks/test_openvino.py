"""Our sessions against OpenVINO's own loop on single images, in short turns: the same runtime, so what our engine adds; and the other one."""

import statistics
from typing import Any

import numpy as np
import pytest

from benchmarks.race import Racer, against, joined, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan
from benchmarks.subjects import STUDY_BACKBONES, skeleton

CLOCK = ReplayClock()
THREADS, CALLS, OPENINGS, ROUNDS = 2, 20, 4, 9

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.full, pytest.mark.timeout(600)]


@pytest.mark.parametrize("backbone", STUDY_BACKBONES)
@pytest.mark.parametrize("device", ["openvino", "cpu"])
def test_one_image_in_int8_against_openvino_s_own_loop(benchmark: Any, device: str, backbone: str) -> None:
    """Twenty calls of one image each a turn, random weights, two threads; the peer is OpenVINO's API with the batch fixed, one request.

    A process may be a few percent quicker than its like for as long as it lives: all are opened anew four times, and a second process of the peer
    (again) tells what such a difference is where there is none.
    """
    choices = {"file": str(skeleton(backbone).ready().files["int8"]), "threads": THREADS, "calls": CALLS}
    peer = Racer("engine-calls", {**choices, "device": "openvino"})
    racers = {"ours": Racer("session-calls", {**choices, "device": device}), "openvino": peer, "again": peer}
    races = [raced(racers, plan=Plan(window_s=0, rounds=ROUNDS, max_rounds=ROUNDS)) for _ in range(OPENINGS)]
    race = joined(races)
    for each in races if device == "openvino" else ():  # the other runtime rounds otherwise
        np.testing.assert_allclose(each.facts["ours"]["probabilities"], each.facts["openvino"]["probabilities"], atol=1e-5)
    against(benchmark, CLOCK, race, peer="openvino")
    by_opening = [(each.ratios("openvino").wall, each.ratios("again").wall) for each in races]
    benchmark.extra_info |= {
        "images": CALLS,
        "peer_over_ours_by_opening": [statistics.median(own) for own, _ in by_opening],
        "peer_over_its_like_by_opening": [statistics.median(a / b for a, b in zip(own, like, strict=True)) for own, like in by_opening],
    }
