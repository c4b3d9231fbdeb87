import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from cellclf.card import Temperature
from cellclf.evaluation.calibration import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, apply_temperature, calibrate, fit_temperature
from cellclf.evaluation.scores import cross_entropy
from tests.evaluation.making import Case, predictions

TEMPERATURES = st.floats(SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE)


def overconfident(temperature: float, *, images: int = 20_000, classes: int = 3) -> tuple[npt.NDArray[np.float64], Case]:
    """Logits whose softmax tells the truth's chances, and what a network says whose logits are `temperature` times as large."""
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(images, classes)) * 1.5
    chances = scipy.special.softmax(logits, axis=1)
    truth = (chances.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    return chances, (scipy.special.softmax(logits * temperature, axis=1), truth)


@given(case=predictions(), temperature=TEMPERATURES)
def test_a_temperature_is_the_softmax_of_divided_logits(case: Case, temperature: float) -> None:
    probabilities, _ = case
    found = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(found, scipy.special.softmax(np.log(probabilities) / temperature, axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1)


@given(logits=st.lists(st.lists(st.floats(-40, 40, width=32), min_size=4, max_size=4), min_size=1, max_size=20), temperature=TEMPERATURES)
def test_the_most_probable_class_stays_the_most_probable(logits: list[list[float]], temperature: float) -> None:
    probabilities = scipy.special.softmax(np.array(logits, dtype=np.float32), axis=1)
    np.testing.assert_array_equal(apply_temperature(probabilities, temperature).argmax(axis=1), probabilities.argmax(axis=1))


def test_a_temperature_of_1_changes_nothing_and_a_certain_zero_stays_finite() -> None:
    probabilities = np.array([[0.2, 0.8], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-7)
    assert np.isfinite(apply_temperature(probabilities, 0.1)).all()
    assert np.isfinite(apply_temperature(probabilities, 10.0)).all()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_the_temperature_that_was_put_in_is_found_again(temperature: float) -> None:
    chances, (probabilities, truth) = overconfident(temperature)
    found = fit_temperature(probabilities, truth)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(apply_temperature(probabilities, found), chances, atol=0.02)


@given(case=predictions())
def test_the_loss_is_as_low_as_scipy_can_make_it(case: Case) -> None:
    probabilities, truth = case
    found = fit_temperature(probabilities, truth)
    assert SMALLEST_TEMPERATURE <= found <= LARGEST_TEMPERATURE
    if (probabilities.argmax(axis=1) == truth).all():
        assert found == 1
        return
    logits = np.log(probabilities)

    def loss(temperature: float) -> float:
        return float(-scipy.special.log_softmax(logits / temperature, axis=1)[np.arange(len(truth)), truth].mean())

    best = scipy.optimize.minimize_scalar(loss, bounds=(SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE), method="bounded", options={"xatol": 1e-9})
    assert loss(found) <= best.fun + 1e-9


def test_where_every_image_is_right_nothing_tells_how_sure_to_be() -> None:
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert fit_temperature(probabilities, np.array([0, 1])) == 1


def test_where_every_image_is_wrong_the_search_ends_at_its_bound() -> None:
    probabilities = np.array([[0.99, 0.01], [0.02, 0.98]])
    assert fit_temperature(probabilities, np.array([1, 0])) == pytest.approx(LARGEST_TEMPERATURE)


def test_calibrating_tells_what_it_changed() -> None:
    _, (probabilities, truth) = overconfident(3.0, images=5000)
    found = calibrate(probabilities, truth, split="validation")
    assert isinstance(found, Temperature)
    assert (found.split, found.images) == ("validation", 5000)
    assert found.value == fit_temperature(probabilities, truth)
    assert found.loss_before == cross_entropy(probabilities, truth)
    assert found.loss_after == cross_entropy(apply_temperature(probabilities, found.value), truth) < found.loss_before
    assert found.ece_before > 0.1
    assert found.ece_after < 0.02
