import json
from pathlib import Path

import pytest

from cellclf.errors import StoredFileError
from cellclf.studies.measurements import EXTRA_INFO_KEY, Measurement, cost_per_million, percentile, read_measurements

RECORD = Measurement(
    backbone="mobilenet", image_size_px=224, labels=4, precision="int8", provider="CPUExecutionProvider", batch=1, threads=2, calls=10,
    latency_ms={"50": 2.0, "95": 3.0}, images_per_second=500.0, file_size_mb=3.4, model="m.onnx", hardware="test, 2 cores",
)  # fmt: skip


def write(path: Path, *extra: dict[str, object]) -> Path:
    path.write_text(json.dumps({"benchmarks": [{"name": "x", "extra_info": info} for info in extra]}), encoding="utf-8")
    return path


def test_measurements_are_read_back_and_other_benchmarks_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path / "b.json", {}, {EXTRA_INFO_KEY: RECORD.model_dump(mode="json")})
    assert read_measurements(file) == (RECORD,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no pytest-benchmark JSON"),
        ("[]", "no pytest-benchmark JSON"),
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


def test_a_million_images_at_a_hundred_a_second_take_a_hundred_and_sixtieth_of_a_price() -> None:
    assert cost_per_million(1e6 / 3600, 0.4) == pytest.approx(0.4)
    assert cost_per_million(100, 3.6) == pytest.approx(10.0)
