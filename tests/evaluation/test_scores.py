import itertools

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from cellclf.evaluation.scores import brier_score, cross_entropy, expected_calibration_error, predictive_values, reliability_curve
from tests.evaluation.making import Case, predictions

SHARES = st.floats(0, 1)


@given(case=predictions(all_occur=True))
def test_the_log_loss_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    assert cross_entropy(probabilities, truth) == pytest.approx(sklearn.metrics.log_loss(truth, probabilities))


def test_a_certain_and_wrong_prediction_costs_as_much_as_keras_makes_it_cost() -> None:
    assert cross_entropy(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-7))


def test_the_loss_of_float32_probabilities_is_summed_in_float64() -> None:
    probabilities = np.full((100_000, 2), 0.5, dtype=np.float32)
    assert cross_entropy(probabilities, np.zeros(100_000, dtype=np.int64)) == pytest.approx(np.log(2), abs=1e-12)


@given(case=predictions(classes=2, all_occur=True))
def test_the_brier_score_of_two_labels_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    assert brier_score(probabilities, truth) == pytest.approx(sklearn.metrics.brier_score_loss(truth, probabilities[:, 1]))


@given(case=st.one_of(predictions(classes=3, all_occur=True), predictions(classes=4, all_occur=True)))
def test_the_brier_score_of_more_labels_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    assert brier_score(probabilities, truth) == pytest.approx(sklearn.metrics.brier_score_loss(truth, probabilities))


@pytest.mark.parametrize(("truth", "score"), [(0, 0.0), (1, 2.0), (2, 2.0)])
def test_the_brier_score_runs_from_0_to_2(truth: int, score: float) -> None:
    assert brier_score(np.array([[1.0, 0.0, 0.0]]), np.array([truth])) == score


@given(case=predictions(classes=2, all_occur=True), bins=st.integers(2, 20))
def test_the_reliability_curve_of_a_label_is_scikit_learns(case: Case, bins: int) -> None:
    probabilities, truth = case
    shares, means = sklearn.calibration.calibration_curve(truth, probabilities[:, 1], n_bins=bins)
    curve = reliability_curve(probabilities, truth, label=1, bins=bins)
    np.testing.assert_allclose([row.accuracy for row in curve], shares)
    np.testing.assert_allclose([row.confidence for row in curve], means)
    assert sum(row.images for row in curve) == len(truth)


@given(case=predictions())
def test_every_image_is_in_the_bin_of_its_confidence(case: Case) -> None:
    probabilities, truth = case
    confidence = probabilities.max(axis=1)
    for row in reliability_curve(probabilities, truth):
        inside = (confidence > row.low - 1e-12) & (confidence <= row.high + 1e-12)
        assert row.low - 1e-12 <= row.confidence <= row.high + 1e-12
        assert row.images <= inside.sum()


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    row, *rest = reliability_curve(np.array([[0.5, 0.5]]), np.array([0]), bins=2)
    assert (row.low, row.high, rest) == (0.0, 0.5, [])


def test_the_calibration_error_of_a_worked_example() -> None:
    """Ten images at .95 of which seven are right, ten at .55 of which five are: (10 · .25 + 10 · .05) / 20 = .15."""
    confidence = np.repeat([0.95, 0.55], 10)
    truth = np.array([0] * 7 + [1] * 3 + [0] * 5 + [1] * 5)
    curve = reliability_curve(np.stack([confidence, 1 - confidence], axis=1), truth)
    assert expected_calibration_error(curve) == pytest.approx(0.15)


@given(case=predictions())
def test_the_calibration_error_is_the_mean_gap_written_down_anew(case: Case) -> None:
    probabilities, truth = case
    gaps = 0.0
    edges = np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        rows = [(p.max(), p.argmax() == t) for p, t in zip(probabilities, truth, strict=True) if low < p.max() <= high]
        gaps += abs(sum(confidence - right for confidence, right in rows))
    assert expected_calibration_error(reliability_curve(probabilities, truth)) == pytest.approx(gaps / len(truth), abs=1e-12)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not_at_all() -> None:
    probabilities: npt.NDArray[np.float64] = np.array([[1.0, 0.0]])
    assert expected_calibration_error(reliability_curve(probabilities, np.array([0]))) == 0
    assert expected_calibration_error(reliability_curve(probabilities, np.array([1]))) == 1


def test_the_predictive_values_of_the_textbook_screening_test() -> None:
    """Sensitivity .9, specificity .9, one in a hundred ill: of 108 called ill of 1000, 9 are."""
    ppv, npv = predictive_values(0.9, 0.9, prevalence=0.01)
    assert ppv == pytest.approx(9 / 108)
    assert npv == pytest.approx(891 / 892)


@given(counts=st.tuples(*[st.integers(0, 50)] * 4).filter(lambda counts: counts[0] + counts[1] > 0 and counts[2] + counts[3] > 0))
def test_at_a_sets_own_prevalence_the_predictive_values_are_those_counted(counts: tuple[int, int, int, int]) -> None:
    hits, missed, cleared, false = counts
    positives, negatives = hits + missed, cleared + false
    ppv, npv = predictive_values(hits / positives, cleared / negatives, prevalence=positives / (positives + negatives))
    if hits + false:
        assert ppv == pytest.approx(hits / (hits + false))
    if cleared + missed:
        assert npv == pytest.approx(cleared / (cleared + missed))


@given(sensitivity=SHARES, specificity=SHARES, prevalence=SHARES)
def test_predictive_values_are_shares(sensitivity: float, specificity: float, prevalence: float) -> None:
    for value in predictive_values(sensitivity, specificity, prevalence=prevalence):
        assert value is None or 0 <= value <= 1


def test_a_test_that_calls_nobody_positive_has_no_ppv_and_one_that_clears_nobody_no_npv() -> None:
    assert predictive_values(0, 1, prevalence=0.2)[0] is None
    assert predictive_values(1, 0, prevalence=0.2)[1] is None
