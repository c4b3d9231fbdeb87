from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf.card import Estimate
from cellclf.evaluation.metrics import SplitMetrics, confusion_matrix, cross_entropy, measure, roc_auc

Case = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
LABELS = ("A", "B", "C", "D")


@st.composite
def predictions(draw: st.DrawFn, *, classes: int | None = None, all_occur: bool = False) -> Case:
    """Probabilities [images, classes] with many ties, and true labels."""
    count = classes or draw(st.integers(2, 4))
    truth = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=40))
    if all_occur:
        truth = [*range(count), *truth]
    weights = draw(st.lists(st.lists(st.integers(1, 9), min_size=count, max_size=count), min_size=len(truth), max_size=len(truth)))
    raw = np.array(weights, dtype=np.float64)
    return raw / raw.sum(axis=1, keepdims=True), np.array(truth, dtype=np.int64)


def measured(case: Case, *, groups: list[str] | None = None, seed: int = 0) -> SplitMetrics:
    probabilities, truth = case
    names = groups or [str(number) for number in range(len(truth))]
    return measure(probabilities, truth, LABELS[: probabilities.shape[1]], groups=names, unit="group", seed=seed)


# Figures, against scikit-learn


@given(case=predictions())
def test_accuracy_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    assert measured(case).accuracy.value == pytest.approx(sklearn.metrics.accuracy_score(truth, probabilities.argmax(axis=1)))


@given(case=predictions(all_occur=True))
def test_balanced_accuracy_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    expected = sklearn.metrics.balanced_accuracy_score(truth, probabilities.argmax(axis=1))
    assert measured(case).balanced_accuracy.value == pytest.approx(expected)


@given(case=predictions())
def test_balanced_accuracy_is_the_mean_recall_of_the_labels_that_occur(case: Case) -> None:
    found = measured(case)
    recalls = [label.recall for label in found.per_label.values() if label.recall is not None]
    assert found.balanced_accuracy.value == pytest.approx(np.mean(recalls))


@given(case=predictions())
def test_precision_recall_and_f1_are_scikit_learns_and_none_where_they_are_not_defined(case: Case) -> None:
    probabilities, truth = case
    labels = list(range(probabilities.shape[1]))
    expected = sklearn.metrics.precision_recall_fscore_support(truth, probabilities.argmax(axis=1), labels=labels, zero_division=np.nan)
    found = measured(case).per_label.values()
    for label, precision, recall, f1, support in zip(found, *expected, strict=True):
        assert label.images == support
        assert label.precision == (None if np.isnan(precision) else pytest.approx(precision))
        assert label.recall == (None if np.isnan(recall) else pytest.approx(recall))
        assert label.f1 == (None if np.isnan(f1) else pytest.approx(f1))


@given(case=predictions())
def test_the_confusion_matrix_is_scikit_learns_with_the_truth_in_rows(case: Case) -> None:
    probabilities, truth = case
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    expected = sklearn.metrics.confusion_matrix(truth, predicted, labels=list(range(classes)))
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, classes), expected)
    np.testing.assert_array_equal(measured(case).confusion, expected)


@given(case=predictions(all_occur=True))
def test_the_loss_is_scikit_learns(case: Case) -> None:
    probabilities, truth = case
    expected = sklearn.metrics.log_loss(truth, probabilities)
    assert cross_entropy(probabilities, truth) == measured(case).loss == pytest.approx(expected)


@given(case=predictions(classes=2, all_occur=True))
def test_the_auc_of_two_labels_is_scikit_learns_of_the_second(case: Case) -> None:
    probabilities, truth = case
    assert measured(case).auc == pytest.approx(sklearn.metrics.roc_auc_score(truth, probabilities[:, 1]))


@given(case=st.one_of(predictions(classes=3, all_occur=True), predictions(classes=4, all_occur=True)))
def test_the_auc_of_more_labels_is_scikit_learns_mean_of_one_against_the_rest(case: Case) -> None:
    probabilities, truth = case
    expected = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert measured(case).auc == pytest.approx(expected)


@given(scores=st.lists(st.integers(0, 5), min_size=2, max_size=30), data=st.data())
def test_the_area_is_scikit_learns_with_ties_counted_half(scores: list[int], data: st.DataObject) -> None:
    positive = np.array([True, False, *data.draw(st.lists(st.booleans(), min_size=len(scores) - 2, max_size=len(scores) - 2))])
    values = np.array(scores, dtype=np.float32)
    assert roc_auc(values, positive) == pytest.approx(sklearn.metrics.roc_auc_score(positive, values))


@pytest.mark.parametrize(("scores", "area"), [([0.9, 0.8, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.8, 0.9], 0.0), ([0.5, 0.5, 0.5, 0.5], 0.5)])
def test_the_area_is_1_where_all_is_right_0_where_all_is_wrong_and_half_where_nothing_is_told(scores: list[float], area: float) -> None:
    assert roc_auc(np.array(scores), np.array([True, True, False, False])) == area


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1]])
def test_with_one_label_only_there_is_no_auc(truth: list[int]) -> None:
    case = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]), np.array(truth)
    assert roc_auc(case[0][:, 1], case[1] == 1) is None
    assert measured(case).auc is None


def test_where_a_label_is_missing_from_several_there_is_no_auc() -> None:
    case = np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]), np.array([0, 1])
    found = measured(case)
    assert found.auc is None
    assert (found.per_label["C"].images, found.per_label["C"].precision, found.per_label["C"].recall, found.per_label["C"].f1) == (
        0,
        None,
        None,
        None,
    )


def test_a_certain_and_wrong_prediction_costs_as_much_as_keras_makes_it_cost() -> None:
    assert cross_entropy(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-7))


