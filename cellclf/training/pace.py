"""Which batch size and precision train a network quickest on this machine: measured in turns, the default kept unless beaten, and remembered.

Each precision has a process of its own (`pacer`), for Keras knows one at a time. This half imports no framework.
"""

import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, PositiveFloat

from cellclf.documents import Document
from cellclf.environment import cpu_name, gpus, installed_versions, usable_cores
from cellclf.errors import CellclfError, RunError, StoredFileError
from cellclf.gains import Gain
from cellclf.storage import cache_folder
from cellclf.training.framework import require_installed
from cellclf.training.progress import Progress
from cellclf.training.recipe import PositiveInt, Recipe, TrainingPrecision

__all__ = ["AUTO", "Pace", "Paces", "quickest"]

AUTO = "auto"
"""What a user gives for a batch size or precision that is to be measured."""

PRECISIONS: tuple[TrainingPrecision, ...] = ("float32", "mixed_bfloat16")
CPU_BATCHES, GPU_BATCHES = (16, 32, 64), (32, 64, 128, 256)
_ROUNDS = 5
_WINDOW_S = 1.0
_WORTH = 1.05
"""A default is left for no less: another batch size or precision also changes what is learned, if little, and of many ways one is luckiest."""

_LONGEST_STEP_S = 5.0
"""Batches larger than the default are not tried where one of its steps takes longer."""

_Way = tuple[TrainingPrecision, int]

_VERSIONS = ("cellclf", "keras", "tensorflow", "jax")


class Question(Document):
    """What the answer depends on: the network, and the machine with the versions that train.

    steps: raised with what a training step is; 2: images are varied by one layer.
    """

    steps: Literal[2] = 2
    backbone: str
    image_size_px: PositiveInt
    hidden: tuple[PositiveInt, ...]
    freeze: str
    augmentation: str
    deterministic: bool
    precisions: tuple[TrainingPrecision, ...]
    batch_sizes: tuple[PositiveInt, ...]
    """Empty: those that are tried on such a machine."""
    default: tuple[TrainingPrecision, PositiveInt]
    backend: str
    cpu: str
    cores: PositiveInt
    gpus: tuple[str, ...]
    versions: dict[str, str]


class Pace(Document):
    """One way to train, and its images a second, round by round."""

    model_config = ConfigDict(allow_inf_nan=False)

    precision: TrainingPrecision
    batch_size: PositiveInt
    images_per_second: Annotated[tuple[PositiveFloat, ...], Field(min_length=_ROUNDS, max_length=_ROUNDS)]

    def __str__(self) -> str:
        return f"{self.precision} at batch {self.batch_size}"


class Paces(Document):
    """All ways that were measured, the default first; those left out, with the reason."""

    format: Literal[1] = 1
    question: Question
    measured: str
    paces: Annotated[tuple[Pace, ...], Field(min_length=1)]
    left_out: dict[str, str]

    def gain(self, pace: Pace) -> Gain:
        """Against the default, round by round."""
        return Gain([own / first for own, first in zip(pace.images_per_second, self.paces[0].images_per_second, strict=True)])

    @property
    def best(self) -> Pace:
        """The quickest of those that beat the default by a twentieth and by more than the noise; the default where none does."""
        better = [pace for pace in self.paces if self.gain(pace).better and self.gain(pace).value >= _WORTH]
        return max(better, key=lambda pace: self.gain(pace).value, default=self.paces[0])

    def __str__(self) -> str:
        others = ", ".join(f"{pace} {self.gain(pace).value:.2f} ± {self.gain(pace).noise:.2f}" for pace in self.paces[1:])
        return f"quickest here: {self.best}; against {self.paces[0]}, measured {self.measured}: {others}"


def quickest(recipe: Recipe, *, precision: bool, batch_size: bool, progress: Progress | None = None) -> Paces:
    """Measure the recipe's network, or remember: its precision, its batch size or both are to be chosen, and its own are the default.

    Raises CellclfError where features are computed once, MissingExtraError without Keras, RunError where the default itself cannot be trained.
    """
    watcher = progress or Progress()
    if recipe.features_once:
        raise CellclfError(
            f"{AUTO} measures training steps of the whole network; with a frozen backbone the features are computed once: give a value"
        )
    require_installed()
    question = _question(recipe, precision=precision, batch_size=batch_size)
    path = cache_folder() / "paces" / f"{hashlib.sha256(question.model_dump_json().encode()).hexdigest()}.json"
    if path.is_file():
        try:
            kept = Paces.read(path)
            if kept.question == question and (kept.paces[0].precision, kept.paces[0].batch_size) == question.default:
                return kept
        except StoredFileError as error:
            watcher.note(f"measured anew: {error}")
    found, died = _measured(recipe, question, watcher)
    if not died:  # what too little memory did today is nothing to remember
        try:
            found.write(path)
        except OSError as error:  # the answer is worth minutes, and is here
            watcher.note(f"not remembered: {path}: {error.strerror}")
    return found


