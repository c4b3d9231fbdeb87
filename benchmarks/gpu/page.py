"""JSON of the GPU scripts → docs/results/gpu.md; no figure is typed. Where a script has not run on a GPU, the page says so.

Reads docs/results/gpu/*.json, where the JSON that came back from the machine is put.
"""

from pathlib import Path

from benchmarks.gpu.measurements import as_benchmark_json, gpu_measurements
from benchmarks.gpu.sections.deployment import break_even_lines, command_lines
from benchmarks.gpu.sections.inference import inference_lines
from benchmarks.gpu.sections.machine import ceiling_lines, machine_lines
from benchmarks.gpu.sections.study import study_lines
from benchmarks.gpu.sections.training import depthwise_lines, training_lines
from benchmarks.gpu.sittings import NOT_YET, measured_on_a_gpu, sittings
from cellclf.studies.measurements import read_measurements

__all__ = ["RESULTS", "page"]

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def main() -> None:
    """Write the page, and gpu.json for `cellclf report` and `choose`."""
    (RESULTS / "gpu.md").write_text(page(RESULTS / "gpu"), encoding="utf-8")
    if measured := sittings("inference", measured_on_a_gpu(RESULTS / "gpu")):
        found = gpu_measurements(measured, read_measurements(RESULTS / "cpu.json"))
        (RESULTS / "gpu.json").write_text(as_benchmark_json(found), encoding="utf-8")


def page(folder: Path) -> str:
    """The whole page from the JSON files in a folder, which need not exist."""
    found = measured_on_a_gpu(folder)
    missing = "" if found else f" So far every table is empty: {NOT_YET}."
    lines = [
        "# GPU",
        "",
        f"Written by `python -m benchmarks.gpu.page` from gpu/*.json; no figure is typed.{missing}",
        "How the figures are made: benchmarks/gpu/README.md.",
        "Weights do not change the speed: networks are filled with seeded random weights, and their numbers are compared with fp32 on the CPU first.",
    ]
    lines += ["", "## Machine", "", *machine_lines(found)]
    lines += ["", "## Ceilings", "", *ceiling_lines(found.get("ceilings"))]
    lines += ["", "## Inference, fp16", "", *inference_lines(sittings("inference", found), found.get("ceilings"))]
    lines += ["", "## cellclf's own commands", "", *command_lines(found.get("product"))]
    lines += ["", "## When a GPU pays", "", *break_even_lines(sittings("inference", found), folder.parent / "cpu.json")]
    lines += ["", "## Training speed, bf16", "", *training_lines(sittings("training", found))]
    lines += ["", "## Depthwise convolutions in training, JAX", "", *depthwise_lines(found.get("depthwise"))]
    lines += ["", "## The four-backbone blood-cell study", "", *study_lines(sittings("study", found))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
