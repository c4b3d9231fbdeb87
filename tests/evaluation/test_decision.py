import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.card import AbstainBand, Estimate
from cellclf.errors import UnknownNameError
from cellclf.evaluation.decision import decide, positive_number
from tests.evaluation.making import LABELS, Case, point, predictions, two_labels


def band(low: float, high: float, positive: str | None = "PNEUMONIA") -> AbstainBand:
    return AbstainBand(
        positive=positive,
        low=low,
        high=high,
        max_error=0.1,
        min_coverage=None,
        coverage=Estimate(value=1.0),
        error=None,
        split="validation",
        images=1,
        curve=(),
    )


def test_an_unknown_positive_label_is_refused_with_the_labels_there_are() -> None:
    with pytest.raises(UnknownNameError, match="unknown label 'PNEUMONA'; the labels are NORMAL, PNEUMONIA"):
        positive_number(LABELS, "PNEUMONA")


@given(case=predictions())
def test_without_an_operating_point_the_most_probable_label_is_called_and_everything_is_answered(case: Case) -> None:
    probabilities, _ = case
    found = decide(probabilities, "ABCD"[: probabilities.shape[1]])
    np.testing.assert_array_equal(found.called, probabilities.argmax(axis=1))
    assert not found.abstained.any()


def test_with_two_labels_the_threshold_alone_decides() -> None:
    found = decide(two_labels([0.19, 0.2, 0.6, 1.0, 0.0]), LABELS, operating_point=point(0.2))
    assert found.called.tolist() == [0, 1, 1, 1, 0]
    found = decide(two_labels([0.6, 0.7]), LABELS, operating_point=point(0.65))
    assert found.called.tolist() == [0, 1]


def test_with_two_labels_either_may_be_the_positive_one() -> None:
    found = decide(two_labels([0.6, 0.8]), LABELS, operating_point=point(0.3, positive="NORMAL"))
    assert found.called.tolist() == [0, 1]


def test_with_more_labels_the_positive_is_called_from_its_threshold_on_else_the_best_of_the_others() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.1, 0.7, 0.2], [0.2, 0.35, 0.45]])
    found = decide(probabilities, ("A", "B", "C"), operating_point=point(0.3, positive="B"))
    assert found.called.tolist() == [1, 0, 1, 1]
    found = decide(probabilities, ("A", "B", "C"), operating_point=point(0.8, positive="B"))
    assert found.called.tolist() == [0, 0, 2, 2]


@given(case=predictions(), threshold=st.floats(0.01, 0.99))
def test_the_positive_label_is_called_exactly_where_it_reaches_its_threshold(case: Case, threshold: float) -> None:
    probabilities, _ = case
    labels = "ABCD"[: probabilities.shape[1]]
    called = decide(probabilities, labels, operating_point=point(threshold, positive="B")).called
    np.testing.assert_array_equal(called == 1, probabilities[:, 1] >= threshold)


def test_float32_probabilities_are_compared_as_they_are() -> None:
    probabilities = two_labels([0.3]).astype(np.float32)  # .3 as float32 is above .3
    assert decide(probabilities, LABELS, operating_point=point(0.3)).called.tolist() == [1]


def test_inside_the_band_there_is_no_answer() -> None:
    found = decide(two_labels([0.09, 0.1, 0.2, 0.39, 0.4]), LABELS, operating_point=point(0.2), abstain=band(0.1, 0.4))
    assert found.abstained.tolist() == [False, True, True, True, False]
    assert found.called.tolist() == [0, 0, 1, 1, 1]


def test_without_a_positive_label_the_largest_probability_is_looked_at() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.1, 0.7]])
    assert decide(probabilities, "ABC", abstain=band(0.0, 0.6, positive=None)).abstained.tolist() == [True, False]


def test_a_band_without_width_answers_everything() -> None:
    assert not decide(two_labels([0.1, 0.2, 0.3]), LABELS, operating_point=point(0.2), abstain=band(0.2, 0.2)).abstained.any()
