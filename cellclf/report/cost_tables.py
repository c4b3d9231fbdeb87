"""The tables and sentences of cost: what was measured, what a model costs, and when a GPU pays."""

from collections.abc import Sequence

from cellclf.report.cost import Cost, carbon_per_million, energy_per_million
from cellclf.report.costing import Costs, MeasuredCost, ModelCost
from cellclf.report.deployments import Deployment
from cellclf.report.prices import decoding
from cellclf.report.tables import Cell, Table, network_title
from cellclf.report.words import clock, estimate, figure
from cellclf.studies.measurements import Measurement

__all__ = [
    "BREAK_EVEN_NOTE",
    "WAYS_NOTE",
    "assumptions",
    "break_even_table",
    "cost_text",
    "model_cost_table",
    "money",
    "speed_table",
    "spending_table",
    "ways_tables",
]

BREAK_EVEN_NOTE = (
    "Machines are rented whole, day and night. Above so many images a day one GPU machine costs less than the CPU machines that answer as many, at "
    "the utilisation above: as many CPU machines as its price pays for, filled."
)
"""How to read the table of when a GPU pays."""

WAYS_NOTE = (
    "Beside each cost stands what the very file that was measured answers on official test images, on that provider and in that precision. "
    "Where the model's own file was not measured, the speed is that of the same network with other weights (weights do not change it) and the "
    "accuracy, in fp32 only, the run's."
)
"""How to read the table of every way."""

_DECODED_BY = " On a CPU the cores that answer do it, too; beside a GPU its host's cores do, meanwhile. Speeds and latencies are of images in memory."

_NONE, _MISSING, _MINUS = "–", "not measured", "\N{MINUS SIGN}"


def assumptions(costs: Costs) -> tuple[str, ...]:
    """What the figures of money and carbon rest on; every one can be given on the command line."""
    assumed = costs.assumed
    priced = [price.said for price in costs.prices] or ["none of the machines here has a price; give one with --price NAME=X or --price-per-hour"]
    texts = [
        f"Prices (--price NAME=X, --price-per-hour): {'; '.join(priced)}.",
        f"Utilisation {100 * assumed.utilisation:g} % (--utilisation): of the paid time the machine answers images for this share, at the "
        "throughput measured with its best batch. The whole machine is paid, also where not all of its cores are used.",
        f"{decoding(assumed).capitalize()}.{_DECODED_BY if assumed.decode_ms else ''}",
        f"A training is spread over {assumed.lifetime_images:,} images (--lifetime-images); it is that of one run, the machine's price times its "
        "learning time.",
        "In brackets: at the quickest and the slowest measured window; where there are none, windows were not kept.",
    ]
    if costs.measured:
        texts.append(f"Measured on {'; '.join(dict.fromkeys(_machine(each.measured) for each in costs.measured))}.")
    if any(each.kwh_per_million is not None for each in costs.measured):
        texts.append(
            f"Energy is that of the measured work alone, without idle time. CO₂: {assumed.grams_per_kwh:g} g per kWh of electricity "
            "(--grams-per-kwh), a round assumption; look up your grid's."
        )
    elif costs.measured:
        texts.append("Energy and CO₂: not measured on these machines.")
    if costs.all_training is not None:
        runs = sum(model.runs for model in costs.models)
        texts.append(
            f"All {runs} runs of this page together learned for {clock(costs.all_training_s)}, {money(costs.all_training)} {_currency(costs)}."
        )
    return tuple(texts)


def speed_table(measured: Sequence[MeasuredCost]) -> Table:
    """Every measurement as it was made."""
    columns = ("Network", "Engine", "Precision", "Provider", "Batch", "Threads", "Latency p50 / p95, ms", "Images/s", "File, MB", "On")
    return Table(columns, tuple(_speed(each.measured) for each in measured))


