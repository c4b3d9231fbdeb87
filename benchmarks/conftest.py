"""What the benchmarks share: how much to measure, and ours and a peer in turn, so that their ratio holds when the machine's speed drifts."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
def environment() -> Environment:
    """This machine, asked once."""
    return Environment.of_this_machine()


def compare(benchmark: Any, ours: Callable[[], Any], peer: Callable[[], Any], *, rounds: int, target: float | None) -> None:
    """Time `ours` with pytest-benchmark and `peer` before each round; keep the pairs and the median ratio peer / ours in extra_info."""
    peer_s: list[float] = []

    def run_peer() -> None:
        started = time.perf_counter()
        peer()
        peer_s.append(time.perf_counter() - started)

    benchmark.pedantic(ours, setup=run_peer, rounds=rounds, warmup_rounds=1)
    ours_s = benchmark.stats.stats.data
    ratios = [theirs / own for theirs, own in zip(peer_s[-len(ours_s) :], ours_s, strict=True)]
    benchmark.extra_info |= {
        "peer_median_s": statistics.median(peer_s[-len(ours_s) :]),
        "peer_over_ours": statistics.median(ratios),
        "peer_over_ours_lowest": min(ratios),
        "peer_over_ours_highest": max(ratios),
        "target": target,
        "load_average": os.getloadavg()[0],
    }


@pytest.fixture(scope="session")
def python() -> str:
    """This environment's interpreter."""
    return sys.executable


@pytest.fixture(scope="session")
def cells(full: bool) -> list[Path]:
    """512 images, 256 unless everything is measured: the blood-cell test set where it is here, else the drawn sample's, repeated."""
    count = 512 if full else 256
    real = find(DATASETS["blood-cells"])
    folder = (real or locate(DATASETS["sample"])) / "TEST"
    images = sorted(path for path in folder.rglob("*.jpeg"))
    step = max(1, len(images) // count)
    return (images[::step] * (count // len(images[::step]) + 1))[:count]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="cellclf-bench-") as folder:
        yield Path(folder)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leave the machine's name out; what it is stands in the environment."""
    machine_info.pop("node", None)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Store the environment beside the figures."""
    output_json["environment"] = Environment.of_this_machine(provider="CPUExecutionProvider").model_dump(mode="json")
