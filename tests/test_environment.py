import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cellclf.environment import PACKAGES, Environment, _cpu_quotas, commit_of, gpus, installed_versions, usable_cores

DISTRIBUTIONS = {distribution.name for distribution in importlib.metadata.distributions()}


def put_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def printed_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_versions_are_those_of_the_packages_that_are_installed() -> None:
    installed = {name.lower().replace("_", "-"): version for name, version in ((d.name, d.version) for d in importlib.metadata.distributions())}
    assert installed_versions() == {name: installed[name] for name in PACKAGES if name in installed}
    assert "numpy" in installed_versions()


def test_asking_for_versions_imports_none_of_the_packages() -> None:
    code = "import sys; from cellclf.environment import *; installed_versions(); print(*sys.modules)"
    assert not {"numpy", "tensorflow", "keras", "onnxruntime", "PIL"} & set(printed_by(code).split())


def test_the_usable_cores_are_at_least_one_and_no_more_than_the_machine_has() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_a_process_bound_to_one_core_may_use_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from cellclf.environment import usable_cores; print(usable_cores())"
    assert printed_by(code).strip() == "1"


def group(root: Path, name: str, quota: str) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "cpu.max").write_text(f"{quota}\n")


def test_a_quota_is_that_of_the_own_control_group_and_of_those_above(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "sys"
    membership.write_text("0::/pods/mine\n")
    group(root, "", "max 100000")
    group(root, "pods", "800000 100000")
    group(root, "pods/mine", "150000 100000")
    group(root, "pods/other", "10000 100000")
    assert _cpu_quotas(membership, root) == [1.5, 8.0]


def test_the_quota_of_version_1_is_the_containers_and_none_is_none(tmp_path: Path) -> None:
    assert _cpu_quotas(tmp_path / "nothing", tmp_path) == []
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert _cpu_quotas(tmp_path / "nothing", tmp_path) == []
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    assert _cpu_quotas(tmp_path / "nothing", tmp_path) == [2.0]


def test_cores_are_the_quota_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellclf.environment._cpu_quotas", lambda *_: [0.2, 64.0])
    assert usable_cores() == 1


def test_onnx_runtime_sends_and_keeps_nothing_of_how_it_is_used(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[1] / "exported" / "blood-cells-mobilenet025.onnx"
    code = f"from cellclf import Classifier; Classifier({str(shipped)!r}); import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    known = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CELLCLF_CACHE": str(tmp_path / "ours")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**known, **home})
    assert done.stdout.strip() == "1"
    assert not list(tmp_path.rglob("*onnxruntime*"))


@pytest.mark.skipif("openvino-telemetry" not in DISTRIBUTIONS, reason="OpenVINO, or the package that reports its use, is not installed")
def test_openvino_sends_and_keeps_nothing_of_how_it_is_used(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[1] / "exported" / "blood-cells-mobilenet025.onnx"
    code = (
        f"from cellclf import Classifier; Classifier({str(shipped)!r}, device='openvino'); import sys; print(sys.modules.get('openvino_telemetry'))"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CELLCLF_CACHE": str(tmp_path / "ours")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **home})
    assert done.stdout.strip() == "None"
    assert not (tmp_path / "intel").exists(), "what it would have reported is counted there"


def test_gpus_are_the_names_that_the_driver_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_program(tmp_path, "nvidia-smi", "echo 'NVIDIA H200 '\necho\necho 'NVIDIA L4'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ("NVIDIA H200", "NVIDIA L4")


def test_a_driver_that_fails_shows_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_program(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed'\nexit 9")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()


def test_without_nvidia_smi_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Environment.of_this_machine().git_commit is None


def test_the_commit_is_dirty_where_what_runs_differs_from_it_and_not_for_results(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    for name in ("code.py", "docs/results/page.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "x")):
        subprocess.run([*git, *words], check=True)
    clean = commit_of(tmp_path)
    assert clean is not None and re.fullmatch(r"[0-9a-f]{12}", clean)
    (tmp_path / "docs/results/page.md").write_text("2")
    assert commit_of(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path) == f"{clean}-dirty"


def test_the_environment_says_what_a_figure_was_made_with() -> None:
    found = Environment.of_this_machine(keras_backend="tensorflow", provider="CPUExecutionProvider")
    assert found.python == sys.version.split()[0]
    assert found.cores == usable_cores()
    assert found.memory_gib is None or 0.1 < found.memory_gib < 1e5
    assert found.cpu and found.platform
    assert (found.keras_backend, found.provider) == ("tensorflow", "CPUExecutionProvider")
    assert found.git_commit is None or re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", found.git_commit)


def test_the_environment_comes_back_from_its_file(tmp_path: Path) -> None:
    found = Environment.of_this_machine()
    found.write(tmp_path / "environment.json")
    assert Environment.read(tmp_path / "environment.json") == found
    assert json.loads((tmp_path / "environment.json").read_text())["provider"] is None
