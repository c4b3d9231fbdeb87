import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.evaluation.prevalence import PredictiveValues, measure_at_prevalence
from cellclf.evaluation.scores import predictive_values


def measured(called: list[bool], present: list[bool], prevalence: float) -> PredictiveValues:
    groups = [f"{number:03d}" for number in range(len(called))]
    return measure_at_prevalence(np.array(called), np.array(present), positive="ILL", prevalence=prevalence, groups=groups)


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), prevalence=st.floats(0.01, 0.99))
def test_the_values_are_bayes_rule_on_the_counted_rates(pairs: list[tuple[bool, bool]], prevalence: float) -> None:
    pairs = [*pairs, (True, True), (False, False)]
    called, present = ([pair[place] for pair in pairs] for place in (0, 1))
    hits = [c for c, p in pairs if p]
    false = [c for c, p in pairs if not p]
    found = measured(called, present, prevalence)
    expected = predictive_values(float(np.mean(hits)), 1 - float(np.mean(false)), prevalence=prevalence)
    assert found.ppv is not None and found.npv is not None
    assert (found.ppv.value, found.npv.value) == pytest.approx(expected)


def test_the_interval_holds_the_value_and_the_ppv_falls_with_the_prevalence() -> None:
    generator = np.random.default_rng(0)
    present = generator.random(300) < 0.5
    called = np.where(generator.random(300) < 0.9, present, ~present)
    often, seldom = (measured(list(called), list(present), prevalence) for prevalence in (0.5, 0.05))
    for found in (often, seldom):
        for estimate in (found.ppv, found.npv):
            assert estimate is not None and estimate.low is not None and estimate.high is not None
            assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    assert often.ppv is not None and seldom.ppv is not None
    assert often.ppv.value > 0.85
    assert seldom.ppv.value < 0.45
    assert (seldom.positive, seldom.prevalence) == ("ILL", 0.05)


def test_where_nobody_is_called_positive_there_is_no_ppv() -> None:
    found = measured([False, False, False], [True, False, False], 0.2)
    assert found.ppv is None
    assert found.npv is not None
    assert found.npv.value == pytest.approx(0.8)
