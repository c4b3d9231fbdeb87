"""What the benchmarks share: how much to measure, on which images and machine."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.steadiness import NEEDED, Plan
from cellclf.data.datasets import DATASETS, find, locate
from cellclf.environment import Environment

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "exported" / "blood-cells-mobilenet025.onnx"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--quick (the default) or --full."""
    chosen = parser.getgroup("cellclf").addoption
    chosen("--full", action="store_true", help="measure everything: over an hour on 2 cores, and up to 20 GB of memory")
    chosen("--quick", action="store_true", help="measure one backbone and the exported files, in at most 5 minutes on 2 cores (the default)")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse both at once; register the marker."""
    if config.getoption("--full") and config.getoption("--quick"):
        raise pytest.UsageError("--quick and --full cannot be had at once")
    config.addinivalue_line("markers", "full: measured with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only --full measures."""
    if not config.getoption("--full"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("full")])
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether everything is to be measured."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture(scope="session")
def plan(full: bool) -> Plan:
    """Windows of each contestant."""
    return Plan(max_rounds=NEEDED + (2 if full else 1))


@pytest.fixture(scope="session")
def races(full: bool) -> Plan:
    """Windows where everyone's must agree in the same rounds (benchmarks.race)."""
    return Plan(max_rounds=4 * NEEDED if full else NEEDED + 1)


@pytest.fixture(scope="session")
def environment() -> Environment:
    """This machine, asked once."""
    return Environment.of_this_machine()


@pytest.fixture(scope="session")
def python() -> str:
    """This environment's interpreter."""
    return sys.executable


@pytest.fixture(scope="session")
def cells(full: bool) -> list[str]:
    """512 images, 256 unless everything is measured: the blood-cell test set where it is here, else the drawn sample's, repeated."""
    count = 512 if full else 256
    real = find(DATASETS["blood-cells"])
    folder = (real or locate(DATASETS["sample"])) / "TEST"
    images = sorted(path for path in folder.rglob("*.jpeg"))
    step = max(1, len(images) // count)
    return [str(path) for path in (images[::step] * (count // len(images[::step]) + 1))[:count]]


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leave the machine's name out; what it is stands in the environment."""
    machine_info.pop("node", None)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Store the environment beside the figures."""
    output_json["environment"] = Environment.of_this_machine(provider="CPUExecutionProvider").model_dump(mode="json")
