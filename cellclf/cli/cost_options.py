"""Options of what turns measurements into money, which `report`, `study report` and `choose` share."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from cellclf.errors import StudyError

if TYPE_CHECKING:
    from cellclf.report.prices import Assumptions

__all__ = ["DecodeOption", "GramsOption", "LifetimeOption", "PriceOption", "PricePerHourOption", "UtilisationOption", "assumptions"]

_COST_PANEL = "Cost"

PricePerHourOption = Annotated[
    float | None, typer.Option(help="What the whole CPU machine costs an hour. Default: a round price a core.", rich_help_panel=_COST_PANEL)
]
PriceOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=X", help="What another machine costs an hour, as gpu-h200=4.5; several times.", rich_help_panel=_COST_PANEL),
]
UtilisationOption = Annotated[
    float, typer.Option(min=0.001, max=1, help="Share of the paid time in which the machine answers images.", rich_help_panel=_COST_PANEL)
]
LifetimeOption = Annotated[int, typer.Option(min=1, help="Images over which the cost of a training is spread.", rich_help_panel=_COST_PANEL)]
GramsOption = Annotated[float, typer.Option(help="CO₂ of a kilowatt-hour, g.", rich_help_panel=_COST_PANEL)]
DecodeOption = Annotated[
    float,
    typer.Option(
        help="Milliseconds of a core to read, decode and resize a file, added to each image. 0: images lie decoded in memory.",
        rich_help_panel=_COST_PANEL,
    ),
]


def assumptions(
    *,
    price_per_hour: float | None,
    price: list[str] | None,
    utilisation: float,
    lifetime_images: int,
    grams_per_kwh: float,
    decode_ms: float,
) -> "Assumptions":
    """Options as Assumptions; raises StudyError naming what is no price, and no number that can be counted with."""
    from cellclf.report.prices import Assumptions

    if price_per_hour is not None and not (price_per_hour > 0 and math.isfinite(price_per_hour)):
        raise StudyError(f"--price-per-hour {price_per_hour:g} is no price; give what the machine costs an hour")
    for name, value in (("--grams-per-kwh", grams_per_kwh), ("--decode-ms", decode_ms)):
        if not (value >= 0 and math.isfinite(value)):
            raise StudyError(f"{name} {value:g} must be 0 or more")
    named = [_named(text) for text in price or []]
    if twice := [name for place, (name, _) in enumerate(named) if name in dict(named[:place])]:
        raise StudyError(f"--price {twice[0]} is given twice")
    return Assumptions(
        price_per_hour=price_per_hour,
        prices=dict(named),
        utilisation=utilisation,
        lifetime_images=lifetime_images,
        grams_per_kwh=grams_per_kwh,
        decode_ms=decode_ms,
    )


def _named(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        price = float(value)
    except ValueError:
        price = 0.0
    if not name or not 0 < price < float("inf"):
        raise StudyError(f"--price {text!r} is no price; give NAME=X, as gpu-h200=4.5")
    return name.strip(), price
