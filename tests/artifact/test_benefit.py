import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cellclf.artifact.benefit import LEAST_RATIO, benefit_of, no_benefit
from cellclf.card import Benefit, Card, read_model_file
from cellclf.data.decoding import Pixels
from cellclf.runtime.providers import PROVIDERS, Target

SHIPPED = Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx"


@dataclass
class Sleeping:
    """A session whose calls take a known time, however many images."""

    seconds: float
    target: Target = field(default_factory=lambda: Target(PROVIDERS["cpu"]))
    provider: str = "CPUExecutionProvider"

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        time.sleep(self.seconds)
        return np.full((len(images), 2), 0.5, dtype=np.float32)


@pytest.fixture
def card() -> Card:
    return read_model_file(SHIPPED).card


def benefit(ratio: float) -> Benefit:
    return Benefit(ratio=ratio, images_per_second=10 * ratio, fp32_images_per_second=10, batch=4, threads=2, provider="here", cpu="this one")


def test_a_session_that_takes_a_tenth_of_the_time_is_much_faster() -> None:
    found = benefit_of(Sleeping(0.01), Sleeping(0.1), np.zeros((3, 2, 2, 3), np.uint8), threads=2)
    assert found.ratio > 3
    assert (found.threads, found.provider) == (2, "CPUExecutionProvider")
    assert 1 <= found.batch <= 2
    assert found.cpu


def test_below_the_least_ratio_the_figures_are_told(card: Card) -> None:
    line = no_benefit(card.model_copy(update={"benefit": benefit(1.05), "precision": "int8"}))
    assert line == ("int8 brings no benefit on this machine: 10.5 images/s, fp32 10, 1.05 times (here, 2 threads, batch 4)",)


def test_from_the_least_ratio_on_and_where_nothing_was_timed_nothing_is_told(card: Card) -> None:
    assert no_benefit(card.model_copy(update={"benefit": benefit(LEAST_RATIO)})) == ()
    assert no_benefit(card) == ()


def test_a_card_without_a_benefit_is_read_as_before(card: Card) -> None:
    fields = card.model_dump(mode="json")
    del fields["benefit"]
    assert Card.model_validate(fields) == card
    assert Card.model_validate_json(card.model_copy(update={"benefit": benefit(2.0)}).model_dump_json()).benefit == benefit(2.0)
