"""What a contest found → pytest-benchmark's rows: the raw samples as its data, a Measurement, and what is needed to compare across commits."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import Entrant, Measured, Window
from benchmarks.engines import REFERENCE
from benchmarks.steadiness import NEEDED, TOLERANCE, Turns, spread
from benchmarks.subjects import Subject
from cellclf.card import read_model_file
from cellclf.environment import Environment, usable_cores
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.measurements import EXTRA_INFO_KEY, MeasuredAccuracy, Measurement, percentile

__all__ = ["PERCENTILES", "WINDOWS_KEY", "Ratios", "ReplayClock", "all_samples", "measurement", "ratios", "recorded", "window_rows"]

PERCENTILES = (50, 90, 95, 99)
WINDOWS_KEY = "windows"
"""Under which name a row keeps its windows: calls and seconds of each, and what the machine did meanwhile."""


class ReplayClock:
    """A clock that pytest-benchmark is given as its timer: it passes as much time in each call as the worker measured there.

    So pytest-benchmark's own figures, tables and JSON hold the raw samples of the process in which the engine really ran.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._samples: list[float] = []

    def __call__(self) -> float:
        """The time now."""
        return self.now

    def replay(self, benchmark: Any, samples_s: Sequence[float]) -> None:
        """Let pytest-benchmark time so many rounds that last as long as the samples."""
        self._samples = list(reversed(samples_s))
        benchmark.pedantic(self._one, rounds=len(samples_s), warmup_rounds=0)

    def _one(self) -> None:
        self.now += self._samples.pop()


@dataclass(frozen=True)
class Ratios:
    """How many times as quick as the reference in the same round: by wall time, and by processor time, which no busy neighbour stretches."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]


def ratios(turns: Turns[Window], reference: Turns[Window]) -> Ratios:
    """Pairs of windows of one round; calls are of one batch size, so that seconds a call compare. Rounds without processor time give none."""
    pairs = [(reference.by_round[number], window) for number, window in turns.by_round.items() if number in reference.by_round]
    by_processor = [(theirs.cpu_s / len(theirs.samples_s), own.cpu_s / len(own.samples_s)) for theirs, own in pairs]
    return Ratios(
        tuple(theirs.call_s / own.call_s for theirs, own in pairs),
        tuple(theirs / own for theirs, own in by_processor if theirs > 0 and own > 0),
    )


def measurement(
    subject: Subject,
    entrant: Entrant,
    measured: Measured,
    *,
    batch: int,
    threads: int,
    sessions: int,
    environment: Environment,
    accuracy: MeasuredAccuracy | None = None,
) -> Measurement:
    """The figures of the rounds that count."""
    assert subject.card is not None
    windows = [measured.turns.by_round[number] for number in measured.turns.counted]
    samples = [sample for window in windows for sample in window.samples_s]
    rates = [sessions * batch / window.call_s for window in windows]
    joules = [window.machine.joules for window in windows]
    images = batch * len(samples)
    file = subject.files[entrant.file]
    return Measurement(
        backbone=subject.backbone,
        image_size_px=subject.image_size_px,
        labels=len(subject.card.labels),
        precision=entrant.precision,  # the engines' table holds MeasuredPrecision only
        provider=measured.provider,
        batch=batch,
        threads=threads,
        sessions=sessions,
        calls=len(samples),
        latency_ms={str(percent): 1000 * percentile(samples, percent) for percent in PERCENTILES},
        images_per_second=sessions * batch / percentile(samples, 50),
        file_size_mb=file.stat().st_size / 1e6,
        model=file.name if subject.made == "exported" else subject.says,
        hardware=f"{environment.cpu}, {environment.cores} cores",
        made=subject.made,
        **_origin(subject, file),
        engine=entrant.engine,
        steady=measured.turns.steady,
        windows_images_per_second=tuple(rates),
        spread=spread(rates),
        load_s=measured.load_s,
        cold_start_s=measured.cold_start_s,
        peak_ram_mb=measured.peak_ram_mb,
        gpu_memory_mb=None if isinstance(measured.gpu_memory_mb, str) else measured.gpu_memory_mb,
        joules_per_image=None if None in joules else sum(filter(None, joules)) / images,
        accuracy=accuracy,
        cores=usable_cores(),
        gpu=next(iter(environment.gpus), None) if PROVIDERS[entrant.provider].gpu else None,
    )


def _origin(subject: Subject, file: Path) -> dict[str, str]:
    """Which file was measured, and of which run; nothing for random weights."""
    if subject.made == "skeleton":
        return {}
    read = read_model_file(file)
    return {
        "file_sha256": read.fingerprint,
        "recipe_fingerprint": read.card.recipe_fingerprint,
        "data_fingerprint": read.card.data_fingerprint,
    }


def recorded(found: Measurement, entrant: Entrant, measured: Measured, others: Mapping[Entrant, Any], *, no_accuracy: str = "") -> dict[str, Any]:
    """extra_info of a row: the measurement, its windows, its ratios to the reference of this run, and why a figure is missing."""
    reference = next((each for key, each in others.items() if key.engine == REFERENCE and isinstance(each, Measured)), None)
    paired = ratios(measured.turns, reference.turns) if reference else Ratios((), ())
    missing = {"joules_per_image": measured.no_energy, "gpu_memory_mb": measured.gpu_memory_mb, "accuracy": no_accuracy}
    return {
        EXTRA_INFO_KEY: found.model_dump(mode="json"),
        WINDOWS_KEY: [
            {"round": number, "calls": len(window.samples_s), "wall_s": window.wall_s, "cpu_s": window.cpu_s, **window.machine.as_dict()}
            for number, window in measured.turns.by_round.items()
        ],
        "counted_rounds": list(measured.turns.counted),
        "rule": {"windows": NEEDED, "tolerance": TOLERANCE},
        "reference": REFERENCE,
        "ratios": list(paired.wall),
        "processor_ratios": list(paired.processor),
        "ratio": statistics.median(paired.wall) if paired.wall else None,
        "entrant": str(entrant),
        "import_s": measured.import_s,
        "versions": measured.versions,
        "largest_difference_from_reference": measured.difference,
        "not_measured": {name: reason for name, reason in missing.items() if isinstance(reason, str) and reason},
    }


def window_rows(turns: Turns[Window]) -> list[dict[str, Any]]:
    """Each window with its raw samples and what the machine did meanwhile, as plain data."""
    return [
        {"round": number, "samples_s": list(window.samples_s), "wall_s": window.wall_s, "cpu_s": window.cpu_s, **window.machine.as_dict()}
        for number, window in turns.by_round.items()
    ]


def all_samples(measured: Measured) -> list[float]:
    """Seconds of every call of every window, in order."""
    return [sample for window in measured.turns.by_round.values() for sample in window.samples_s]
