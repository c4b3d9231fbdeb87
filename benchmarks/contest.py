"""Contestants on one network, each in its own process, measured in turn: while one works the others stand still."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.engines import ENGINES, OURS, REFERENCE, UnavailableError
from benchmarks.machine import Energy, Machine, card_energy, gpu_memory_mb, package_energy, watched
from benchmarks.processes import InvalidBenchmarkError, Process, cores_for, require_provider
from benchmarks.steadiness import Plan, Turns, in_turn
from benchmarks.subjects import Subject
from cellclf.runtime.engines.open_vino import load_openvino
from cellclf.runtime.providers import PROVIDERS, gpu_count, libraries, preload_gpu_libraries

__all__ = ["Contest", "Entrant", "Measured", "Window", "different_answers", "entrants", "usable_providers"]

ANSWERS_MAY_DIFFER = {"fp32": 1e-3, "fp16": 0.1, "bf16": 0.3, "int8": 0.4}
"""How far a probability may lie from the plain loop's in fp32, by precision: enough to see that it is the same network on the same pixels."""

Given = TypeVar("Given")

_HINT = "INFERENCE_PRECISION_HINT"
_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "xla": "jax"}
"""What each engine of the table is imported as."""


@dataclass(frozen=True)
class Entrant:
    """An engine in one precision on one provider; file: the precision of the file that it reads."""

    engine: str
    precision: str
    provider: str
    file: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.provider}-{self.precision}"


@dataclass(frozen=True)
class Window:
    """One window: seconds of each call, of the whole, of this process's processor, and what the machine did meanwhile."""

    samples_s: tuple[float, ...]
    wall_s: float
    cpu_s: float
    machine: Machine

    @property
    def call_s(self) -> float:
        """The median call."""
        return float(np.median(self.samples_s))


@dataclass(frozen=True)
class Measured:
    """What one entrant's windows at one batch size gave. cold_start_s: process start to first prediction, where this was the first batch size.

    gpu_memory_mb, no_energy: the figure or the joules' absence with its reason. difference: largest difference of a probability from the reference's.
    """

    turns: Turns[Window]
    provider: str
    load_s: float
    import_s: float
    cold_start_s: float | None
    peak_ram_mb: float | None
    gpu_memory_mb: float | str
    no_energy: str
    versions: dict[str, str]
    difference: float | None


Outcome = Measured | UnavailableError | InvalidBenchmarkError


def entrants(subject: Subject, providers: Sequence[str], *, wide: bool, sessions: int) -> list[Entrant]:
    """Who takes part, ours first. wide: fp16 and the Keras peers too. A file that the subject does not have is left out."""
    found = []
    for engine in ENGINES.values():
        if engine.one_session and (sessions > 1 or not wide):
            continue
        for precision, file in engine.precisions.items():
            if (subject.files and file not in subject.files) or (precision == "fp16" and not wide):
                continue
            if engine.name == OURS:
                found += [Entrant(OURS, ran, name, file) for name in providers if (ran := _computed_in(name, precision))]
            elif engine.provider in providers:
                found.append(Entrant(engine.name, precision, engine.provider, file))
    return found


def usable_providers() -> list[str]:
    """Rows of the providers table whose hardware, packages and libraries are here; whether they open is for the benchmark to find out."""
    gpus = gpu_count()
    if gpus:
        preload_gpu_libraries()
    found = [
        row
        for row in PROVIDERS.values()
        if importlib.util.find_spec(_PACKAGES[row.engine]) and (not row.gpu or (gpus and all(libraries(row).values())))
    ]
    return [row.name for row in found if row.options.get(_HINT) != "bf16" or _computes_bfloat16()]


def _computed_in(provider: str, file: str) -> str | None:
    """The precision in which a provider computes a file of that precision; None where it is not made for it."""
    hint = PROVIDERS[provider].options.get(_HINT)
    if hint is None:
        return file
    return {("f32", "fp32"): "fp32", ("f32", "int8"): "int8", ("bf16", "fp32"): "bf16"}.get((hint, file))


def _computes_bfloat16() -> bool:
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def different_answers(precision: str, difference: float | None) -> str | None:
    """The complaint where an engine's answers are too far from the reference's to be the same network's; None where they are not."""
    allowed = ANSWERS_MAY_DIFFER[precision]
    if difference is None or difference <= allowed:
        return None
    return f"its probabilities differ from the plain loop's by {difference:.2g}, {allowed:g} is allowed in {precision}: not the same network"


