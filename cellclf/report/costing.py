"""Sections and measurements → what each model costs to train and to run, on stated assumptions. Pure functions; nothing is read or guessed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cellclf.documents import Document
from cellclf.evaluation.paired import Spread
from cellclf.report.cost import Cost, amortised_per_million, break_even, carbon_per_million, cost_of, energy_per_million, images_a_day, training_cost
from cellclf.report.deployments import Deployment, deployments, ways_of
from cellclf.report.figures import Figure, ModelFigures, Section
from cellclf.report.prices import Assumptions, Price, check_assumptions, measured_price, price_of, rate_with_decoding
from cellclf.studies.measurements import Measurement

__all__ = ["BreakEven", "Costs", "MeasuredCost", "ModelCost", "cost_everything"]


class MeasuredCost(Document):
    """A measurement, and what a million images cost so; None where it has no price or no energy was measured."""

    measured: Measurement
    price: Price | None
    cost: Cost | None
    kwh_per_million: float | None
    co2_g_per_million: float | None


class ModelCost(Document):
    """One model of a section. ways: how it can be run, cheapest first, what was not steady last; () where its network was not measured.

    training_s: of one run; training: its money, None where that machine has no price; training_per_million: spread over the lifetime.
    """

    section: str
    number: int
    title: str
    backbone: str
    image_size_px: int
    runs: int
    balanced_accuracy: Figure
    leak: str
    ways: tuple[Deployment, ...]
    training_s: Spread
    training_price: Price | None
    training: float | None
    training_per_million: float | None

    @property
    def best(self) -> tuple[Deployment, ...]:
        """On each kind of machine the cheapest way that has a price, was steady, and whose own accuracy is known and kept; else none there."""
        found: dict[tuple[str, str | None], Deployment] = {}
        for way in self.ways:
            if way.steady and way.cost_per_million and way.accuracy and way.keeps_answers:
                found.setdefault((way.hardware, way.gpu), way)
        return tuple(found.values())

    @property
    def cheapest(self) -> Deployment | None:
        """The cheapest of the best ways."""
        return next(iter(self.best), None)

    @property
    def why_none(self) -> str:
        """Why there is no best way; '' where there is one."""
        if self.best:
            return ""
        steady = [way for way in self.ways if way.steady]
        priced = [way for way in steady if way.cost_per_million]
        kept = "no way that was steady keeps the accuracy" if any(way.accuracy for way in priced) else "no way's own accuracy was measured"
        return "not measured" if not self.ways else "none is steady" if not steady else "no price" if not priced else kept


class BreakEven(Document):
    """From how many images a day on a GPU costs less than CPU machines, for one network; images_a_day None: `reason` says why."""

    backbone: str
    image_size_px: int
    cpu: Deployment | None
    gpu: Deployment | None
    images_a_day: float | None
    reason: str


class Costs(Document):
    """cost.json: everything the page says of cost, with what it assumes. prices: those that were used."""

    assumed: Assumptions
    prices: tuple[Price, ...]
    measured: tuple[MeasuredCost, ...]
    models: tuple[ModelCost, ...]
    break_evens: tuple[BreakEven, ...]
    all_training_s: float
    all_training: float | None


def cost_everything(sections: Sequence[Section], measurements: Iterable[Measurement], assumed: Assumptions) -> Costs:
    """Cost of every measurement and of every model; raises StudyError, UnknownNameError where the assumptions are not of these."""
    measured = tuple(measurements)
    check_assumptions(assumed, measured, _trained_on_cores(sections))
    ways = deployments(measured, assumed)
    priced = tuple(_priced(each, assumed) for each in measured)
    models = tuple(_model(section, model, ways, assumed) for section in sections for model in section.models)
    everything = [each.training for each in models]
    used = [*(each.price for each in priced), *(each.training_price for each in models)]
    return Costs(
        assumed=assumed,
        prices=tuple({price.said: price for price in used if price is not None}.values()),
        measured=priced,
        models=models,
        break_evens=tuple(_break_even(*network, found, assumed) for network, found in ways.items()),
        all_training_s=sum(each.training_s.mean * each.runs for each in models),
        all_training=None if None in everything else sum(cost * each.runs for cost, each in zip(everything, models, strict=True) if cost is not None),
    )


def _priced(measured: Measurement, assumed: Assumptions) -> MeasuredCost:
    price, joules = measured_price(assumed, measured), measured.joules_per_image
    rate, *windows = (rate_with_decoding(assumed, measured, each) for each in (measured.images_per_second, *measured.windows_images_per_second))
    return MeasuredCost(
        measured=measured,
        price=price,
        cost=price and cost_of(rate, windows, price.per_hour, utilisation=assumed.utilisation),
        kwh_per_million=None if joules is None else energy_per_million(joules),
        co2_g_per_million=None if joules is None else carbon_per_million(joules, assumed.grams_per_kwh),
    )


def _trained_on_cores(sections: Sequence[Section]) -> set[int]:
    models = [model for section in sections for model in section.models]
    return {model.trained_cores for model in models if model.trained_gpu is None and model.trained_cores is not None}


def _model(section: Section, model: ModelFigures, ways: dict[tuple[str, int], tuple[Deployment, ...]], assumed: Assumptions) -> ModelCost:
    price = price_of(assumed, gpu=model.trained_gpu, cores=model.trained_cores)
    training = None if price is None else training_cost(model.learning_time.mean, price.per_hour)
    return ModelCost(
        section=section.title,
        number=model.number,
        title=model.title,
        backbone=model.backbone,
        image_size_px=model.image_size_px,
        runs=len(model.runs),
        balanced_accuracy=model.test.balanced_accuracy,
        leak=model.test.leak,
        ways=tuple(sorted(_own(model, ways), key=_cheapness)),
        training_s=model.learning_time,
        training_price=price,
        training=training,
        training_per_million=None if training is None else amortised_per_million(training, assumed.lifetime_images),
    )


def _own(model: ModelFigures, ways: dict[tuple[str, int], tuple[Deployment, ...]]) -> tuple[Deployment, ...]:
    return ways_of(ways.get((model.backbone, model.image_size_px), ()), model.fingerprints, model.test.balanced_accuracy.mean)


def _cheapness(way: Deployment) -> tuple[bool, bool, float]:
    return not way.steady, way.cost_per_million is None, way.cost_per_million.value if way.cost_per_million else -way.images_per_second


def _is_known_to_keep(way: Deployment) -> bool:
    """Whether it gives fp32's answers: export holds fp16 to them; of int8 and bf16 that very file must have been seen to."""
    return way.keeps_answers and (way.precision in ("fp32", "fp16") or way.measured is not None)


