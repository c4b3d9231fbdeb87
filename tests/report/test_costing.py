from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.data.prepare import DataRequest
from cellclf.report.collect import collect_runs
from cellclf.report.cost_plots import apart, cost_plot, front, points_of
from cellclf.report.cost_tables import assumptions, break_even_table, model_cost_table, speed_table, spending_table, ways_tables
from cellclf.report.costing import cost_everything
from cellclf.report.figures import Section
from cellclf.report.prices import Assumptions
from cellclf.studies.measurements import MeasuredAccuracy, Measurement
from cellclf.training.recipe import make_recipe
from tests.report.making import make_run

BY_HAND = Assumptions(price_per_hour=3.6, prices={"gpu-h200": 36.0}, utilisation=1, lifetime_images=1_000_000)
CPU = Measurement(
    backbone="vgg16", image_size_px=96, labels=2, precision="fp32", provider="CPUExecutionProvider", batch=1, threads=2, calls=9, cores=2,
    latency_ms={"50": 9.0, "95": 10.0}, images_per_second=100.0, windows_images_per_second=(80.0, 100.0, 125.0), file_size_mb=15.0, model="m.onnx",
    hardware="test, 2 cores",
)  # fmt: skip
GPU = CPU.model_copy(
    update={
        "provider": "CUDAExecutionProvider",
        "gpu": "NVIDIA H200",
        "images_per_second": 5000.0,
        "windows_images_per_second": (),
        "precision": "fp16",
    }
)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    """Two networks that differ in their backbone: vgg16, and mobilenet, which is better."""
    runs = tmp_path_factory.mktemp("runs")
    made = []
    for backbone, skill in (("vgg16", 0.2), ("mobilenet", 2.5)):
        recipe = make_recipe(backbone, DataRequest(data="sample"), epochs=2, image_size_px=96, learning_rate=1e-3)
        made.append(make_run(runs / backbone, recipe, skill=skill, seconds=1800.0))
    (found,) = collect_runs(made).report.sections
    return found


def test_a_models_cost_is_running_and_training_by_hand(section: Section) -> None:
    """100 images/s at 3.60 an hour: 10 a million, 8 to 12.5 over its windows; half an hour of training 1.80, over a million images 1.80."""
    costs = cost_everything([section], [CPU], BY_HAND)
    model = costs.models[0]
    assert model.cheapest is not None and model.cheapest.cost_per_million is not None
    cost = model.cheapest.cost_per_million
    assert (cost.value, cost.low, cost.high) == pytest.approx((10, 8, 12.5))
    assert (model.training, model.training_per_million) == pytest.approx((1.8, 1.8))
    assert costs.all_training == pytest.approx(3.6)
    cells = model_cost_table(costs).rows[0]
    accuracy = f"{100 * model.balanced_accuracy.mean.value:.1f}"
    assert [cell.text for cell in cells[1:]] == [accuracy, "10", "fp32 on CPU, 2 threads", "1.8", "11.8"]
    assert (cells[1].detail[-9:], cells[2].detail) == ("the run's", "[8, 12.5]")


def test_a_network_that_was_not_measured_says_so(section: Section) -> None:
    rows = model_cost_table(cost_everything([section], [CPU], BY_HAND)).rows
    assert [cell.text for cell in rows[1][2:]] == ["–", "not measured", "1.8", "–"]


def test_when_a_gpu_pays_by_hand(section: Section) -> None:
    """36 an hour pay for ten machines of 3.60, which answer 10 × 100 × 86 400 = 86.4 million a day; the GPU could 432 million."""
    (found,) = cost_everything([section], [CPU, GPU], BY_HAND).break_evens
    assert found.images_a_day == pytest.approx(86.4e6)
    costs = cost_everything([section], [CPU, GPU.model_copy(update={"images_per_second": 900.0})], BY_HAND)
    assert costs.break_evens[0].reason == "never: the GPU is full before it pays"
    assert break_even_table(costs).rows[0][3].text == "never: the GPU is full before it pays"


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ([CPU], "not yet measured on a GPU"),
        ([GPU], "not measured on a CPU"),
        ([CPU, GPU.model_copy(update={"steady": False})], "no steady measurement with a price on a GPU"),
        ([CPU, GPU.model_copy(update={"gpu": "Unheard Of"})], "no steady measurement with a price on a GPU"),
    ],
)
def test_without_both_measurements_nothing_is_invented(section: Section, measured: list[Measurement], reason: str) -> None:
    (found,) = cost_everything([section], measured, BY_HAND).break_evens
    assert (found.images_a_day, found.reason) == (None, reason)


def test_what_was_not_steady_is_marked_and_never_the_cheapest(section: Section) -> None:
    shaky = CPU.model_copy(update={"threads": 1, "images_per_second": 900.0, "steady": False})
    costs = cost_everything([section], [shaky, CPU], BY_HAND)
    assert costs.models[0].cheapest is not None
    assert costs.models[0].cheapest.threads == 2
    assert speed_table(costs.measured).rows[0][7].detail == "NOT STEADY: 80 to 125"
    points = points_of(costs.models[:1])
    assert [(point.way.threads, point.way.steady, point.best) for point in points] == [(1, False, False), (2, True, True)]
    assert [point.way.threads for point in front(points)] == [2]
    only = cost_everything([section], [shaky], BY_HAND)
    assert model_cost_table(only).rows[0][3].detail == "none is steady"


