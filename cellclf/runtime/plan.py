"""A plan: how a file is run fastest on this machine, as `cellclf tune` measured it, kept in the cache folder until machine or versions change."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from cellclf.documents import Document
from cellclf.environment import cpu_name, installed_versions, usable_cores
from cellclf.errors import StoredFileError, UnknownNameError
from cellclf.runtime.providers import gpu_count, parse_device
from cellclf.storage import cache_folder

__all__ = ["Machine", "Plan", "load_plan", "plan_path"]

_LARGEST_BATCH = 1024


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

    model_config = ConfigDict(allow_inf_nan=False)

    format: Literal[1] = 1
    model: str
    machine: Machine
    measured: str
    device: str
    options: dict[str, str]
    single_threads: PositiveInt
    sessions: PositiveInt
    threads: PositiveInt
    batch: Annotated[PositiveInt, Field(le=_LARGEST_BATCH)]
    images_per_second: PositiveFloat
    single_ms: PositiveFloat
    gain: PositiveFloat
    single_gain: PositiveFloat
    noise: NonNegativeFloat

    @model_validator(mode="after")
    def _can_be_of_its_machine(self) -> Self:
        """A file that was damaged or written by hand must not fail where nobody asked for it, nor turn on what `tune` never tried."""
        try:
            target = parse_device(self.device)
        except UnknownNameError as error:
            raise ValueError(str(error)) from error
        if target is None or (target.provider.gpu and target.index >= self.machine.gpus):
            raise ValueError(f"{self.device} is no provider of its machine")
        if self.options and self.options not in [dict(variant) for variant in target.provider.variants]:
            raise ValueError(f"{self.options} are no options that are tried with {self.device}")
        if max(self.single_threads, self.sessions * self.threads) > self.machine.cores:
            raise ValueError(f"more threads than its machine's {self.machine.cores} cores")
        return self

    def __str__(self) -> str:
        sessions, threads = (f"{count} {word}{'s' * (count > 1)}" for count, word in ((self.sessions, "session"), (self.threads, "thread")))
        return f"plan: {self.device}, {sessions} × {threads}, batch {self.batch}, measured {self.measured}"


def plan_path(fingerprint: str) -> Path:
    """Where the plan of the file with this SHA-256 is kept."""
    return cache_folder() / "plans" / f"{fingerprint}.json"


def load_plan(fingerprint: str) -> tuple[Plan | None, str | None]:
    """The plan for a file on this machine, if there is one, and a line that says which, or why the one that there is does not hold."""
    try:
        path = plan_path(fingerprint)
        if not path.exists():
            return None, None
        plan = Plan.read(path)
    except (StoredFileError, OSError, RuntimeError) as error:  # no home to look in, or one that is closed to us: nobody asked for a plan
        return None, f"plan: not used, {error}"
    if plan.model != fingerprint or plan.machine != Machine.this():
        return None, f"plan: not used, what was measured {plan.measured} was another machine or other versions; measure again with cellclf tune"
    return plan, str(plan)
