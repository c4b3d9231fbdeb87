"""Cold starts, each a process of its own that finds its packages' compiled bytecode, as after an installation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import MODEL
from benchmarks.race import Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan

CLOCK = ReplayClock()

pytestmark = [pytest.mark.benchmark(timer=CLOCK)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    """A folder of its own for compiled bytecode, filled in the warm-up: ours and the peer are measured with it wherever Python writes none."""
    yield {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


def command(environment: dict[str, str | None], *arguments: str | Path) -> Racer:
    """A program and its arguments, in that environment."""
    return Racer("command", {"arguments": list(map(str, arguments)), "environment": environment})


def test_help(benchmark: Any, python: str, environment: dict[str, str | None], races: Plan) -> None:
    """Target: ≤ 0.4 s."""
    against(benchmark, CLOCK, raced({"ours": command(environment, python, "-m", "cellclf", "--help")}, plan=races))
    benchmark.extra_info["target_s"] = 0.4


def test_predict_of_one_image_against_importing_onnxruntime(
    benchmark: Any, python: str, cells: list[str], environment: dict[str, str | None], races: Plan
) -> None:
    """Target: ≤ 3 times the import, that is peer / ours ≥ 1/3."""
    ours = command(environment, python, "-m", "cellclf", "predict", cells[0], "--model", MODEL, "--device", "cpu")
    peer = command(environment, python, "-c", "import onnxruntime")
    against(benchmark, CLOCK, raced({"ours": ours, "import onnxruntime": peer}, plan=races), peer="import onnxruntime", target=1 / 3)
