import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.card import AbstainBand, Estimate, OperatingPoint
from cellclf.errors import EvaluationError, UnknownNameError
from cellclf.evaluation.operating_point import choose_operating_point, choose_threshold, decide, positive_number
from tests.evaluation.making import Case, predictions

Floats = npt.NDArray[np.float64]
LABELS = ("NORMAL", "PNEUMONIA")


def point(threshold: float, positive: str = "PNEUMONIA") -> OperatingPoint:
    whole = Estimate(value=1.0)
    return OperatingPoint(
        positive=positive, threshold=threshold, min_sensitivity=0.95, sensitivity=whole, specificity=whole, split="validation", images=1, groups=1
    )


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


def two_labels(scores: list[float]) -> Floats:
    return np.stack([1 - np.array(scores), np.array(scores)], axis=1)


# Thresholds


@st.composite
def scored(draw: st.DrawFn) -> tuple[Floats, npt.NDArray[np.bool_]]:
    scores = draw(st.lists(st.integers(0, 20), min_size=2, max_size=40))
    positive = [True, False, *draw(st.lists(st.booleans(), min_size=len(scores) - 2, max_size=len(scores) - 2))]
    return np.array(scores) / 20, np.array(positive)


@given(case=scored(), wanted=st.integers(1, 100).map(lambda percent: percent / 100))
def test_the_threshold_reaches_the_sensitivity_and_no_higher_one_does(case: tuple[Floats, npt.NDArray[np.bool_]], wanted: float) -> None:
    scores, positive = case

    def found_at(level: float) -> tuple[float, float]:
        called = scores >= level
        return float(called[positive].mean()), float((~called)[~positive].mean())

    reached = [found_at(level) for level in np.unique(scores) if found_at(level)[0] >= wanted - 1e-9]
    best = max(specificity for _, specificity in reached)
    if best == 0:
        with pytest.raises(EvaluationError, match="only by calling every image positive"):
            choose_threshold(scores, positive, min_sensitivity=wanted)
        return
    threshold = choose_threshold(scores, positive, min_sensitivity=wanted)
    sensitivity, specificity = found_at(threshold)
    assert sensitivity >= wanted - 1e-9
    assert specificity == best
    assert threshold not in scores
    assert 0 < threshold < 1


def test_the_threshold_of_a_worked_example() -> None:
    """Ten positives at .1 … 1.0 and negatives below .35: nine of ten are found from .2 on, half-way to the negative at .15."""
    scores = np.array([*np.arange(1, 11) / 10, 0.05, 0.15, 0.25, 0.35])
    positive = np.arange(14) < 10
    assert choose_threshold(scores, positive, min_sensitivity=0.9) == pytest.approx((0.2 + 0.15) / 2)
    assert choose_threshold(scores, positive, min_sensitivity=0.75) == pytest.approx((0.3 + 0.25) / 2)


@pytest.mark.parametrize("wanted", [0.0, -0.1, 1.01, 95.0])
def test_a_sensitivity_that_is_no_share_is_refused(wanted: float) -> None:
    with pytest.raises(EvaluationError, match=f"sensitivity of {wanted:g}"):
        choose_threshold(np.array([0.1, 0.9]), np.array([False, True]), min_sensitivity=wanted)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_images_of_one_kind_only_choose_no_threshold(positive: list[bool]) -> None:
    with pytest.raises(EvaluationError, match="with and without the positive label"):
        choose_threshold(np.array([0.1, 0.9]), np.array(positive), min_sensitivity=0.9)


def test_the_operating_point_tells_what_it_comes_to_with_intervals_over_groups() -> None:
    generator = np.random.default_rng(0)
    numbers = np.repeat(np.arange(100), 4)
    truth = numbers % 2
    scores = np.clip(0.5 + (truth - 0.5) * 0.4 + 0.2 * generator.normal(size=100)[numbers] + 0.02 * generator.normal(size=400), 0.001, 0.999)
    probabilities = np.stack([1 - scores, scores], axis=1)
    by_group, by_file = (
        choose_operating_point(probabilities, truth, LABELS, positive="PNEUMONIA", min_sensitivity=0.9, groups=groups, split="validation")
        for groups in ([str(number) for number in numbers], [str(number) for number in range(400)])
    )
    called = scores >= by_group.threshold
    assert by_group.sensitivity.value == called[truth == 1].mean() >= 0.9
    assert by_group.specificity.value == (~called)[truth == 0].mean()
    assert (by_group.groups, by_group.images, by_group.positive, by_group.split) == (100, 400, "PNEUMONIA", "validation")
    widths = [
        found.specificity.high - found.specificity.low
        for found in (by_group, by_file)
        if found.specificity.low is not None and found.specificity.high is not None
    ]
    assert widths[0] > 1.5 * widths[1]


def test_an_unknown_positive_label_is_refused_with_the_labels_there_are() -> None:
    with pytest.raises(UnknownNameError, match="unknown label 'PNEUMONA'; the labels are NORMAL, PNEUMONIA"):
        positive_number(LABELS, "PNEUMONA")


# Decisions


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
