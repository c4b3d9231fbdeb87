import itertools

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cellclf.evaluation.paired import PairedTest, compare_accuracy, compare_over_seeds, holm, mcnemar_on_groups, spread

Ints = npt.NDArray[np.int64]


def called(truth: Ints, right: npt.NDArray[np.bool_]) -> Ints:
    """What a model called two-label images, given which it has right."""
    return np.where(right, truth, 1 - truth)


def names(numbers: npt.ArrayLike) -> list[str]:
    return [f"patient {number:04d}" for number in np.asarray(numbers)]


def rights(pairs: list[tuple[int, int, int]]) -> tuple[Ints, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(times, first right, second right) → truth 0 for all, and which images each has right."""
    a, b = (np.concatenate([np.full(times, bool(row[place])) for times, *row in pairs]) for place in (0, 1))
    return np.zeros(len(a), dtype=np.int64), a, b


# The permutation test


def exact_p(gains: list[float]) -> float:
    """Share of all exchanges of two models whose difference is at least as large."""
    sums = [abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True))) for signs in itertools.product((-1, 1), repeat=len(gains))]
    return sum(value >= sums[-1] - 1e-9 for value in sums) / len(sums)


@given(gains=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=7))
def test_the_p_value_is_the_share_of_all_exchanges_of_groups_that_do_as_much(gains: list[tuple[int, int]]) -> None:
    """Groups of three images of which the first model has `a` right and the second `b`."""
    right_a = np.concatenate([np.arange(3) < a for a, _ in gains])
    right_b = np.concatenate([np.arange(3) < b for _, b in gains])
    truth = np.arange(len(right_a)) % 2
    found = compare_accuracy(called(truth, right_a), called(truth, right_b), truth, groups=names(np.repeat(np.arange(len(gains)), 3)))
    assert found.p_value == pytest.approx(exact_p([float(a - b) for a, b in gains]))
    assert found.difference == pytest.approx(right_a.mean() - right_b.mean())
    assert (found.groups, found.images) == (len(gains), 3 * len(gains))


def test_with_one_image_a_group_it_is_the_sign_test() -> None:
    truth, a, b = rights([(9, 1, 0), (2, 0, 1), (30, 1, 1), (8, 0, 0)])
    found = compare_accuracy(called(truth, a), called(truth, b), truth, groups=names(range(len(truth))))
    assert found.p_value == pytest.approx(scipy.stats.binomtest(9, 11).pvalue)


def test_random_exchanges_come_to_the_p_value_of_scipys_permutation_test() -> None:
    generator = np.random.default_rng(5)
    numbers = np.repeat(np.arange(40), 5)
    truth = generator.integers(2, size=200)
    a, b = generator.random(200) < 0.85, generator.random(200) < 0.75
    found = compare_accuracy(called(truth, a), called(truth, b), truth, groups=names(numbers))
    sums = [np.bincount(numbers, weights=right) for right in (a.astype(float), b.astype(float))]
    expected = scipy.stats.permutation_test(
        sums, lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=20_000, vectorized=True, rng=generator
    )
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.015)
    assert "10000 random ways" in found.method


def test_balanced_accuracy_counts_each_label_the_same() -> None:
    truth = np.array([0] * 90 + [1] * 10)
    a, b = np.arange(100) < 95, np.arange(100) < 90  # the second has none of label 1
    groups = names(range(100))
    plain = compare_accuracy(called(truth, a), called(truth, b), truth, groups=groups)
    balanced = compare_accuracy(called(truth, a), called(truth, b), truth, groups=groups, balanced=True)
    assert plain.difference == pytest.approx(0.05)
    assert balanced.difference == pytest.approx(0.25)
    assert "balanced" in balanced.method
    assert plain.p_value == balanced.p_value == pytest.approx(2 / 2**5)


def test_models_that_answer_alike_do_not_differ() -> None:
    truth = np.arange(20) % 2
    found = compare_accuracy(truth, truth, truth, groups=names(range(20)))
    assert (found.difference, found.p_value) == (0, 1)


@given(data=st.data())
def test_the_other_way_round_the_sign_changes_and_the_p_value_does_not(data: st.DataObject) -> None:
    rows = st.lists(st.integers(0, 2), min_size=12, max_size=12)
    truth, a, b = (np.array(data.draw(rows)) for _ in range(3))
    groups = names(np.arange(12) // 2)
    for balanced in (False, True):
        there, back = (compare_accuracy(x, y, truth, groups=groups, balanced=balanced) for x, y in ((a, b), (b, a)))
        assert back.difference == pytest.approx(-there.difference)
        assert back.p_value == there.p_value
        if there.low is not None and there.high is not None:
            assert there.low <= there.high
            assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def clustered_null(seed: int) -> tuple[Ints, Ints, Ints, list[str]]:
    """Two models as good as one another on 24 patients of 15 images; each is nearly all right or nearly all wrong on a patient."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(24), 15)
    truth = (numbers % 2).astype(np.int64)
    a, b = (generator.random(360) < generator.beta(0.4, 0.2, size=24)[numbers] for _ in range(2))
    return called(truth, a), called(truth, b), truth, names(numbers)


def test_under_the_null_the_p_value_is_uniform_where_files_taken_for_independent_find_differences_that_are_not_there() -> None:
    by_group, by_file = [], []
    for seed in range(200):
        a, b, truth, groups = clustered_null(seed)
        by_group.append(compare_accuracy(a, b, truth, groups=groups, permutations=499, seed=seed).p_value)
        by_file.append(compare_accuracy(a, b, truth, groups=names(range(len(truth))), permutations=499, seed=seed).p_value)
    assert scipy.stats.kstest(by_group, "uniform").pvalue > 0.05
    assert scipy.stats.kstest(by_file, "uniform").pvalue < 1e-6
    assert np.mean(np.array(by_group) <= 0.05) <= 0.09
    assert np.mean(np.array(by_file) <= 0.05) >= 0.3


def test_the_interval_of_the_difference_covers_it_about_95_times_in_a_hundred() -> None:
    covered = 0
    for seed in range(100):
        a, b, truth, groups = clustered_null(seed)
        found = compare_accuracy(a, b, truth, groups=groups, permutations=99, seed=seed)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 87


# Seeds


def test_over_seeds_the_groups_average_is_compared_and_each_models_spread_told() -> None:
    truth = np.zeros(8, dtype=np.int64)
    a = np.array([[0] * 8, [0] * 6 + [1] * 2, [0] * 7 + [1]])
    b = np.array([[0] * 4 + [1] * 4, [0] * 2 + [1] * 6])
    found = compare_over_seeds(a, b, truth, groups=names(range(8)))
    accuracies = np.array([1, 0.75, 0.875])
    assert found.a.model_dump() == pytest.approx(
        {"mean": accuracies.mean(), "deviation": accuracies.std(ddof=1), "least": 0.75, "greatest": 1.0, "seeds": 3}
    )
    assert (found.b.mean, found.b.seeds) == (0.375, 2)
    assert found.test.difference == pytest.approx(0.875 - 0.375)
    gains = (a == 0).mean(axis=0) - (b == 0).mean(axis=0)
    assert found.test.p_value == pytest.approx(exact_p(list(gains)))


def test_with_one_seed_each_it_is_the_plain_comparison() -> None:
    a, b, truth, groups = clustered_null(0)
    for balanced in (False, True):
        found = compare_over_seeds(a[None], b[None], truth, groups=groups, balanced=balanced)
        assert found.test == compare_accuracy(a, b, truth, groups=groups, balanced=balanced)
        assert found.a.deviation is None


def test_the_same_model_trained_more_often_is_not_more_groups() -> None:
    """Five copies of one run say no more of other patients than one does."""
    a, b, truth, groups = clustered_null(7)
    once, often = (compare_over_seeds(np.tile(a, (n, 1)), np.tile(b, (n, 1)), truth, groups=groups) for n in (1, 5))
    assert often.test.p_value == pytest.approx(once.test.p_value)
    assert often.a.deviation == pytest.approx(0)


def test_the_spread_of_one_figure() -> None:
    assert spread(np.array([0.5, 0.7])).model_dump() == pytest.approx(
        {"mean": 0.6, "deviation": np.sqrt(0.02), "least": 0.5, "greatest": 0.7, "seeds": 2}
    )


# McNemar


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (10, 2), (3, 17), (150, 86)])
def test_mcnemar_with_one_image_a_group_is_statsmodels_exact_test(only_a: int, only_b: int) -> None:
    truth, a, b = rights([(only_a, 1, 0), (only_b, 0, 1), (50, 1, 1), (20, 0, 0)])
    found = mcnemar_on_groups(called(truth, a), called(truth, b), truth, groups=names(range(len(truth))))
    assert found.p_value == pytest.approx(mcnemar([[50, only_a], [only_b, 20]], exact=True).pvalue)
    assert found.difference == pytest.approx((only_a - only_b) / len(truth))


