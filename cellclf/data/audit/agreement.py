"""Whether the pixels of two registered images agree: correlation of their fine structure over what both show. NumPy only."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Agreement", "Structure", "compare", "frame_difference", "inner_part"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_STEP_PX = 2
_MARGIN_PX = 1
_FRAME_MARGIN_PX = 2
_INNER_MARGIN = 0.18
_ROUNDS = {"values": 3, "detail": 5}
_CLEAR = {"values": 0.93, "detail": 0.9}
_DAMPING = 1e-3
_ONE = np.float32(1)


@dataclass(frozen=True)
class Structure:
    """Structure of n images on one canvas.

    values, detail: fine and finest structure, whole numbers, int8 [n, h, w]. valid: bool [n, h, w], where there is picture.
    sizes: height and width of each image's own canvas, [n, 2]. cut: float32 [n], the share of its picture that is too bright to have kept its detail.
    """

    values: npt.NDArray[np.int8]
    detail: npt.NDArray[np.int8]
    valid: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    cut: Floats


@dataclass(frozen=True)
class Agreement:
    """correlation: float32 [p], -1 … 1. shared: the part of the canvas that both show, [p]. maps: affine [p, 2, 3], under which they agree best."""

    correlation: Floats
    shared: Floats
    maps: Floats


def compare(structure: Structure, first: Indices, second: Indices, maps: Floats, *, of: Literal["values", "detail"] = "values") -> Agreement:
    """Compare pairs of images [p] under affine maps [p, 2, 3] from the first's pixels to the second's, on every second pixel.

    of: which structure is compared.
    A map by which the images agree, but not clearly, is refined by Gauss-Newton steps on the difference of their fine structure (Lucas and
    Kanade 1981): keypoints tell it to half a pixel only.
    """
    values = structure.values if of == "values" else structure.detail
    found = _Pair(values, structure.valid, first, second, maps).agreement()
    for _ in range(_ROUNDS[of]):
        rows = np.flatnonzero(found.correlation < _CLEAR[of])
        refined = _Pair(values, structure.valid, first[rows], second[rows], found.maps[rows]).stepped()
        again = _Pair(values, structure.valid, first[rows], second[rows], refined).agreement()
        better = again.correlation > found.correlation[rows]
        kept = rows[better]
        found.correlation[kept], found.shared[kept], found.maps[kept] = again.correlation[better], again.shared[better], again.maps[better]
    return found


def frame_difference(structure: Structure, first: Indices, second: Indices, maps: Floats) -> Floats:
    """The share of what both canvases cover, under the maps, where only one of the images shows picture: float32 [p]."""
    height, width = structure.valid.shape[1:]
    rows, columns = (grid.ravel() for grid in np.mgrid[0:height:_STEP_PX, 0:width:_STEP_PX])
    x, y = columns.astype(np.float32), rows.astype(np.float32)
    target_x = np.rint(maps[:, 0, 0, None] * x + maps[:, 0, 1, None] * y + maps[:, 0, 2, None]).astype(np.int32)
    target_y = np.rint(maps[:, 1, 0, None] * x + maps[:, 1, 1, None] * y + maps[:, 1, 2, None]).astype(np.int32)
    covered = _within(columns, rows, structure.sizes[first]) & _within(target_x, target_y, structure.sizes[second])
    there = structure.valid[second[:, None], np.clip(target_y, 0, height - 1), np.clip(target_x, 0, width - 1)]
    differing = (structure.valid[first][:, rows, columns] != there) & covered
    share: Floats = differing.sum(axis=1) / np.maximum(covered.sum(axis=1), np.float32(1))
    return share.astype(np.float32)


def inner_part(structure: Structure) -> Structure:
    """The same images without what is near the edges of their canvases, where repeated or mirrored pixels may look like picture."""
    height, width = structure.valid.shape[1:]
    margins = np.rint(structure.sizes * _INNER_MARGIN)[:, :, None, None]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    sizes = structure.sizes[:, :, None, None]
    inside = (rows >= margins[:, 0]) & (rows < sizes[:, 0] - margins[:, 0]) & (columns >= margins[:, 1]) & (columns < sizes[:, 1] - margins[:, 1])
    return replace(structure, valid=structure.valid & inside)


def _within(x: npt.NDArray[np.integer], y: npt.NDArray[np.integer], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether points lie on canvases of these sizes [p, 2], away from their edges: bool [p, q]."""
    low, height, width = _FRAME_MARGIN_PX, sizes[:, :1], sizes[:, 1:]
    inside: npt.NDArray[np.bool_] = (x >= low) & (y >= low) & (x < width - low) & (y < height - low)
    return inside


