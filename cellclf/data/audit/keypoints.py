"""Local features of thumbnails that neither rotation, nor mirroring, nor shift, nor brightness changes. NumPy only.

Every sum that goes through a matrix product is one of whole numbers below 2²⁴, exact in float32, so that features do not
depend on the number of threads or on the order of the files.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels

__all__ = ["ANGLES", "FREQUENCIES", "KEYPOINTS", "RADII_PX", "Features", "describe", "valid_pixels"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

KEYPOINTS = 40
"""The most keypoints a thumbnail has."""

RADII_PX = (1.0, 2.0, 3.5, 5.0, 6.5, 8.5)
"""Circles around a keypoint on which its surroundings are sampled; the inner two on the sharper image."""

ANGLES = 24
FREQUENCIES = 8
"""Samples on a circle, and how many of their Fourier coefficients are kept. Turning the image changes only their phases, mirroring conjugates."""

_SIGMAS_PX = (0.6, 1.0, 1.6, 2.6)
_INNER_RADII = 2
_PEAK_PX = 2
_MARGIN_PX = 3
_BORDER_PX = 2
_LEAST_CONTRAST = 0.3
_DARK, _LIGHT = 14, 252
_BRIGHTEST = 248
_EVEN = 2
_BROKEN_SHARE = 0.1
_BLUR_WHOLE = 255
_LEVELS = 8
_DFT_WHOLE = 80
_STRUCTURE_LEVELS = 4
_INT8 = 127
_BLAS_ALONE = 200_000
_SOFTENING = 1.0
_GREY = (77, 151, 28)  # of 256


@dataclass(frozen=True)
class Features:
    """Keypoints of n images, k each, and the images' fine structure.

    x, y: float32 [n, k], pixels of the thumbnail. found: bool [n, k], False beyond an image's last keypoint.
    magnitudes: float32 [n, k, 2 × circles × frequencies], of the angular Fourier coefficients of grey and colour around the keypoint, which no turn
    and no mirroring changes. coefficients: complex64 [n, k, circles, frequencies], those of grey, whose phases tell the turn.
    structure, detail: int8 [n, h, w], grey between two blurs, and what the finer of them takes away. valid: bool [n, h, w], where there is picture.
    cut: float32 [n], the share of the picture that is so bright that brightening may have cut off its detail.
    """

    x: Floats
    y: Floats
    found: Bools
    magnitudes: Floats
    coefficients: npt.NDArray[np.complex64]
    structure: npt.NDArray[np.int8]
    detail: npt.NDArray[np.int8]
    valid: Bools
    cut: Floats


def valid_pixels(grey: Floats) -> Bools:
    """What of whole numbers 0 … 255 in float32 [n, h, w] is picture: not the black, white or even fill around it."""
    tone = _commonest(np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1))
    dark, light, even = grey <= _DARK, grey >= _LIGHT, np.abs(grey - tone[:, None, None]) <= _EVEN
    return ~(_fill(dark) | _fill(light) | _fill(even) | _fill(dark | light | even))


def _commonest(values: Floats) -> Floats:
    """The commonest whole number of each row; the smallest of several."""
    levels = np.arange(256, dtype=np.float32)
    return np.array([levels[np.bincount(row, minlength=256).argmax()] for row in values.astype(np.int64)], dtype=np.float32)


def _fill(plain: Bools) -> Bools:
    """Plain pixels from which a row or a column of plain pixels leads to the edge, where what they leave looks like one turned or sheared rectangle.

    Every point outside a convex region has an axis direction in which it does not meet the region, so this finds all of the fill around a picture.
    A row that leaves the region and enters it again says that it is not convex: a background too bright or too dark, but no fill.
    """
    columns = np.ascontiguousarray(plain.transpose(1, 2, 0))
    fill = np.zeros_like(columns)
    for axis in (0, 1):
        fill |= np.logical_and.accumulate(columns, axis=axis)
        fill |= np.flip(np.logical_and.accumulate(np.flip(columns, axis), axis=axis), axis)
    entered = (fill[:, :-1] & ~fill[:, 1:]).sum(axis=1) + ~fill[:, 0]
    fill &= (entered > 1).sum(axis=0) <= _BROKEN_SHARE * len(fill)
    return np.ascontiguousarray(fill.transpose(2, 0, 1))


def describe(thumbnails: Pixels, *, keypoints: int = KEYPOINTS) -> Features:
    """Features of uint8 [n, h, w, 3], all of one shape."""
    planes = thumbnails.astype(np.float32)
    red, green, blue = planes[..., 0], planes[..., 1], planes[..., 2]
    grey = np.floor((_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue) / 256)
    valid = valid_pixels(grey)
    mask = valid.astype(np.float32)
    weights = [_blur(mask, sigma) + np.float32(1e-6) for sigma in _SIGMAS_PX]
    levels = [_blur(grey * mask, sigma) / weight for sigma, weight in zip(_SIGMAS_PX, weights, strict=True)]
    colour = _blur((red - green) * mask, _SIGMAS_PX[1]) / weights[1]
    inside = _inside(valid)
    x, y, found = _strongest(_peaks(levels, inside), keypoints)
    grey_coefficients, colour_coefficients, norm = _spectra(levels, colour, x, y)
    magnitudes = [np.abs(part / norm).reshape(*x.shape, -1) for part in (grey_coefficients, colour_coefficients)]
    return Features(
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        found=found,
        magnitudes=np.concatenate(magnitudes, axis=-1),
        coefficients=(grey_coefficients / norm).astype(np.complex64),
        structure=_band(levels[1], levels[-1], valid),
        detail=_band(grey, levels[1], valid),
        valid=inside,
        cut=_share(thumbnails.max(axis=-1) > _BRIGHTEST, inside),
    )


def _share(part: Bools, of: Bools) -> Floats:
    share: Floats = (part & of).sum(axis=(1, 2)) / np.maximum(of.sum(axis=(1, 2)), np.float32(1))
    return share.astype(np.float32)


def _band(finer: Floats, coarser: Floats, valid: Bools) -> npt.NDArray[np.int8]:
    return np.where(valid, np.clip(np.rint((finer - coarser) * _STRUCTURE_LEVELS), -_INT8, _INT8), 0).astype(np.int8)


def _blur(images: Floats, sigma_px: float) -> Floats:
    """Gaussian blur of whole numbers in float32 [n, h, w], zero outside; times a constant. The kernel is rounded to whole numbers of a sum ≤ 255."""
    number, height, width = images.shape
    rows = _product(images.reshape(-1, width), _kernel(width, sigma_px)).reshape(number, height, width)
    columns = _product(rows.transpose(0, 2, 1).reshape(-1, height), _kernel(height, sigma_px))
    return np.ascontiguousarray(columns.reshape(number, width, height).transpose(0, 2, 1))


def _product(rows: Floats, table: Floats) -> Floats:
    """rows [m, a] @ table [a, b], in blocks so small that OpenBLAS starts no threads of its own beside those that this runs in (twice as slow)."""
    block = max(1, _BLAS_ALONE // table.size)
    whole = len(rows) // block * block
    product = np.empty((len(rows), table.shape[1]), np.float32)
    np.matmul(rows[:whole].reshape(-1, block, table.shape[0]), table, out=product[:whole].reshape(-1, block, table.shape[1]))
    np.matmul(rows[whole:], table, out=product[whole:])
    return product


def _kernel(size: int, sigma_px: float) -> Floats:
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    weight = np.exp(-(distance**2) / (2 * sigma_px**2))
    whole = np.exp(-(np.arange(-size, size + 1) ** 2) / (2 * sigma_px**2)).sum()
    kernel: Floats = np.floor(weight / whole * _BLUR_WHOLE).astype(np.float32)
    return kernel


def _inside(valid: Bools) -> Bools:
    """Valid pixels with valid pixels all around, _BORDER_PX far."""
    inside = valid
    for axis in (1, 2):
        source, inside = inside, inside.copy()
        one, other = np.moveaxis(inside, axis, 0), np.moveaxis(source, axis, 0)
        for step in range(1, _BORDER_PX + 1):
            one[step:] &= other[:-step]
            one[:-step] &= other[step:]
    return inside


def _peaks(levels: list[Floats], inside: Bools) -> Floats:
    """Where the difference of two neighbouring blurs is the largest of its surroundings: its size there, 0 elsewhere."""
    peaks = np.zeros_like(levels[0])
    for finer, coarser in pairwise(levels):
        difference = np.abs(finer - coarser) * inside
        np.maximum(peaks, np.where(difference == _highest_around(difference), difference, 0), out=peaks)
    peaks[:, :_MARGIN_PX] = peaks[:, -_MARGIN_PX:] = 0
    peaks[:, :, :_MARGIN_PX] = peaks[:, :, -_MARGIN_PX:] = 0
    return peaks


def _highest_around(images: Floats) -> Floats:
    highest = images
    for axis in (1, 2):
        for step in (1, _PEAK_PX - 1):
            source, highest = highest, highest.copy()
            one, other = np.moveaxis(highest, axis, 0), np.moveaxis(source, axis, 0)
            np.maximum(one[step:], other[:-step], out=one[step:])
            np.maximum(one[:-step], other[step:], out=one[:-step])
    return highest


def _strongest(peaks: Floats, keypoints: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Bools]:
    """Column, row [n, keypoints] of the highest peaks of each image, the highest first; found = False where there are fewer."""
    number, height, width = peaks.shape
    flat = peaks.reshape(number, -1)
    image, place = np.nonzero(flat > _LEAST_CONTRAST)
    order = np.lexsort((place, -flat[image, place], image))
    image, place = image[order], place[order]
    rank = np.arange(len(image)) - np.searchsorted(image, np.arange(number))[image]
    kept = rank < keypoints
    places = np.full((number, keypoints), (height // 2) * width + width // 2)
    places[image[kept], rank[kept]] = place[kept]
    found = np.zeros((number, keypoints), dtype=bool)
    found[image[kept], rank[kept]] = True
    row, column = np.divmod(places, width)
    return column, row, found


def _spectra(
    levels: list[Floats], colour: Floats, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64], Floats]:
    """Angular Fourier coefficients [n, k, circles, frequencies] of grey and colour around each keypoint, and the norm to divide both by."""
    number, height, width = levels[0].shape
    angle = np.arange(ANGLES) * 2 * np.pi / ANGLES
    radius = np.array(RADII_PX)[:, None]
    rows = np.clip(np.rint(y[..., None, None] + radius * np.sin(angle)), 0, height - 1).astype(np.int32)
    columns = np.clip(np.rint(x[..., None, None] + radius * np.cos(angle)), 0, width - 1).astype(np.int32)
    places = (np.arange(number, dtype=np.int32)[:, None, None, None] * height + rows) * width + columns
    samples = np.empty(places.shape, np.float32)
    for circles, level in ((slice(None, _INNER_RADII), levels[0]), (slice(_INNER_RADII, None), levels[1])):
        samples[..., circles, :] = np.ravel(level)[places[..., circles, :]]
    spectra, energy = [], np.zeros(x.shape, np.float32)
    for values in (samples, np.ravel(colour)[places]):
        values = values - values.mean(axis=(-1, -2), keepdims=True)
        energy += (values**2).sum(axis=(-1, -2))
        spectra.append(_angular_dft(np.rint(values * _LEVELS)))
    norm: Floats = (np.sqrt(energy) + np.float32(_SOFTENING))[..., None, None] * np.float32(_LEVELS * _DFT_WHOLE)
    return spectra[0], spectra[1], norm


def _angular_dft(values: Floats) -> npt.NDArray[np.complex64]:
    """Coefficients 0 … FREQUENCIES - 1 over the last axis, with a cosine table of whole numbers."""
    angle = 2 * np.pi / ANGLES * np.outer(np.arange(ANGLES), np.arange(FREQUENCIES))
    table = np.rint(_DFT_WHOLE * np.stack([np.cos(angle), -np.sin(angle)], axis=-1)).astype(np.float32)
    product = _product(values.reshape(-1, ANGLES), table.reshape(ANGLES, -1))
    return product.reshape(*values.shape[:-1], FREQUENCIES, 2).view(np.complex64)[..., 0]