def test_mcnemar_gives_each_group_one_vote_and_half_right_is_not_right() -> None:
    """Four patients: 3 of 3 against 0 of 3; 2 of 3 against 1 of 3; 2 of 4 against 3 of 4; both all right."""
    a = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1], dtype=bool)
    b = np.array([0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1], dtype=bool)
    truth = np.zeros(11, dtype=np.int64)
    found = mcnemar_on_groups(called(truth, a), called(truth, b), truth, groups=names([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]))
    assert (found.groups, found.images, found.difference) == (4, 11, 0.25)
    assert found.p_value == 1  # 2 against 1
    assert "2 groups right by the first alone, 1 by the second" in found.method


# Holm


def test_holm_of_the_textbook_four() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


@settings(max_examples=30)  # statsmodels takes its time
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(values: list[float]) -> None:
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == ()


def test_a_test_comes_back_from_json_as_it_was() -> None:
    a, b, truth, groups = clustered_null(1)
    found = compare_accuracy(a, b, truth, groups=groups, permutations=99)
    assert PairedTest.parse(found.model_dump_json(), where="here") == found


def test_comparisons_picked_from_a_family_are_corrected_for_all_of_it() -> None:
    assert holm([0.01, 0.04], family=10) == pytest.approx((0.1, 0.36))
    assert holm([0.01, 0.04], family=2) == holm([0.01, 0.04])
