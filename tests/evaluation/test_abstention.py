import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cellclf.card import AbstainBand
from cellclf.errors import EvaluationError
from cellclf.evaluation.abstention import certainty, choose_abstention, coverage_and_error, coverage_error_curve
from cellclf.evaluation.decision import decide
from tests.evaluation.making import LABELS, Case, point, predictions, two_labels

SHARES = st.integers(0, 10).map(lambda tenths: tenths / 10)


def names(count: int) -> list[str]:
    return [f"{number:04d}" for number in range(count)]


def labels_of(case: Case) -> str:
    return "ABCD"[: case[0].shape[1]]


def chosen(case: Case, threshold: float | None, *, max_error: float | None = None, min_coverage: float | None = None) -> AbstainBand:
    probabilities, truth = case
    return choose_abstention(
        probabilities,
        truth,
        labels_of(case),
        groups=names(len(truth)),
        split="validation",
        operating_point=None if threshold is None else point(threshold, positive="B"),
        max_error=max_error,
        min_coverage=min_coverage,
    )


def applied(case: Case, threshold: float | None, found: AbstainBand) -> tuple[float, float | None]:
    """Coverage and error of the band on the images, by the rule that predict applies."""
    probabilities, truth = case
    decision = decide(probabilities, labels_of(case), operating_point=None if threshold is None else point(threshold, positive="B"), abstain=found)
    answered = ~decision.abstained
    wrong = decision.called[answered] != truth[answered]
    return float(answered.mean()), float(wrong.mean()) if len(wrong) else None


THRESHOLDS = st.none() | st.sampled_from([0.1037, 0.2511, 0.4983, 0.8019])


@given(case=predictions(), threshold=THRESHOLDS, wanted=SHARES)
def test_the_band_keeps_the_error_that_was_asked_for_and_no_narrower_one_does(case: Case, threshold: float | None, wanted: float) -> None:
    probabilities, truth = case
    operating_point = None if threshold is None else point(threshold, positive="B")
    certain = certainty(probabilities, labels_of(case), operating_point)
    right = decide(probabilities, labels_of(case), operating_point=operating_point).called == truth
    possible = [(certain >= level).mean() for level in np.unique(certain) if (~right[certain >= level]).mean() <= wanted]
    if not possible:
        with pytest.raises(EvaluationError, match="no band leaves an error of"):
            chosen(case, threshold, max_error=wanted)
        return
    found = chosen(case, threshold, max_error=wanted)
    coverage, error = applied(case, threshold, found)
    assert coverage == found.coverage.value == pytest.approx(max(possible))
    assert found.error is not None
    assert error == found.error.value <= wanted
    assert found.max_error == wanted


@given(case=predictions(), threshold=THRESHOLDS, wanted=SHARES)
def test_the_band_for_a_coverage_keeps_it_and_errs_least(case: Case, threshold: float | None, wanted: float) -> None:
    found = chosen(case, threshold, min_coverage=wanted)
    coverage, error = applied(case, threshold, found)
    assert coverage == found.coverage.value >= wanted - 1e-9
    probabilities, truth = case
    operating_point = None if threshold is None else point(threshold, positive="B")
    certain = certainty(probabilities, labels_of(case), operating_point)
    right = decide(probabilities, labels_of(case), operating_point=operating_point).called == truth
    least = min((~right[certain >= level]).mean() for level in np.unique(certain) if (certain >= level).mean() >= wanted - 1e-9)
    assert error == pytest.approx(least)


@given(case=predictions(classes=2), threshold=st.sampled_from([0.1037, 0.2511, 0.4983, 0.8019]), wanted=SHARES)
def test_the_band_lies_around_the_threshold_equally_far_in_log_odds(case: Case, threshold: float, wanted: float) -> None:
    found = chosen(case, threshold, min_coverage=wanted)
    assume(found.low < found.high)
    assert found.low < threshold < found.high
    below, middle, above = (np.log(p / (1 - p)) for p in (found.low, threshold, found.high))
    assert above - middle == pytest.approx(middle - below)


