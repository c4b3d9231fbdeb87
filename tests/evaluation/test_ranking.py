import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from cellclf.evaluation.ranking import Ranking, average_precision, roc_auc, roc_curve

Scored = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Scores with many ties, and which are positive; both kinds occur."""
    scores = draw(st.lists(st.integers(0, 6), min_size=2, max_size=40))
    rest = draw(st.lists(st.booleans(), min_size=len(scores) - 2, max_size=len(scores) - 2))
    return np.array(scores) / 6, np.array([True, False, *rest])


@given(case=scored())
def test_the_area_is_scikit_learns_with_ties_counted_half(case: Scored) -> None:
    assert roc_auc(*case) == pytest.approx(sklearn.metrics.roc_auc_score(case[1], case[0]))


@given(case=scored())
def test_average_precision_is_scikit_learns(case: Scored) -> None:
    assert average_precision(*case) == pytest.approx(sklearn.metrics.average_precision_score(case[1], case[0]))


@given(case=scored(), data=st.data())
def test_weighted_areas_are_scikit_learns_for_each_draw(case: Scored, data: st.DataObject) -> None:
    scores, positive = case
    row = st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))
    weights = np.array(data.draw(st.lists(row, min_size=1, max_size=3)), dtype=np.float64)
    weights[:, :2] += 1  # one positive and one negative at least
    areas, precisions = Ranking.of(scores, positive).areas(weights)
    for weight, area, precision in zip(weights, areas, precisions, strict=True):
        assert area == pytest.approx(sklearn.metrics.roc_auc_score(positive, scores, sample_weight=weight))
        assert precision == pytest.approx(sklearn.metrics.average_precision_score(positive, scores, sample_weight=weight))


def test_a_draw_without_a_positive_or_a_negative_has_no_area() -> None:
    ranking = Ranking.of(np.array([0.1, 0.9]), np.array([False, True]))
    areas, precisions = ranking.areas(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(areas, [np.nan, np.nan, 1])
    np.testing.assert_array_equal(precisions, [np.nan, 1, 1])


@pytest.mark.parametrize(("scores", "area"), [([0.9, 0.8, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.8, 0.9], 0.0), ([0.5, 0.5, 0.5, 0.5], 0.5)])
def test_the_area_is_1_where_all_is_right_0_where_all_is_wrong_and_half_where_nothing_is_told(scores: list[float], area: float) -> None:
    assert roc_auc(np.array(scores), np.array([True, True, False, False])) == area


def test_with_one_kind_only_there_is_no_area() -> None:
    scores = np.array([0.1, 0.2])
    assert roc_auc(scores, np.array([True, True])) is roc_auc(scores, np.array([False, False])) is None
    assert average_precision(scores, np.array([False, False])) is None


@given(case=scored())
def test_the_roc_curve_is_scikit_learns(case: Scored) -> None:
    scores, positive = case
    found = roc_curve(scores, positive)
    false, true, thresholds = sklearn.metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.sensitivity, true)
    np.testing.assert_allclose(found.specificity, 1 - false)
    np.testing.assert_array_equal(found.thresholds, thresholds)


@given(case=scored())
def test_the_area_is_that_beneath_the_curve(case: Scored) -> None:
    curve = roc_curve(*case)
    assert np.trapezoid(curve.sensitivity, 1 - curve.specificity) == pytest.approx(roc_auc(*case))
