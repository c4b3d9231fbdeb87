"""Cold starts, each a process of its own."""

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.conftest import MODEL, compare


def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def test_help(benchmark: Any, python: str) -> None:
    """Target: ≤ 0.4 s."""
    benchmark.pedantic(lambda: run(python, "-m", "cellclf", "--help"), rounds=10, warmup_rounds=1)
    benchmark.extra_info["target_s"] = 0.4


def test_predict_of_one_image_against_importing_onnxruntime(benchmark: Any, python: str, cells: list[Path]) -> None:
    """Target: ≤ 3 times the import, that is peer / ours ≥ 1/3."""
    compare(
        benchmark,
        lambda: run(python, "-m", "cellclf", "predict", cells[0], "--model", MODEL, "--device", "cpu"),
        lambda: run(python, "-c", "import onnxruntime"),
        rounds=10,
        target=1 / 3,
    )
