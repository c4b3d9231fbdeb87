"""What the machine did during a window: what others took of it, its clocks, the energy its counters tell. Linux: /proc, /sys; NVML."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Energy", "Machine", "Ticks", "card_energy", "gpu_memory_mb", "package_energy", "read_ticks", "watched"]

_BUSY = (0, 1, 2, 5, 6)  # proc(5), /proc/stat: user, nice, system, irq, softirq; 3 and 4 are idle and iowait
_STEAL = 7
_COUNTED = 8  # what follows is guests' time, which user holds already


@dataclass(frozen=True)
class Ticks:
    """Seconds since boot, summed over all cores: at work, taken by the hypervisor for others, and passed."""

    busy_s: float
    steal_s: float
    passed_s: float

    def others(self, since: "Ticks", own_s: float) -> float:
        """Share of the machine that anyone but us worked with since then; own_s: our processor time in between."""
        return max(0.0, self.busy_s - since.busy_s - own_s) / max(self.passed_s - since.passed_s, 1e-9)

    def stolen(self, since: "Ticks") -> float:
        """Share of the machine that the hypervisor gave to others since then."""
        return (self.steal_s - since.steal_s) / max(self.passed_s - since.passed_s, 1e-9)


@dataclass(frozen=True)
class Machine:
    """The machine during one window; None where the system does not tell. joules: of the packages, or of the card where that is what ran."""

    others_share: float | None = None
    stolen_share: float | None = None
    mhz: float | None = None
    load_average: float | None = None
    joules: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Energy:
    """A counter of joules, or why there is none."""

    read: Callable[[], float] | None
    why_not: str = ""


def read_ticks(stat: str | None = None) -> Ticks | None:
    """The first line of /proc/stat; None where there is no such file."""
    try:
        text = Path("/proc/stat").read_text(encoding="ascii") if stat is None else stat
    except OSError:
        return None
    values = [int(value) / os.sysconf("SC_CLK_TCK") for value in text.splitlines()[0].split()[1:]]
    return Ticks(sum(values[at] for at in _BUSY), values[_STEAL], sum(values[:_COUNTED]))


@contextlib.contextmanager
def watched(energy: Energy, found: list[Machine], own_s: Callable[[], float]) -> Iterator[None]:
    """Append to `found` what the machine did meanwhile; own_s, asked at the end, is the processor time that was ours."""
    before, joules = read_ticks(), energy.read() if energy.read else None
    yield
    after = read_ticks()
    others = stolen = None
    if before and after:
        others, stolen = after.others(before, own_s()), after.stolen(before)
    spent = energy.read() - joules if energy.read and joules is not None else None
    found.append(Machine(others, stolen, _mhz(), os.getloadavg()[0] if hasattr(os, "getloadavg") else None, spent))


def package_energy(root: Path = Path("/sys/class/powercap")) -> Energy:
    """Joules of all processor packages (RAPL), whoever used them; a zone of the whole platform, which holds them too, is not added to them."""
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1 and _zone_name(zone) != "psys"]
    if not zones:
        return Energy(None, "this machine shows no RAPL counters (/sys/class/powercap)")
    counters = [_Counter(zone / "energy_uj", zone / "max_energy_range_uj") for zone in zones]
    try:
        for counter in counters:
            counter.joules()
    except OSError as error:
        return Energy(None, f"its RAPL counters cannot be read: {error.strerror}")
    return Energy(lambda: sum(counter.joules() for counter in counters))


def _zone_name(zone: Path) -> str:
    return (zone / "name").read_text(encoding="ascii").strip() if (zone / "name").exists() else ""


class _Counter:
    """A counter of microjoules that starts again at zero when it is full."""

    def __init__(self, path: Path, range_path: Path) -> None:
        self.path = path
        self.full = int(range_path.read_text()) if range_path.exists() else 0
        self.last = self.turns = 0

    def joules(self) -> float:
        now = int(self.path.read_text())
        self.turns += now < self.last
        self.last = now
        return (now + self.turns * self.full) / 1e6


def card_energy(index: int = 0) -> Energy:
    """Joules of one NVIDIA card (NVML), whoever used it."""
    with contextlib.ExitStack() as opened:
        nvml = _nvml(opened)
        if isinstance(nvml, str):
            return Energy(None, nvml)
        opened.pop_all()  # stays open as long as this process lives
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        try:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except nvml.NVMLError as error:
            return Energy(None, f"the card does not tell: {error}")
        return Energy(lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3)


def gpu_memory_mb(process: int, index: int = 0) -> float | str:
    """Megabytes that a process holds on one NVIDIA card, or why that is not known."""
    with contextlib.ExitStack() as opened:
        nvml = _nvml(opened)
        if isinstance(nvml, str):
            return nvml
        for each in nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(index)):
            if each.pid == process and each.usedGpuMemory is not None:
                return float(each.usedGpuMemory) / 1e6
    return "the driver does not tell this process's share"


def _nvml(opened: contextlib.ExitStack) -> Any:
    """NVML, open until the stack is; or why there is none."""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"no NVIDIA driver: {error}"
    opened.callback(pynvml.nvmlShutdown)
    return pynvml


def _mhz() -> float | None:
    """Mean clock of all cores as the system tells it now."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    values = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(values) / len(values) if values else None
