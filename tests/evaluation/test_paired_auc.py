import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.errors import EvaluationError
from cellclf.evaluation.paired import PairedTest
from cellclf.evaluation.paired_auc import compare_auc, delong
from cellclf.evaluation.ranking import roc_auc

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1
3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0
4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1
3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
"""Albumin, total protein, Krebs-Goplerud score and outcome of the 43 complete patients of DeLong et al. 1988, as the SAS/STAT User's Guide prints
them (The LOGISTIC Procedure, "Comparing Receiver Operating Characteristic Curves")."""


def deviation(found: PairedTest) -> float:
    assert found.low is not None and found.high is not None
    return (found.high - found.low) / (2 * 1.959963984540054)


def test_delong_of_the_published_example() -> None:
    """The guide compares total protein with the Krebs-Goplerud score: −0.0780, standard error 0.1046."""
    _, protein, score, outcome = np.array(OVARIAN.split(), dtype=np.float64).reshape(-1, 4).T
    found = delong(protein, 10 - score, outcome == 1)
    assert round(found.difference, 4) == -0.0780
    assert round(deviation(found), 4) == 0.1046
    assert found.p_value == pytest.approx(math.erfc(abs(found.difference) / deviation(found) / math.sqrt(2)))
    assert found.images == 43


def components(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """V10 and V01 written down from their definition."""
    wins = np.array([[(x > y) + (x == y) / 2 for y in scores[~positive]] for x in scores[positive]], dtype=np.float64)
    return wins.mean(axis=1), wins.mean(axis=0)


def delong_by_definition(a: Floats, b: Floats, positive: Bools) -> float:
    """Variance of the difference: S10 / m + S01 / n of DeLong et al. 1988 with the contrast (1, −1)."""
    (a10, a01), (b10, b01) = components(a, positive), components(b, positive)
    contrast = np.array([1, -1])
    covariance = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    return float(contrast @ covariance @ contrast)


def obuchowski_by_definition(a: Floats, b: Floats, positive: Bools, numbers: npt.NDArray[np.int64]) -> float:
    """Variance of the difference from the sums over clusters of Obuchowski 1997, all four terms of each covariance written out."""
    parts = [components(scores, positive) for scores in (a, b)]
    areas = [v10.mean() for v10, _ in parts]
    m, n = int(positive.sum()), int((~positive).sum())
    clusters = np.unique(numbers)
    x = [
        [v10[numbers[positive] == g].sum() - (numbers[positive] == g).sum() * area for g in clusters]
        for (v10, _), area in zip(parts, areas, strict=True)
    ]
    y = [
        [v01[numbers[~positive] == g].sum() - (numbers[~positive] == g).sum() * area for g in clusters]
        for (_, v01), area in zip(parts, areas, strict=True)
    ]
    i10, i01, i = len(np.unique(numbers[positive])), len(np.unique(numbers[~positive])), len(clusters)

    def covariance(r: int, s: int) -> float:
        s10 = i10 / ((i10 - 1) * m) * np.dot(x[r], x[s])
        s01 = i01 / ((i01 - 1) * n) * np.dot(y[r], y[s])
        s11 = [i / (i - 1) * np.dot(x[p], y[q]) for p, q in ((r, s), (s, r))]
        return float(s10 / m + s01 / n + sum(s11) / (m * n))

    return covariance(0, 0) + covariance(1, 1) - 2 * covariance(0, 1)


@st.composite
def two_scores(draw: st.DrawFn) -> tuple[Floats, Floats, Bools, npt.NDArray[np.int64]]:
    """Scores of two models with ties, which images are positive, and their groups; two groups of either kind at least."""
    count = draw(st.integers(6, 25))
    a, b = (np.array(draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))) / 8 for _ in range(2))
    positive = np.array([True, True, False, False, *draw(st.lists(st.booleans(), min_size=count - 4, max_size=count - 4))])
    numbers = np.array([0, 1, 0, 1, *draw(st.lists(st.integers(0, 5), min_size=count - 4, max_size=count - 4))])
    return a, b, positive, numbers


