"""Our sessions against OpenVINO's own loop on single images, in turn in one process: the same runtime, so what our engine adds; and the other one."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import compare
from benchmarks.engines import ENGINES, Asked
from benchmarks.subjects import STUDY_BACKBONES, skeleton
from cellclf.card import read_model_file
from cellclf.runtime.session import open_session

THREADS, CALLS, ROUNDS = 2, 20, 25


@pytest.mark.full
@pytest.mark.parametrize("backbone", STUDY_BACKBONES)
@pytest.mark.parametrize("device", ["openvino", "cpu"])
def test_one_image_in_int8_against_openvino_s_own_loop(benchmark: Any, device: str, backbone: str) -> None:
    """Twenty calls of one image each, random weights, two threads; the peer is OpenVINO's API with the batch fixed, one request."""
    file = skeleton(backbone).ready().files["int8"]
    found = read_model_file(file)
    images = np.random.default_rng(0).integers(0, 256, (1, found.card.height_px, found.card.width_px, 3), dtype=np.uint8)
    ours = open_session(found.content, device=device, threads=THREADS)
    peer = ENGINES["openvino"].open(Asked(file=file, precision="int8", provider="cpu", threads=THREADS, sessions=1)).runners(1)[0]
    if device == "openvino":  # the other runtime rounds otherwise
        np.testing.assert_allclose(ours.run(images), peer(images), atol=1e-5)

    def calls(run: Any) -> None:
        for _ in range(CALLS):
            run(images)

    compare(benchmark, partial(calls, ours.run), partial(calls, peer), rounds=ROUNDS, target=None)
    benchmark.extra_info["images"] = CALLS
