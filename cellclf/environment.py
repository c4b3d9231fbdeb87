"""What machine and which versions a result was made with. Imports storage only; knows no framework."""

import math
import os
import platform
import shutil
import subprocess
from pathlib import Path

from cellclf.documents import Document

__all__ = ["PACKAGES", "Environment", "commit_of", "cpu_name", "gpus", "installed_versions", "usable_cores"]

PACKAGES = ("cellclf", "numpy", "pillow", "onnxruntime-gpu", "onnxruntime", "openvino", "keras", "tensorflow", "jax", "tf2onnx", "onnx")


class Environment(Document):
    """The machine and the versions behind a figure."""

    python: str
    platform: str
    cpu: str
    cores: int
    memory_gib: float | None
    gpus: tuple[str, ...]
    packages: dict[str, str]
    git_commit: str | None
    keras_backend: str | None = None
    provider: str | None = None

    @classmethod
    def of_this_machine(cls, *, keras_backend: str | None = None, provider: str | None = None) -> "Environment":
        """Ask this machine; starts nvidia-smi and git where they are installed."""
        return cls(
            python=platform.python_version(),
            platform=platform.platform(),
            cpu=cpu_name(),
            cores=usable_cores(),
            memory_gib=_memory_gib(),
            gpus=gpus(),
            packages=installed_versions(),
            git_commit=commit_of(Path(__file__).resolve().parent.parent),
            keras_backend=keras_backend,
            provider=provider,
        )


def usable_cores() -> int:
    """Cores this process may use: its CPU affinity where the system tells, else all; no more than its control group's quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = _cpu_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def _cpu_quotas(membership: Path, root: Path) -> list[float]:
    """Processor seconds a second that control groups grant: the process's own group (version 2), those above it, and the container's (version 1).

    A container's limit, as `docker run --cpus` and Kubernetes set it, is such a quota; affinity does not show it.
    """
    own = next((line[3:] for line in _text_of(membership).splitlines() if line.startswith("0::")), "/")
    group = root / own.strip("/")
    found = [_text_of(folder / "cpu.max").split() for folder in (group, *group.parents) if folder.is_relative_to(root)]
    found.append([_text_of(root / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])
    return [int(words[0]) / int(words[1]) for words in found if len(words) == 2 and all(word.isdigit() for word in words)]


def _text_of(path: Path) -> str:
    """A system file's text; empty where there is none."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def installed_versions() -> dict[str, str]:
    """Version of each package of PACKAGES that is installed; imports none of them."""
    import importlib.metadata  # email, sockets …: predict starts without it

    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs the driver shows, in its order; empty without a driver."""
    return tuple(_lines_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]))


def cpu_name() -> str:
    """The processor as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return None


def commit_of(root: Path) -> str | None:
    """The commit of a checkout, "-dirty" where what runs differs from it; None where the folder is none. Results in docs/ run nothing."""
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    lines = _lines_of([*git, "describe", "--always", "--abbrev=12", "--exclude=*"])
    if not lines:
        return None
    told = _lines_of([*git, "status", "--porcelain", "--branch", "--untracked-files=no", "--", ".", ":(exclude)docs"])
    return lines[0] if len(told) == 1 else f"{lines[0]}-dirty"  # the branch's line alone; a status that failed vouches for nothing


def _lines_of(command: list[str]) -> list[str]:
    """Lines a program prints; empty where it is not installed, fails or hangs."""
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
