"""The choice: which of several comparable models to deploy under limits of sensitivity, latency, size and cost."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellclf.card import Estimate
from cellclf.data.manifest import Split
from cellclf.documents import Document
from cellclf.errors import EvaluationError, StudyError
from cellclf.evaluation.bootstrap import bootstrap_shares, group_numbers, group_sums
from cellclf.evaluation.decision import decide, positive_number
from cellclf.evaluation.operating_point import choose_operating_point
from cellclf.evaluation.paired import PairedTest, compare_over_seeds, holm
from cellclf.report.averages import balanced_accuracy
from cellclf.report.comparing import LEVEL, Candidate
from cellclf.report.figures import Figure
from cellclf.studies.measurements import Measurement, cost_per_million

__all__ = ["Choice", "Contender", "Deployment", "Limits", "choose", "deployments"]

_LATENCY_PERCENTILE = "95"
Ints = npt.NDArray[np.intp]


class Limits(Document):
    """What a model must keep to; None = no limit.

    min_sensitivity: of the positive label, by a threshold that is chosen on validation for each run; without a positive label, of every label.
    max_latency_ms: 95th percentile of one image. max_cost: of a million images, in the currency of price_per_hour.
    """

    min_sensitivity: float | None = None
    positive: str | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_cost: float | None = None
    price_per_hour: float | None = None


class Deployment(Document):
    """How a network can be run, as measured: latency of the smallest batch (95th percentile), throughput of the best."""

    precision: str
    provider: str
    threads: int
    hardware: str
    latency_ms: float
    latency_batch: int
    images_per_second: float
    file_size_mb: float
    cost_per_million: float | None

    @property
    def describe(self) -> str:
        """In a few words."""
        return f"{self.precision} on {self.provider.removesuffix('ExecutionProvider')}, {self.threads} threads"


class Contender(Document):
    """A model as it would be deployed. figure: balanced accuracy on the split that the choice is made by; test: the same on the test set.

    sensitivity, specificity: on the test set, of the positive label (averaged over seeds); without one, sensitivity is the worst label's.
    excluded: every limit it does not keep. pareto: whether no other is both better and quicker. against_winner: the paired test of its figure against
    the winner's; adjusted_p: its p-value after Holm's correction.
    """

    model: str
    runs: tuple[str, ...]
    backbone: str
    deployment: Deployment | None
    figure: Figure
    test: Figure
    sensitivity: Estimate | None
    specificity: Estimate | None
    thresholds: tuple[float, ...]
    excluded: tuple[str, ...]
    pareto: bool = False
    against_winner: PairedTest | None = None
    adjusted_p: float | None = None

    @property
    def distinguishable(self) -> bool:
        """Whether the winner's lead over it can be told from none."""
        return self.adjusted_p is not None and self.adjusted_p < LEVEL

    @property
    def describe(self) -> str:
        """Model and deployment."""
        return f"{self.model}, {self.deployment.describe}" if self.deployment else self.model


class Choice(Document):
    """Contenders that keep the limits, best first; then the excluded. `frugal` is the quickest that cannot be told from the winner."""

    by: Split
    limits: Limits
    kept: tuple[Contender, ...]
    excluded: tuple[Contender, ...]
    frugal: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Called:
    """What a candidate's runs call the images of both splits at their operating points: [seeds, images]."""

    candidate: Candidate
    validation: Ints
    test: Ints
    thresholds: tuple[float, ...]
    excluded: tuple[str, ...]

    def of(self, split: Split) -> Ints:
        return self.test if split == "test" else self.validation


def choose(candidates: Sequence[Candidate], measurements: Iterable[Measurement], limits: Limits, *, by: Split, notes: Sequence[str] = ()) -> Choice:
    """Choose among candidates that the caller knows to be comparable; raises StudyError where limits and measurements do not fit together."""
    measured = tuple(measurements)
    if (limits.max_latency_ms or limits.max_size_mb or limits.max_cost) and not measured:
        raise StudyError(
            "limits of latency, size or cost need measurements: give --benchmarks FILE.json, made by pytest benchmarks/test_inference.py"
        )
    if limits.max_cost is not None and limits.price_per_hour is None:
        raise StudyError("--max-cost needs the price of the machine that was measured: --price-per-hour")
    called = [_call(candidate, limits) for candidate in candidates]
    contenders = [contender for each in called for contender in _contenders(each, measured, limits, by)]
    kept = sorted((each for each in contenders if not each.excluded), key=_rank)
    kept = _tested(kept, {each.candidate.title: each for each in called}, by)
    frugal = _frugal(kept)
    return Choice(
        by=by,
        limits=limits,
        kept=tuple(_with_pareto(kept)),
        excluded=tuple(sorted((each for each in contenders if each.excluded), key=_rank)),
        frugal=frugal.describe if frugal else None,
        notes=tuple(notes),
    )


