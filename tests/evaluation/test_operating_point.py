import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.errors import EvaluationError
from cellclf.evaluation.operating_point import choose_operating_point, choose_threshold
from tests.evaluation.making import LABELS

Floats = npt.NDArray[np.float64]


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