def own(section: Section, *, answered: float, lost_points: float, **changes: object) -> Measurement:
    """The first model's own file, measured with what it answers."""
    recipe, data = section.models[0].fingerprints[0]
    accuracy = MeasuredAccuracy(
        dataset="sample", split="test", images=1234, accuracy=answered, balanced_accuracy=answered, difference_to_fp32_points=lost_points,
        balanced_accuracy_low=answered - 0.1, balanced_accuracy_high=answered + 0.05, groups=9,
    )  # fmt: skip
    told = {"file_sha256": "f" * 64, "recipe_fingerprint": recipe, "data_fingerprint": data, "accuracy": accuracy}
    return CPU.model_copy(update=told | changes)


def test_a_files_own_accuracy_stands_beside_its_cost_and_the_cheapest_way_that_keeps_it_is_named(section: Section) -> None:
    """Of three ways of a file: fp32, int8 at twice the speed, and bf16 at ten times it, which loses accuracy."""
    file = [
        own(section, answered=0.8, lost_points=0.0),
        own(section, answered=0.798, lost_points=-0.2, precision="int8", images_per_second=200.0),
        own(section, answered=0.79, lost_points=-1.0, precision="bf16", images_per_second=1000.0),
    ]
    costs = cost_everything([section], file, BY_HAND)
    model = costs.models[0]
    assert [(way.precision, way.accuracy and way.accuracy.value) for way in model.ways] == [("bf16", 0.79), ("int8", 0.798), ("fp32", 0.8)]
    assert [way.precision for way in model.best] == ["int8"]
    cells = model_cost_table(costs).rows[0]
    assert [cell.text for cell in cells[1:4]] == ["79.8", "5", "int8 on CPU, 2 threads"]
    assert cells[1].detail == "[69.8, 84.8]; this file's"
    ((title, table),) = ways_tables(costs)
    assert title == f"1  {model.title}: VGG16, 96 px"
    assert [[row[place].text for place in (0, 2, 3)] for row in table.rows] == [
        ["bf16 on CPU, 2 threads", "79.0", "\N{MINUS SIGN}1.00"],
        ["int8 on CPU, 2 threads", "79.8", "\N{MINUS SIGN}0.20"],
        ["fp32 on CPU, 2 threads", "80.0", "+0.00"],
    ]
    assert table.rows[0][3].detail == "loses more than 0.3 points"
    assert [(point.way.precision, point.best) for point in points_of(costs.models)] == [("bf16", False), ("fp32", False), ("int8", True)]


def test_another_files_accuracy_is_nowhere_and_its_int8_in_no_picture(section: Section) -> None:
    strange = own(section, answered=0.123, lost_points=0.0, precision="int8", recipe_fingerprint="another")
    costs = cost_everything([section], [strange], BY_HAND)
    assert [(way.accuracy, way.accuracy_of) for way in costs.models[0].ways] == [(None, "nothing")]
    assert costs.models[0].why_none == "no way's own accuracy was measured"
    ((_, table),) = ways_tables(costs)
    assert (table.rows[0][2].text, table.rows[0][6].detail) == ("not measured", "other weights")
    assert cost_plot(costs, section.title, name="cost") is None


def test_a_model_has_one_best_way_on_each_kind_of_machine(section: Section) -> None:
    card = own(section, answered=0.8, lost_points=0.0, provider="CUDAExecutionProvider", gpu="NVIDIA H200", joules_per_image=0.036)
    slower = own(section, answered=0.8, lost_points=0.0, images_per_second=90.0, threads=1)
    costs = cost_everything([section], [slower, own(section, answered=0.8, lost_points=0.0), card], BY_HAND)
    assert [(way.gpu, way.threads) for way in costs.models[0].best] == [(None, 2), ("NVIDIA H200", 2)]
    ((_, table),) = ways_tables(costs)
    assert [[cell.text for cell in row[7:]] for row in table.rows] == [["not measured"] * 2, ["not measured"] * 2, ["0.01", "4"]]


def test_energy_memory_and_the_files_own_accuracy_are_shown_where_they_were_measured(section: Section) -> None:
    accuracy = MeasuredAccuracy(
        dataset="blood-cells", split="test", images=2487, accuracy=0.9, balanced_accuracy=0.875, difference_to_fp32_points=-0.16,
        same_labels_as_fp32=0.9968,
    )  # fmt: skip
    full = CPU.model_copy(update={"joules_per_image": 0.036, "load_s": 0.5, "peak_ram_mb": 120.0, "accuracy": accuracy})
    costs = cost_everything([section], [full, CPU, GPU.model_copy(update={"made": "skeleton"})], BY_HAND)
    texts = [[cell.text for cell in row] for row in spending_table(costs).rows]
    assert texts[0][2:] == ["10", "0.01", "4", "0.5", "not measured", "120", "–", "87.5"]
    assert spending_table(costs).rows[0][9].detail == (
        "blood-cells, test, 2487 images; accuracy \N{MINUS SIGN}0.16 points against fp32; 99.68 % same labels"
    )
    assert texts[1][3:] == ["not measured"] * 5 + ["–", "not measured"]
    assert texts[2][8:] == ["not measured", "–"], "random weights have no accuracy"


