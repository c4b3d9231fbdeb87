import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellclf.artifact.rounding import Floats, rounded_to_half, rounded_to_int8

weights_of_convolutions = arrays(
    np.float32,
    array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-1000, 1000, width=32, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-20 else 0.0),
)


def scales(weights: Floats) -> Floats:
    """One a channel, in the shape of the weights' first axis."""
    largest: Floats = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    return largest


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounding_moves_a_weight_by_half_a_step_at_most(weights: Floats) -> None:
    assert (np.abs(rounded_to_int8(weights) - weights) <= scales(weights) * 0.5 * (1 + 1e-4)).all()


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounded_weights_are_at_most_127_steps_each_way(weights: Floats) -> None:
    scale = scales(weights)
    steps = np.divide(rounded_to_int8(weights), scale, out=np.zeros_like(weights), where=scale > 0)
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    assert np.abs(np.round(steps)).max() <= 127


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_rounding_twice_is_rounding_once(weights: Floats) -> None:
    once = rounded_to_int8(weights)
    np.testing.assert_allclose(rounded_to_int8(once), once, rtol=1e-6, atol=0)


@settings(max_examples=100, deadline=None)
@given(weights_of_convolutions)
def test_each_channel_is_rounded_by_its_own_scale(weights: Floats) -> None:
    together = rounded_to_int8(weights)
    for number in range(len(weights)):
        np.testing.assert_array_equal(together[number], rounded_to_int8(weights[number : number + 1])[0])


def test_a_channel_of_zeros_stays_zero_and_is_no_division_by_zero() -> None:
    weights = np.zeros((2, 1, 3, 3), dtype=np.float32)
    weights[1] = 0.5
    np.testing.assert_array_equal(rounded_to_int8(weights), weights)


def test_rounding_keeps_float32_and_leaves_its_input_alone() -> None:
    weights = np.linspace(-1, 1, 18, dtype=np.float32).reshape(2, 1, 3, 3)
    before = weights.copy()
    assert rounded_to_int8(weights).dtype == np.float32
    np.testing.assert_array_equal(weights, before)


def covariances_of(generator: np.random.Generator, groups: int, width: int) -> Floats:
    """Of inputs that vary together, as those of a convolution do."""
    mixed = generator.normal(size=(groups, width, width)) @ np.diag(np.geomspace(1, 0.05, width))
    covariances: Floats = np.matmul(mixed.transpose(0, 2, 1), mixed).astype(np.float32)
    return covariances


def squared_error(weights: Floats, rounded: Floats, covariances: Floats) -> float:
    """Summed over output channels: E[((Wq − W) x)²] around its mean."""
    errors = (rounded - weights).reshape(len(covariances), -1, covariances.shape[1]).astype(np.float64)
    return float(np.einsum("gck,gkj,gcj->", errors, covariances, errors))


@pytest.mark.parametrize(("shape", "groups"), [((16, 8, 3, 3), 1), ((64, 40, 1, 1), 1), ((32, 1, 3, 3), 32), ((12, 3, 3, 3), 4), ((4, 300, 1, 1), 1)])
def test_covariances_make_the_outputs_error_smaller_than_nearest_steps(shape: tuple[int, ...], groups: int) -> None:
    generator = np.random.default_rng(1)
    weights = generator.normal(size=shape).astype(np.float32)
    covariances = covariances_of(generator, groups, int(np.prod(shape[1:])))
    before = weights.copy()
    chosen = rounded_to_int8(weights, covariances)
    assert squared_error(weights, chosen, covariances) < 0.9 * squared_error(weights, rounded_to_int8(weights), covariances)
    np.testing.assert_array_equal(weights, before)
    assert chosen.dtype == np.float32


def test_weights_chosen_by_covariances_lie_on_the_steps_of_the_same_scale() -> None:
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(16, 8, 3, 3)).astype(np.float32)
    chosen = rounded_to_int8(weights, covariances_of(generator, 1, 72))
    np.testing.assert_allclose(scales(chosen), scales(weights), rtol=1e-6)
    np.testing.assert_allclose(rounded_to_int8(chosen), chosen, rtol=1e-5, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(weights_of_convolutions)
def test_inputs_that_do_not_vary_together_leave_the_nearest_steps(weights: Floats) -> None:
    alike = np.eye(weights[0].size, dtype=np.float32)[None]
    np.testing.assert_array_equal(rounded_to_int8(weights, alike), rounded_to_int8(weights))


def test_inputs_that_are_always_the_same_leave_the_nearest_steps() -> None:
    weights = np.random.default_rng(3).normal(size=(4, 2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(rounded_to_int8(weights, np.zeros((1, 18, 18), dtype=np.float32)), rounded_to_int8(weights))


# Half precision


@settings(max_examples=200, deadline=None)
@given(weights_of_convolutions)
def test_without_an_image_each_weight_becomes_its_nearest_half(weights: Floats) -> None:
    np.testing.assert_array_equal(rounded_to_half(weights), weights.astype(np.float16).astype(np.float32))


def correlated(channels: int, inputs: int, *, seed: int) -> tuple[Floats, Floats, Floats]:
    """Weights [channels, inputs, 1, 1], values [n, inputs] that go together, and their covariance [1, inputs, inputs]."""
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=(channels, inputs, 1, 1)).astype(np.float32)
    values = (draw.normal(size=(4000, 6)) @ draw.normal(size=(6, inputs)) + 0.1 * draw.normal(size=(4000, inputs))).astype(np.float32)
    return weights, values, np.cov(values.T).astype(np.float32)[None]


def test_halves_that_are_chosen_for_the_inputs_move_the_outputs_less() -> None:
    weights, values, covariance = correlated(8, 40, seed=0)
    spread = [np.std((half - weights)[:, :, 0, 0] @ values.T) for half in (rounded_to_half(weights), rounded_to_half(weights, covariance))]
    assert spread[1] < 0.5 * spread[0]


def test_what_is_chosen_is_a_half_and_near_the_weight() -> None:
    weights, _, covariance = correlated(8, 40, seed=1)
    found = rounded_to_half(weights, covariance)
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    assert found.dtype == np.float32
    assert np.abs(found - weights).max() < 0.02


def test_weights_beyond_the_range_of_halves_become_the_largest_and_never_infinite() -> None:
    weights, _, covariance = correlated(2, 3, seed=2)
    weights[0, 0] = 1e6
    for found in (rounded_to_half(weights), rounded_to_half(weights, covariance)):
        assert np.isfinite(found).all()
        assert found[0, 0, 0, 0] == np.finfo(np.float16).max
