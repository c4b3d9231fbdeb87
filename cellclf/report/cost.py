"""The formulas of cost: throughput, prices, energy → money and carbon of a million images. Pure functions of numbers."""

import math
from collections.abc import Sequence

from cellclf.documents import Document

__all__ = [
    "Cost",
    "amortised_per_million",
    "break_even",
    "carbon_per_million",
    "cost_of",
    "cost_per_million",
    "energy_per_million",
    "images_a_day",
    "training_cost",
]

_MILLION = 1e6
_SECONDS_AN_HOUR = 3600
_SECONDS_A_DAY = 86400
_JOULES_A_KWH = 3.6e6
_ROUNDING = 1e-9


class Cost(Document):
    """Money of a million images. low, high: at the quickest and the slowest measured window; None where windows were not kept."""

    value: float
    low: float | None = None
    high: float | None = None


def cost_per_million(images_per_second: float, price_per_hour: float, *, utilisation: float) -> float:
    """A million images on a machine that is paid all the time and answers at its measured throughput for a share `utilisation` of it."""
    return _MILLION / (images_per_second * utilisation) / _SECONDS_AN_HOUR * price_per_hour


def cost_of(images_per_second: float, windows: Sequence[float], price_per_hour: float, *, utilisation: float) -> Cost:
    """The cost at a throughput, and at the highest and lowest of the windows it was measured in."""
    cost, *bounds = (
        cost_per_million(speed, price_per_hour, utilisation=utilisation)
        for speed in (images_per_second, *((max(windows), min(windows)) if windows else ()))
    )
    return Cost(value=cost, low=min(cost, bounds[0]), high=max(cost, bounds[1])) if bounds else Cost(value=cost)


def images_a_day(images_per_second: float, *, utilisation: float) -> float:
    """What one machine answers in a day."""
    return images_per_second * utilisation * _SECONDS_A_DAY


def break_even(*, cpu_images_a_day: float, cpu_price_per_hour: float, gpu_images_a_day: float, gpu_price_per_hour: float) -> float | None:
    """Images a day above which one GPU machine costs less than the CPU machines that answer as many, all rented whole, day and night.

    So many CPU machines as the GPU's price pays for, filled. None where the GPU is full before: there it never costs less.
    """
    machines = math.floor(gpu_price_per_hour / cpu_price_per_hour + _ROUNDING)
    images = machines * cpu_images_a_day
    return images if images < gpu_images_a_day else None


def training_cost(seconds: float, price_per_hour: float) -> float:
    """What a machine costs for as long as it trains."""
    return seconds / _SECONDS_AN_HOUR * price_per_hour


def amortised_per_million(cost: float, lifetime_images: int) -> float:
    """The part of a cost that falls on a million of all images that are ever answered."""
    return cost * _MILLION / lifetime_images


def energy_per_million(joules_per_image: float) -> float:
    """Kilowatt-hours of a million images."""
    return joules_per_image * _MILLION / _JOULES_A_KWH


def carbon_per_million(joules_per_image: float, grams_per_kwh: float) -> float:
    """Grams of CO₂ of the electricity of a million images."""
    return energy_per_million(joules_per_image) * grams_per_kwh
