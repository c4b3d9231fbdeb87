"""How a file runs fastest on this machine: settings measured in turns, those with other numbers left out, the default kept unless beaten."""

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from cellclf.artifact.golden import golden_image
from cellclf.card import ModelFile
from cellclf.environment import usable_cores
from cellclf.errors import InferenceError, MissingExtraError, ModelFileError, ProviderUnavailableError
from cellclf.gains import Gain
from cellclf.runtime.plan import Machine, Plan
from cellclf.runtime.providers import PROVIDERS, parse_device
from cellclf.runtime.rate import images_per_second
from cellclf.runtime.session import Session, open_session

__all__ = ["DEFAULT_DEVICES", "Measured", "Setting", "Tuning", "chosen", "tune"]

DEFAULT_DEVICES = ("cpu", "openvino")
"""What tune tries when nothing is named: providers that compute in the file's own precision on any machine."""

_ROUNDS = 5
"""Times each setting is measured, in turns, so that a busy moment meets all of them."""

_DEFAULT = PROVIDERS["cpu"]
_BATCHES = (1, _DEFAULT.batch, 16)
_GPU_BATCHES = (16, 64, 256)
_LONGEST_CALL_SHARE = 0.02
"""Of the time to spend, that one call of a batch may take; larger batches of slow networks are not tried."""

OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """A provider with options, and how it is used: `sessions` calls at a time of `threads` threads, `batch` images each."""

    device: str
    threads: int
    sessions: int
    batch: int
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        extra = "".join(f" {name}={value}" for name, value in self.options.items())
        return f"{self.device}{extra}, {self.sessions} × {self.threads} threads, batch {self.batch}"


@dataclass(frozen=True)
class Measured:
    """A setting's images a second, round by round, and its ratios to the default's of the same rounds."""

    setting: Setting
    images_per_second: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def images_per_second_median(self) -> float:
        """Median over the rounds."""
        return median(self.images_per_second)

    @property
    def gain(self) -> float:
        """Median ratio to the default; 1.1 is a tenth faster."""
        return Gain(self.ratios).value

    @property
    def noise(self) -> float:
        """How far single ratios are from each other: half their range, without the smallest and the largest."""
        return Gain(self.ratios).noise

    @property
    def better(self) -> bool:
        """Whether it beats the default by more than the noise."""
        return Gain(self.ratios).better


@dataclass(frozen=True)
class Tuning:
    """Everything that was measured, one image at a time and many; providers left out, and why; the plan, None = the default is as good."""

    single: tuple[Measured, ...]
    many: tuple[Measured, ...]
    left_out: Mapping[str, str]
    plan: Plan | None


