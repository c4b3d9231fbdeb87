"""The smallest change that noise lets one see."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.noise import geometric_mean, median_ratio, residuals, smallest_visible_change


def test_the_geometric_mean_of_a_factor_and_its_inverse_is_one() -> None:
    assert geometric_mean([4, 0.25]) == pytest.approx(1)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_the_median_ratio_of_inverses_is_the_inverse(ratios: list[float]) -> None:
    assert median_ratio([1 / ratio for ratio in ratios]) == pytest.approx(1 / median_ratio(ratios))


def test_residuals_are_widened_for_the_median_taken_from_them() -> None:
    found = residuals([[1, math.e], [5.0]])
    assert found == pytest.approx(np.array([-0.5, 0.5]) * math.sqrt(2))


def test_equal_windows_let_every_change_be_seen() -> None:
    assert smallest_visible_change(residuals([[2, 2, 2]]), [3], [3]) == 0


def test_more_noise_hides_larger_changes_and_more_cases_show_smaller_ones() -> None:
    generator = np.random.default_rng(0)
    calm, wild = (residuals(np.exp(generator.normal(0, width, (30, 3)))) for width in (0.01, 0.1))  # type: ignore[arg-type]  # rows are sequences
    one, other = smallest_visible_change(calm, [3], [3]), smallest_visible_change(wild, [3], [3])
    assert 0 < one < other
    assert smallest_visible_change(wild, [3] * 20, [3] * 20) < other / 2


def test_normal_noise_gives_the_textbook_figure() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 20_000)
    expected = math.expm1(1.96 * 0.05 * math.sqrt(2))  # one window before, one after
    assert smallest_visible_change(noise, [1], [1]) == pytest.approx(expected, rel=0.1)


def test_without_pairs_there_is_no_answer() -> None:
    with pytest.raises(ValueError, match="noise is not known"):
        smallest_visible_change(residuals([[1.0]]), [1], [1])