def test_the_loss_of_float32_probabilities_is_summed_in_float64() -> None:
    probabilities = np.full((100_000, 2), 0.5, dtype=np.float32)
    assert cross_entropy(probabilities, np.zeros(100_000, dtype=np.int64)) == pytest.approx(np.log(2), abs=1e-12)


@given(case=predictions(), data=st.data())
def test_the_figures_do_not_depend_on_the_order_of_the_images(case: Case, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(case[1])))))
    first, turned = measured(case), measured((case[0][order], case[1][order]))
    assert (turned.confusion, turned.per_label, turned.auc) == (first.confusion, first.per_label, first.auc)
    assert turned.loss == pytest.approx(first.loss)


# Intervals


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low, estimate.high


def of_accuracy(accuracy: float, images: int = 400) -> Case:
    """Two labels in turn, of which so large a part is right."""
    truth = np.arange(images) % 2
    right = np.random.default_rng(0).permutation(images) < round(accuracy * images)
    chosen = np.where(right, truth, 1 - truth)
    return np.eye(2)[chosen] * 0.8 + 0.1, truth


def width(found: SplitMetrics) -> float:
    low, high = bounds(found.accuracy)
    return high - low


def test_the_interval_contains_the_value_and_stays_between_0_and_1() -> None:
    for accuracy in (0.01, 0.5, 0.9, 0.99):
        found = measured(of_accuracy(accuracy))
        for estimate in (found.accuracy, found.balanced_accuracy):
            low, high = bounds(estimate)
            assert 0 <= low < estimate.value < high <= 1


@settings(max_examples=25, deadline=None)
@given(case=predictions(), data=st.data())
def test_every_interval_is_in_order_and_between_0_and_1(case: Case, data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.sampled_from("pqrstu"), min_size=len(case[1]), max_size=len(case[1])))
    found = measured(case, groups=groups)
    for estimate in (found.accuracy, found.balanced_accuracy):
        assert (estimate.low is None) == (estimate.high is None) == (len(set(groups)) == 1)
        assert 0 <= (estimate.low or 0) <= (1 if estimate.high is None else estimate.high) <= 1


def test_the_interval_of_single_images_is_that_of_the_binomial_distribution() -> None:
    low, high = bounds(measured(of_accuracy(0.9)).accuracy)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 400)
    assert low == pytest.approx(0.9 - half, abs=0.006)
    assert high == pytest.approx(0.9 + half, abs=0.006)


def test_the_interval_is_wider_where_the_images_come_in_large_groups_that_are_right_or_wrong_together() -> None:
    truth = np.arange(400) % 2
    wrong = np.arange(400) // 40 == 3
    case = np.eye(2)[np.where(wrong, 1 - truth, truth)] * 0.8 + 0.1, truth
    by_image, by_group = measured(case), measured(case, groups=[str(number // 40) for number in range(400)])
    assert by_group.accuracy.value == by_image.accuracy.value
    assert width(by_group) > 2 * width(by_image)


def test_the_interval_is_narrower_with_more_images() -> None:
    assert width(measured(of_accuracy(0.9, images=1600))) < 0.6 * width(measured(of_accuracy(0.9, images=400)))


def test_with_one_group_there_is_no_interval() -> None:
    found = measured(of_accuracy(0.9), groups=["one patient"] * 400)
    assert (found.groups, found.accuracy.low, found.accuracy.high) == (1, None, None)
    assert (found.balanced_accuracy.low, found.balanced_accuracy.high) == (None, None)


def test_with_one_image_there_is_no_interval() -> None:
    assert measured((np.array([[0.9, 0.1]]), np.array([0]))).accuracy == Estimate(value=1.0)


def test_the_interval_of_a_perfect_network_is_a_point() -> None:
    assert bounds(measured(of_accuracy(1.0)).accuracy) == (1.0, 1.0)


def test_one_seed_gives_the_same_interval_and_another_seed_nearly_the_same() -> None:
    first, again, other = (measured(of_accuracy(0.9), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.balanced_accuracy != other.balanced_accuracy
    np.testing.assert_allclose(bounds(first.accuracy), bounds(other.accuracy), atol=0.01)


def test_the_interval_does_not_depend_on_the_names_of_the_groups_or_their_type() -> None:
    case = of_accuracy(0.9)
    numbered = [f"{number // 4:04d}" for number in range(400)]
    assert measured(case, groups=numbered) == measured(case, groups=[f"patient {name}" for name in numbered])


def test_the_interval_is_found_where_a_label_is_in_one_group_alone() -> None:
    probabilities, truth = of_accuracy(0.9, images=40)
    truth[:] = 0
    truth[0] = 1
    low, high = bounds(measured((probabilities, truth)).balanced_accuracy)
    assert 0 <= low <= high <= 1


def test_the_interval_covers_the_true_accuracy_about_95_times_in_a_hundred() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(50):
        right = generator.random(150) < 0.8
        case = np.eye(2)[np.where(right, 0, 1)], np.zeros(150, dtype=np.int64)
        low, high = bounds(measured(case).accuracy)
        hits += low <= 0.8 <= high
    assert 43 <= hits <= 50


# The document


def test_the_figures_say_how_many_images_and_groups_they_are_of() -> None:
    found = measured(of_accuracy(0.9), groups=[str(number // 4) for number in range(400)])
    assert (found.images, found.groups, found.interval_unit) == (400, 100, "group")
    assert list(found.per_label) == ["A", "B"]


@given(case=predictions())
def test_the_figures_come_back_from_json_as_they_were(case: Case) -> None:
    found: Any = measured(case)
    assert SplitMetrics.parse(found.model_dump_json(), where="here") == found
