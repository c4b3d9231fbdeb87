from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cellclf.data.prepare import DataRequest
from cellclf.evaluation.abstention import choose_abstention, coverage_and_error
from cellclf.evaluation.decision import decide
from cellclf.evaluation.metrics import measure
from cellclf.evaluation.operating_point import choose_operating_point
from cellclf.report.comparing import Candidate
from cellclf.report.deciding import by_label, decided, doubts_of, operating_of, why_no_threshold
from cellclf.report.eligible import eligible_runs
from cellclf.report.figures import USUAL_POINT, WantedPoint
from cellclf.training.recipe import make_recipe
from tests.report.making import Data, make_run

TWO, FOUR = Data(labels=("NORMAL", "ILL"), groups=30), Data(labels=("A", "B", "C", "D"), groups=40)


def candidate(folder: Path, data: Data, seeds: Sequence[int] = (0,), *, skill: float = 1.0) -> Candidate:
    runs = []
    for seed in seeds:
        recipe = make_recipe("vgg16", DataRequest(data="sample"), epochs=2, image_size_px=96, learning_rate=1e-3, seed=seed)
        runs.append(make_run(folder / f"r{seed}", recipe, data=data, skill=skill))
    (found,), _ = eligible_runs(runs, factors=["backbone"], by="validation")
    return found


def test_a_share_is_counted_by_hand() -> None:
    """Ten images in ten groups, six ill; called ill: four of them and one of the four healthy ones."""
    present = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    called = np.array([[1, 1, 1, 1, 0, 0, 1, 0, 0, 0]], dtype=bool)
    found = decided(called, called == present, present, [str(place) for place in range(10)])
    shares = {name: getattr(found, name).value for name in ("sensitivity", "specificity", "accuracy", "ppv", "npv", "f1")}
    assert shares == pytest.approx({"sensitivity": 4 / 6, "specificity": 3 / 4, "accuracy": 7 / 10, "ppv": 4 / 5, "npv": 3 / 5, "f1": 8 / 11})
    assert found.accuracy.low is not None and found.accuracy.low < 0.7


def test_one_run_gives_the_figures_that_evaluation_gives_at_the_same_threshold(tmp_path: Path) -> None:
    one = candidate(tmp_path, TWO)
    found = operating_of(one, USUAL_POINT)
    assert found is not None and found.chosen is not None
    validation, test = one.answered("validation"), one.answered("test")
    point = choose_operating_point(
        validation.probabilities, validation.truth, TWO.labels, positive="ILL", min_sensitivity=0.95, groups=validation.groups, split="validation"
    )
    assert found.thresholds == (point.threshold,)
    for own, called in ((found.usual, None), (found.chosen, decide(test.probabilities, TWO.labels, operating_point=point).called)):
        same = measure(test.probabilities, test.truth, TWO.labels, groups=test.groups, unit="group", predicted=called)
        ill = same.per_label["ILL"]
        assert (own.accuracy, own.sensitivity, own.specificity) == (same.accuracy, ill.recall, ill.specificity)
        assert (own.ppv, own.npv) == (ill.precision, ill.npv)


def test_each_label_of_one_run_has_the_figures_that_evaluation_gives(tmp_path: Path) -> None:
    one = candidate(tmp_path, FOUR)
    test = one.answered("test")
    same = measure(test.probabilities, test.truth, FOUR.labels, groups=test.groups, unit="group").per_label
    found = by_label(one)
    assert list(found) == list(FOUR.labels)
    for label, own in found.items():
        other = same[label]
        assert (own.sensitivity, own.specificity, own.ppv, own.npv) == (other.recall, other.specificity, other.precision, other.npv)
        assert own.f1 is not None and other.f1 is not None and other.f1_estimate is not None
        assert own.f1.value == pytest.approx(other.f1)
        assert (own.f1.low, own.f1.high) == pytest.approx((other.f1_estimate.low, other.f1_estimate.high), abs=0.02)


def test_a_perfect_label_has_exact_bounds_but_for_its_f1_which_is_no_share_of_trials() -> None:
    present = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    found = decided(present[None], np.ones((1, 6), dtype=bool), present, [str(place) for place in range(6)])
    assert found.sensitivity is not None and found.sensitivity.low is not None and found.sensitivity.low < 1
    assert found.f1 is not None
    assert (found.f1.value, found.f1.low, found.f1.high) == (1, None, None)


def test_several_runs_have_a_threshold_each_and_are_averaged(tmp_path: Path) -> None:
    found = operating_of(candidate(tmp_path, TWO, (0, 1, 2)), WantedPoint(min_sensitivity=0.8))
    alone = [operating_of(candidate(tmp_path / str(seed), TWO, (seed,)), WantedPoint(min_sensitivity=0.8)) for seed in (0, 1, 2)]
    assert found is not None and found.chosen is not None and found.chosen.specificity is not None
    assert found.thresholds == tuple(each.thresholds[0] for each in alone if each)
    values = [each.chosen.specificity.value for each in alone if each and each.chosen and each.chosen.specificity]
    assert len(values) == 3
    assert found.chosen.specificity.value == pytest.approx(np.mean(values))


def test_more_labels_have_no_threshold_unless_one_is_named(tmp_path: Path) -> None:
    four = candidate(tmp_path, FOUR)
    assert why_no_threshold(FOUR.labels, USUAL_POINT) == "no threshold is chosen: of 4 labels none is the positive one; name it with --positive"
    assert operating_of(four, USUAL_POINT) is None
    assert why_no_threshold(TWO.labels, WantedPoint(positive="C")) == "no threshold is chosen: there is no label C"
    named = operating_of(four, WantedPoint(min_sensitivity=0.8, positive="C"))
    assert named is not None and named.chosen is not None
    assert named.positive == "C"
    assert named.share_positive == pytest.approx(1 / 4)


def test_a_threshold_that_cannot_be_had_is_refused_with_the_run_and_the_reason(tmp_path: Path) -> None:
    found = operating_of(candidate(tmp_path, TWO, (0, 1), skill=-3.0), WantedPoint(min_sensitivity=1.0))
    assert found is not None
    assert found.chosen is None
    assert found.refused.startswith("r0: a sensitivity of 1 is reached only by calling every image positive")


def test_the_curve_of_doubt_ends_at_the_error_of_all_answers_and_the_band_is_that_of_validation(tmp_path: Path) -> None:
    one = candidate(tmp_path, TWO)
    operating = operating_of(one, USUAL_POINT)
    usual, at_threshold = doubts_of(one, operating)
    assert operating is not None and operating.chosen is not None
    assert usual.curve[-1].error == pytest.approx(1 - operating.usual.accuracy.value)
    assert at_threshold.curve[-1].error == pytest.approx(1 - operating.chosen.accuracy.value)
    assert [point.coverage for point in usual.curve] == pytest.approx([number / 20 for number in range(1, 21)])
    validation, test = one.answered("validation"), one.answered("test")
    band = choose_abstention(validation.probabilities, validation.truth, TWO.labels, groups=validation.groups, split="validation", min_coverage=0.9)
    decision = decide(test.probabilities, TWO.labels, abstain=band)
    assert (usual.coverage, usual.error) == coverage_and_error(decision.called == test.truth, ~decision.abstained, groups=test.groups)


def test_without_an_operating_point_there_is_one_curve(tmp_path: Path) -> None:
    (only,) = doubts_of(candidate(tmp_path, FOUR, (0, 1)), None)
    assert only.rule == "most probable label"
    assert only.error is not None
    assert 0.5 < only.coverage.value <= 1
