"""The GPU's figures as measurements: what report and choose read is what the JSON of the machine holds."""

import pytest

from benchmarks.gpu.measurements import as_benchmark_json, costs, gpu_measurements, pays_lines
from benchmarks.gpu.page import RESULTS
from benchmarks.gpu.sittings import measured_on_a_gpu, sittings
from cellclf.report.cost import break_even, images_a_day
from cellclf.studies.measurements import read_measurements

SITTINGS = sittings("inference", measured_on_a_gpu(RESULTS / "gpu"))
ON_CPU = read_measurements(RESULTS / "cpu.json")
FOUND = gpu_measurements(SITTINGS, ON_CPU)


def test_every_row_of_ours_is_a_measurement_on_the_card_with_its_copies() -> None:
    rows = {
        (row["backbone"], row["provider"], row["batch"]): row
        for result in reversed(SITTINGS.values())  # of two sittings the first counts
        for row in result.rows
        if row["engine"] != "torch.compile" and "throughput" in row
    }
    assert {(each.backbone, each.provider, each.batch) for each in FOUND} == set(rows)
    assert len(FOUND) == len(rows) >= 15
    assert {each.provider for each in FOUND} == {"CUDAExecutionProvider", "XLA:CUDA"}
    for each in FOUND:
        row = rows[each.backbone, each.provider, each.batch]
        assert each.images_per_second == pytest.approx(1000 * row["batch"] / row["latency_from_host"]["ms"]["50"])
        assert each.images_per_second < row["throughput"]["per_second"]
        assert each.card and each.made == "skeleton" and each.accuracy is None


def test_the_committed_file_is_what_report_reads_of_them() -> None:
    assert (RESULTS / "gpu.json").read_text(encoding="utf-8") == as_benchmark_json(FOUND)
    assert read_measurements(RESULTS / "gpu.json") == FOUND


def test_where_a_gpu_pays_is_the_product_s_own_sum() -> None:
    found = costs(ON_CPU, FOUND)
    assert {(each.backbone, each.image_size_px) for each in found.break_evens} == {(each.backbone, each.image_size_px) for each in FOUND}
    for each in found.break_evens:
        assert each.cpu and each.cpu.precision in ("fp32", "fp16"), "int8 of random weights has no accuracy to keep"
        assert each.cpu and each.gpu and each.cpu.price and each.gpu.price
        assert each.gpu.gpu and not each.cpu.gpu
        expected = break_even(
            cpu_images_a_day=images_a_day(each.cpu.images_per_second, utilisation=0.5),
            cpu_price_per_hour=each.cpu.price.per_hour,
            gpu_images_a_day=images_a_day(each.gpu.images_per_second, utilisation=0.5),
            gpu_price_per_hour=each.gpu.price.per_hour,
        )
        assert each.images_a_day == expected
    assert len(pays_lines(found)) == 2 + len(found.break_evens) + 5