def test_the_band_of_a_worked_example() -> None:
    """Ten images, wrong at .45, .55 and .6: an error of 0 is reached by leaving those below .65 to a person, half-way between .6 and .7."""
    probabilities = two_labels([0.05, 0.1, 0.2, 0.3, 0.45, 0.55, 0.6, 0.7, 0.8, 0.9])
    truth = np.array([0, 0, 0, 0, 1, 0, 0, 1, 1, 1])
    found = choose_abstention(probabilities, truth, LABELS, groups=names(10), split="validation", max_error=0.0)
    assert (found.low, found.high) == pytest.approx((0.0, 0.65))
    assert found.coverage.value == 0.7
    assert found.error is not None
    assert (found.error.value, found.images, found.positive, found.split) == (0.0, 10, None, "validation")
    assert [row.coverage for row in found.curve[-3:]] == [0.7, 0.8, 1.0]
    assert [row.error for row in found.curve[-3:]] == pytest.approx([0, 1 / 8, 0.3])


def test_where_nothing_needs_to_be_left_to_a_person_everything_is_answered() -> None:
    found = choose_abstention(two_labels([0.1, 0.9]), np.array([0, 1]), LABELS, groups=names(2), split="validation", max_error=0.05)
    assert (found.low, found.high, found.coverage.value) == (0, 0, 1)
    at_point = choose_abstention(
        two_labels([0.1, 0.9]), np.array([0, 1]), LABELS, groups=names(2), split="validation", max_error=0.05, operating_point=point(0.3)
    )
    assert (at_point.low, at_point.high, at_point.positive) == (0.3, 0.3, "PNEUMONIA")


def test_probabilities_of_exactly_0_and_1_are_certain() -> None:
    probabilities, truth = two_labels([0.0, 1.0, 0.31, 0.29]), np.array([0, 1, 0, 1])
    found = choose_abstention(probabilities, truth, LABELS, groups=names(4), split="validation", max_error=0.0, operating_point=point(0.3))
    assert found.coverage.value == 0.5
    assert decide(probabilities, LABELS, operating_point=point(0.3), abstain=found).abstained.tolist() == [False, False, True, True]


@pytest.mark.parametrize("wish", [(None, None), (0.1, 0.5)])
def test_one_wish_is_needed_and_not_two(wish: tuple[float | None, float | None]) -> None:
    with pytest.raises(EvaluationError, match="give one of the two"):
        chosen((two_labels([0.1]), np.array([0])), None, max_error=wish[0], min_coverage=wish[1])


@pytest.mark.parametrize("wish", [(-0.1, None), (5.0, None), (None, 1.5)])
def test_a_wish_that_is_no_share_is_refused(wish: tuple[float | None, float | None]) -> None:
    with pytest.raises(EvaluationError, match="give a share from 0 to 1"):
        chosen((two_labels([0.1]), np.array([0])), None, max_error=wish[0], min_coverage=wish[1])


def test_an_error_that_no_band_reaches_is_told_with_what_can_be_reached() -> None:
    with pytest.raises(EvaluationError, match=r"no band leaves an error of 0.1 or less: it is 0.500 on all 4 images and nowhere below 0.500"):
        choose_abstention(two_labels([0.9, 0.9, 0.4, 0.6]), np.array([0, 1, 0, 0]), LABELS, groups=names(4), split="validation", max_error=0.1)


# The curve


@given(certain=st.lists(st.integers(0, 6), min_size=1, max_size=60), data=st.data(), points=st.integers(1, 30))
def test_each_point_of_the_curve_is_the_error_of_the_most_certain_images(certain: list[int], data: st.DataObject, points: int) -> None:
    right = np.array(data.draw(st.lists(st.booleans(), min_size=len(certain), max_size=len(certain))))
    values: npt.NDArray[np.float64] = np.array(certain, dtype=np.float64)
    curve = coverage_error_curve(values, right, points=points)
    errors = {float((values >= level).mean()): float((~right[values >= level]).mean()) for level in np.unique(values)}
    assert 1 <= len(curve) <= points
    assert [row.coverage for row in curve] == sorted({row.coverage for row in curve})
    assert curve[-1].coverage == 1
    for row in curve:
        assert row.error == pytest.approx(errors[row.coverage])


def test_coverage_and_error_have_intervals_over_groups_and_no_error_where_nothing_is_answered() -> None:
    generator = np.random.default_rng(0)
    right, answered = generator.random(200) < 0.9, generator.random(200) < 0.7
    coverage, error = coverage_and_error(right, answered, groups=names(200))
    assert coverage.value == answered.mean()
    assert error is not None and error.low is not None and error.high is not None
    assert error.low < error.value == (~right[answered]).mean() < error.high
    nothing, undefined = coverage_and_error(right, np.zeros(200, dtype=bool), groups=names(200))
    assert (nothing.value, undefined) == (0, None)
