"""Each script at a tiny size on the CPU, in a process of its own, where its packages are installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.product import compared

ROOT = Path(__file__).resolve().parents[2]


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip where a package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def run(module: str, *arguments: str | Path, **environment: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.gpu.{module}", "--check", *map(str, arguments)]
    known = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**known, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def carry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny skeletons: made here where TensorFlow is, else of a folder named in CELLCLF_GPU_CHECK_CARRY."""
    given = os.environ.get("CELLCLF_GPU_CHECK_CARRY")
    if given:
        return Path(given)
    if importlib.util.find_spec("tf2onnx") is None:
        pytest.skip("tf2onnx is not installed, and CELLCLF_GPU_CHECK_CARRY names no skeletons")
    folder = tmp_path_factory.mktemp("carry")
    run("prepare", "--carry", folder, "--backbones", "mobilenet")
    return folder


def test_the_artifact_s_graph_runs_bound_and_agrees_with_fp32(carry: Path, tmp_path: Path) -> None:
    out = run("inference", "--carry", carry, "--out", tmp_path, "--backbones", "mobilenet", "--engines", "onnxruntime")
    stored = json.loads((tmp_path / "inference.json").read_text())
    assert stored["check"]
    assert [row["batch"] for row in stored["rows"]] == [4, 1]
    for row in stored["rows"]:
        assert row["provider"] == "CPUExecutionProvider"
        assert row["max_difference"] < 0.02
        assert row["fp32_spread"] > 0.01, "the images are told apart"
        assert all(found["choice"]["search"] in ("HEURISTIC", "EXHAUSTIVE") for found in row["tried"])
    assert "onnxruntime     mobilenet" in out


@needs("jax")
def test_the_graph_runs_on_xla_and_agrees_with_fp32(carry: Path, tmp_path: Path) -> None:
    out = run("inference", "--carry", carry, "--out", tmp_path, "--backbones", "mobilenet", "--engines", "xla")
    rows = json.loads((tmp_path / "inference.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [4, 1]
    for row in rows:
        assert row["provider"] == "XLA:CPU"
        assert row["max_difference"] < 0.02
        assert set(row["choice"]) == {"pointwise", "strided", "graph"}
    assert "xla             mobilenet" in out


def test_the_command_line_answers_on_each_device_and_the_answers_are_compared(tmp_path: Path) -> None:
    run("product", "--out", tmp_path)
    rows = json.loads((tmp_path / "product.json").read_text())["rows"]
    assert [(row["provider"], row["images"], row["max_difference"]) for row in rows] == [("CPUExecutionProvider", 100, 0.0)] * 2
    assert all(row["verified"]["provider"] == "CPUExecutionProvider" for row in rows)


def test_other_answers_are_told_apart() -> None:
    rows: list[dict[str, Any]] = [{"answers": {"a": [0.5, 0.5]}}, {"answers": {"a": [0.25, 0.75]}}, {"invalid": "no GPU"}]
    assert compared(rows) == [{"images": 1, "max_difference": 0.0}, {"images": 1, "max_difference": 0.25}, {"invalid": "no GPU"}]


def test_a_second_run_does_nothing_again(carry: Path, tmp_path: Path) -> None:
    arguments = ("inference", "--carry", carry, "--out", tmp_path, "--backbones", "mobilenet", "--engines", "onnxruntime")
    assert "onnxruntime-mobilenet: ready after" in run(*arguments)
    assert "ready after" not in run(*arguments)


@needs("torch", "torchvision")
def test_the_peer_does_our_multiply_adds_and_ceilings_come_with_rooflines(carry: Path, tmp_path: Path) -> None:
    run("inference", "--carry", carry, "--out", tmp_path, "--backbones", "mobilenet", "--engines", "torch.compile")
    run("ceilings", "--carry", carry, "--out", tmp_path)
    for row in json.loads((tmp_path / "inference.json").read_text())["rows"]:
        assert row["multiply_adds_over_ours"] == pytest.approx(1, abs=0.02)
    rooflines = [row for row in json.loads((tmp_path / "ceilings.json").read_text())["rows"] if row["what"] == "roofline"]
    assert {row["batch"] for row in rooflines} == {1, 256}
    assert all(row["images_per_second"] > 0 for row in rooflines)


@needs("keras", "jax")
def test_steps_on_resident_data_learn(tmp_path: Path) -> None:
    fast = {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    result = tmp_path / "row.json"
    run("engine_keras", "--backbone", "mobilenet025", "--batch", "2", "--size", "32", "--parts", "plain", "--result", result, **fast)
    plain = json.loads(result.read_text())["plain"]
    assert plain["compile_s"] > 0
    assert plain["last_loss"] < plain["first_loss"]


@pytest.mark.slow
@needs("keras", "jax")
def test_a_study_s_run_goes_on_from_its_checkpoint_to_the_same_figures(sample_folder: Path, tmp_path: Path) -> None:
    assert sample_folder.is_dir()
    arguments = ("study", "--variations", "mobilenet", "--epochs", "1", "--data", "sample", "--batch", "8")
    places = ("--runs", tmp_path / "runs", "--out", tmp_path)
    run(*arguments, *places)
    first = json.loads((tmp_path / "study-resident.json").read_text())["rows"]
    assert first[0]["done"] == 1
    (tmp_path / "runs" / "resident" / "mobilenet" / "result.json").unlink()
    run(*arguments, *places)
    whole, again = json.loads((tmp_path / "study-resident.json").read_text())["rows"]
    assert whole["wall_s"] > first[0]["wall_s"]
    assert again["history"] == first[1]["history"]
    assert again["test_accuracy"] == pytest.approx(first[1]["test_accuracy"])
