"""What a prediction costs: every network × precision × provider × batch × threads × sessions, ours and the peers in turn, each in its own process.

The rows are records that `cellclf choose`, `cellclf cost` and the report read; benchmarks/compare.py compares two runs of it.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.contest import Contest, Entrant, Measured, entrants, usable_providers
from benchmarks.engines import OURS, UnavailableError
from benchmarks.labelled import TestImages, measured_accuracy, official_test, why_no_accuracy, write_pixels
from benchmarks.records import ReplayClock, all_samples, measurement, recorded
from benchmarks.steadiness import Plan
from benchmarks.subjects import STUDY_BACKBONES, Subject, subjects
from cellclf.card import Card
from cellclf.environment import Environment, usable_cores
from cellclf.errors import CellclfError
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.measurements import MeasuredAccuracy

CLOCK = ReplayClock()
SMALL, LARGE, PIPELINE = 1, 32, PROVIDERS["cpu"].batch
"""Batch sizes: one image, many, and what the files → predictions pipeline gives each of its sessions."""

NARROW = ("fp32", "int8")
"""Precisions that meet with one thread, and in several sessions."""

QUICK_TEST_IMAGES = 512

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Setting:
    """One contest: who meets on which network with how many threads and sessions, at which batch sizes."""

    subject: Subject
    threads: int
    sessions: int
    batches: tuple[int, ...]
    entrants: tuple[Entrant, ...]

    def __str__(self) -> str:
        return f"{self.subject}-t{self.threads}-s{self.sessions}"


def settings(*, full: bool) -> list[Setting]:
    """All cores in one session; with full also one thread, and one single-thread session a core, for the backbones of the studies."""
    cores, providers = usable_cores(), usable_providers()
    found = []
    for subject in subjects(full=full):
        known = subject.backbone in STUDY_BACKBONES or (full and subject.made == "exported")
        everyone = entrants(subject, providers, wide=known, sessions=1)
        narrow = tuple(each for each in entrants(subject, providers, wide=False, sessions=2) if each.precision in NARROW)
        found.append(Setting(subject, cores, 1, (SMALL, LARGE), tuple(each for each in everyone if full or quick(each))))
        if full and known and cores > 1:
            found += [Setting(subject, 1, 1, (SMALL,), narrow), Setting(subject, cores, cores, (PIPELINE,), narrow)]
    return found


def quick(entrant: Entrant) -> bool:
    """Half precision is what GPUs are for; on a CPU it is not for speed."""
    return entrant.precision != "fp16" or PROVIDERS[entrant.provider].gpu


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test an entrant and batch size, those of one contest together."""
    try:
        found = settings(full=bool(metafunc.config.getoption("--full")))
    except CellclfError as error:
        raise pytest.UsageError(str(error)) from error
    chosen = [(setting, batch, entrant) for setting in found for batch in setting.batches for entrant in setting.entrants]
    metafunc.parametrize("setting,batch,entrant", chosen, ids=[f"{setting}-b{batch}-{entrant}" for setting, batch, entrant in chosen])


class Arena:
    """The contest that is open; another setting closes it."""

    def __init__(self, plan: Plan, test_images: int | None) -> None:
        self.plan, self.test_images = plan, test_images
        self.setting: Setting | None = None
        self.contest: Contest | None = None
        self._answers: dict[Entrant, npt.NDArray[np.float32]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._images: TestImages | None = None

    def of(self, setting: Setting) -> Contest:
        """The setting's contest, with its network made where it is not there yet."""
        if self.contest is None or setting is not self.setting:
            self.close()
            subject = setting.subject.ready()
            self.contest = Contest(subject, setting.entrants, threads=setting.threads, sessions=setting.sessions, plan=self.plan)
            self.setting = setting
        return self.contest

    def accuracy(self, entrant: Entrant, card: Card) -> MeasuredAccuracy:
        """Of the very process that was measured, on the official test images."""
        assert self.contest is not None
        pixels = self._test_pixels(card)
        fp32 = next((each for each in self.contest.entrants if (each.engine, each.precision, each.provider) == (OURS, "fp32", "cpu")), None)
        for each in (fp32, entrant):
            if each is not None and each not in self._answers:
                self._answers[each] = self.contest.predict(each, pixels, pixels.with_name("probabilities.npy"))
        assert self._images is not None
        return measured_accuracy(card, self._images, self._answers[entrant], None if fp32 is None else self._answers[fp32])

    def _test_pixels(self, card: Card) -> Path:
        """The official test images as one .npy file, written once a contest."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cellclf-bench-")
            self._images = official_test(card, limit=self.test_images)
            write_pixels(self._images.files, card, Path(self._folder.name) / "images.npy")
        return Path(self._folder.name) / "images.npy"

    def close(self) -> None:
        """End the processes."""
        self._answers = {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self.contest is not None:
            self.contest.__exit__(None, None, None)
        self.contest = self.setting = None


@pytest.fixture(scope="module")
def arena(plan: Plan, full: bool) -> Iterator[Arena]:
    """The module's contests, one at a time."""
    opened = Arena(plan, None if full else QUICK_TEST_IMAGES)
    yield opened
    opened.close()


def test_inference(request: pytest.FixtureRequest, arena: Arena, environment: Environment, setting: Setting, batch: int, entrant: Entrant) -> None:
    try:
        contest = arena.of(setting)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the network of {setting.subject} could not be made: {error}")
    outcomes = contest.measured(batch)
    outcome = outcomes[entrant]
    if isinstance(outcome, UnavailableError):
        pytest.skip(str(outcome))
    if not isinstance(outcome, Measured):
        raise outcome
    card = contest.subject.card
    assert card is not None
    whole = setting.threads == usable_cores() and setting.sessions == 1 and batch == setting.batches[-1]
    no_accuracy = why_no_accuracy(card) or ("" if whole and entrant.engine == OURS else "measured in the largest batch of ours only")
    benchmark: Any = request.getfixturevalue("benchmark")  # asked for late: it complains where a test fails before it is used
    CLOCK.replay(benchmark, all_samples(outcome))
    found = measurement(
        contest.subject,
        entrant,
        outcome,
        batch=batch,
        threads=setting.threads,
        sessions=setting.sessions,
        environment=environment,
        accuracy=None if no_accuracy else arena.accuracy(entrant, card),
    )
    benchmark.extra_info |= recorded(found, entrant, outcome, outcomes, no_accuracy=no_accuracy)
    assert found.calls > 0