def test_every_assumption_is_printed(section: Section) -> None:
    text = " ".join(assumptions(cost_everything([section], [CPU, GPU.model_copy(update={"joules_per_image": 0.1})], BY_HAND)))
    for said in (
        "Measured on test, 2 cores; NVIDIA H200 with test, 2 cores.",
        "3.6 an hour, given",
        "one H200 with its host: 36 USD an hour (given)",
        "Utilisation 100 %",
        "1,000,000 images",
        "400 g per kWh",
    ):
        assert said in text
    without = " ".join(assumptions(cost_everything([section], [CPU], BY_HAND)))
    assert "kWh" not in without
    assert "Energy and CO₂: not measured" in without
    assert "All 2 runs of this page together learned for 1:00:00, 3.6 USD." in without


def test_a_cost_from_files_holds_their_decoding_and_says_so(section: Section) -> None:
    """100 images/s on two threads and 20 ms of a core to decode: 20 ms an image, 50 images/s, at 3.60 an hour 20 a million."""
    assumed = BY_HAND.model_copy(update={"decode_ms": 20.0})
    costs = cost_everything([section], [CPU, GPU], assumed)
    way = costs.models[0].cheapest
    assert way is not None and way.cost_per_million is not None
    assert (way.images_per_second, way.paid_images_per_second, way.cost_per_million.value) == pytest.approx((100, 50, 20))
    assert costs.measured[0].cost == way.cost_per_million
    assert "50 images/s" in break_even_table(costs).rows[0][1].detail
    (found,) = costs.break_evens
    assert found.reason == "never: the GPU is full before it pays", "its host's two cores decode 100 images a second"
    assert "Images from files: 20 ms of a core each" in " ".join(assumptions(costs))
    assert "Images decoded in memory:" in " ".join(assumptions(cost_everything([section], [CPU], BY_HAND)))


def test_the_front_is_what_nothing_beats_in_both_and_the_picture_is_drawn(section: Section) -> None:
    quick = CPU.model_copy(update={"backbone": "mobilenet", "images_per_second": 50.0, "windows_images_per_second": ()})
    costs = cost_everything([section], [CPU, quick], BY_HAND)
    points = points_of(costs.models)
    assert [point.model.number for point in front(points)] == [1, 2]
    assert [point.cost.value for point in front(points)] == pytest.approx([10, 20])
    drawing = cost_plot(costs, section.title, name="cost")
    assert drawing is not None
    assert "cost of a million images, USD" in drawing.svg
    assert all(f"{model.number}\xa0\xa0{model.title}, " in drawing.svg for model in costs.models)
    assert "Numbered: each model in its cheapest steady way whose own file" in drawing.note
    assert cost_plot(cost_everything([section], [], BY_HAND), section.title, name="cost") is None


def test_models_of_one_network_stand_side_by_side_around_their_cost(section: Section) -> None:
    model = cost_everything([section], [CPU], BY_HAND).models[0]
    twins = points_of([model, model.model_copy(update={"number": 2})])
    assert twins[0].cost == twins[1].cost
    assert twins[0].beside * twins[1].beside == pytest.approx(1)
    assert 0.98 < twins[0].beside < 1 < twins[1].beside < 1.02


@given(st.lists(st.floats(-5, 5), max_size=8).map(sorted), st.floats(0.01, 2))
def test_places_move_no_more_than_it_takes_to_stand_apart(places: list[float], least: float) -> None:
    found = apart(places, least)
    assert all(after - before >= least - 1e-9 for before, after in pairwise(found))
    assert sum(found) == pytest.approx(sum(places), abs=1e-6)
    assert apart(found, least) == pytest.approx(found)


def test_a_run_trained_on_a_card_is_paid_as_such(section: Section) -> None:
    trained = section.models[0].model_copy(update={"trained_gpu": "NVIDIA H200", "trained_cores": 16})
    costs = cost_everything([section.model_copy(update={"models": (trained,)})], [], BY_HAND)
    assert costs.models[0].training == pytest.approx(18.0)
    unknown = section.models[0].model_copy(update={"trained_gpu": "Unheard Of"})
    assert cost_everything([section.model_copy(update={"models": (unknown,)})], [], BY_HAND).models[0].training is None


def test_a_measurement_of_another_network_is_shown_but_no_models(section: Section) -> None:
    other = CPU.model_copy(update={"image_size_px": 224})
    costs = cost_everything([section], [other], BY_HAND)
    assert costs.models[0].ways == ()
    assert speed_table(costs.measured).rows[0][0].text == "VGG16, 224 px"
