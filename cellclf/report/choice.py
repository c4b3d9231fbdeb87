"""The choice: which of several comparable models to deploy under limits of sensitivity, latency, size and cost."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cellclf.data.manifest import Split
from cellclf.errors import StudyError
from cellclf.evaluation.paired import compare_over_seeds, holm, spread
from cellclf.report.calling import Called, call, figure, sensitivity
from cellclf.report.comparing import Candidate, same_images
from cellclf.report.contenders import Choice, Contender, Limits, Spending
from cellclf.report.cost import amortised_per_million, carbon_per_million, energy_per_million, training_cost
from cellclf.report.costing import cost_everything
from cellclf.report.deployments import Deployment, deployments, ways_of
from cellclf.report.modelling import card_of
from cellclf.report.prices import CPU, USUAL_ASSUMPTIONS, Assumptions, check_assumptions, price_of
from cellclf.studies.measurements import Measurement

__all__ = ["choose"]


def choose(
    candidates: Sequence[Candidate],
    measurements: Iterable[Measurement],
    limits: Limits,
    *,
    by: Split,
    notes: Sequence[str] = (),
    assumed: Assumptions = USUAL_ASSUMPTIONS,
) -> Choice:
    """Choose among candidates that the caller knows to be comparable; raises StudyError where limits and measurements do not fit together.

    Candidates of one title are taken for one model.
    """
    measured = tuple(measurements)
    if any(limit is not None for limit in (limits.max_latency_ms, limits.max_size_mb, limits.max_cost)) and not measured:
        raise StudyError("limits of latency, size or cost need measurements: give --benchmarks FILE.json, made by pytest benchmarks/")
    environments = [run.environment for candidate in candidates for run in candidate.runs]
    check_assumptions(assumed, measured, {each.cores for each in environments if card_of(each) is None} if measured else ())
    ways = deployments(measured, assumed)
    called = [call(candidate, limits) for candidate in candidates]
    contenders = [contender for each in called for contender in _contenders(each, ways, limits, by)]
    kept = sorted((each for each in contenders if not each.excluded), key=_rank)
    kept = _tested(kept, {each.candidate.title: each for each in called}, by)
    frugal = _frugal(kept)
    return Choice(
        by=by,
        limits=limits,
        assumed=assumed,
        kept=tuple(_with_pareto(kept)),
        excluded=tuple(sorted((each for each in contenders if each.excluded), key=_rank)),
        frugal=frugal.describe if frugal else None,
        notes=tuple(notes),
        spending=_spending(kept[0], next(each for each in candidates if each.title == kept[0].model), measured, assumed) if kept else None,
    )


def _spending(winner: Contender, candidate: Candidate, measured: Sequence[Measurement], assumed: Assumptions) -> Spending:
    """What the winner costs besides running it."""
    first = candidate.runs[0]
    seconds = spread(np.array([run.metrics.learning_time.total_s for run in candidate.runs]))
    price = price_of(assumed, gpu=card_of(first.environment), cores=first.environment.cores)
    training = None if price is None else training_cost(seconds.mean, price.per_hour)
    joules = winner.deployment.joules_per_image if winner.deployment else None
    network = (first.setup.recipe.backbone, first.setup.recipe.image_size_px)
    pays = cost_everything([], [each for each in measured if (each.backbone, each.image_size_px) == network], assumed).break_evens
    return Spending(
        training_s=seconds,
        training=training,
        training_per_million=None if training is None else amortised_per_million(training, assumed.lifetime_images),
        kwh_per_million=None if joules is None else energy_per_million(joules),
        co2_g_per_million=None if joules is None else carbon_per_million(joules, assumed.grams_per_kwh),
        break_even=next(iter(pays), None),
    )


def _contenders(called: Called, measured: Mapping[tuple[str, int], Sequence[Deployment]], limits: Limits, by: Split) -> list[Contender]:
    candidate = called.candidate
    recipe = candidate.runs[0].setup.recipe
    found, specificity = sensitivity(called, limits.positive)
    base = Contender(
        model=candidate.title,
        runs=tuple(run.run.name for run in candidate.runs),
        backbone=recipe.backbone,
        deployment=None,
        figure=figure(called, by),
        test=figure(called, "test"),
        sensitivity=found,
        specificity=specificity,
        thresholds=called.thresholds,
        excluded=called.excluded,
    )
    network = measured.get((recipe.backbone, recipe.image_size_px), ())
    ways = ways_of(network, [run.fingerprints for run in candidate.runs], base.figure.mean)
    stuck = _not_learned(candidate, by)
    base = base.model_copy(update={"excluded": (*base.excluded, *stuck)})
    if not ways:
        missing = (f"no measurement of {recipe.backbone} at {recipe.image_size_px} px",) if measured else ()
        return [base.model_copy(update={"excluded": (*base.excluded, *missing)})]
    return [base.model_copy(update={"deployment": way, "excluded": (*base.excluded, *_over(way, limits))}) for way in ways]


def _not_learned(candidate: Candidate, by: Split) -> tuple[str, ...]:
    """A run that gives one answer to everything is nothing to deploy."""
    found = [(run.run.name, getattr(run.metrics, by)) for run in candidate.runs]
    return tuple(f"{name} calls every image {metrics.only_answer}: it has not learned" for name, metrics in found if not metrics.has_learned)


def _over(way: Deployment, limits: Limits) -> tuple[str, ...]:
    """Every limit of deployment that is not kept; what was not steady keeps none."""
    checks = (
        ("latency", way.latency_ms, limits.max_latency_ms, "ms"),
        ("size", way.file_size_mb, limits.max_size_mb, "MB"),
        ("cost of a million images", way.cost_per_million.value if way.cost_per_million else None, limits.max_cost, ""),
    )
    over = list(_not_its_own(way))
    over += [
        f"{name} {value:.3g} {unit}".rstrip() + f" > {limit:g}"
        for name, value, limit, unit in checks
        if limit is not None and value is not None and value > limit
    ]
    if limits.max_cost is not None and way.cost_per_million is None:
        over.append(f"its machine has no price: give --price '{way.gpu}=X'" if way.gpu else f"its machine has no price: give --price {CPU}=X")
    if not way.steady:
        over.append("its measurement is not steady" + (f": windows differ by {100 * way.spread:.0f} %" if way.spread is not None else ""))
    return tuple(over)


def _not_its_own(way: Deployment) -> tuple[str, ...]:
    """Why the model's figure is not what it answers when run so."""
    if not way.keeps_answers:
        return (f"run so it {way.changes}, against its fp32 file",)
    if way.accuracy_of == "nothing":
        return (f"what it answers in {way.precision} was not measured: export it so and measure that file ($CELLCLF_BENCH_MODELS)",)
    return ()


