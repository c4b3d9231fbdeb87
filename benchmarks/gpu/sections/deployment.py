"""Beyond speed: cellclf's own commands on each provider, and from how many images a day a GPU costs less than CPU cores."""

from pathlib import Path

from benchmarks.gpu.measurements import costs, gpu_measurements, pays_lines
from benchmarks.gpu.record import Result
from benchmarks.gpu.sittings import NOT_YET
from cellclf.studies.measurements import read_measurements

__all__ = ["break_even_lines", "command_lines"]


def command_lines(result: Result | None) -> list[str]:
    """What `cellclf verify` and `predict` do on each provider, as a user starts them."""
    tensorrt = f"`--device tensorrt`: {NOT_YET}; TensorRT's libraries are not on PyPI, so that no machine that was at hand had them."
    if result is None:
        return [f"`cellclf verify` and `cellclf predict` with `--device cuda` and `xla` (benchmarks/gpu/product.py): {NOT_YET}.", tensorrt]
    lines = [
        "| --device | provider | golden cases: largest difference | predict, s | images | largest difference from the CPU's answers |",
        "|---" * 6 + "|",
    ]
    for row in result.rows:
        if "invalid" in row:
            lines.append(f"| {row['device']} | invalid: {row['invalid'].replace('|', '/')} |||||")
            continue
        lines.append(
            f"| {row['device']} | {row['provider']} | {row['verified']['max_difference']:.1g} | {row['predict_s']:.1f} | {row['images']} "
            f"| {row['max_difference']:.1g} |"
        )
    return [*lines, "", tensorrt]


def break_even_lines(results: dict[str, Result], cpu: Path) -> list[str]:
    """Where a GPU pays. cpu: cpu.json, which need not exist."""
    if not results or not cpu.exists():
        return [f"From how many images a day a GPU costs less than CPU cores: {NOT_YET}."]
    on_cpu = read_measurements(cpu)
    return pays_lines(costs(on_cpu, gpu_measurements(results, on_cpu)))
