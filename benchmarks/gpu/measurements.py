"""inference.json → docs/results/gpu.json, measurements as `cellclf report --benchmarks` and `choose` read them; and when a GPU pays.

Speeds are those with the copies of images to the card and of probabilities back, as whoever deploys a file has them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gpu.record import Result
from cellclf.backbones import BACKBONES
from cellclf.report.costing import BreakEven, Costs, cost_everything
from cellclf.report.prices import USUAL_ASSUMPTIONS
from cellclf.studies.measurements import EXTRA_INFO_KEY, Measurement

__all__ = ["as_benchmark_json", "costs", "gpu_measurements", "pays_lines"]

LABELS = 4
"""As the skeletons have them."""


def gpu_measurements(results: Mapping[str, Result], on_cpu: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    """Our engines' rows that have figures, each of the first sitting that has it.

    A file's size is that of the same network on the CPU, in the same precision.
    steady: whether the windows of the network on images that lie on the card agreed; calls with copies were not measured in windows.
    """
    sizes = {(each.backbone, each.precision): each.file_size_mb for each in on_cpu}
    found: dict[tuple[str, str, int], Measurement] = {}
    for result in results.values():
        for each in _of_one(result, sizes):
            found.setdefault((each.backbone, each.provider, each.batch), each)
    return tuple(found.values())


def _of_one(result: Result, sizes: Mapping[Any, float | None]) -> Iterator[Measurement]:
    environment = result.machine.environment
    return (
        Measurement(
            backbone=row["backbone"],
            image_size_px=row["image_size_px"],
            labels=LABELS,
            precision="fp16",
            provider=row["provider"],
            batch=row["batch"],
            threads=1,
            calls=row["latency_from_host"]["calls"],
            latency_ms=row["latency_from_host"]["ms"],
            images_per_second=1000 * row["batch"] / row["latency_from_host"]["ms"]["50"],
            file_size_mb=sizes[row["backbone"], "fp16"],
            model="random weights",
            made="skeleton",
            hardware=f"{result.machine.gpu['name']}, {environment.cpu}, {environment.cores} cores",
            steady=not row["unsteady"],
            cores=environment.cores,
            gpu=result.machine.gpu["name"],
        )
        for row in result.rows
        if row["engine"] in ("onnxruntime", "xla") and "throughput" in row
    )


def as_benchmark_json(measurements: tuple[Measurement, ...]) -> str:
    """As pytest-benchmark would have written them, without its own statistics."""
    rows = [{"name": each.describe, "extra_info": {EXTRA_INFO_KEY: each.model_dump(mode="json")}} for each in measurements]
    return json.dumps({"benchmarks": rows}, indent=1) + "\n"


def costs(on_cpu: tuple[Measurement, ...], on_gpu: tuple[Measurement, ...]) -> Costs:
    """The product's own sums, at the prices of its table, for the networks measured on both."""
    networks = {(each.backbone, each.image_size_px) for each in on_gpu}
    return cost_everything([], [*(each for each in on_cpu if (each.backbone, each.image_size_px) in networks), *on_gpu], USUAL_ASSUMPTIONS)


def pays_lines(found: Costs) -> list[str]:
    """A row a network: the cheapest way on each kind of machine, and from how many images a day the GPU costs less."""
    lines = [
        "| network | cheapest on CPU cores | USD a million | cheapest on the GPU | USD a million | a GPU costs less above, images a day |",
        "|---|---|---|---|---|---|",
    ]
    for each in found.break_evens:
        above = each.reason if each.images_a_day is None else f"about {float(f'{each.images_a_day:.2g}'):,.0f}"
        lines.append(f"| {BACKBONES[each.backbone].title}, {each.image_size_px} px | {_way(each, 'cpu')} | {_way(each, 'gpu')} | {above} |")
    return [
        *lines,
        "",
        f"Prices: {'; '.join(price.said for price in found.prices)}. Utilisation {found.assumed.utilisation:.0%}. Machines are rented whole;",
        "above so many images a day one GPU machine costs less than the CPU machines that answer as many. CPU ways: docs/results/cpu.md, if steady.",
        "int8 and bf16 are left out: random weights have no accuracy to keep (cost.md has files that have). GPU: with the copies to the card and",
        "back, images ready in memory, as on the CPU. gpu.json is for `cellclf report --benchmarks`, beside cpu.json.",
    ]


def _way(each: BreakEven, kind: str) -> str:
    way: Any = getattr(each, kind)
    if way is None or way.cost_per_million is None:
        return "– | –"
    return f"{way.describe}, batch {way.throughput_batch}: {way.images_per_second:,.0f} images/s | {way.cost_per_million.value:.3g}"