def _rank(contender: Contender) -> tuple[float, float, str]:
    """Best figure first; of one model's deployments the quickest first."""
    return -contender.figure.mean.value, contender.deployment.latency_ms if contender.deployment else 0.0, contender.model


def _tested(kept: list[Contender], called: dict[str, Called], by: Split) -> list[Contender]:
    """The winner against every other model on the test images, corrected for how many there are (Holm).

    Where validation decides, the test images had no say in who wins; where they decide, each comparison is one of all pairs.
    """
    if not kept:
        return kept
    winner = called[kept[0].model]
    others = list(dict.fromkeys(each.model for each in kept if each.model != kept[0].model))
    rivals = [name for name in others if same_images(winner.candidate, called[name].candidate)]
    answered = winner.candidate.answered("test")
    found = {name: compare_over_seeds(winner.test, called[name].test, answered.truth, groups=answered.groups, balanced=True) for name in rivals}
    models = len(others) + 1
    family = models * (models - 1) // 2 if by == "test" else len(rivals)
    corrected = dict(zip(rivals, holm([found[name].test.p_value for name in rivals], family=family), strict=True))
    return [
        each.model_copy(
            update={
                "against_winner": found[each.model].test,
                "adjusted_p": corrected[each.model],
                "seeds_apart": min(found[each.model].a.seeds, found[each.model].b.seeds) > 1
                and found[each.model].a.least > found[each.model].b.greatest,
            }
        )
        if each.model in found
        else each
        for each in kept
    ]


def _frugal(kept: list[Contender]) -> Contender | None:
    """The quickest of those that cannot be told from the winner, where it is quicker than the winner."""
    tested = [each for each in kept[1:] if each.deployment and (each.against_winner is not None or each.model == kept[0].model)]
    alike = [each for each in tested if not each.distinguishable]
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
