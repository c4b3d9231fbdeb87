"""Files → thumbnails → their features, in parallel, with everything in the order of the files."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellclf.data.audit.agreement import Structure
from cellclf.data.audit.candidates import unit_descriptors
from cellclf.data.audit.keypoints import FREQUENCIES, KEYPOINTS, RADII_PX, describe
from cellclf.data.audit.registration import Scenes
from cellclf.data.decoding import Pixels, decode_thumbnail
from cellclf.environment import usable_cores
from cellclf.errors import DecodeError

__all__ = ["LONGEST_PX", "Seen", "look_at"]

LONGEST_PX = 80
"""Longest side of a thumbnail. A quarter of the blood cells' size, to which a JPEG is decoded without most of its data."""

_CHUNK = 64


@dataclass(frozen=True)
class Seen:
    """What `nearest`, `register` and `compare` need of n images. readable: whether each could be decoded; the others have no keypoints."""

    scenes: Scenes
    structure: Structure
    readable: list[bool]


def look_at(files: Sequence[Path], *, on_done: Callable[[int], None] | None = None) -> Seen:
    """Decode the files' thumbnails and describe them; a file that cannot be decoded has no keypoints."""
    number = len(files)
    coordinates = np.zeros((2, number, KEYPOINTS), np.float32)
    found = np.zeros((number, KEYPOINTS), bool)
    magnitudes = np.zeros((number, KEYPOINTS, 2 * len(RADII_PX) * FREQUENCIES), np.float32)
    coefficients = np.zeros((number, KEYPOINTS, len(RADII_PX), FREQUENCIES), np.complex64)
    values = np.zeros((number, LONGEST_PX, LONGEST_PX), np.int8)
    detail = np.zeros((number, LONGEST_PX, LONGEST_PX), np.int8)
    valid = np.zeros((number, LONGEST_PX, LONGEST_PX), bool)
    sizes = np.zeros((number, 2), np.int64)
    cut = np.zeros(number, np.float32)
    readable = [False] * number

    def fill(start: int) -> int:
        chunk = range(start, min(start + _CHUNK, number))
        of_shape: defaultdict[tuple[int, ...], list[tuple[int, Pixels]]] = defaultdict(list)
        for row in chunk:
            pixels = _thumbnail(files[row])
            if pixels is not None:
                of_shape[pixels.shape].append((row, pixels))
        for (height, width, _), images in of_shape.items():
            rows = [row for row, _ in images]
            features = describe(np.stack([pixels for _, pixels in images]))
            coordinates[:, rows] = features.x, features.y
            found[rows], magnitudes[rows], coefficients[rows] = features.found, features.magnitudes, features.coefficients
            values[rows, :height, :width], detail[rows, :height, :width] = features.structure, features.detail
            valid[rows, :height, :width], sizes[rows], cut[rows] = features.valid, (height, width), features.cut
            for row in rows:
                readable[row] = True
        return len(chunk)

    with ThreadPoolExecutor(usable_cores()) as pool:
        done = 0
        for count in pool.map(fill, range(0, number, _CHUNK)):
            done += count
            if on_done:
                on_done(done)
    scenes = Scenes(coordinates[0], coordinates[1], unit_descriptors(magnitudes, found), coefficients, found)
    height, width = sizes.max(axis=0, initial=2)
    structure = Structure(
        np.ascontiguousarray(values[:, :height, :width]),
        np.ascontiguousarray(detail[:, :height, :width]),
        np.ascontiguousarray(valid[:, :height, :width]),
        sizes,
        cut,
    )
    return Seen(scenes, structure, readable)


def _thumbnail(file: Path) -> Pixels | None:
    try:
        return decode_thumbnail(file.read_bytes(), longest_px=LONGEST_PX)
    except (DecodeError, OSError):
        return None