class Contest:
    """Open processes of all entrants on one subject. threads: of each entrant, all its sessions together."""

    def __init__(self, subject: Subject, entrants: Sequence[Entrant], *, threads: int, sessions: int, plan: Plan) -> None:
        self.subject, self.entrants, self.threads, self.sessions, self.plan = subject, tuple(entrants), threads, sessions, plan
        self._processes: dict[Entrant, Process] = {}
        self._opened: dict[Entrant, dict[str, Any]] = {}
        self._failed: dict[Entrant, UnavailableError | InvalidBenchmarkError] = {}
        self._batches: dict[int, dict[Entrant, Outcome]] = {}
        self._package = package_energy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes.values():
            process.close()

    def measured(self, batch: int) -> dict[Entrant, Outcome]:
        """Everyone's windows at this batch size; measured once. Processes are started at the first call."""
        if batch not in self._batches:
            first = not self._batches
            ready = [each for each in self.entrants if self._ready(each, batch, first=first)]
            reference = next((each for each in ready if each.engine == REFERENCE), None)
            answers = {each: self._tried(each, lambda process: process.ask("warm_up")["probabilities"]) for each in ready}
            alive = [each for each in ready if each not in self._failed]
            turns = in_turn(alive, self._window, lambda window: 1 / window.call_s, plan=self.plan, reference=reference)
            base = answers.get(reference) if reference else None
            answers |= {each: None for each in alive if not self._opened[each]["same_weights"]}
            found = {each: self._outcome(each, windows, _difference(answers[each], base)) for each, windows in turns.items()}
            self._batches[batch] = {**self._failed, **found}
        return self._batches[batch]

    def predict(self, entrant: Entrant, images: Path, into: Path) -> npt.NDArray[np.float32]:
        """Probabilities of a whole .npy file of images, from the very process that was measured."""
        self._processes[entrant].ask("predict", images=str(images), into=str(into))
        values: npt.NDArray[np.float32] = np.load(into)
        return values

    def _tried(self, entrant: Entrant, ask: Callable[[Process], Given]) -> Given | None:
        """What a request gives; None, with the entrant out of the contest, where it fails."""
        try:
            return ask(self._processes[entrant])
        except (UnavailableError, InvalidBenchmarkError) as error:
            self._failed[entrant] = error
            self._processes[entrant].close()
            return None

    def _ready(self, entrant: Entrant, batch: int, *, first: bool) -> bool:
        if first:
            self._processes[entrant] = Process(cores=cores_for(self.threads))
        return entrant not in self._failed and self._tried(entrant, lambda process: self._prepare(entrant, process, batch, first=first)) is not None

    def _prepare(self, entrant: Entrant, process: Process, batch: int, *, first: bool) -> bool:
        if first:
            self._opened[entrant] = process.ask(
                "open",
                engine=entrant.engine,
                file=str(self.subject.files[entrant.file]),
                precision=entrant.precision,
                provider=entrant.provider,
                threads=self.threads,
                sessions=self.sessions,
            )
            if entrant.engine == OURS:
                require_provider(PROVIDERS[entrant.provider].runs_as, self._opened[entrant]["provider"])
        self._opened[entrant] |= process.ask("prepare", batch=batch, image_size_px=self.subject.image_size_px)
        self._opened[entrant]["cold_start_s"] = time.perf_counter() - process.started if first else None
        process.hold()
        return True

    def _window(self, entrant: Entrant, _: int) -> Window | None:
        found: list[Machine] = []
        answer: dict[str, Any] = {"cpu_s": 0.0}
        with watched(self._energy(entrant), found, lambda: float(answer["cpu_s"])):
            answer |= self._tried(entrant, lambda process: process.ask("window", seconds=self.plan.window_s)) or {}
        if entrant in self._failed:
            return None
        return Window(tuple(answer["samples_s"]), answer["wall_s"], answer["cpu_s"], found[0])

    def _energy(self, entrant: Entrant) -> Energy:
        return card_energy() if PROVIDERS[entrant.provider].gpu else self._package

    def _outcome(self, entrant: Entrant, turns: Turns[Window], difference: float | None) -> Outcome:
        opened, process = self._opened[entrant], self._processes[entrant]
        memory = self._tried(entrant, lambda worker: worker.ask("memory"))
        if memory is None:
            return self._failed[entrant]
        complaint = different_answers(entrant.precision, difference)
        if complaint:
            return InvalidBenchmarkError(f"{entrant}: {complaint}")
        gpu = PROVIDERS[entrant.provider].gpu
        return Measured(
            turns=turns,
            provider=opened["provider"],
            load_s=opened["load_s"] + opened["prepare_s"],
            import_s=opened["import_s"],
            cold_start_s=opened["cold_start_s"],
            peak_ram_mb=memory["peak_ram_mb"],
            gpu_memory_mb=gpu_memory_mb(process.id) if gpu else "it runs on the CPU",
            no_energy=self._energy(entrant).why_not,
            versions=opened["versions"],
            difference=difference,
        )


def _difference(answer: Any, base: Any) -> float | None:
    """Largest difference of two answers to the same images."""
    return None if answer is None or base is None else float(np.abs(np.array(answer) - np.array(base)).max())
