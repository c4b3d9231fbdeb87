from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf.card import Estimate
from cellclf.evaluation.bootstrap import bootstrap_figures, bootstrap_groups, bootstrap_shares, group_draws, group_numbers, group_sums
from cellclf.evaluation.ranking import Ranking

Floats = npt.NDArray[np.float64]


def mean_of(sums: Floats, sizes: Floats) -> Callable[[Floats], Floats]:
    return lambda draws: (draws @ sums) / (draws @ sizes)


def bounds(estimate: Estimate | None) -> tuple[float, float]:
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    return estimate.low, estimate.high


def test_groups_are_numbered_in_the_order_of_their_names() -> None:
    np.testing.assert_array_equal(group_numbers(["b", "a", "b", "c"]), [1, 0, 1, 2])


@given(values=st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5)), min_size=1, max_size=30))
def test_group_sums_add_up_each_groups_own(values: list[tuple[int, int]]) -> None:
    numbers = group_numbers([str(group) for group, _ in values])
    sums = group_sums(np.array([float(value) for _, value in values]), numbers)
    for number, total in enumerate(sums):
        assert total == sum(value for (_, value), own in zip(values, numbers, strict=True) if own == number)


@pytest.mark.parametrize("resamples", [1, 99, 100, 101, 250])
def test_every_draw_has_as_many_groups_as_there_are(resamples: int) -> None:
    drawn = np.concatenate(list(group_draws(7, resamples=resamples)))
    assert drawn.shape == (resamples, 7)
    assert (drawn.sum(axis=1) == 7).all()


def test_a_group_is_drawn_as_often_as_multinomial_draws_have_it() -> None:
    drawn = np.concatenate(list(group_draws(5, resamples=20_000)))
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(drawn.var(axis=0), 5 * 0.2 * 0.8, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn[:, 0], drawn[:, 1])[0, 1], -5 * 0.2 * 0.2, atol=0.05)


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(4).normal(size=80)
    estimate = bootstrap_groups(mean_of(values, np.ones(80)), np.arange(80), resamples=20_000)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert bounds(estimate) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert estimate is not None
    assert estimate.value == pytest.approx(values.mean())


def test_image_weights_and_group_sums_give_the_same_interval() -> None:
    generator = np.random.default_rng(0)
    numbers = np.concatenate([np.arange(12), generator.integers(12, size=60)])
    values = generator.random(72)
    by_images = bootstrap_groups(lambda draws: (draws[:, numbers] @ values) / draws[:, numbers].sum(axis=1), numbers)
    by_sums = bootstrap_groups(mean_of(group_sums(values, numbers), group_sums(np.ones(72), numbers)), numbers)
    assert bounds(by_images) == pytest.approx(bounds(by_sums), abs=1e-12)


def test_an_area_drawn_by_groups_is_the_area_of_the_images_written_out_as_often_as_drawn() -> None:
    generator = np.random.default_rng(2)
    numbers = np.concatenate([np.arange(6), generator.integers(6, size=24)])
    scores, positive = generator.random(30), generator.random(30) < 0.5
    for draws in group_draws(6, resamples=20):
        areas, _ = Ranking.of(scores, positive).areas(draws[:, numbers])
        for row, area in zip(draws, areas, strict=True):
            written = np.repeat(np.arange(30), row[numbers].astype(int))
            above = np.array([a > b for a in scores[written][positive[written]] for b in scores[written][~positive[written]]])
            assert area == pytest.approx(above.mean())


def test_intervals_of_whole_groups_cover_the_truth_where_intervals_of_images_do_not() -> None:
    """40 patients with 10 images each, alike within a patient; true mean 0."""
    generator = np.random.default_rng(3)
    numbers = np.repeat(np.arange(40), 10)
    covered = {"groups": 0, "images": 0}
    for seed in range(100):
        values = np.repeat(generator.normal(size=40), 10) + 0.3 * generator.normal(size=400)
        for kind, own in (("groups", numbers), ("images", np.arange(400))):
            sums, sizes = group_sums(values, own), group_sums(np.ones(400), own)
            low, high = bounds(bootstrap_groups(mean_of(sums, sizes), own, resamples=400, seed=seed))
            covered[kind] += low <= 0 <= high
    assert covered["groups"] >= 88
    assert covered["images"] <= 65


def test_with_one_group_there_is_a_value_and_no_interval() -> None:
    numbers = np.zeros(5, dtype=np.intp)
    assert bootstrap_groups(lambda draws: draws[:, 0], numbers) == Estimate(value=1.0)


def test_a_figure_that_is_undefined_is_none_and_the_others_are_not() -> None:
    def statistic(draws: Floats) -> Floats:
        return np.stack([np.full(len(draws), np.nan), draws[:, 0] / draws.sum(axis=1)], axis=1)

    undefined, defined = bootstrap_figures(statistic, np.arange(4))
    assert undefined is None
    assert defined is not None
    assert defined.value == 0.25


def test_a_figure_that_rests_on_one_group_has_no_interval_and_one_that_rests_on_two_has() -> None:
    def area(positive: Floats) -> Estimate | None:
        ranking = Ranking.of(np.linspace(0, 1, 20), positive > 0)
        return bootstrap_groups(lambda draws: ranking.areas(draws)[0], np.arange(20))

    one, two = area(np.eye(20)[9]), area(np.eye(20)[9] + np.eye(20)[4])
    assert one is not None and two is not None
    assert one.low is None
    assert two.low is not None


def test_a_value_that_no_draw_changes_has_no_interval() -> None:
    assert bootstrap_groups(lambda draws: np.ones(len(draws)), np.arange(9)) == Estimate(value=1.0)


# Shares


@pytest.mark.parametrize("right", [0, 30])
def test_the_interval_of_none_or_all_of_30_groups_is_scipys_exact_binomial_one(right: int) -> None:
    (estimate,) = bootstrap_shares(np.full((30, 1), right / 30 * 4), np.full((30, 1), 4.0))
    expected = scipy.stats.binomtest(right, 30).proportion_ci(method="exact")
    assert bounds(estimate) == pytest.approx((expected.low, expected.high))


def test_a_share_without_a_chance_is_none_and_one_of_one_group_has_no_interval() -> None:
    hits, chances = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 0.0]])
    assert bootstrap_shares(hits, chances) == (None, Estimate(value=0.5))


@settings(max_examples=50)
@given(data=st.data(), groups=st.integers(2, 12))
def test_the_bounds_of_a_share_are_in_order_and_shares(data: st.DataObject, groups: int) -> None:
    chances = np.array(data.draw(st.lists(st.integers(0, 5), min_size=groups, max_size=groups)), dtype=np.float64)
    hits = np.array([data.draw(st.integers(0, int(chance))) for chance in chances], dtype=np.float64)
    (estimate,) = bootstrap_shares(hits[:, None], chances[:, None], resamples=200)
    assert (estimate is None) == (chances.sum() == 0)
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        assert 0 <= estimate.low <= estimate.high <= 1
        assert estimate.value == hits.sum() / chances.sum()


def test_one_seed_gives_the_same_interval_again() -> None:
    hits, chances = np.random.default_rng(0).random((20, 2)), np.ones((20, 2))
    assert bootstrap_shares(hits, chances, seed=5) == bootstrap_shares(hits, chances, seed=5)
    assert bootstrap_shares(hits, chances, seed=5) != bootstrap_shares(hits, chances, seed=6)
