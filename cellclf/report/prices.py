"""PRICES: one row = what one kind of machine is taken to cost an hour; and what else a cost rests on. A user's own figures go before the table's."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from cellclf.documents import Document
from cellclf.studies.measurements import Measurement
from cellclf.tables import Table

__all__ = ["CPU", "PRICES", "USUAL_ASSUMPTIONS", "Assumptions", "MachineKind", "Price", "check_names", "measured_price", "price_of"]

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
    """

    price_per_hour: float | None = None
    prices: dict[str, float] = Field(default_factory=dict)
    utilisation: float = 0.5
    lifetime_images: int = 10_000_000
    grams_per_kwh: float = 400.0


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


def check_names(assumed: Assumptions, measurements: Iterable[Measurement]) -> None:
    """Raise UnknownNameError for a price of what is neither in PRICES nor measured."""
    known = {name for measured in measurements for name in (measured.machine, measured.gpu) if name}
    for name in assumed.prices:
        if name not in known:
            PRICES.find(name)


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
