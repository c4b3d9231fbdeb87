import pytest

from cellclf.card import Estimate
from cellclf.evaluation.paired import PairedTest, Spread
from cellclf.report.figures import Comparison, Figure
from cellclf.report.words import clock, dense_units, difference, figure, joined, leaking, p_value, percent, points


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00.0"), (24.25, "0:00:24.2"), (59.97, "0:01:00"), (61, "0:01:01"), (5025.4, "1:23:45")])
def test_a_time_reads_as_in_the_studies(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.012, "+1.2"), (-0.012, "−1.2"), (0.0004, "0.0"), (-0.0004, "0.0")])
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0004, "< 0.001"), (0.0451, "= 0.045"), (0.21, "= 0.21"), (1.0, "= 1.00")])
def test_a_p_value_is_never_0(value: float, text: str) -> None:
    assert p_value(value) == text


def test_a_figure_tells_its_interval_and_with_several_seeds_their_spread() -> None:
    several = Spread(mean=0.852, deviation=0.004, least=0.85, greatest=0.86, seeds=3)
    one = several.model_copy(update={"deviation": None, "seeds": 1})
    assert figure(Figure(mean=Estimate(value=0.852, low=0.831, high=0.8667), spread=several)) == "85.2 [83.1, 86.7] ± 0.4"
    assert figure(Figure(mean=Estimate(value=0.852), spread=one)) == "85.2"
    assert figure(None) == "–"
    assert percent(None) == "–"


def test_a_comparison_tells_points_interval_and_both_p_values() -> None:
    spread = Spread(mean=0.8, deviation=None, least=0.8, greatest=0.8, seeds=1)
    test = PairedTest(difference=-0.012, low=-0.03, high=0.005, p_value=0.21, method="m", groups=71, images=600)
    found = Comparison(first="a", second="b", seeds=(0,), by_seed=(-0.012,), a=spread, b=spread, test=test, adjusted_p=0.63, family=3)
    assert difference(found) == "−1.2 points [−3.0, +0.5], p = 0.21 (Holm over 3: 0.63)"
    assert difference(found.model_copy(update={"family": 1})) == "−1.2 points [−3.0, +0.5], p = 0.21"


def test_lists_read_as_one_says_them() -> None:
    assert [joined(list(text)) for text in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [dense_units(hidden) for hidden in ((), (16,), (8, 8))] == ["none", "16", "8-8"]


def test_which_splits_leak_is_told_once() -> None:
    assert leaking(["validation LEAKS: copies", "test LEAKS: copies"]) == "validation and test LEAK"
    assert leaking(["validation LEAKS: copies"]) == "validation LEAKS"
    assert leaking([]) == ""
