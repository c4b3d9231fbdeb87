"""Percentile bootstrap that draws whole groups (patients, slides, originals), because images of one group are not independent. numpy only."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate

__all__ = ["RESAMPLES", "bootstrap_figures", "bootstrap_groups", "bootstrap_shares", "group_draws", "group_numbers", "group_sums"]

RESAMPLES = 2000
_AT_ONCE = 100
_LEVEL = 0.95
_ROUNDING = 1e-12
_DEFINED = 0.8  # a figure that rests on one group is defined in 63 to 75 % of the draws, one that rests on two in 86 % or more

Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.intp]
Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""How often each group was drawn [draws, groups] → values [draws], or [draws, figures]; NaN where a draw leaves a figure undefined."""


def group_numbers(groups: Sequence[str]) -> Numbers:
    """Group names [images] → numbers 0 … groups − 1, [images], in the order of the names."""
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.intp)


def group_sums(values: Floats, numbers: Numbers) -> npt.NDArray[np.float64]:
    """Sum values [images, …] over the images of each group → [groups, …]."""
    sums = np.zeros((int(numbers.max()) + 1, *values.shape[1:]))
    np.add.at(sums, numbers, values)
    return sums


def group_draws(groups: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[npt.NDArray[np.float64]]:
    """How often each of `groups` groups is drawn, as many with replacement as there are: [draws, groups], some draws at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - start)
        drawn = generator.integers(groups, size=(count, groups)) + np.arange(count)[:, None] * groups
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups).astype(np.float64)


def bootstrap_groups(statistic: Statistic, numbers: Numbers, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate | None:
    """One figure with its 95 % interval; None where it is undefined. statistic gives [draws]; see `bootstrap_figures`."""
    return bootstrap_figures(lambda draws: statistic(draws)[:, None], numbers, resamples=resamples, seed=seed)[0]


def bootstrap_figures(statistic: Statistic, numbers: Numbers, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Estimate | None, ...]:
    """Figures with their 95 % intervals: percentiles over draws of whole groups (Efron & Tibshirani 1993, ch. 13; clusters: Field & Welsh 2007).

    statistic: group multiplicities [draws, groups] → [draws, figures]; a figure of weighted images takes `draws[:, numbers]` as their weights.
    numbers: each image's group, [images]. A figure that is undefined on the images is None. Its bounds are None with one group, where it
    rests on one group, so that many draws leave it undefined, and where every draw gives one and the same value, which says nothing of its spread.
    """
    groups = int(numbers.max()) + 1
    values = statistic(np.ones((1, groups)))[0]
    if groups < 2:
        return tuple(None if np.isnan(value) else Estimate(value=float(value)) for value in values)
    drawn = np.concatenate([statistic(draws) for draws in group_draws(groups, resamples=resamples, seed=seed)])
    return tuple(_estimate(float(value), column[~np.isnan(column)], len(column)) for value, column in zip(values, drawn.T, strict=True))


def bootstrap_shares(
    hits: npt.NDArray[np.float64], chances: npt.NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Estimate | None, ...]:
    """Shares Σ hits / Σ chances with their 95 % intervals over groups; hits, chances: [groups, figures].

    None where there was no chance. A share of exactly 0 or 1 has no spread to draw from: its interval is then the exact binomial one (Clopper &
    Pearson 1934) of as many trials as there are groups with a chance. No bounds where fewer than two groups have a chance.
    """
    numbers = np.arange(len(hits))
    figures = hits.shape[1]
    both = np.concatenate([hits, chances], axis=1)

    def shares(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = draws @ both
        of = sums[:, figures:]
        found: npt.NDArray[np.float64] = np.divide(sums[:, :figures], of, out=np.full_like(of, np.nan), where=of > 0)
        return found

    estimates = bootstrap_figures(shares, numbers, resamples=resamples, seed=seed)
    return tuple(_share(estimate, int(count)) for estimate, count in zip(estimates, (chances > 0).sum(axis=0), strict=True))


def _share(estimate: Estimate | None, groups: int) -> Estimate | None:
    if estimate is None or groups < 2:
        return None if estimate is None else Estimate(value=estimate.value)
    bound = ((1 - _LEVEL) / 2) ** (1 / groups)
    if estimate.value == 1:
        return Estimate(value=1.0, low=bound, high=1.0)
    return Estimate(value=0.0, low=0.0, high=1 - bound) if estimate.value == 0 else estimate


def _estimate(value: float, defined: npt.NDArray[np.float64], draws: int) -> Estimate | None:
    if np.isnan(value):
        return None
    if len(defined) < _DEFINED * draws or np.ptp(defined) < _ROUNDING:
        return Estimate(value=value)
    low, high = np.percentile(defined, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return Estimate(value=value, low=float(low), high=float(high))
