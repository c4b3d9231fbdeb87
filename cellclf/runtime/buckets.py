"""Batches of any size → batches of a few fixed sizes, padded and cut, for runtimes that are fast with fixed shapes only. Imports nothing of ours."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "bucket_of", "padded", "parts"]

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes a batch is padded to: at most half of one is padding."""


def parts(images: npt.NDArray[np.uint8], largest: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Views of at most `largest` images each, in order; none of an empty batch."""
    for start in range(0, len(images), largest):
        yield images[start : start + largest]


def bucket_of(count: int, buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest of the buckets, which are in order, that holds `count` images; raises ValueError for 0 and for more than the largest holds."""
    if count < 1:
        raise ValueError("there is no bucket for an empty batch")
    for size in buckets:
        if count <= size:
            return size
    raise ValueError(f"{count} images are more than the largest bucket, {buckets[-1]}, holds")


def padded(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """The images, contiguous, followed by black ones up to `size`; the images themselves where there are that many."""
    if len(images) == size:
        return np.ascontiguousarray(images)
    whole = np.zeros((size, *images.shape[1:]), dtype=images.dtype)
    whole[: len(images)] = images
    return whole
