import json
from pathlib import Path

import pytest

from cellclf.errors import StoredFileError
from cellclf.studies.measurements import EXTRA_INFO_KEY, MeasuredAccuracy, Measurement, percentile, read_measurements

RECORD = Measurement(
    backbone="mobilenet", image_size_px=224, labels=4, precision="int8", provider="CPUExecutionProvider", batch=1, threads=2, calls=10,
    latency_ms={"50": 2.0, "95": 3.0}, images_per_second=500.0, file_size_mb=3.4, model="m.onnx", hardware="test, 2 cores",
)  # fmt: skip
OLD_FIELDS = {
    "backbone", "image_size_px", "labels", "precision", "provider", "batch", "threads", "calls", "latency_ms", "images_per_second", "file_size_mb",
    "model", "hardware",
}  # fmt: skip


def write(path: Path, *extra: dict[str, object]) -> Path:
    path.write_text(json.dumps({"benchmarks": [{"name": "x", "extra_info": info} for info in extra]}), encoding="utf-8")
    return path


def test_measurements_are_read_back_and_other_benchmarks_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path / "b.json", {}, {EXTRA_INFO_KEY: RECORD.model_dump(mode="json")})
    assert read_measurements(file) == (RECORD,)


def test_a_record_of_before_the_new_fields_is_still_read_and_made_is_told_by_its_name(tmp_path: Path) -> None:
    old = {name: value for name, value in RECORD.model_dump(mode="json").items() if name in OLD_FIELDS}
    file = write(tmp_path / "b.json", {EXTRA_INFO_KEY: old}, {EXTRA_INFO_KEY: {**old, "model": "mobilenet of random weights"}})
    exported, skeleton = read_measurements(file)
    assert exported == RECORD
    assert (exported.engine, exported.steady, exported.sessions, exported.windows_images_per_second) == ("onnxruntime", True, 1, ())
    assert (exported.made, skeleton.made) == ("exported", "skeleton")


def test_every_field_of_a_record_comes_back(tmp_path: Path) -> None:
    accuracy = MeasuredAccuracy(
        dataset="blood-cells", split="test", images=2487, accuracy=0.9, balanced_accuracy=0.89, difference_to_fp32_points=-0.1,
        same_labels_as_fp32=0.997,
    )  # fmt: skip
    full = RECORD.model_copy(
        update={
            "engine": "openvino", "precision": "bf16", "steady": False, "windows_images_per_second": (480.0, 500.0, 510.0), "spread": 0.06,
            "sessions": 2, "load_s": 0.2, "cold_start_s": 0.9, "peak_ram_mb": 120.0, "gpu_memory_mb": 800.0, "joules_per_image": 0.05,
            "made": "skeleton", "accuracy": accuracy, "machine": "gpu-h200", "cores": 16, "gpu": "NVIDIA H200",
        }
    )  # fmt: skip
    assert read_measurements(write(tmp_path / "b.json", {EXTRA_INFO_KEY: full.model_dump(mode="json")})) == (full,)
    assert full.describe == "openvino bf16, CPU, batch 1, 2 threads × 2 sessions"


def test_a_throughput_of_nothing_is_refused() -> None:
    with pytest.raises(StoredFileError, match="images_per_second"):
        Measurement.parse(RECORD.model_copy(update={"images_per_second": 0.0}).model_dump_json(), where="x")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_ms", {"50": float("nan"), "95": 3.0}), ("latency_ms", {"50": -3.0, "95": 3.0}), ("latency_ms", {"50": 1.0}),
        ("images_per_second", float("inf")), ("cores", 0), ("cores", -4), ("joules_per_image", -5.0), ("joules_per_image", float("nan")),
        ("threads", 0), ("sessions", -2), ("batch", 0), ("file_size_mb", -1.0), ("windows_images_per_second", [0.0]),
        ("accuracy", {"dataset": "x", "split": "test", "images": 3, "accuracy": 7.0, "balanced_accuracy": 0.5}),
        ("accuracy", {"dataset": "x", "split": "test", "images": -3, "accuracy": 0.7, "balanced_accuracy": 0.5}),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_measurement_can_have_given_is_refused_by_its_field(tmp_path: Path, field: str, value: object) -> None:
    file = write(tmp_path / "b.json", {EXTRA_INFO_KEY: RECORD.model_dump(mode="json") | {field: value}})
    with pytest.raises(StoredFileError, match=f"a measurement in .*b.json cannot be read: {field}"):
        read_measurements(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no pytest-benchmark JSON"),
        ("[]", "no pytest-benchmark JSON"),
        ("[" * 200_000, "no pytest-benchmark JSON"),
        ('{"benchmarks": []}', "holds no measurement"),
        ('{"benchmarks": [{"extra_info": {"measurement": {"backbone": "x"}}}]}', "a measurement in"),
    ],
)
def test_a_file_without_measurements_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(StoredFileError, match=said):
        read_measurements(file)
    with pytest.raises(StoredFileError, match="No such file"):
        read_measurements(tmp_path / "missing.json")


def test_a_percentile_is_a_sample_by_nearest_rank() -> None:
    samples = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [percentile(samples, percent) for percent in (5, 30, 40, 50, 100)] == [15.0, 20.0, 20.0, 35.0, 50.0]


def test_the_cores_of_an_older_record_are_those_its_hardware_names() -> None:
    assert RECORD.machine_cores == 2
    assert RECORD.model_copy(update={"cores": 8}).machine_cores == 8
    assert RECORD.model_copy(update={"hardware": "unknown"}).machine_cores is None
