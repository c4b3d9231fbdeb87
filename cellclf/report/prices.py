"""PRICES: one row = what one kind of machine is taken to cost an hour; and what else a cost rests on. A user's own figures go before the table's."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from cellclf.documents import Document
from cellclf.errors import StudyError
from cellclf.studies.measurements import Measurement
from cellclf.tables import Table

__all__ = [
    "CPU",
    "PRICES",
    "USUAL_ASSUMPTIONS",
    "Assumptions",
    "MachineKind",
    "Price",
    "check_assumptions",
    "decoding",
    "measured_price",
    "price_of",
    "rate_with_decoding",
]

CPU = "cpu-core"
"""The row that CPU machines are priced by."""

_ROUND = "a round assumption in the range of on-demand cloud prices, no quote"


@dataclass(frozen=True, kw_only=True)
class MachineKind:
    """name: as a user types it. price_per_hour: of a core where `per_core`, else of the whole machine, host included, in `currency`.

    gpu: regular expression for the card's name as the driver gives it; '' for a machine without one. date: when the price was written down; basis:
    what it rests on.
    """

    name: str
    title: str
    price_per_hour: float
    gpu: str = ""
    per_core: bool = False
    currency: str = "USD"
    date: str = "2026-11"
    basis: str = _ROUND


PRICES: Table[MachineKind] = Table(
    "machine",
    [
        MachineKind(name=CPU, title="one CPU core", price_per_hour=0.05, per_core=True),
        MachineKind(name="gpu-t4", title="one T4 with its host", price_per_hour=0.5, gpu=r"T4"),
        MachineKind(name="gpu-l4", title="one L4 with its host", price_per_hour=0.8, gpu=r"L4"),
        MachineKind(name="gpu-a10", title="one A10 with its host", price_per_hour=1.0, gpu=r"A10G?"),
        MachineKind(name="gpu-a100", title="one A100 with its host", price_per_hour=2.5, gpu=r"A100"),
        MachineKind(name="gpu-h100", title="one H100 with its host", price_per_hour=4.0, gpu=r"H100"),
        MachineKind(name="gpu-h200", title="one H200 with its host", price_per_hour=5.0, gpu=r"H200"),
    ],
)


class Assumptions(Document):
    """What turns a measurement into money and carbon.

    price_per_hour: of the whole CPU machine, before the table's price of its cores. prices: by row of PRICES, or by the machine or GPU that a
    measurement names. utilisation: share of the paid time in which the machine answers images at its measured throughput. lifetime_images: over how
    many images a training is spread. grams_per_kwh: CO₂ of the electricity, a round figure; a country's own may be a tenth or the double of it.
    decode_ms: milliseconds of one core to read, decode and resize an image's file; 0: images lie decoded in memory.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    price_per_hour: PositiveFloat | None = None
    prices: dict[str, PositiveFloat] = Field(default_factory=dict)
    utilisation: float = Field(default=0.5, gt=0, le=1)
    lifetime_images: PositiveInt = 10_000_000
    grams_per_kwh: NonNegativeFloat = 400.0
    decode_ms: NonNegativeFloat = 0.0


USUAL_ASSUMPTIONS = Assumptions()
"""What is assumed where nothing else is said."""


class Price(Document):
    """What a machine costs an hour. machine: its row in PRICES, or what the user called it; said: how the price came about, in words."""

    machine: str
    per_hour: float
    currency: str
    said: str


def price_of(assumed: Assumptions, *, machine: str = "", gpu: str | None = None, cores: int | None = None) -> Price | None:
    """The price of a machine by its name, its GPU's name or its cores; None where nothing gives one."""
    for name in (machine, gpu or ""):
        if name and name in assumed.prices:
            return Price(
                machine=name, per_hour=assumed.prices[name], currency=_currency(name), said=f"{name}: {assumed.prices[name]:g} an hour, given"
            )
    kind = PRICES.get(machine) or _kind_of(gpu)
    if kind is None:
        return None
    if not kind.per_core:
        return _listed(assumed, kind)
    if assumed.price_per_hour is not None:
        said = f"CPU machine: {assumed.price_per_hour:g} an hour, given"
        return Price(machine=kind.name, per_hour=assumed.price_per_hour, currency=kind.currency, said=said)
    if cores is None:
        return None
    one = _listed(assumed, kind)
    return one.model_copy(update={"per_hour": one.per_hour * cores, "said": f"{cores} cores: {one.per_hour * cores:g} an hour; {one.said}"})


def measured_price(assumed: Assumptions, measured: Measurement) -> Price | None:
    """The price of the machine that a measurement was made on."""
    return price_of(assumed, machine=measured.machine, gpu=measured.card, cores=measured.machine_cores)


def decoding(assumed: Assumptions) -> str:
    """Where a cost takes the images from, in words."""
    if not assumed.decode_ms:
        return "images decoded in memory: what reading, decoding and resizing files takes comes on top (--decode-ms)"
    return f"images from files: {assumed.decode_ms:g} ms of a core each to read, decode and resize (--decode-ms)"


def rate_with_decoding(assumed: Assumptions, measured: Measurement, rate: float) -> float:
    """Images a second from files where `rate` is that of images in memory: on a CPU the cores that answer decode, too; beside a GPU its host's do.

    Raises StudyError where decoding is asked for and how many cores a GPU's host has was not kept.
    """
    if not assumed.decode_ms:
        return rate
    core_s = assumed.decode_ms / 1000
    if measured.card is None:
        return 1 / (1 / rate + core_s / (measured.threads * measured.sessions))
    if measured.machine_cores is None:
        raise StudyError(f"--decode-ms: the measurements on {measured.card} do not tell how many cores its host has, which decode the images")
    return min(rate, measured.machine_cores / core_s)


def check_assumptions(assumed: Assumptions, measurements: Iterable[Measurement], trained_on_cores: Iterable[int] = ()) -> None:
    """Raise UnknownNameError for a price of what is neither in PRICES nor measured, StudyError for a price that would be of several machines.

    trained_on_cores: of the CPU machines that trained the models.
    """
    found = tuple(measurements)
    known = {name for measured in found for name in (measured.machine, measured.gpu) if name}
    for name in assumed.prices:
        if name not in known:
            PRICES.find(name)
    if assumed.price_per_hour is None:
        return
    if CPU in assumed.prices:
        raise StudyError(f"--price-per-hour and --price {CPU} both give a CPU machine's price; give one of them")
    cores = {measured.machine_cores for measured in found if measured.card is None and measured.machine not in assumed.prices}
    cores |= set(trained_on_cores)
    if len(cores) > 1:
        told = ", ".join(sorted("unknown" if count is None else str(count) for count in cores))
        raise StudyError(f"--price-per-hour is one machine's price, and these CPU machines differ in their cores ({told}); give --price {CPU}=X")


def _kind_of(gpu: str | None) -> MachineKind | None:
    if gpu is None:
        return PRICES[CPU]
    return next((kind for kind in PRICES.values() if kind.gpu and re.search(rf"\b(?:{kind.gpu})\b", gpu)), None)


def _listed(assumed: Assumptions, kind: MachineKind) -> Price:
    given = assumed.prices.get(kind.name)
    value = kind.price_per_hour if given is None else given
    how = f"{kind.date}, {kind.basis}" if given is None else "given"
    return Price(machine=kind.name, per_hour=value, currency=kind.currency, said=f"{kind.title}: {value:g} {kind.currency} an hour ({how})")


def _currency(name: str) -> str:
    return PRICES[name].currency if name in PRICES else PRICES[CPU].currency
