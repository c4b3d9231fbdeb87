"""The shipped file, drawn images for it, and what ONNX Runtime's CPU provider answers: what every engine is held against."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cellclf.artifact.golden import golden_image
from cellclf.card import read_model_file
from cellclf.data.decoding import Pixels
from cellclf.runtime.session import open_session

SHIPPED = Path(__file__).resolve().parents[3] / "exported" / "blood-cells-mobilenet025.onnx"


@pytest.fixture(scope="module")
def content() -> bytes:
    return read_model_file(SHIPPED).content


@pytest.fixture(scope="module")
def images() -> Pixels:
    card = read_model_file(SHIPPED).card
    return np.stack([golden_image(seed, height_px=card.height_px, width_px=card.width_px) for seed in range(37)])


@pytest.fixture(scope="module")
def expected(content: bytes, images: Pixels) -> npt.NDArray[np.float32]:
    return open_session(content, device="cpu", threads=1).run(images)
