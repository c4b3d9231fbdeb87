"""Whether something beats a default: ratios of figures that were measured in pairs, their median and their noise. Arithmetic only."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Gain"]

_WITHOUT_EXTREMES = 5
"""Ratios from which on the best and the worst are left out of the noise: a neighbour's burst says nothing of what was measured."""


@dataclass(frozen=True)
class Gain:
    """Ratios to the default, one a round in which both were measured."""

    ratios: Sequence[float]

    @property
    def value(self) -> float:
        """Median ratio; 1.1 is a tenth faster."""
        return median(self.ratios)

    @property
    def noise(self) -> float:
        """How far single ratios are from each other: half their range, of five and more without the smallest and the largest."""
        inner = sorted(self.ratios)[1:-1] if len(self.ratios) >= _WITHOUT_EXTREMES else sorted(self.ratios)
        return (inner[-1] - inner[0]) / 2

    @property
    def better(self) -> bool:
        """Whether it beats the default by more than the noise."""
        return self.value - self.noise > 1
