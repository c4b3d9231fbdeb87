"""What training windows say."""

import pytest

from benchmarks.contest import Window
from benchmarks.machine import Machine
from benchmarks.steadiness import Turns
from benchmarks.training_records import StudyRow, input_stall, row_of, row_seconds, training_record


def turns(*steps_s: float) -> Turns[Window]:
    windows = {number: Window((step_s,) * 2, 2 * step_s, step_s, Machine()) for number, step_s in enumerate(steps_s)}
    return Turns(windows, tuple(windows), True)


def test_the_stall_is_what_a_step_takes_longer_than_from_memory() -> None:
    assert input_stall(turns(2.0, 2.0, 4.0), turns(1.9, 1.8, 3.8)) == pytest.approx(0.05)


def test_without_a_common_round_there_is_no_stall() -> None:
    assert input_stall(turns(1.0), Turns({}, (), False)) is None


def test_a_row_takes_its_epochs_in_whole_batches_and_their_validation_passes() -> None:
    row = StudyRow("A", "any", train_images=33, other_images=10, epochs=2)
    assert row_seconds(row, batch=32, images_per_second=64, predict_images_per_second=10, compile_s=5) == pytest.approx(5 + 2 + 3)


def test_a_record_gives_images_a_second_and_no_estimate_for_a_backbone_of_no_study() -> None:
    name = {"backbone": "mobilenet025", "image_size_px": 224, "precision": "float32", "batch": 32}
    opened = {"compile_s": 1.0, "backend": "tensorflow"}
    record = training_record(name=name, files=turns(0.5, 0.5), resident=None, opened=opened, predict_images_per_second=9.0, peak_ram_mb=None)
    assert record["images_per_second"] == 64
    assert record["study_row"] is None and record["input_stall"] is None


def test_a_row_whose_data_are_not_here_is_not_estimated() -> None:
    assert row_of("mobilenet") is None
