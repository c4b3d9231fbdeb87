"""Convolution weights → what int8 or half precision makes of them: the nearest, or what moves the outputs least. Arrays only."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "rounded_to_half", "rounded_to_int8"]

Floats = npt.NDArray[np.float32]

_STEPS = 127
"""Int8 steps each way from zero; −128 is left out, so that the steps are symmetric."""

_DAMPING = 0.01
"""Added to every variance, as a share of their mean: rules directions that the images hardly show (Frantar et al. 2023 use the same)."""

_BLOCK = 128
"""Weights rounded between two matrix products; changes the speed only."""


def rounded_to_int8(weights: Floats, covariances: Floats | None = None) -> Floats:
    """What symmetric int8 with one scale an output channel makes of convolution weights [channels, inputs of the group, height, width].

    Without covariances each weight goes to its nearest step. With those of the values that a group's weights are multiplied with,
    [groups, K, K] for K weights a channel, the steps nearly minimise E[((Wq − W) x)²] around its mean; the mean is left to the bias.
    A channel's largest weight stays as it is, and so the scale does: rounding the result again to the nearest steps changes nothing.
    """
    flat = weights.reshape(len(weights), -1)
    scales = np.abs(flat).max(axis=1, keepdims=True) / _STEPS
    scales[scales == 0] = 1
    exact = flat / scales
    steps = np.round(exact) if covariances is None else _steps_by_group(exact, covariances)
    rounded: Floats = (steps * scales).astype(np.float32).reshape(weights.shape)
    return rounded


def rounded_to_half(weights: Floats, covariances: Floats | None = None) -> Floats:
    """What half precision makes of the same, as float32.

    Without covariances each weight's nearest half, with them halves that nearly minimise E[((Wh − W) x)²] around its mean.
    """
    flat = weights.reshape(len(weights), -1)
    if covariances is None:
        return _nearest_half(weights)
    parts = zip(np.split(flat, len(covariances)), covariances, strict=True)
    return np.concatenate([_nearest_plane(part.T, covariance, _nearest_half).T for part, covariance in parts]).reshape(weights.shape)


def _nearest_half(values: Floats) -> Floats:
    """IEEE 754 binary16; what is beyond its range becomes its largest."""
    largest = np.finfo(np.float16).max
    found: Floats = np.clip(values, -largest, largest).astype(np.float16).astype(np.float32)
    return found


def _steps_by_group(exact: Floats, covariances: Floats) -> Floats:
    """Steps [channels, K] for exact multiples [channels, K] of each channel's scale; channels come group by group."""
    chosen = [_steps(part.T, covariance).T for part, covariance in zip(np.split(exact, len(covariances)), covariances, strict=True)]
    return np.concatenate(chosen)


def _steps(exact: Floats, covariance: Floats) -> Floats:
    """Steps [K, channels] near `exact`; each channel's largest weight, which sets its scale, is a step already and stays it."""

    def nearest(aims: Floats) -> Floats:
        found: Floats = np.clip(np.round(aims), -_STEPS, _STEPS)
        return found

    return np.round(_nearest_plane(exact, covariance, nearest, kept=np.abs(exact).argmax(axis=0)))


def _nearest_plane(exact: Floats, covariance: Floats, nearest: Callable[[Floats], Floats], *, kept: npt.NDArray[np.intp] | None = None) -> Floats:
    """Values [K, channels] that `nearest` allows, whose errors e keep eᵀ · covariance [K, K] · e small, by Babai's nearest plane.

    With covariance = RᵀR, R upper triangular, eᵀ · covariance · e is the sum over rows k of (R[k, k] e[k] + Σ R[k, j > k] e[j])². From the last
    row up, each weight takes the value that makes its own square smallest, and so makes up for the errors already made. It is GPTQ (Frantar et
    al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers") without its matrix inverse (Chen et al. 2025,
    "The Geometry of LLM Quantization: GPTQ as Babai's Nearest Plane Algorithm"). As there, the weights of the liveliest inputs go first.
    kept: of each channel, the weight that makes up for nothing.
    """
    order = np.argsort(covariance.diagonal(), kind="stable")
    wanted = exact[order]
    triangle = _unit_triangle(covariance[np.ix_(order, order)])
    place = np.full(exact.shape[1], -1) if kept is None else np.argsort(order)[kept]
    errors = np.zeros_like(wanted)
    for end in range(len(wanted), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        owed = triangle[start:end, end:] @ errors[end:]
        for row in reversed(range(start, end)):
            debt = owed[row - start] + triangle[row, row + 1 : end] @ errors[row + 1 : end]
            errors[row] = nearest(np.where(place == row, wanted[row], wanted[row] - debt)) - wanted[row]
    found = np.empty_like(wanted)
    found[order] = wanted + errors
    return found


def _unit_triangle(covariance: Floats) -> Floats:
    """R of covariance = RᵀR, each row divided by its diagonal value.

    The damping makes a covariance that is singular, or all zeros where the images give one value only, positive definite. Rounding errors of a
    measured one add at most K · 1e-7 of the mean variance to an eigenvalue, far less than the damping for the largest K.
    """
    damped = covariance.astype(np.float64)
    variances = np.einsum("kk->k", damped)
    variances += _DAMPING * variances.mean() + np.finfo(np.float32).tiny
    upper = np.linalg.cholesky(damped).T
    triangle: Floats = (upper / upper.diagonal()[:, None]).astype(np.float32)
    return triangle