def _break_even(backbone: str, image_size_px: int, ways: Sequence[Deployment], assumed: Assumptions) -> BreakEven:
    by_kind: defaultdict[bool, list[Deployment]] = defaultdict(list)
    for way in sorted((way for way in ways if _is_known_to_keep(way)), key=_cheapness):
        by_kind[way.on_gpu].append(way)
    cpu, gpu = (next((way for way in by_kind[kind] if way.steady and way.price), None) for kind in (False, True))
    images, reason = None, ""
    if not by_kind[True]:
        reason = "not yet measured on a GPU"
    elif not by_kind[False]:
        reason = "not measured on a CPU"
    elif cpu is None or gpu is None or cpu.price is None or gpu.price is None:
        reason = f"no steady measurement with a price on {'a CPU' if cpu is None else 'a GPU'}"
    else:
        images = break_even(
            cpu_images_a_day=images_a_day(cpu.paid_images_per_second, utilisation=assumed.utilisation),
            cpu_price_per_hour=cpu.price.per_hour,
            gpu_images_a_day=images_a_day(gpu.paid_images_per_second, utilisation=assumed.utilisation),
            gpu_price_per_hour=gpu.price.per_hour,
        )
        reason = "" if images is not None else "never: the GPU is full before it pays"
    return BreakEven(backbone=backbone, image_size_px=image_size_px, cpu=cpu, gpu=gpu, images_a_day=images, reason=reason)
