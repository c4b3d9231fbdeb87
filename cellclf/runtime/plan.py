"""A plan: how a file is run fastest on this machine, as `cellclf tune` measured it, kept in the cache folder until machine or versions change."""

from pathlib import Path
from typing import Literal

from cellclf.documents import Document
from cellclf.environment import cpu_name, installed_versions, usable_cores
from cellclf.errors import StoredFileError
from cellclf.runtime.providers import gpu_count
from cellclf.storage import cache_folder

__all__ = ["Machine", "Plan", "load_plan", "plan_path"]


class Machine(Document):
    """What a plan holds for: another CPU, other cores or other versions may be fastest otherwise."""

    cpu: str
    cores: int
    gpus: int
    versions: dict[str, str]

    @classmethod
    def this(cls) -> "Machine":
        """This machine, with the versions that run files."""
        found = installed_versions()
        gpus = gpu_count()
        runtimes = ("cellclf", "onnxruntime", "onnxruntime-gpu", "openvino", *(("jax",) if gpus else ()))  # jax runs files on GPUs only
        versions = {name: found[name] for name in runtimes if name in found}
        return cls(cpu=cpu_name(), cores=usable_cores(), gpus=gpus, versions=versions)


class Plan(Document):
    """device and options: the provider. single_threads: CPU threads for one image. sessions, threads, batch: for many images.

    images_per_second, single_ms: measured so. gain, single_gain: against the default, 1.1 = a tenth faster. noise: how far such ratios varied.
    """

    format: Literal[1] = 1
    model: str
    machine: Machine
    measured: str
    device: str
    options: dict[str, str]
    single_threads: int
    sessions: int
    threads: int
    batch: int
    images_per_second: float
    single_ms: float
    gain: float
    single_gain: float
    noise: float

    def __str__(self) -> str:
        sessions, threads = (f"{count} {word}{'s' * (count > 1)}" for count, word in ((self.sessions, "session"), (self.threads, "thread")))
        return f"plan: {self.device}, {sessions} × {threads}, batch {self.batch}, measured {self.measured}"


def plan_path(fingerprint: str) -> Path:
    """Where the plan of the file with this SHA-256 is kept."""
    return cache_folder() / "plans" / f"{fingerprint}.json"


def load_plan(fingerprint: str) -> tuple[Plan | None, str | None]:
    """The plan for a file on this machine, if there is one, and a line that says which, or why the one that there is does not hold."""
    path = plan_path(fingerprint)
    if not path.exists():
        return None, None
    try:
        plan = Plan.read(path)
    except StoredFileError as error:
        return None, f"plan: not used, {error}"
    if plan.model != fingerprint or plan.machine != Machine.this():
        return None, f"plan: not used, what was measured {plan.measured} was another machine or other versions; measure again with cellclf tune"
    return plan, str(plan)
