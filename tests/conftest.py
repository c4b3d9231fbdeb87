"""Shared material, made once a session: a small drawn sample, a run trained on it, and its exported file."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# A slow or busy machine is no failure.
settings.register_profile("cellclf", deadline=None)
settings.load_profile("cellclf")

# Nothing of the user's own is read or written. Set before any test module is imported.
_HOME = Path(tempfile.mkdtemp(prefix="cellclf-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
REAL_DATA = os.environ.get("CELLCLF_DATA")
REAL_WEIGHTS = os.environ.get("CELLCLF_WEIGHTS")
os.environ["CELLCLF_CACHE"] = str(_HOME / "cache")
os.environ["CELLCLF_DATA"] = str(_HOME / "data")
os.environ["KAGGLEHUB_CACHE"] = str(_HOME / "kaggle")
os.environ["KERAS_HOME"] = str(_HOME / "keras")
os.environ.pop("CELLCLF_WEIGHTS", None)
os.environ.pop("CELLCLF_RUNS", None)
os.environ["NO_COLOR"] = "1"

from cellclf.artifact.decisions import Wishes  # noqa: E402
from cellclf.artifact.export import export  # noqa: E402
from cellclf.data.prepare import DataRequest  # noqa: E402
from cellclf.data.sample import write_sample  # noqa: E402
from cellclf.training.recipe import Recipe, make_recipe  # noqa: E402
from cellclf.training.run import Run  # noqa: E402
from cellclf.training.train import train  # noqa: E402

# What this process's own TensorFlow sets must not reach the commands under test.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND")}


_SLOWEST = (
    "tests/training/test_train.py",
    "tests/benchmarks_gpu/test_check.py",
    "tests/studies/test_runner.py",
    "tests/artifact/test_leftovers.py",
    "tests/cli/test_study.py",
    "tests/training/test_network.py",
)
"""Files of minutes. They go first, so that no process ends with one of them while the other has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; the others keep their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(_SLOWEST))


@dataclass(frozen=True)
class Completed:
    """A finished command: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def sample_folder() -> Path:
    """The built-in sample, small: 8 + 4 images a label, where `--data sample` finds it."""
    folder = _HOME / "data" / "sample"
    write_sample(folder, train_per_label=8, test_per_label=4)
    return folder


def small_recipe(**choices: object) -> Recipe:
    """Two epochs of the smallest backbone on the sample, from a random start."""
    defaults: dict[str, object] = {"image_size_px": 48, "weights": "none", "epochs": 2, "batch_size": 8, "patience": 0, "augmentation": "none"}
    return make_recipe("mobilenet025", DataRequest(data="sample"), **{**defaults, **choices})


@pytest.fixture(scope="session")
def finished_run(sample_folder: Path) -> Run:
    """A run of `small_recipe`."""
    assert sample_folder.is_dir()
    return train(small_recipe(), _HOME / "runs" / "small")


@pytest.fixture(scope="session")
def model_file(finished_run: Run) -> Path:
    """The run's exported fp32 file."""
    return export(finished_run, _HOME / "exported" / "small.onnx").path


@pytest.fixture(scope="session")
def two_label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn lymphocytes and neutrophils, 24 + 16 images a label, in train/ and test/."""
    folder = tmp_path_factory.mktemp("drawn")
    write_sample(folder / "all", train_per_label=24, test_per_label=16)
    for part in ("TRAIN", "TEST"):
        for label in ("LYMPHOCYTE", "NEUTROPHIL"):
            shutil.copytree(folder / "all" / part / label, folder / "two" / part.lower() / label)
    return folder / "two"


@pytest.fixture(scope="session")
def two_label_run(two_label_folder: Path) -> Run:
    """A network that tells two labels apart a little better than chance: there is a threshold to choose, and something to be unsure of."""
    request = DataRequest(data=str(two_label_folder), group_rule=r"/(slide\d+)_[^/]*$")
    choices = {"epochs": 6, "batch_size": 8, "patience": 0, "augmentation": "none", "learning_rate": 2e-3, "deterministic": True}
    recipe = make_recipe("mobilenet025", request, image_size_px=48, weights="none", **choices)
    return train(recipe, _HOME / "two-labels" / "runs" / "two")


@pytest.fixture(scope="session")
def deciding_file(two_label_run: Run) -> Path:
    """The two-label run's file with a temperature, a threshold and a band without an answer."""
    wishes = Wishes(calibrate=True, positive="NEUTROPHIL", min_sensitivity=0.5, min_coverage=0.4)
    return export(two_label_run, _HOME / "exported" / "deciding.onnx", wishes=wishes).path


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Completed]:
    """Run `cellclf` in a process of its own, in an empty folder: cli("predict", "a.png", stdin=…)."""

    def run(*arguments: str | Path, stdin: str = "", **environment: str) -> Completed:
        done = subprocess.run(
            [sys.executable, "-m", "cellclf", *map(str, arguments)],
            cwd=tmp_path,
            env={**_ENVIRONMENT, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    return run