def tune(file: ModelFile, *, devices: Sequence[str] | None = None, seconds: float = 30, on_stage: OnStage | None = None) -> Tuning:
    """Measure for about `seconds` after opening. devices: names of PROVIDERS that may be used, None = those of DEFAULT_DEVICES that are there.

    Raises UnknownNameError; ProviderUnavailableError where the default itself cannot be run.
    """
    stage = on_stage or (lambda _name, _done, _total: None)
    wanted = list(dict.fromkeys(["cpu", *(devices or DEFAULT_DEVICES)]))
    for device in wanted:
        parse_device(device)
    cores = usable_cores()
    opened = _Opened(file, cores)
    for number, device in enumerate(wanted):
        stage("opening", number, len(wanted))
        opened.try_device(device)
    stage("opening", len(wanted), len(wanted))
    if "cpu" in opened.left_out:
        raise ProviderUnavailableError(f"the default, device cpu, cannot be tuned against: {opened.left_out['cpu']}")
    singles = [Setting(device, threads, 1, 1, options) for device, options in opened.usable for threads in _counts(cores)]
    longest = seconds * _LONGEST_CALL_SHARE
    many = [
        Setting(device, threads, cores // threads, batch, options)
        for device, options in opened.usable
        for threads in _counts(cores)
        for batch in _batches(device)
        if batch == _DEFAULT.batch or opened.seconds_an_image * batch * (cores // threads) <= longest
    ]
    window = seconds / (_ROUNDS * (len(singles) + len(many)))
    measured_singles = _measure(opened, singles, Setting("cpu", cores, 1, 1), window, "one image", stage)
    measured_many = _measure(opened, many, Setting("cpu", 1, cores, _DEFAULT.batch), window, "many images", stage)
    return Tuning(measured_singles, measured_many, opened.left_out, chosen(file.fingerprint, measured_singles, measured_many))


def chosen(fingerprint: str, single: Sequence[Measured], many: Sequence[Measured]) -> Plan | None:
    """The plan: the provider that is best for one image and for many together; None where it beats the default in neither beyond the noise."""

    def best(measured: Sequence[Measured], provider: tuple[str, Mapping[str, str]]) -> Measured:
        return max((each for each in measured if (each.setting.device, each.setting.options) == provider), key=lambda each: each.gain)

    providers = [(each.setting.device, each.setting.options) for each in many]
    one, lot = max(((best(single, provider), best(many, provider)) for provider in providers), key=lambda pair: pair[0].gain * pair[1].gain)
    worse = any(each.gain + each.noise < 1 for each in (one, lot))
    if worse or not (one.better or lot.better):
        return None
    return Plan(
        model=fingerprint,
        machine=Machine.this(),
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        device=lot.setting.device,
        options=dict(lot.setting.options),
        single_threads=one.setting.threads,
        sessions=lot.setting.sessions,
        threads=lot.setting.threads,
        batch=lot.setting.batch,
        images_per_second=lot.images_per_second_median,
        single_ms=1000 / one.images_per_second_median,
        gain=lot.gain,
        single_gain=one.gain,
        noise=max(one.noise, lot.noise),
    )


class _Opened:
    """Sessions of a file by setting, and the providers that give the file's own numbers."""

    def __init__(self, file: ModelFile, cores: int) -> None:
        self.file = file
        self.cores = cores
        self.usable: list[tuple[str, Mapping[str, str]]] = []
        self.left_out: dict[str, str] = {}
        self.seconds_an_image = 0.0
        card = file.card
        self.images = np.stack([golden_image(case.seed, height_px=card.height_px, width_px=card.width_px) for case in card.golden])
        self._expected = np.array([case.probabilities for case in card.golden], dtype=np.float32)
        self._sessions: dict[tuple[str, int, int, tuple[tuple[str, str], ...]], Session] = {}

    def session(self, setting: Setting) -> Session:
        """The session for a setting; batches do not matter to it."""
        key = (setting.device, setting.threads, setting.sessions, tuple(sorted(setting.options.items())))
        if key not in self._sessions:
            self._sessions[key] = open_session(
                self.file.content,
                device=setting.device,
                threads=setting.threads,
                sessions=setting.sessions,
                precision=self.file.card.precision,
                options=setting.options,
            )
        return self._sessions[key]

    def try_device(self, device: str) -> None:
        """Take a provider, with each set of its options, if it opens and gives the golden cases within the file's own tolerance."""
        target = parse_device(device)
        if target is None:
            return
        for options in ({}, *target.provider.variants):
            name = f"{device}{''.join(f' {key}={value}' for key, value in options.items())}"
            try:
                reason = self._wrong_numbers(self.session(Setting(device, self.cores, 1, 1, options)))
            except (ProviderUnavailableError, MissingExtraError, ModelFileError, InferenceError) as error:
                reason = str(error)
            if reason:
                self.left_out[name] = reason
            else:
                self.usable.append((device, options))

    def _wrong_numbers(self, session: Session) -> str | None:
        """Replay the golden cases alone and together, in the sizes that are measured."""
        allowed = self.file.card.golden_tolerance
        largest = 0.0
        for size in (1, *_batches(session.target.provider.name)):
            rows = np.resize(np.arange(len(self.images)), size)
            started = time.perf_counter()
            found = session.run(self.images[rows])
            if session.target.provider.name == "cpu":
                self.seconds_an_image = (time.perf_counter() - started) / size
            largest = max(largest, float(np.abs(found - self._expected[rows]).max()))
        return None if largest <= allowed else f"gives other numbers: golden cases differ by up to {largest:.2g}, the file allows {allowed:.2g}"


def _measure(opened: _Opened, settings: Sequence[Setting], default: Setting, window: float, name: str, stage: OnStage) -> tuple[Measured, ...]:
    """All settings in turns, so many rounds; the default is one of them, and comes first."""
    ordered = [default, *(setting for setting in settings if setting != default or setting.options)]
    work = [(opened.session(setting), np.resize(opened.images, (setting.batch, *opened.images.shape[1:])), setting) for setting in ordered]
    rates: list[list[float]] = [[] for _ in ordered]
    for session, images, setting in work:
        images_per_second(session, images, seconds=0, callers=setting.sessions)  # what is made on first use is made here
    for turn in range(_ROUNDS):
        for number, (session, images, setting) in enumerate(work):
            stage(f"measuring {name}", turn * len(work) + number, _ROUNDS * len(work))
            rates[number].append(images_per_second(session, images, seconds=window, callers=setting.sessions))
    stage(f"measuring {name}", _ROUNDS * len(work), _ROUNDS * len(work))
    return tuple(
        Measured(setting, tuple(found), tuple(rate / first for rate, first in zip(found, rates[0], strict=True)))
        for setting, found in zip(ordered, rates, strict=True)
    )


def _batches(device: str) -> tuple[int, ...]:
    """Batches to try on a provider."""
    target = parse_device(device)
    return _GPU_BATCHES if target is not None and target.provider.gpu else _BATCHES


def _counts(cores: int) -> Iterator[int]:
    """Threads a call to try: one, and all."""
    yield from dict.fromkeys((1, cores))
