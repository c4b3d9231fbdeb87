"""Convolution weights → what int8 makes of them: to the nearest step, or so that the convolution's outputs move least. Arrays only."""

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "rounded_to_int8"]

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


def _steps_by_group(exact: Floats, covariances: Floats) -> Floats:
    """Steps [channels, K] for exact multiples [channels, K] of each channel's scale; channels come group by group."""
    chosen = [_steps(part.T, covariance).T for part, covariance in zip(np.split(exact, len(covariances)), covariances, strict=True)]
    return np.concatenate(chosen)


def _steps(exact: Floats, covariance: Floats) -> Floats:
    """Steps [K, channels] near `exact` whose errors e keep eᵀ · covariance [K, K] · e small, by Babai's nearest plane.

    With covariance = RᵀR, R upper triangular, eᵀ · covariance · e is the sum over rows k of (R[k, k] e[k] + Σ R[k, j > k] e[j])². From the last
    row up, each weight takes the step that makes its own square smallest, and so makes up for the errors already made. It is GPTQ (Frantar et
    al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers") without its matrix inverse (Chen et al. 2025,
    "The Geometry of LLM Quantization: GPTQ as Babai's Nearest Plane Algorithm"). As there, the weights of the liveliest inputs go first.
    """
    order = np.argsort(covariance.diagonal(), kind="stable")
    wanted = exact[order]
    triangle = _unit_triangle(covariance[np.ix_(order, order)])
    largest = np.abs(wanted).argmax(axis=0)
    errors = np.zeros_like(wanted)
    for end in range(len(wanted), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        owed = triangle[start:end, end:] @ errors[end:]
        for row in reversed(range(start, end)):
            debt = owed[row - start] + triangle[row, row + 1 : end] @ errors[row + 1 : end]
            aim = np.where(largest == row, wanted[row], wanted[row] - debt)
            errors[row] = np.clip(np.round(aim), -_STEPS, _STEPS) - wanted[row]
    steps = np.empty_like(wanted)
    steps[order] = np.round(wanted + errors)
    return steps


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