def spending_table(costs: Costs) -> Table:
    """What each measurement comes to, and what else was measured of it."""
    rows = []
    for each in costs.measured:
        found = each.measured
        rows.append(
            (
                _network(found),
                Cell(f"{found.engine}, {found.describe}" if found.engine == "onnxruntime" else found.describe, "" if found.steady else "not steady"),
                _cost(each.cost),
                Cell(_amount(each.kwh_per_million)),
                Cell(_amount(each.co2_g_per_million)),
                Cell(_amount(found.load_s)),
                Cell(_amount(found.cold_start_s)),
                Cell(_amount(found.peak_ram_mb)),
                Cell(_amount(found.gpu_memory_mb) if found.card else _NONE),
                _accuracy(found),
            )
        )
    columns = (
        "Network", "How", f"A million images, {_currency(costs)}", "kWh a million", "CO₂ a million, g", "Load, s", "Cold start, s", "RAM, MB",
        "GPU memory, MB", "Balanced accuracy of this file, %",
    )  # fmt: skip
    return Table(columns, tuple(rows))


def model_cost_table(costs: Costs) -> Table:
    """Each model with its cheapest way to run and what it answers so, its training, and both together."""
    rows = tuple(
        (
            Cell(f"{model.number}  {model.title}", f"{_title(model)}; {model.section}"),
            *_running(model),
            Cell(_NONE if model.training is None else money(model.training), f"{clock(model.training_s.mean)} a run"),
            Cell(_together(model), "" if model.training_per_million is None else f"training {money(model.training_per_million)}"),
        )
        for model in costs.models
    )
    currency = _currency(costs)
    columns = (
        "Model",
        "Balanced accuracy in the cheapest way, %",
        f"Running, {currency} a million",
        "Cheapest way",
        f"Training, {currency}",
        f"Together, {currency} a million",
    )
    return Table(columns, rows)


def ways_tables(costs: Costs) -> tuple[tuple[str, Table], ...]:
    """Of each model that was measured: its title, and every way to run it with what it answers so."""
    energy = any(way.joules_per_image is not None for model in costs.models for way in model.ways)
    columns = (
        "Way", f"Running, {_currency(costs)} a million", "Balanced accuracy so, %", "Accuracy against fp32, points", "Images/s", "Latency p95, ms",
        "File, MB", *(("kWh a million", "CO₂ a million, g") if energy else ()),
    )  # fmt: skip
    found = []
    for model in costs.models:
        rows = tuple((*_way_cells(model, way), *(_energy(way, costs) if energy else ())) for way in model.ways)
        found.append((f"{model.number}  {model.title}: {_title(model)}", Table(columns, rows)))
    return tuple(each for each in found if each[1].rows)


def break_even_table(costs: Costs) -> Table:
    """From how many images a day on a GPU is cheaper than CPU cores."""
    rows = [
        (
            Cell(f"{network_title(each.backbone)}, {each.image_size_px} px"),
            _way(each.cpu),
            _way(each.gpu),
            Cell(each.reason if each.images_a_day is None else f"{_round(each.images_a_day)} images a day"),
        )
        for each in costs.break_evens
    ]
    return Table(("Network", "Cheapest on CPU cores", "Cheapest on a GPU", "A GPU costs less above"), tuple(rows))