@given(case=two_scores())
def test_delong_is_what_its_definition_gives(case: tuple[Floats, Floats, Bools, npt.NDArray[np.int64]]) -> None:
    a, b, positive, _ = case
    variance = delong_by_definition(a, b, positive)
    difference = (roc_auc(a, positive) or 0) - (roc_auc(b, positive) or 0)
    if variance < 1e-12:
        return
    found = delong(a, b, positive)
    assert found.difference == pytest.approx(difference)
    assert deviation(found) ** 2 == pytest.approx(variance)


@given(case=two_scores())
def test_the_clustered_test_is_what_obuchowskis_definition_gives(case: tuple[Floats, Floats, Bools, npt.NDArray[np.int64]]) -> None:
    a, b, positive, numbers = case
    variance = obuchowski_by_definition(a, b, positive, numbers)
    if variance < 1e-12:
        return
    found = compare_auc(a, b, positive, groups=[str(number) for number in numbers])
    assert deviation(found) ** 2 == pytest.approx(variance)
    assert found.groups == len(np.unique(numbers))


@given(case=two_scores())
def test_with_one_image_a_group_the_clustered_test_is_delongs(case: tuple[Floats, Floats, Bools, npt.NDArray[np.int64]]) -> None:
    a, b, positive, _ = case
    if delong_by_definition(a, b, positive) < 1e-12:
        return
    clustered, plain = compare_auc(a, b, positive, groups=[f"{number:02d}" for number in range(len(a))]), delong(a, b, positive)
    assert clustered.model_dump(exclude={"method"}) == pytest.approx(plain.model_dump(exclude={"method"}))


def test_scores_in_the_same_order_do_not_differ() -> None:
    a, positive = np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True])
    found = delong(a, a**2, positive)
    assert (found.difference, found.p_value, found.low, found.high) == (0, 1, None, None)


@pytest.mark.parametrize("positive", [[True, False, False, False], [True, True, True, False], [True] * 4])
def test_with_fewer_than_two_of_a_kind_it_is_an_error(positive: list[bool]) -> None:
    with pytest.raises(EvaluationError, match="two groups of positives and of negatives"):
        delong(np.arange(4.0), np.arange(4.0), np.array(positive))


def test_a_difference_without_any_spread_is_an_error_and_not_a_certainty() -> None:
    positive = np.array([True, True, False, False])
    with pytest.raises(EvaluationError, match="nothing tells how sure"):
        delong(np.array([4.0, 3, 2, 1]), np.array([1.0, 2, 3, 4]), positive)


def test_two_equally_good_models_differ_5_times_in_a_hundred_by_groups_and_far_more_often_by_files() -> None:
    """30 patients with 10 images; both models' scores err with the patient."""
    by_group, by_file = [], []
    numbers = np.repeat(np.arange(30), 10)
    groups = [f"{number:02d}" for number in numbers]
    for seed in range(150):
        generator = np.random.default_rng(seed)
        positive = numbers % 2 == 0
        a, b = (positive + generator.normal(size=30)[numbers] + 0.3 * generator.normal(size=300) for _ in range(2))
        by_group.append(compare_auc(a, b, positive, groups=groups).p_value)
        by_file.append(delong(a, b, positive).p_value)
    assert np.mean(np.array(by_group) < 0.05) < 0.12
    assert np.mean(np.array(by_file) < 0.05) > 0.3


def test_of_several_seeds_the_mean_area_is_compared() -> None:
    draw = np.random.default_rng(5)
    positive = draw.random(60) < 0.5
    a, b = (positive * skill + draw.normal(size=(3, 60)) for skill in (1.5, 0.5))
    groups = [str(number // 2) for number in range(60)]
    found = compare_auc(a, b, positive, groups=groups)
    assert found.difference == pytest.approx(np.mean([roc_auc(of_seed, positive) for of_seed in a]) - np.mean([roc_auc(of, positive) for of in b]))
    alone = compare_auc(a[0], b[0], positive, groups=groups)
    assert compare_auc(a[:1], b[:1], positive, groups=groups) == alone
    assert compare_auc(np.tile(a[0], (3, 1)), np.tile(b[0], (3, 1)), positive, groups=groups).p_value == pytest.approx(alone.p_value)
