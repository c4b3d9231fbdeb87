import numpy as np
import pytest

from cellclf.evaluation.metrics import measure
from cellclf.report.averages import ROC_POINTS, accuracy, area_under_roc, balanced_accuracy, mean_confusion, roc_lines

TRUTH = np.repeat([0, 0, 0, 1, 2, 2], 10)
GROUPS = [str(place // 4) for place in range(60)]
LABELS = ("A", "B", "C")


def answers(seeds: int, *, skill: float = 1.0) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    logits = np.random.default_rng(0).normal(size=(seeds, 60, 3)) + skill * np.eye(3)[TRUTH]
    probabilities: np.ndarray[tuple[int, int, int], np.dtype[np.float64]] = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return probabilities


def test_one_seed_gives_the_figures_that_its_run_recorded() -> None:
    probabilities = answers(1)
    recorded = measure(probabilities[0], TRUTH, LABELS, groups=GROUPS, unit="group")
    assert accuracy(probabilities, TRUTH, GROUPS).mean == recorded.accuracy
    assert balanced_accuracy(probabilities, TRUTH, GROUPS).mean == recorded.balanced_accuracy
    area = area_under_roc(probabilities, TRUTH, GROUPS)
    assert area is not None and recorded.auc is not None
    assert area.mean.value == pytest.approx(recorded.auc.value)
    assert area.mean.low == pytest.approx(recorded.auc.low, abs=0.02)
    assert mean_confusion(probabilities, TRUTH) == tuple(tuple(float(count) for count in row) for row in recorded.confusion)


def test_several_seeds_are_averaged_and_their_spread_is_told() -> None:
    probabilities = answers(3)
    alone = [measure(of_seed, TRUTH, LABELS, groups=GROUPS, unit="group") for of_seed in probabilities]
    for found, values in (
        (accuracy(probabilities, TRUTH, GROUPS), [each.accuracy.value for each in alone]),
        (balanced_accuracy(probabilities, TRUTH, GROUPS), [each.balanced_accuracy.value for each in alone]),
        (area_under_roc(probabilities, TRUTH, GROUPS), [each.auc.value for each in alone if each.auc]),
    ):
        assert found is not None
        assert found.mean.value == pytest.approx(np.mean(values))
        assert found.spread.deviation == pytest.approx(np.std(values, ddof=1))
        assert (found.spread.least, found.spread.greatest) == pytest.approx((min(values), max(values)))
        assert found.mean.low is not None and found.mean.high is not None
        assert found.mean.low < found.mean.value < found.mean.high
    assert np.sum(mean_confusion(probabilities, TRUTH)) == pytest.approx(60)


def test_a_label_that_does_not_occur_has_no_area_and_no_curve() -> None:
    truth = np.where(TRUTH == 1, 0, TRUTH)
    assert area_under_roc(answers(2), truth, GROUPS) is None
    assert [line.label for line in roc_lines(answers(2), truth, LABELS)] == ["A", "C"]


def test_a_roc_curve_rises_to_1_and_has_the_area_of_its_model() -> None:
    probabilities = answers(1)
    for line, label in zip(roc_lines(probabilities, TRUTH, LABELS), range(3), strict=True):
        assert len(line.sensitivity) == ROC_POINTS
        assert line.sensitivity[-1] == 1
        assert all(np.diff(line.sensitivity) >= 0)
        under = np.mean([line.sensitivity[:-1], line.sensitivity[1:]])
        recorded = measure(probabilities[0], TRUTH, LABELS, groups=GROUPS, unit="group").per_label[LABELS[label]].auc
        assert recorded is not None
        assert under == pytest.approx(recorded.value, abs=0.03)


def test_two_labels_have_the_second_ones_curve_alone() -> None:
    two = answers(2)[:, :, :2] / answers(2)[:, :, :2].sum(axis=2, keepdims=True)
    assert [line.label for line in roc_lines(two, np.minimum(TRUTH, 1), ("NORMAL", "ILL"))] == ["ILL"]
