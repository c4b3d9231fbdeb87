"""What training costs: images a second, compiling, waiting for input; batch sizes and precisions in turn, so that the choice rests on figures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.contest import Window
from benchmarks.machine import Machine, package_energy, watched
from benchmarks.processes import Process, cores_for
from benchmarks.records import ReplayClock
from benchmarks.steadiness import NEEDED, Plan, Turns, in_turn
from benchmarks.subjects import STUDY_BACKBONES
from benchmarks.training_records import TRAINING_KEY, training_record
from cellclf.backbones import BACKBONES
from cellclf.environment import usable_cores

CLOCK = ReplayClock()
PRECISIONS = ("float32", "mixed_bfloat16")
BATCHES = (16, 32, 64)
LARGE_BATCHES = BATCHES[:2]
"""Of the networks a step of which takes seconds; their processes with batches of 64 would not fit into 24 GB beside one another."""

WINDOW_S = 1.5
"""A window trains for so long where input stalls are measured, in two steps or more; for one step, of seconds, elsewhere."""

IMAGES = 128
"""Images that are kept as the image cache keeps them."""

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Setting:
    """One backbone: which precisions and batch sizes meet in turn, at its own size or another. stall: whether each is measured with its input in
    memory too."""

    backbone: str
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    stall: bool
    image_size_px: int

    def __str__(self) -> str:
        return f"{self.backbone}-{self.image_size_px}"


@dataclass(frozen=True)
class Way:
    """One way to train: precision and batch size, with batches from the image cache, or one that stays in memory."""

    precision: str
    batch: int
    resident: bool


def setting(backbone: str, precisions: tuple[str, ...], batches: tuple[int, ...], *, stall: bool, image_size_px: int | None = None) -> Setting:
    """At the backbone's own size where none is given."""
    return Setting(backbone, precisions, batches, stall, image_size_px or BACKBONES[backbone].image_size_px)


_LEAST_STEPS = 2
SMALL = "mobilenet025"
QUICK = (setting(SMALL, PRECISIONS[:1], (32,), stall=True),)
FULL = (
    setting(SMALL, PRECISIONS, BATCHES, stall=True, image_size_px=128),
    setting(STUDY_BACKBONES[0], PRECISIONS, BATCHES, stall=True),
    *(setting(name, PRECISIONS, LARGE_BATCHES, stall=False) for name in STUDY_BACKBONES[1:]),
)
"""Input stalls are measured where a step is shortest, so that its input has the least time: slower networks wait less."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a backbone, precision and batch size."""
    chosen = FULL if metafunc.config.getoption("--full") else QUICK
    cases = [(setting, precision, batch) for setting in chosen for precision in setting.precisions for batch in setting.batches]
    metafunc.parametrize("setting,precision,batch", cases, ids=[f"{setting}-{precision}-b{batch}" for setting, precision, batch in cases])


class Gym:
    """The processes that train one backbone, one a precision, and what their windows gave."""

    def __init__(self, setting: Setting, plan: Plan) -> None:
        self.setting = setting
        self.size = setting.image_size_px
        self.processes = {precision: Process(cores=cores_for(usable_cores())) for precision in setting.precisions}
        self.opened: dict[str, dict[str, Any]] = {}
        self.rates: dict[str, float] = {}
        for precision, process in self.processes.items():
            self.opened[precision] = process.ask(
                "train_open",
                backbone=setting.backbone,
                image_size_px=self.size,
                precision=precision,
                augmentation="none",
                batch=setting.batches[0],
                images=IMAGES,
            )
            self.rates[precision] = process.ask("train_predict", batch=setting.batches[0])["images_per_second"]
            process.hold()
        feeds = (False, True) if setting.stall else (False,)
        ways = [Way(precision, batch, feed) for precision in setting.precisions for batch in setting.batches for feed in feeds]
        self._step_s: dict[Way, float] = {}
        for way in ways:
            if len(ways) > 1:  # a batch size or a feed that is new may be compiled anew
                self._step_s[way] = self._window(way, 0).call_s
        self.turns: dict[Way, Turns[Window]] = in_turn(ways, self._window, lambda window: 1 / window.call_s, plan=plan)

    def record(self, precision: str, batch: int) -> dict[str, Any]:
        """The figures of one precision and batch size."""
        return training_record(
            name={"backbone": self.setting.backbone, "image_size_px": self.size, "precision": precision, "batch": batch},
            files=self.turns[Way(precision, batch, False)],
            resident=self.turns.get(Way(precision, batch, True)),
            opened=self.opened[precision],
            predict_images_per_second=self.rates[precision],
            peak_ram_mb=self.processes[precision].ask("memory")["peak_ram_mb"],
        )

    def close(self) -> None:
        """End the processes."""
        for process in self.processes.values():
            process.close()

    def _window(self, way: Way, _: int) -> Window:
        found: list[Machine] = []
        answer: dict[str, Any] = {"cpu_s": 0.0}
        with watched(package_energy(), found, lambda: float(answer["cpu_s"])):
            steps = max(_LEAST_STEPS, round(WINDOW_S / self._step_s.get(way, WINDOW_S))) if self.setting.stall else 1
            answer |= self.processes[way.precision].ask("train_window", batch=way.batch, steps=steps, resident=way.resident)
        return Window(tuple(answer["samples_s"]), answer["wall_s"], answer["cpu_s"], found[0])


@pytest.fixture(scope="module")
def gyms() -> Iterator[dict[Setting, Gym]]:
    """One open at a time, whose figures are kept."""
    found: dict[Setting, Gym] = {}
    yield found
    for gym in found.values():
        gym.close()


def test_training(request: pytest.FixtureRequest, gyms: dict[Setting, Gym], full: bool, setting: Setting, precision: str, batch: int) -> None:
    if setting not in gyms:
        for other in gyms.values():
            other.close()
        gyms[setting] = Gym(setting, Plan(max_rounds=NEEDED + (2 if setting.stall else 1) if full else NEEDED))
    gym = gyms[setting]
    record = gym.record(precision, batch)
    benchmark: Any = request.getfixturevalue("benchmark")
    CLOCK.replay(benchmark, [sample for window in gym.turns[Way(precision, batch, False)].by_round.values() for sample in window.samples_s])
    benchmark.extra_info |= {TRAINING_KEY: record}
    assert record["images_per_second"] > 0
