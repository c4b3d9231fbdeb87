"""Whether one image shows the same scene as another, turned, mirrored, shifted or sheared: keypoints that agree on one map. NumPy only."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellclf.data.audit.keypoints import ANGLES

__all__ = ["MATCHES", "Registered", "Scenes", "register"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

MATCHES = 16
"""How many of a pair's mutual best matches vote."""

_STEPS = 2 * ANGLES
_NEAR_PX = 2.5
_PER_PX = 0.12
_TURN = 0.5
_FIT_PX = 2.0
_ROUNDS = 2
_STIFFNESS_PX2 = 50.0


@dataclass(frozen=True)
class Scenes:
    """Keypoints of n images, k each.

    x, y: [n, k] px. descriptors: [n, k, d], whole numbers. coefficients: [n, k, circles, frequencies]. found: [n, k], which keypoints there are.
    """

    x: Floats
    y: Floats
    descriptors: Floats
    coefficients: npt.NDArray[np.complex64]
    found: Bools


@dataclass(frozen=True)
class Registered:
    """agreeing: how many of at most MATCHES matches agree on one map, int [p]; maps: float32 [p, 2, 3], affine, first image's pixels → second's."""

    agreeing: npt.NDArray[np.int64]
    maps: Floats


def register(scenes: Scenes, first: Indices, second: Indices) -> Registered:
    """Register pairs of images, numbered by `first` and `second` [p].

    Each mutual best match of keypoints gives a whole map by itself: its place, and the turn and mirroring by which its surroundings agree best.
    The map that most other matches confirm wins, and is fitted to them as an affine map. Unlike images rarely agree in more than five.
    """
    here, there, valid = _matches(scenes, first, second)
    rows, others = first[:, None], second[:, None]
    angle, mirrored = _turns(scenes.coefficients[rows, here], scenes.coefficients[others, there])
    start = np.stack([scenes.x[rows, here], scenes.y[rows, here]], axis=-1)
    end = np.stack([scenes.x[others, there], scenes.y[others, there]], axis=-1)
    linear = _linear(angle, mirrored)
    offset = end - _apply(linear, start)
    predicted = np.einsum("phij,ptj->phti", linear, start) + offset[:, :, None]
    error = np.sqrt(((predicted - end[:, None]) ** 2).sum(axis=-1))
    apart = np.sqrt(((start[:, :, None] - start[:, None]) ** 2).sum(axis=-1))
    turned = np.abs((angle[:, :, None] - angle[:, None] + np.pi) % (2 * np.pi) - np.pi)
    confirms = (error < _NEAR_PX + _PER_PX * apart) & (mirrored[:, :, None] == mirrored[:, None]) & (turned < _TURN) & valid[:, None]
    votes = np.where(valid, confirms.sum(axis=-1), 0)
    best = votes.argmax(axis=1)
    pair = np.arange(len(first))
    maps = np.concatenate([linear[pair, best], offset[pair, best][..., None]], axis=-1)
    return Registered(votes[pair, best], _fitted(maps, start, end, confirms[pair, best]))


def _matches(scenes: Scenes, first: Indices, second: Indices) -> tuple[Indices, Indices, Bools]:
    """Keypoint numbers [p, MATCHES] of the best mutual matches, and whether there is one."""
    likeness = scenes.descriptors[first] @ scenes.descriptors[second].transpose(0, 2, 1)
    likeness[~(scenes.found[first][:, :, None] & scenes.found[second][:, None])] = -np.inf
    forward, backward = likeness.argmax(axis=2), likeness.argmax(axis=1)
    mutual = np.take_along_axis(backward, forward, 1) == np.arange(likeness.shape[1])
    value = np.take_along_axis(likeness, forward[..., None], 2)[..., 0]
    value = np.where(mutual, value, -np.inf)
    here = np.argsort(-value, axis=1, kind="stable")[:, :MATCHES]
    return here, np.take_along_axis(forward, here, 1), np.take_along_axis(value, here, 1) > 0


def _turns(one: npt.NDArray[np.complex64], other: npt.NDArray[np.complex64]) -> tuple[Floats, Bools]:
    """The turn, in radians, by which surroundings agree best, and whether one of them has to be mirrored first.

    Turned: other(θ) = one(θ - angle). Mirrored: other(θ) = one(angle - θ). Both correlations come from the angular Fourier coefficients.
    """
    plain_angle, plain = _peak((np.conj(one) * other).sum(axis=2))
    mirror_angle, mirror = _peak((one * other).sum(axis=2))
    mirrored = mirror > plain
    return np.where(mirrored, mirror_angle, plain_angle), mirrored


def _peak(spectrum: npt.NDArray[np.complex64]) -> tuple[Floats, Floats]:
    correlation = np.fft.irfft(spectrum, _STEPS, axis=-1).astype(np.float32, copy=False)
    step = correlation.argmax(axis=-1)
    return (step * np.float32(2 * np.pi / _STEPS)).astype(np.float32), np.take_along_axis(correlation, step[..., None], -1)[..., 0]


def _linear(angle: Floats, mirrored: Bools) -> Floats:
    cosine, sine = np.cos(angle), np.sin(angle)
    columns = [cosine, np.where(mirrored, sine, -sine), sine, np.where(mirrored, -cosine, cosine)]
    return np.stack(columns, axis=-1).reshape(*angle.shape, 2, 2)


def _apply(linear: Floats, points: Floats) -> Floats:
    moved: Floats = np.einsum("ptij,ptj->pti", linear, points)
    return moved


def _fitted(maps: Floats, start: Floats, end: Floats, agreeing: Bools) -> Floats:
    """Least squares over the agreeing matches, drawn towards the map they agreed on; matches that the fit misses are left out of the second round."""
    homogeneous = np.concatenate([start, np.ones_like(start[..., :1])], axis=-1)
    prior = np.diag([_STIFFNESS_PX2, _STIFFNESS_PX2, 1e-3]).astype(np.float32)
    weight = agreeing.astype(np.float32)
    for _ in range(_ROUNDS):
        normal = np.einsum("pt,pti,ptj->pij", weight, homogeneous, homogeneous) + prior
        residual = end - np.einsum("pij,ptj->pti", maps, homogeneous)
        right = np.einsum("pt,pti,ptj->pji", weight, residual, homogeneous)
        maps = maps + np.linalg.solve(normal, right).transpose(0, 2, 1).astype(np.float32)
        miss = np.sqrt(((np.einsum("pij,ptj->pti", maps, homogeneous) - end) ** 2).sum(axis=-1))
        weight = (agreeing & (miss < _FIT_PX)).astype(np.float32)
    return maps
