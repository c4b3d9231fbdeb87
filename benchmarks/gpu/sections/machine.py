"""The machine of each sitting, and its ceilings: matrix rates, bandwidths and rooflines."""

from benchmarks.gpu.record import Result, title
from benchmarks.gpu.sittings import NOT_YET

__all__ = ["ceiling_lines", "machine_lines"]


def machine_lines(found: dict[str, Result]) -> list[str]:
    """A line a sitting: card, driver, clocks, CPU and versions."""
    if not found:
        return [f"GPU: {NOT_YET}."]
    lines = []
    for name, result in found.items():
        gpu, environment = result.machine.gpu, result.machine.environment
        packages = {**environment.packages, **result.machine.packages}
        commit = f", commit {environment.git_commit}" if environment.git_commit else ""
        versions = ", ".join(f"{package} {version}" for package, version in packages.items())
        lines.append(
            f"- {name} (`{result.command}`{commit}): {gpu['name']}, driver {gpu['driver_version']}, clocks after the work SM "
            f"{gpu['clocks.sm']}, memory {gpu['clocks.mem']}, {gpu['temperature.gpu']} °C; {environment.cpu}, {environment.cores} cores; "
            f"Python {environment.python}, {versions}"
        )
    return lines


def ceiling_lines(result: Result | None) -> list[str]:
    """What the card can do at most, as measured, and each backbone's roofline."""
    if result is None:
        return [f"Matrix rates, bandwidths and rooflines: {NOT_YET}."]
    lines = ["| | |", "|---|---|"]
    for row in result.rows:
        if "tflops" in row:
            lines.append(f"| {row['what']}, {row['size']}³ | {row['tflops']:.0f} TFLOP/s |")
        elif "gb_per_second" in row:
            lines.append(f"| {row['what']} | {row['gb_per_second']:.1f} GB/s |")
    lines += ["", "| backbone | px | multiply-adds | roofline at batch 256, images/s | layer by layer |", "|---|---|---|---|---|"]
    for row in result.rows:
        if row["what"] == "roofline" and row["batch"] == 256:
            lines.append(
                f"| {title(row['backbone'])} | {row['image_size_px']} | {row['multiply_adds'] / 1e9:.2f} G | {row['images_per_second']:,.0f} "
                f"| {row['layer_by_layer']:,.0f} |"
            )
    return [
        *lines,
        "",
        "Roofline: the longer of all arithmetic at the measured fp16 matrix rate, and every layer's input, weights and output moved once at the",
        "measured copy bandwidth. Layer by layer: each layer waits for the slower of its own two.",
    ]
