"""Cold starts, each a process of its own that finds its packages' compiled bytecode, as after an installation."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import MODEL, compare


@pytest.fixture(scope="module", autouse=True)
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of its own for compiled bytecode, filled in the warm-up round: ours and the peer are measured with it wherever Python writes none."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patched.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=dict(os.environ))


def test_help(benchmark: Any, python: str, full: bool) -> None:
    """Target: ≤ 0.4 s."""
    benchmark.pedantic(lambda: run(python, "-m", "cellclf", "--help"), rounds=10 if full else 5, warmup_rounds=1)
    benchmark.extra_info["target_s"] = 0.4


def test_predict_of_one_image_against_importing_onnxruntime(benchmark: Any, python: str, cells: list[Path], full: bool) -> None:
    """Target: ≤ 3 times the import, that is peer / ours ≥ 1/3."""
    compare(
        benchmark,
        lambda: run(python, "-m", "cellclf", "predict", cells[0], "--model", MODEL, "--device", "cpu"),
        lambda: run(python, "-c", "import onnxruntime"),
        rounds=20 if full else 5,
        target=1 / 3,
    )
