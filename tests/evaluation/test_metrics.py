import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf.card import Estimate
from cellclf.evaluation.metrics import SplitMetrics, confusion_matrix, measure, one_answer
from cellclf.evaluation.scores import brier_score, cross_entropy, expected_calibration_error, reliability_curve
from tests.evaluation.making import Case, predictions

LABELS = ("A", "B", "C", "D")


def measured(case: Case, *, groups: list[str] | None = None, seed: int = 0) -> SplitMetrics:
    probabilities, truth = case
    names = groups or [str(number) for number in range(len(truth))]
    return measure(probabilities, truth, LABELS[: probabilities.shape[1]], groups=names, unit="group", seed=seed)


def value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def sharp(images: int, *, seed: int) -> Case:
    """Probabilities of three labels that are right more often than not, and the truth."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(3, size=images)
    powers = np.exp(draw.normal(size=(images, 3)) + 1.5 * np.eye(3)[truth])
    return powers / powers.sum(axis=1, keepdims=True), truth


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
    recalls = [label.recall.value for label in found.per_label.values() if label.recall is not None]
    assert found.balanced_accuracy.value == pytest.approx(np.mean(recalls))


@given(case=predictions())
def test_precision_recall_and_f1_are_scikit_learns_and_none_where_they_are_not_defined(case: Case) -> None:
    probabilities, truth = case
    labels = list(range(probabilities.shape[1]))
    expected = sklearn.metrics.precision_recall_fscore_support(truth, probabilities.argmax(axis=1), labels=labels, zero_division=np.nan)
    found = measured(case).per_label.values()
    for label, precision, recall, f1, support in zip(found, *expected, strict=True):
        assert label.images == support
        assert value(label.precision) == (None if np.isnan(precision) else pytest.approx(precision))
        assert value(label.recall) == (None if np.isnan(recall) else pytest.approx(recall))
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


@given(case=predictions())
def test_specificity_and_npv_are_the_recall_and_precision_of_all_other_labels_together(case: Case) -> None:
    probabilities, truth = case
    for number, label in enumerate(measured(case).per_label.values()):
        others = truth != number, probabilities.argmax(axis=1) != number
        npv, specificity, _, _ = sklearn.metrics.precision_recall_fscore_support(*others, labels=[True], zero_division=np.nan)
        assert value(label.specificity) == (None if np.isnan(specificity[0]) else pytest.approx(specificity[0]))
        assert value(label.npv) == (None if np.isnan(npv[0]) else pytest.approx(npv[0]))


@given(case=predictions())
def test_brier_score_and_calibration_error_are_those_of_the_probabilities(case: Case) -> None:
    found = measured(case)
    assert found.brier == brier_score(*case)
    assert found.reliability == reliability_curve(*case)
    assert found.ece == expected_calibration_error(found.reliability)


@given(case=predictions(classes=2, all_occur=True))
def test_the_areas_of_two_labels_are_scikit_learns_of_the_second(case: Case) -> None:
    probabilities, truth = case
    found = measured(case)
    assert value(found.auc) == pytest.approx(sklearn.metrics.roc_auc_score(truth, probabilities[:, 1]))
    assert value(found.average_precision) == pytest.approx(sklearn.metrics.average_precision_score(truth, probabilities[:, 1]))
    assert found.auc == found.per_label["B"].auc


@given(case=st.one_of(predictions(classes=3, all_occur=True), predictions(classes=4, all_occur=True)))
def test_the_areas_of_more_labels_are_scikit_learns_mean_of_one_against_the_rest(case: Case) -> None:
    probabilities, truth = case
    found, classes = measured(case), probabilities.shape[1]
    assert value(found.auc) == pytest.approx(sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"))
    expected = sklearn.metrics.average_precision_score(np.eye(classes)[truth], probabilities, average="macro")
    assert value(found.average_precision) == pytest.approx(expected)
    for number, label in enumerate(found.per_label.values()):
        assert value(label.auc) == pytest.approx(sklearn.metrics.roc_auc_score(truth == number, probabilities[:, number]))


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1]])
def test_with_one_label_only_there_is_no_auc(truth: list[int]) -> None:
    case = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]), np.array(truth)
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


@given(case=predictions(), data=st.data())
def test_the_figures_do_not_depend_on_the_order_of_the_images(case: Case, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(case[1])))))
    first, turned = measured(case), measured((case[0][order], case[1][order]))
    assert (turned.confusion, turned.accuracy.value, value(turned.auc)) == (first.confusion, first.accuracy.value, value(first.auc))
    assert turned.loss == pytest.approx(first.loss)
    for one, other in zip(first.per_label.values(), turned.per_label.values(), strict=True):
        assert (one.images, value(one.recall), value(one.npv), one.f1) == (other.images, value(other.recall), value(other.npv), other.f1)


# Intervals


def bounds(estimate: Estimate | None) -> tuple[float, float]:
    assert estimate is not None and estimate.low is not None and estimate.high is not None
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
def test_every_interval_is_in_order_and_in_the_range_of_its_figure(case: Case, data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.sampled_from("pqrstu"), min_size=len(case[1]), max_size=len(case[1])))
    found = measured(case, groups=groups)
    right, names = case[0].argmax(axis=1) == case[1], np.array(groups)
    shares = {float(right[names == name].mean()) for name in names}
    alike = len(shares) == 1 and not shares & {0.0, 1.0}  # whichever groups are drawn, the figure is the same
    assert (found.accuracy.low is None) == (len(set(groups)) == 1 or alike)
    labels = [vars(label).values() for label in found.per_label.values()]
    unbounded = (found.loss_estimate, found.brier_estimate)
    estimates = [figure for figure in itertools.chain(vars(found).values(), *labels) if isinstance(figure, Estimate)]
    assert len(estimates) > len(labels)
    for estimate in estimates:
        assert (estimate.low is None) == (estimate.high is None)
        assert len(set(groups)) > 1 or estimate.low is None
        assert 0 <= (estimate.low or 0) <= (1 if estimate.high is None else estimate.high)
        assert estimate in unbounded or estimate.high is None or estimate.high <= 1 + 1e-9


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


def test_the_interval_of_a_network_that_is_never_wrong_still_says_how_few_groups_that_was() -> None:
    """All of 10 patients right: less than 69.2 % right in truth would have shown that in fewer than 2.5 % of such sets."""
    found = measured(of_accuracy(1.0), groups=[str(number // 40) for number in range(400)])
    assert bounds(found.accuracy) == pytest.approx((0.025 ** (1 / 10), 1.0))
    assert bounds(found.per_label["A"].recall) == pytest.approx((0.025 ** (1 / 10), 1.0))
    assert found.balanced_accuracy == found.auc == Estimate(value=1.0), "no draw differs, so nothing tells their spread"


def test_areas_and_rates_have_intervals_over_groups_too() -> None:
    generator = np.random.default_rng(3)
    truth = np.arange(300) % 3
    probabilities = generator.dirichlet(np.ones(3), size=300) / 2 + np.eye(3)[truth] / 4 + 1 / 12
    by_image = measured((probabilities, truth))
    by_group = measured((probabilities, truth), groups=[str(number // 3) for number in range(300)])
    for found in (by_image, by_group):
        figures = [found.auc, found.average_precision]
        for label in found.per_label.values():
            figures += [label.recall, label.specificity, label.precision, label.npv, label.auc, label.average_precision]
        for estimate in figures:
            low, high = bounds(estimate)
            assert estimate is not None
            assert low < estimate.value < high
    assert by_group.auc is not None and by_image.auc is not None
    assert by_group.auc.value == by_image.auc.value
    assert by_group.auc != by_image.auc


def test_the_interval_of_the_area_is_that_of_scipys_bootstrap() -> None:
    generator = np.random.default_rng(6)
    truth = generator.integers(2, size=150)
    score = np.clip(truth * 0.2 + generator.random(150) * 0.8, 0, 1)
    found = measured((np.stack([1 - score, score], axis=1), truth))
    drawn = scipy.stats.bootstrap(
        (truth, score), lambda t, s: sklearn.metrics.roc_auc_score(t, s), paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=1
    )
    assert bounds(found.auc) == pytest.approx((drawn.confidence_interval.low, drawn.confidence_interval.high), abs=0.01)


@given(case=predictions())
def test_loss_brier_score_calibration_error_and_f1_have_intervals_that_belong_to_them(case: Case) -> None:
    found = measured(case)
    for figure, estimate in ((found.loss, found.loss_estimate), (found.brier, found.brier_estimate), (found.ece, found.ece_estimate)):
        assert estimate is not None
        assert estimate.value == pytest.approx(figure, abs=1e-9)
        assert estimate.low is None or estimate.high is None or 0 <= estimate.low <= estimate.high
    for row in found.per_label.values():
        assert value(row.f1_estimate) == (None if row.f1 is None else pytest.approx(row.f1))


def test_the_interval_of_the_loss_is_that_of_scipys_bootstrap() -> None:
    probabilities, truth = sharp(200, seed=3)
    found = measured((probabilities, truth)).loss_estimate
    each = -np.log(probabilities[np.arange(len(truth)), truth])
    theirs = scipy.stats.bootstrap((each,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert bounds(found) == pytest.approx((theirs.low, theirs.high), rel=0.05)


def test_the_loss_of_images_that_come_in_groups_is_less_sure() -> None:
    probabilities, truth = sharp(40, seed=4)
    copies = np.repeat(probabilities, 5, axis=0), np.repeat(truth, 5)
    apart, together = (measured(copies, groups=[str(number // size) for number in range(200)]).loss_estimate for size in (1, 5))
    assert apart is not None
    assert together is not None
    assert apart.low is not None
    assert apart.high is not None
    assert together.low is not None
    assert together.high is not None
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_a_label_of_one_group_has_rates_without_an_interval() -> None:
    probabilities, truth = of_accuracy(0.9, images=40)
    truth[:] = 0
    truth[1:3] = 1
    found = measured((probabilities, truth), groups=["a", *["b"] * 2, *[str(number) for number in range(37)]]).per_label["B"]
    assert found.recall is not None and found.specificity is not None and found.auc is not None
    assert found.recall.low is found.auc.low is None
    assert found.specificity.low is not None


def test_a_balanced_accuracy_that_no_draw_changes_has_no_interval_although_sums_are_rounded() -> None:
    truth = np.repeat([0, 1, 2], [21, 17, 13])
    found = measured((np.tile([0.5, 0.3, 0.2], (51, 1)), truth)).balanced_accuracy
    assert found.value == pytest.approx(1 / 3)
    assert found.low is None


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


def test_what_an_image_was_called_may_be_decided_elsewhere() -> None:
    """A threshold of .3 instead of the largest probability; the areas are those of the scores, whatever is decided."""
    probabilities, truth = np.array([[0.65, 0.35], [0.8, 0.2], [0.6, 0.4]]), np.array([1, 0, 0])
    groups = ["a", "b", "c"]
    plain = measure(probabilities, truth, ("A", "B"), groups=groups, unit="file")
    found = measure(probabilities, truth, ("A", "B"), groups=groups, unit="file", predicted=(probabilities[:, 1] >= 0.3).astype(int))
    assert (plain.confusion, found.confusion) == (((2, 0), (1, 0)), ((1, 1), (0, 1)))
    assert found.per_label["B"].recall == Estimate(value=1.0)
    assert (found.auc, found.loss, found.ece) == (plain.auc, plain.loss, plain.ece)


def test_the_figures_say_how_many_images_and_groups_they_are_of() -> None:
    found = measured(of_accuracy(0.9), groups=[str(number // 4) for number in range(400)])
    assert (found.images, found.groups, found.interval_unit) == (400, 100, "group")
    assert list(found.per_label) == ["A", "B"]


@given(case=predictions())
def test_the_figures_come_back_from_json_as_they_were(case: Case) -> None:
    found: Any = measured(case)
    assert SplitMetrics.parse(found.model_dump_json(), where="here") == found


@given(case=predictions())
def test_the_only_answer_is_named_where_images_of_several_labels_are_all_called_one(case: Case) -> None:
    probabilities, truth = case
    called = set(probabilities.argmax(axis=1))
    alone = len(called) == 1 and len(set(truth)) > 1
    assert measured(case).only_answer == (LABELS[called.pop()] if alone else None)


def test_a_network_whose_order_is_right_has_learned_although_it_calls_everything_one_label() -> None:
    truth = np.array([0, 0, 1, 1])
    ordered = measured((np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32), truth))
    assert (ordered.only_answer, ordered.has_learned) == ("A", True)
    constant = measured((np.full((4, 2), [0.9, 0.1], dtype=np.float32), truth))
    assert (constant.only_answer, constant.has_learned) == ("A", False)
    assert "its probabilities do tell the labels apart (AUC 1.000)" in one_answer("it", "all", "A", auc=1.0)


def test_one_answer_is_right_where_there_is_one_label_only() -> None:
    assert measured((np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32), np.array([0, 0]))).only_answer is None