def money(value: float) -> str:
    """Three digits that count; large sums whole."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def cost_text(cost: Cost) -> str:
    """A cost with what it is at the quickest and the slowest window."""
    bounds = "" if cost.low is None or cost.high is None else f" [{money(cost.low)}, {money(cost.high)}]"
    return f"{money(cost.value)}{bounds}"


def _speed(measured: Measurement) -> tuple[Cell, ...]:
    windows = measured.windows_images_per_second
    between = f"{_round(min(windows))} to {_round(max(windows))}" if windows else ""
    return (
        _network(measured),
        Cell(measured.engine),
        Cell(measured.precision),
        Cell(measured.provider.removesuffix("ExecutionProvider")),
        Cell(str(measured.batch)),
        Cell(str(measured.threads), f"{measured.sessions} sessions" if measured.sessions > 1 else ""),
        Cell(" / ".join(f"{measured.latency_ms[percentile]:.3g}" for percentile in ("50", "95"))),
        Cell(_round(measured.images_per_second), between if measured.steady else f"NOT STEADY{': ' if between else ''}{between}"),
        Cell(f"{measured.file_size_mb:.3g}"),
        Cell(measured.hardware, measured.card or ""),
    )


def _machine(measured: Measurement) -> str:
    return f"{measured.card} with {measured.hardware}" if measured.card else measured.hardware


def _network(measured: Measurement) -> Cell:
    how = "trained file" if measured.made == "exported" else "random weights"
    return Cell(f"{network_title(measured.backbone)}, {measured.image_size_px} px", f"{measured.labels} labels, {how}")


def _running(model: ModelCost) -> tuple[Cell, Cell, Cell]:
    way = model.cheapest
    if way is not None:
        return _answers(model, way), _cost(way.cost_per_million), Cell(way.describe, f"batch {way.throughput_batch}")
    value, _, detail = figure(model.balanced_accuracy).partition(" ")
    why = Cell(_NONE, model.why_none) if model.ways else Cell(_MISSING)
    return Cell(value, f"{detail}; the run's".removeprefix("; "), bool(model.leak)), Cell(_NONE), why


def _answers(model: ModelCost, way: Deployment) -> Cell:
    """The accuracy that belongs to this way."""
    if way.accuracy is None:
        return Cell(_MISSING, leaks=bool(model.leak))
    value, _, bounds = estimate(way.accuracy).partition(" ")
    if way.accuracy_of == "run" or way.measured is None:
        return Cell(value, f"{bounds}; the run's".removeprefix("; "), bool(model.leak))
    return Cell(value, f"{bounds}; this file's".removeprefix("; "), bool(model.leak))


def _way_cells(model: ModelCost, way: Deployment) -> tuple[Cell, ...]:
    difference = way.measured.difference_to_fp32_points if way.measured else None
    against = _NONE if difference is None else f"{difference:+.2f}".replace("-", _MINUS)
    return (
        Cell(way.describe, f"batch {way.throughput_batch}"),
        _cost(way.cost_per_million),
        _answers(model, way),
        Cell(against, _labels(way)),
        Cell(_round(way.images_per_second), "" if way.steady else "NOT STEADY"),
        Cell(f"{way.latency_ms:.3g}", f"batch {way.latency_batch}"),
        Cell(f"{way.file_size_mb:.3g}", way.file or "other weights"),
    )


def _labels(way: Deployment) -> str:
    """The share that is called as fp32 does, and what of this is too much."""
    same = way.measured.same_labels_as_fp32 if way.measured else None
    return "; ".join(filter(None, ("" if same is None else f"{100 * same:.2f} % same labels", way.changes)))


def _energy(way: Deployment, costs: Costs) -> tuple[Cell, Cell]:
    joules = way.joules_per_image
    if joules is None:
        return Cell(_MISSING), Cell(_MISSING)
    return Cell(money(energy_per_million(joules))), Cell(money(carbon_per_million(joules, costs.assumed.grams_per_kwh)))


def _title(model: ModelCost) -> str:
    return f"{network_title(model.backbone)}, {model.image_size_px} px"


def _together(model: ModelCost) -> str:
    way = model.cheapest
    if way is None or way.cost_per_million is None or model.training_per_million is None:
        return _NONE
    return money(way.cost_per_million.value + model.training_per_million)


def _way(way: Deployment | None) -> Cell:
    if way is None or way.price is None:
        return Cell(_NONE)
    return Cell(way.describe, f"{_round(way.paid_images_per_second)} images/s, {money(way.price.per_hour)} {way.price.currency} an hour")


def _cost(cost: Cost | None) -> Cell:
    if cost is None:
        return Cell("no price")
    value, _, bounds = cost_text(cost).partition(" ")
    return Cell(value, bounds)


def _accuracy(measured: Measurement) -> Cell:
    found = measured.accuracy
    if found is None:
        return Cell(_MISSING if measured.made == "exported" else _NONE)
    parts = [f"{found.dataset}, {found.split}, {found.images} images"]
    if found.difference_to_fp32_points is not None:
        parts.append(f"accuracy {found.difference_to_fp32_points:+.2f} points against fp32".replace("-", _MINUS))
    if found.same_labels_as_fp32 is not None:
        parts.append(f"{100 * found.same_labels_as_fp32:.2f} % same labels")
    return Cell(f"{100 * found.balanced_accuracy:.1f}", "; ".join(parts))


def _amount(value: float | None) -> str:
    return _MISSING if value is None else money(value)


def _round(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _currency(costs: Costs) -> str:
    return costs.prices[0].currency if costs.prices else "USD"
