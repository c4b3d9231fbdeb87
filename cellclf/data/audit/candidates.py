"""Which images look like which: a vocabulary of local features, and for each image the images with the most words in common. NumPy only."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["DIMENSIONS", "WORDS", "nearest", "unit_descriptors"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int32]

WORDS = 2048
"""Size of the vocabulary, where there are so many descriptors that each word is used several times."""

DIMENSIONS = 32

_USES = 8
_WHOLE = 127
_BLOCK = 65_536
_ROWS = 512


def unit_descriptors(magnitudes: Floats, found: Bools) -> Floats:
    """float32 [n, k, d] → [n, k, DIMENSIONS]: principal components, partly whitened, scaled to length 127 and rounded to whole numbers.

    found: bool [n, k], which descriptors there are; the others become 0.
    Products of two are sums of whole numbers below 2²⁴: exact, whatever the order of the additions; so is the covariance (below 2⁵³).
    """
    given = magnitudes[found]
    descriptors = np.zeros((*found.shape, DIMENSIONS), np.float32)
    if len(given):
        whole = np.rint(given * np.float32(_WHOLE / max(float(given.max()), 1e-6)))
        components = whole @ _axes(whole)
        components -= components.mean(axis=0, dtype=np.float64).astype(np.float32)
        length = np.sqrt((components**2).sum(axis=-1, keepdims=True)) + np.float32(1e-6)
        descriptors[found] = np.rint(components / length * _WHOLE)
    return descriptors


def _axes(whole: Floats) -> Floats:
    """Principal axes of whole numbers [m, d], each divided by the root of its spread, as whole numbers [d, DIMENSIONS]."""
    moments = np.zeros((whole.shape[1], whole.shape[1]))
    for start in range(0, len(whole), _BLOCK):
        block = whole[start : start + _BLOCK].astype(np.float64)
        moments += block.T @ block
    mean = whole.mean(axis=0, dtype=np.float64)
    variance, axes = np.linalg.eigh(moments / len(whole) - np.outer(mean, mean))
    scaled = (axes / np.maximum(variance, 1e-3) ** 0.25)[:, ::-1][:, :DIMENSIONS]
    whole_axes: Floats = np.rint(scaled / np.abs(scaled).max() * _WHOLE).astype(np.float32)
    return whole_axes


def nearest(descriptors: Floats, found: Bools, *, count: int, on_rows: Callable[[int], None] | None = None) -> Ints:
    """For each of n images the `count` images with the most and rarest words in common, best first: int32 [n, count], ties by number.

    descriptors: what unit_descriptors gave, [n, k, d]; found: bool [n, k]. The vocabulary is a fixed draw of the images' own descriptors.
    """
    histograms = _histograms(descriptors, found)
    images = len(histograms)
    count = min(count, images - 1)
    best = np.empty((images, count), np.int32)
    for start in range(0, images, _ROWS):
        scores = histograms[start : start + _ROWS] @ histograms.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -1
        near = np.argpartition(scores, images - count, axis=1)[:, images - count :]
        order = np.lexsort((near, -np.take_along_axis(scores, near, 1)))
        best[start : start + _ROWS] = np.take_along_axis(near, order, 1)
        if on_rows:
            on_rows(min(start + _ROWS, images))
    return best


def _histograms(descriptors: Floats, found: Bools) -> Floats:
    """Words an image, weighted by rarity, scaled to length 127 and rounded: [n, words]."""
    images = len(descriptors)
    flat = descriptors[found]
    if not len(flat):
        return np.zeros((images, 1), np.float32)
    vocabulary = flat[np.random.default_rng(0).permutation(len(flat))[: max(1, min(WORDS, len(flat) // _USES))]]
    counts = np.zeros((images, len(vocabulary)), np.float32)
    words = np.concatenate([(flat[start : start + _ROWS * 32] @ vocabulary.T).argmax(axis=1) for start in range(0, len(flat), _ROWS * 32)])
    np.add.at(counts, (np.nonzero(found)[0], words), 1)
    holding = np.maximum((counts > 0).sum(axis=0), 1)
    weighted = np.sqrt(counts) * np.log(images / holding).astype(np.float32)
    length = np.sqrt((weighted**2).sum(axis=1, keepdims=True)) + np.float32(1e-6)
    whole: Floats = np.rint(weighted / length * _WHOLE)
    return whole
