"""Every formula against an example computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.errors import StudyError, UnknownNameError
from cellclf.report.cost import (
    amortised_per_million,
    break_even,
    carbon_per_million,
    cost_of,
    cost_per_million,
    energy_per_million,
    images_a_day,
    training_cost,
)
from cellclf.report.prices import PRICES, Assumptions, check_assumptions, measured_price, price_of, rate_with_decoding
from tests.report.test_page import MEASUREMENT


def test_a_million_images_by_hand() -> None:
    """100 images a second are a million in 10 000 s, 2.778 h, at 3.60 an hour 10; used half of the paid time, twice that."""
    assert cost_per_million(100, 3.6, utilisation=1) == pytest.approx(10)
    assert cost_per_million(100, 3.6, utilisation=0.5) == pytest.approx(20)


def test_the_interval_of_a_cost_is_that_of_the_windows() -> None:
    """Windows of 80 and 125 images a second: 10 × 100 / 80 = 12.5 and 10 × 100 / 125 = 8."""
    cost = cost_of(100, (125.0, 100.0, 80.0), 3.6, utilisation=1)
    assert (cost.value, cost.low, cost.high) == pytest.approx((10, 8, 12.5))
    assert cost_of(100, (), 3.6, utilisation=1).low is None


def test_a_days_images_by_hand() -> None:
    assert images_a_day(100, utilisation=0.5) == 4_320_000


def test_a_gpu_pays_above_as_many_filled_cpu_machines_as_its_price_pays_for() -> None:
    """A GPU of 4 an hour is worth 40 machines of 0.10; each answers 4.32 million a day, together 172.8 million."""
    prices = {"cpu_price_per_hour": 0.1, "gpu_price_per_hour": 4.0}
    assert break_even(cpu_images_a_day=4.32e6, gpu_images_a_day=216e6, **prices) == pytest.approx(172.8e6)
    assert break_even(cpu_images_a_day=4.32e6, gpu_images_a_day=129.6e6, **prices) is None
    assert break_even(cpu_images_a_day=4.32e6, cpu_price_per_hour=0.1, gpu_images_a_day=216e6, gpu_price_per_hour=0.3) == pytest.approx(3 * 4.32e6)
    assert break_even(cpu_images_a_day=4.32e6, cpu_price_per_hour=5.0, gpu_images_a_day=216e6, gpu_price_per_hour=4.0) == 0


@given(cpu=st.floats(1e3, 1e8), gpu=st.floats(1e3, 1e10), cpu_price=st.floats(0.01, 5), gpu_price=st.floats(0.01, 20), share=st.floats(1e-6, 1))
def test_below_the_break_even_cpu_machines_cost_no_more_and_just_above_it_they_cost_more(
    cpu: float, gpu: float, cpu_price: float, gpu_price: float, share: float
) -> None:
    import math

    at = break_even(cpu_images_a_day=cpu, cpu_price_per_hour=cpu_price, gpu_images_a_day=gpu, gpu_price_per_hour=gpu_price)
    if at is None:
        return
    below = math.ceil(round(at * share / cpu, 6)) * cpu_price
    above = math.ceil(round(at / cpu, 6) + 1e-3) * cpu_price
    assert below <= gpu_price * (1 + 1e-8)
    assert above > gpu_price * (1 - 1e-8)


def test_a_training_by_hand() -> None:
    """Half an hour at 3 an hour is 1.50; over ten million images 0.15 of each million."""
    assert training_cost(1800, 3.0) == pytest.approx(1.5)
    assert amortised_per_million(1.5, 10_000_000) == pytest.approx(0.15)


def test_energy_and_carbon_by_hand() -> None:
    """0.036 J an image are 36 kJ a million, 0.01 kWh, at 400 g a kWh 4 g."""
    assert energy_per_million(0.036) == pytest.approx(0.01)
    assert carbon_per_million(0.036, 400) == pytest.approx(4.0)


def test_prices_are_dated_assumptions_that_say_so() -> None:
    for kind in PRICES.values():
        assert kind.price_per_hour > 0
        assert kind.date.startswith("20")
        assert "assumption" in kind.basis and "no quote" in kind.basis


@pytest.mark.parametrize(
    ("gpu", "row"),
    [
        ("NVIDIA H200", "gpu-h200"), ("NVIDIA A100-SXM4-80GB", "gpu-a100"), ("NVIDIA A10G", "gpu-a10"), ("NVIDIA L4", "gpu-l4"),
        ("Tesla T4", "gpu-t4"), ("NVIDIA L40S", None), ("GPU", None),
    ],
)  # fmt: skip
def test_a_card_is_known_by_the_drivers_name_for_it(gpu: str, row: str | None) -> None:
    price = price_of(Assumptions(), gpu=gpu, cores=16)
    assert (price.machine if price else None) == row
    assert price is None or price.per_hour == PRICES[price.machine].price_per_hour


def test_a_cpu_machine_is_paid_by_its_cores_or_as_the_user_says() -> None:
    price = price_of(Assumptions(), cores=4)
    assert price is not None
    assert price.per_hour == pytest.approx(4 * PRICES["cpu-core"].price_per_hour)
    assert price_of(Assumptions()) is None, "how many cores is not known"
    for assumed, wanted in (
        (Assumptions(price_per_hour=0.3), 0.3),
        (Assumptions(prices={"cpu-core": 0.1}), 0.4),
        (Assumptions(prices={"ours": 9}), 9),
    ):
        found = price_of(assumed, machine="ours", cores=4)
        assert found is not None
        assert found.per_hour == pytest.approx(wanted)
        assert "given" in found.said


def test_a_measurement_on_a_gpu_whose_name_was_not_kept_is_never_priced_as_a_cpu() -> None:
    on_card = MEASUREMENT.model_copy(update={"provider": "CUDAExecutionProvider"})
    assert on_card.card == "GPU"
    assert measured_price(Assumptions(), on_card) is None
    assert measured_price(Assumptions(), on_card.model_copy(update={"machine": "gpu-l4"})) is not None


def test_a_price_of_an_unknown_machine_is_refused() -> None:
    check_assumptions(Assumptions(prices={"rack 7": 2.0, "gpu-l4": 1.0}), [MEASUREMENT.model_copy(update={"machine": "rack 7"})])
    with pytest.raises(UnknownNameError, match="unknown machine 'rack 7'"):
        check_assumptions(Assumptions(prices={"rack 7": 2.0}), [MEASUREMENT])


def test_one_price_is_not_laid_on_machines_of_several_sizes() -> None:
    small, large = (MEASUREMENT.model_copy(update={"cores": cores}) for cores in (2, 64))
    given = Assumptions(price_per_hour=0.1)
    check_assumptions(given, [small, small], [2])
    check_assumptions(given, [small, large.model_copy(update={"gpu": "NVIDIA H200"})])
    for measured, trained in (([small, large], []), ([small], [16])):
        with pytest.raises(StudyError, match=r"differ in their cores \(.*\); give --price cpu-core=X"):
            check_assumptions(given, measured, trained)
    with pytest.raises(StudyError, match="both give a CPU machine's price"):
        check_assumptions(Assumptions(price_per_hour=0.1, prices={"cpu-core": 0.05}), [small])


def test_decoding_is_done_by_the_cores_that_answer_or_beside_a_gpu_by_its_hosts() -> None:
    """100 images a second of two threads are 10 ms each; 5 ms of a core more, shared by two, make 12.5 ms. A host of 2 cores decodes 400 a second."""
    two = MEASUREMENT.model_copy(update={"threads": 2, "sessions": 1, "cores": 8})
    decoded = Assumptions(decode_ms=5)
    assert rate_with_decoding(decoded, two, 100) == pytest.approx(80)
    assert rate_with_decoding(Assumptions(), two, 100) == 100
    card = two.model_copy(update={"gpu": "NVIDIA H200", "cores": 2})
    assert [rate_with_decoding(decoded, card, rate) for rate in (100, 5000)] == pytest.approx([100, 400])
    with pytest.raises(StudyError, match="do not tell how many cores its host has"):
        rate_with_decoding(decoded, card.model_copy(update={"cores": None, "hardware": "a card"}), 100)