class _Pair:
    """Both images of p pairs, sampled at the same q points of the first; what only one shows has weight 0."""

    def __init__(self, values: npt.NDArray[np.int8], valid: npt.NDArray[np.bool_], first: Indices, second: Indices, maps: Floats) -> None:
        _, height, width = values.shape
        rows, columns = (grid.ravel() for grid in np.mgrid[_MARGIN_PX : height - _MARGIN_PX : _STEP_PX, _MARGIN_PX : width - _MARGIN_PX : _STEP_PX])
        self.maps = maps
        self.x, self.y = columns.astype(np.float32), rows.astype(np.float32)
        target_x = maps[:, 0, 0, None] * self.x + maps[:, 0, 1, None] * self.y + maps[:, 0, 2, None]
        target_y = maps[:, 1, 0, None] * self.x + maps[:, 1, 1, None] * self.y + maps[:, 1, 2, None]
        inside = (target_x >= 0) & (target_y >= 0) & (target_x < width - 1) & (target_y < height - 1)
        left, top = np.clip(target_x, 0, width - 2).astype(np.int32), np.clip(target_y, 0, height - 2).astype(np.int32)
        self.right, self.down = target_x - left.astype(np.float32), target_y - top.astype(np.float32)
        place = (second[:, None] * height + top) * width + left
        valid_there, values_there = np.ravel(valid), np.ravel(values)
        both = inside & valid[first][:, rows, columns] & valid_there[place] & valid_there[place + width + 1]
        self.weight = both.astype(np.float32)
        self.count = self.weight.sum(axis=1, keepdims=True) + np.float32(1e-6)
        self.corners = [values_there[place + shift].astype(np.float32) for shift in (0, 1, width, width + 1)]
        self.here = self._centred(values[first][:, rows, columns].astype(np.float32))
        self.there = self._centred(self._mix(self._across(0), self._across(2), self.down))

    def agreement(self) -> Agreement:
        """How well they agree under the map as it is."""
        norm = np.sqrt((self.here**2).sum(axis=1) * (self.there**2).sum(axis=1)) + np.float32(1e-3)
        return Agreement((self.here * self.there).sum(axis=1) / norm, self.count[:, 0] / self.weight.shape[1], self.maps.copy())

    def stepped(self) -> Floats:
        """The maps after one Gauss-Newton step on here - gain × there."""
        gain = (self.here * self.there).sum(axis=1) / ((self.there**2).sum(axis=1) + np.float32(1e-3))
        gain = np.maximum(gain, np.float32(0.1))[:, None]
        one, two, three, four = self.corners
        slope_x = self._mix(two - one, four - three, self.down) * self.weight * gain
        slope_y = self._mix(three - one, four - two, self.right) * self.weight * gain
        slopes = np.stack([slope * along for slope in (slope_x, slope_y) for along in (self.x, self.y, _ONE)], axis=1)
        normal = np.einsum("piq,pjq->pij", slopes, slopes)
        damping = _DAMPING * np.einsum("pii->pi", normal)[..., None] * np.eye(6, dtype=np.float32) + np.eye(6, dtype=np.float32)
        right = np.einsum("piq,pq->pi", slopes, self.here - gain * self.there)
        step: Floats = np.linalg.solve(normal + damping, right[..., None]).reshape(-1, 2, 3).astype(np.float32)
        return self.maps + step

    def _across(self, corner: int) -> Floats:
        return self._mix(self.corners[corner], self.corners[corner + 1], self.right)

    @staticmethod
    def _mix(one: Floats, other: Floats, share: Floats) -> Floats:
        mixed: Floats = one + (other - one) * share
        return mixed

    def _centred(self, values: Floats) -> Floats:
        mean = (values * self.weight).sum(axis=1, keepdims=True) / self.count
        centred: Floats = (values - mean) * self.weight
        return centred
