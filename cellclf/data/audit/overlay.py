"""A pair's second picture laid on its first by the map that registration found, so that a person sees whether both are of one original."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from cellclf.data.audit.thumbnails import LONGEST_PX
from cellclf.data.decoding import Pixels, decode_thumbnail

__all__ = ["Map", "Overlay", "lay_on", "scaled_map"]

Map = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Affine, 2 × 3: the first's thumbnail pixels → the second's."""

_PICTURE_PX = 220
_SQUARES = 8
_NOTHING = 128
_LEAST_VARIANCE = 1.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overlay:
    """Pictures, uint8 [height, width, 3].

    first, second: as they are. laid: the second on the first's canvas, grey where it shows nothing. squares: the first, with every other square of it
    replaced by the second, at the first's brightness: where both show one thing, lines run on across the squares.
    """

    first: Pixels
    second: Pixels
    laid: Pixels
    squares: Pixels


def lay_on(first: bytes, second: bytes, found: Map, *, picture_px: int = _PICTURE_PX) -> Overlay:
    """Decode both files and lay the second on the first; raises DecodeError."""
    pictures = [decode_thumbnail(content, longest_px=picture_px) for content in (first, second)]
    sizes = [decode_thumbnail(content, longest_px=LONGEST_PX).shape[:2] for content in (first, second)]
    one, other = pictures
    scales = [(picture.shape[1] / width, picture.shape[0] / height) for picture, (height, width) in zip(pictures, sizes, strict=True)]
    data = [value for row in scaled_map(found, scales[0], scales[1]) for value in row]
    size = (one.shape[1], one.shape[0])
    laid = np.asarray(Image.fromarray(other).transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))
    there = np.asarray(Image.new("L", (other.shape[1], other.shape[0]), 255).transform(size, Image.Transform.AFFINE, data)) == 255
    laid = np.where(there[..., None], laid, np.uint8(_NOTHING))
    rows, columns = (np.arange(length) * _SQUARES // length for length in one.shape[:2])
    replaced = there & ((rows[:, None] + columns[None]) % 2 == 1)
    squares = np.where(replaced[..., None], _as_bright(laid, one, there), one)
    return Overlay(one, other, laid, squares)


def scaled_map(found: Map, first: tuple[float, float], second: tuple[float, float]) -> Map:
    """A map between pixel numbers of thumbnails as one between places on pictures that are `first` and `second` (x, y) times as large.

    Pixel i of a thumbnail covers i … i + 1; its middle, i + ½, is at (i + ½) × scale of the picture.
    """
    rows = []
    for (a, b, shift), scale in zip(found, second, strict=True):
        rows.append((scale * a / first[0], scale * b / first[1], scale * (shift + 0.5 - 0.5 * (a + b))))
    return rows[0], rows[1]


def _as_bright(laid: Pixels, first: Pixels, there: npt.NDArray[np.bool_]) -> Pixels:
    """The laid picture with each channel's mean and spread made those of the first, over what both show."""
    if not there.any():
        return laid
    values, wanted = laid.astype(np.float64), first.astype(np.float64)
    mean, spread = _mean_and_spread(values[there])
    target, target_spread = _mean_and_spread(wanted[there])
    matched = (values - mean) * (target_spread / np.maximum(spread, _LEAST_VARIANCE)) + target
    bright: Pixels = np.clip(np.rint(matched), 0, 255).astype(np.uint8)
    return bright


def _mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    return values.mean(axis=0), values.std(axis=0)
