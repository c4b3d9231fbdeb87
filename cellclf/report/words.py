"""Figures as text: the one place that rounds. Imports nothing heavy."""

from collections.abc import Sequence

from cellclf.card import Estimate
from cellclf.evaluation.paired import Spread
from cellclf.report.figures import Comparison, Figure, SplitFigures

__all__ = [
    "area",
    "clock",
    "dense_units",
    "difference",
    "estimate",
    "figure",
    "joined",
    "leaking",
    "p_value",
    "percent",
    "plus_minus",
    "points",
    "rate",
    "reach",
    "unit",
]

_MINUS = "\N{MINUS SIGN}"


def percent(value: float | None) -> str:
    """A share in per cent with one decimal, without the sign."""
    return "–" if value is None else f"{100 * value:.1f}"


def estimate(value: Estimate) -> str:
    """A share in per cent with its interval."""
    return (
        percent(value.value) if value.low is None or value.high is None else f"{percent(value.value)} [{percent(value.low)}, {percent(value.high)}]"
    )


def reach(value: Estimate) -> tuple[float, float]:
    """How far the interval reaches below and above the value; 0 where it has none."""
    low, high = (value.value if bound is None else bound for bound in (value.low, value.high))
    return max(0.0, value.value - low), max(0.0, high - value.value)


def figure(value: Figure | None) -> str:
    """A share in per cent with its interval, and its spread where there are several seeds."""
    return "–" if value is None else f"{estimate(value.mean)}{plus_minus(value.spread, scale=100)}"


def area(value: Figure | None) -> str:
    """An area under a curve with its interval and spread, as a fraction."""
    if value is None:
        return "–"
    mean = value.mean
    bounds = "" if mean.low is None or mean.high is None else f" [{mean.low:.3f}, {mean.high:.3f}]"
    return f"{mean.value:.3f}{bounds}{plus_minus(value.spread, decimals=3)}"


def plus_minus(spread: Spread, *, scale: float = 1, decimals: int = 1) -> str:
    """' ± deviation' over the seeds; '' with one seed."""
    return "" if spread.deviation is None else f" ± {scale * spread.deviation:.{decimals}f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    text = f"{abs(100 * value):.1f}"
    return text if text == "0.0" else f"{'+' if value > 0 else _MINUS}{text}"


def p_value(value: float) -> str:
    """'= 0.21', or '< 0.001'."""
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def difference(comparison: Comparison) -> str:
    """A paired difference in points with its interval, p and Holm's p."""
    test = comparison.test
    bounds = "" if test.low is None or test.high is None else f" [{points(test.low)}, {points(test.high)}]"
    holm = f" (Holm over {comparison.family}: {p_value(comparison.adjusted_p).removeprefix('= ')})" if comparison.family > 1 else ""
    return f"{points(test.difference)} points{bounds}, p {p_value(test.p_value)}{holm}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, with a decimal below a minute."""
    if round(seconds, 1) < 60:
        return f"0:00:{seconds:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def dense_units(hidden: Sequence[int]) -> str:
    """Units of the dense layers, as 8-8."""
    return "-".join(str(units) for units in hidden) or "none"


def rate(value: float) -> str:
    """A learning rate."""
    return f"{value:g}"


def unit(split: SplitFigures) -> str:
    """What intervals were drawn over."""
    return f"{split.groups} groups" if split.interval_unit == "group" else f"{split.groups} files (groups are unknown: too narrow)"


def leaking(leaks: Sequence[str]) -> str:
    """Which splits leak, as 'validation and test LEAK'; '' for none. leaks: as `str(Leak)` gives them."""
    splits = list(dict.fromkeys(leak.partition(" ")[0] for leak in leaks))
    return f"{joined(splits)} LEAK{'S' if len(splits) == 1 else ''}" if splits else ""


def joined(texts: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""