def deployments(measurements: Iterable[Measurement], *, price_per_hour: float | None) -> dict[tuple[str, int], tuple[Deployment, ...]]:
    """Measurements of one precision, provider and number of threads as one deployment, by backbone and image size."""
    grouped: defaultdict[tuple[str, int], defaultdict[tuple[str, str, int, str], list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for each in measurements:
        grouped[each.backbone, each.image_size_px][each.precision, each.provider, each.threads, each.hardware].append(each)
    return {key: tuple(_deployment(rows, price_per_hour) for rows in by_way.values()) for key, by_way in grouped.items()}


def _deployment(rows: list[Measurement], price_per_hour: float | None) -> Deployment:
    quickest = min(rows, key=lambda row: row.batch)
    speed = max(row.images_per_second for row in rows)
    return Deployment(
        precision=quickest.precision,
        provider=quickest.provider,
        threads=quickest.threads,
        hardware=quickest.hardware,
        latency_ms=quickest.latency_ms[_LATENCY_PERCENTILE],
        latency_batch=quickest.batch,
        images_per_second=speed,
        file_size_mb=quickest.file_size_mb,
        cost_per_million=None if price_per_hour is None else cost_per_million(speed, price_per_hour),
    )


def _call(candidate: Candidate, limits: Limits) -> _Called:
    """Calls by the most probable label, or at the threshold that each run's validation answers give."""
    validation, test = candidate.probabilities("validation"), candidate.probabilities("test")
    if limits.min_sensitivity is None or limits.positive is None:
        called = validation.argmax(axis=2)
        return _Called(candidate, called, test.argmax(axis=2), (), _too_blind(candidate, called, limits))
    labels, answered = candidate.runs[0].setup.data.labels, candidate.answered("validation")
    try:
        points = [
            choose_operating_point(
                of_seed,
                answered.truth,
                labels,
                positive=limits.positive,
                min_sensitivity=limits.min_sensitivity,
                groups=answered.groups,
                split="validation",
            )
            for of_seed in validation
        ]
    except EvaluationError as error:
        return _Called(candidate, validation.argmax(axis=2), test.argmax(axis=2), (), (str(error),))
    at = [np.stack([decide(p, labels, operating_point=point).called for p, point in zip(of, points, strict=True)]) for of in (validation, test)]
    return _Called(candidate, at[0], at[1], tuple(point.threshold for point in points), ())


def _too_blind(candidate: Candidate, called: Ints, limits: Limits) -> tuple[str, ...]:
    if limits.min_sensitivity is None:
        return ()
    truth, labels = candidate.answered("validation").truth, candidate.runs[0].setup.data.labels
    found = {label: float((called[:, truth == number] == number).mean()) for number, label in enumerate(labels) if (truth == number).any()}
    worst = min(found, key=lambda label: found[label])
    if found[worst] >= limits.min_sensitivity:
        return ()
    return (f"sensitivity of {worst} on validation {found[worst]:.3f} < {limits.min_sensitivity:g}",)


def _contenders(called: _Called, measured: Sequence[Measurement], limits: Limits, by: Split) -> list[Contender]:
    candidate = called.candidate
    recipe = candidate.runs[0].setup.recipe
    labels = candidate.runs[0].setup.data.labels
    sensitivity, specificity = _sensitivity(called, limits.positive)
    base = Contender(
        model=candidate.title,
        runs=tuple(run.run.name for run in candidate.runs),
        backbone=recipe.backbone,
        deployment=None,
        figure=_figure(called, by, len(labels)),
        test=_figure(called, "test", len(labels)),
        sensitivity=sensitivity,
        specificity=specificity,
        thresholds=called.thresholds,
        excluded=called.excluded,
    )
    ways = deployments(measured, price_per_hour=limits.price_per_hour).get((recipe.backbone, recipe.image_size_px), ())
    if not ways:
        missing = (f"no measurement of {recipe.backbone} at {recipe.image_size_px} px",) if measured else ()
        return [base.model_copy(update={"excluded": (*base.excluded, *missing)})]
    return [base.model_copy(update={"deployment": way, "excluded": (*base.excluded, *_over(way, limits))}) for way in ways]


def _over(way: Deployment, limits: Limits) -> tuple[str, ...]:
    """Every limit of deployment that is not kept."""
    checks = (
        ("latency", way.latency_ms, limits.max_latency_ms, "ms"),
        ("size", way.file_size_mb, limits.max_size_mb, "MB"),
        ("cost of a million images", way.cost_per_million, limits.max_cost, ""),
    )
    return tuple(f"{name} {value:.3g} {unit}".rstrip() + f" > {limit:g}" for name, value, limit, unit in checks if limit and value and value > limit)


def _figure(called: _Called, split: Split, classes: int) -> Figure:
    answered = called.candidate.answered(split)
    return balanced_accuracy(np.eye(classes)[called.of(split)], answered.truth, answered.groups)


def _sensitivity(called: _Called, positive: str | None) -> tuple[Estimate | None, Estimate | None]:
    """On the test set, averaged over seeds: of the positive label with its specificity; without one, the worst label's sensitivity."""
    candidate = called.candidate
    labels, answered = candidate.runs[0].setup.data.labels, candidate.answered("test")
    numbers = group_numbers(answered.groups)
    asked = range(len(labels)) if positive is None else [positive_number(labels, positive)]
    present = np.stack([answered.truth == number for number in asked], axis=1).astype(float)
    hit = np.stack([(called.test == number).mean(axis=0) for number in asked], axis=1)
    found = [each for each in bootstrap_shares(group_sums(hit * present, numbers), group_sums(present, numbers)) if each is not None]
    worst = min(found, key=lambda estimate: estimate.value, default=None)
    if positive is None:
        return worst, None
    return worst, bootstrap_shares(group_sums((1 - hit) * (1 - present), numbers), group_sums(1 - present, numbers))[0]


def _rank(contender: Contender) -> tuple[float, float, str]:
    """Best figure first; of one model's deployments the quickest first."""
    return -contender.figure.mean.value, contender.deployment.latency_ms if contender.deployment else 0.0, contender.model


def _tested(kept: list[Contender], called: dict[str, _Called], by: Split) -> list[Contender]:
    """Every other model against the winner's, on the images of the split that the choice is made by; corrected for how many there are (Holm)."""
    if not kept:
        return kept
    winner = called[kept[0].model]
    rivals = list(dict.fromkeys(each.model for each in kept if each.model != kept[0].model))
    answered = winner.candidate.answered(by)
    tests = {
        name: compare_over_seeds(winner.of(by), called[name].of(by), answered.truth, groups=answered.groups, balanced=True).test for name in rivals
    }
    corrected = dict(zip(rivals, holm([tests[name].p_value for name in rivals]), strict=True))
    return [
        each.model_copy(update={"against_winner": tests[each.model], "adjusted_p": corrected[each.model]}) if each.model in tests else each
        for each in kept
    ]


def _frugal(kept: list[Contender]) -> Contender | None:
    """The quickest of those that cannot be told from the winner, where it is quicker than the winner."""
    alike = [each for each in kept[1:] if each.deployment and not each.distinguishable]
    quickest = min(alike, key=lambda each: each.deployment.latency_ms if each.deployment else 0.0, default=None)
    winner = kept[0].deployment if kept else None
    if quickest is None or quickest.deployment is None or winner is None or quickest.deployment.latency_ms >= winner.latency_ms:
        return None
    return quickest


def _with_pareto(kept: Sequence[Contender]) -> list[Contender]:
    """Mark each that no other beats in both figure and latency."""

    def beaten(one: Contender) -> bool:
        if one.deployment is None:
            return False
        return any(
            other.deployment is not None
            and other.figure.mean.value >= one.figure.mean.value
            and other.deployment.latency_ms <= one.deployment.latency_ms
            and (other.figure.mean.value, -other.deployment.latency_ms) != (one.figure.mean.value, -one.deployment.latency_ms)
            for other in kept
        )

    return [each.model_copy(update={"pareto": each.deployment is not None and not beaten(each)}) for each in kept]