def _question(recipe: Recipe, *, precision: bool, batch_size: bool) -> Question:
    default = (recipe.precision, recipe.batch_size)
    versions = installed_versions()
    return Question(
        backbone=recipe.backbone,
        image_size_px=recipe.image_size_px,
        hidden=recipe.hidden,
        freeze=recipe.freeze,
        augmentation=recipe.augmentation,
        deterministic=recipe.deterministic,
        precisions=tuple(dict.fromkeys((default[0], *PRECISIONS))) if precision else default[:1],
        batch_sizes=() if batch_size else default[1:],
        default=default,
        backend=os.environ.get("KERAS_BACKEND") or "tensorflow",
        cpu=cpu_name(),
        cores=usable_cores(),
        gpus=gpus(),
        versions={name: versions[name] for name in _VERSIONS if name in versions},
    )


def _measured(recipe: Recipe, question: Question, watcher: Progress) -> tuple[Paces, bool]:
    """Every precision's process opened, then all ways in turns, so many rounds, each beginning with another; and whether a process died of one."""
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as opened:
        processes: dict[TrainingPrecision, _Process] = {}
        for number, precision in enumerate(question.precisions):
            watcher.stage("building", number, len(question.precisions))
            process = opened.enter_context(_Process(recipe.model_copy(update={"precision": precision})))
            try:
                process.open()
                processes[precision] = process
            except RunError as error:
                left_out[precision] = str(error)
        watcher.stage("building", len(question.precisions), len(question.precisions))
        first, usual = question.default
        if first not in processes:
            raise RunError(f"{first} cannot be trained here: {left_out[first]}")
        sizes = question.batch_sizes or tuple(sorted({usual, *(CPU_BATCHES if processes[first].cpu else GPU_BATCHES)}))
        rates: dict[_Way, list[float]] = {question.default: []}
        rates |= {(precision, size): [] for precision in processes for size in sizes}
        slow = usual / processes[first].rate(usual, 0.0) > _LONGEST_STEP_S
        for way in [way for way in rates if slow and way[1] > usual]:
            del rates[way]
            left_out[f"{way[0]} at batch {way[1]}"] = f"a step of the default takes over {_LONGEST_STEP_S:g} s"
        died = bool(set(question.precisions) - set(processes)) | _in_turns(rates, processes, question.default, left_out, watcher)
    paces = tuple(Pace(precision=way[0], batch_size=way[1], images_per_second=tuple(found)) for way, found in rates.items())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Paces(question=question, measured=today, paces=paces, left_out=left_out), died


def _in_turns(
    rates: dict[_Way, list[float]], processes: Mapping[TrainingPrecision, "_Process"], default: _Way, left_out: dict[str, str], watcher: Progress
) -> bool:
    """Fill `rates` round by round; a way that a process dies of moves to left_out. Whether one did; raises RunError where the default does."""
    died = False
    for turn in range(_ROUNDS):
        for number, way in enumerate(_rotated(list(rates), turn)):
            watcher.stage("measuring training steps", turn * len(rates) + number, _ROUNDS * len(rates))
            if way not in rates:
                continue
            try:
                rates[way].append(_rate(processes[way[0]], way[1], again=way == default))
            except RunError as error:
                lost = dict.fromkeys(_lost(processes[way[0]], way[0], rates), "its process could not be opened again") | {way: str(error)}
                if default in lost:
                    raise
                for each, reason in lost.items():
                    left_out[f"{each[0]} at batch {each[1]}"] = reason
                    del rates[each]
                died = True
    watcher.stage("measuring training steps", 1, 1)
    return died


def _rotated(ways: list[_Way], turn: int) -> list[_Way]:
    start = turn % len(ways)
    return ways[start:] + ways[:start]


def _rate(process: "_Process", batch: int, *, again: bool) -> float:
    """Images a second; again: once more in a new process where it dies, as of memory that another one took."""
    try:
        return process.rate(batch, _WINDOW_S)
    except RunError:
        if not again:
            raise
        process.open()
        return process.rate(batch, _WINDOW_S)


def _lost(process: "_Process", precision: TrainingPrecision, rates: Iterable[_Way]) -> list[_Way]:
    """The ways that are lost with a process that died and cannot be opened again."""
    try:
        process.open()
    except RunError:
        return [way for way in rates if way[0] == precision]
    return []


class _Process:
    """A pacer, and what it says last where it dies."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.cpu = True
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self._errors.close()

    def open(self) -> None:
        """Start it, anew where it died; raises RunError."""
        self._end()
        # Two processes on one GPU: neither may take all its memory.
        environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cellclf.training.pacer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.cpu = bool(self._ask(self.recipe.model_dump_json())["cpu"])

    def rate(self, batch: int, seconds: float) -> float:
        """Images a second; raises RunError where the process dies of it, as of too little memory."""
        return float(self._ask(json.dumps({"batch": batch, "seconds": seconds}))["images_per_second"])

    def _ask(self, line: str) -> dict[str, float]:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            why = "the system killed it, likely for its memory" if code < 0 else said[-1] if said else "it said nothing"
            raise RunError(f"the process that tried it ended with {code}: {why}")
        found: dict[str, float] = json.loads(answer)
        return found

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process = None
        self._errors.seek(0)
        self._errors.truncate()
